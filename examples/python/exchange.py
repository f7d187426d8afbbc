"""
Python's side of the exchange: arq with MessagePack, as its manual shows it.

    pip install arq msgpack
    arq exchange.WorkerSettings          # in this folder; Redis on localhost:6379
    deno run -A exchange.ts              # or: bun exchange.ts
"""

import msgpack
from arq.connections import RedisSettings

TYPESCRIPT_QUEUE = "example:typescript"


async def summarize(ctx, numbers, *, digits=2):
    """A job that TypeScript enqueues; it lets a TypeScript worker do the sum, and waits for it."""
    job = await ctx["redis"].enqueue_job("add_up", numbers, _queue_name=TYPESCRIPT_QUEUE)
    total = await job.result(timeout=30)
    return {"sum": total, "mean": round(total / len(numbers), digits)}


class WorkerSettings:
    functions = [summarize]
    queue_name = "example:python"  # not TypeScript's: a worker fails jobs whose name it doesn't know
    redis_settings = RedisSettings()
    job_serializer = msgpack.packb
    job_deserializer = lambda b: msgpack.unpackb(b, raw=False)
