/**
 * TypeScript and Python's arq on one Redis: a job for Python's worker, which in turn has a worker
 * here do a part of it.
 *
 *     arq exchange.WorkerSettings                 in this folder, see exchange.py
 *     deno run -A examples/python/exchange.ts
 *     bun examples/python/exchange.ts
 *
 * `ARQ_URL` names another server than `redis://localhost:6379`. Python's arq fixes the names of the
 * keys, so no other prefix is possible.
 */
import { createPool, type JobContext, Worker } from "@arq/arq";
import process from "node:process";

/** Runs here; its name is what Python enqueues. */
function addUp(_ctx: JobContext, numbers: number[]): number {
  return numbers.reduce((sum, n) => sum + n, 0);
}

/** Runs there: its signature, for the compiler. Nothing with this type is ever called. */
type PythonFunctions = {
  summarize: (ctx: never, numbers: readonly number[]) => { sum: number; mean: number };
};

const connection = process.env.ARQ_URL || "redis://localhost:6379";

await using worker = new Worker({
  functions: { add_up: addUp },
  connection,
  queueName: "example:typescript",
});
const running = worker.run();

await using arq = await createPool<PythonFunctions>(connection, {
  defaultQueueName: "example:python",
});
const job = await arq.enqueueJob("summarize", [[1, 2, 5]], { kwargs: { digits: 1 } });
console.log(`enqueued ${job.jobId}`);
// Python's worker announces nothing, so its results are looked for, every half a second.
console.log(await job.result({ timeout: { seconds: 30 } })); // { sum: 8, mean: 2.7 }

await worker.close();
await running;
