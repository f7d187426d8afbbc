/**
 * Measures what a queued job takes in Redis, here and with the peers; and what a worker takes after
 * the first tenth, half and all of many jobs. Prints it as one line of JSON.
 */
import process from "node:process";
import { startRedis } from "../tests/_redis.ts";
import { type ArqClient, createPool, Worker } from "../mod.ts";
import type { Payload } from "./contender.ts";
import { MAKERS } from "./contenders.ts";
import { type Figures, pause, print, QUICK } from "./figures.ts";
import { collectGarbage } from "./garbage.ts";
import { RedisInfo } from "./redis_info.ts";

const QUEUED = QUICK ? 10_000 : 100_000;
const JOBS = QUICK ? 100_000 : 1_000_000;
const CHUNK = 5_000;
const MEGABYTE = 1 << 20;

const functions = { noop: (_ctx: unknown, payload: Payload) => payload.id };
type Client = ArqClient<typeof functions>;

/** The bytes of a queued job, by contender. */
async function measureQueued(): Promise<Figures> {
  const figures: Figures = {};
  await using server = await startRedis();
  await using redis = await RedisInfo.connect(server.url);
  for (const [name, make] of Object.entries(MAKERS).filter(([name]) => name !== "floor")) {
    const contender = await make(server.url);
    const before = await redis.usedMemory();
    await contender.enqueueBulk(QUEUED);
    const bytes = (await redis.usedMemory() - before) / QUEUED;
    figures[`a queued job in Redis, ${name}, bytes`] = bytes;
    await contender.close();
    await redis.command("FLUSHALL");
  }
  return figures;
}

/** The memory of this process, in which a worker runs job after job. */
async function measureWorker(): Promise<Figures> {
  await using server = await startRedis();
  await using client: Client = await createPool<typeof functions>(server.url);
  await using worker = new Worker({ functions, connection: server.url, maxJobs: 100 });
  const running = worker.run();
  const jobs = Array.from({ length: CHUNK }, (_, id) => {
    return { name: "noop" as const, args: [{ id }] as const };
  });
  const figures: Figures = {};
  const heaps: number[] = [];
  for (const count of [JOBS / 10, JOBS / 2, JOBS]) {
    for (let done = worker.jobsComplete; done < count; done += CHUNK) {
      await client.enqueueJobs(jobs);
      while (worker.jobsComplete < done + CHUNK) await pause(1);
    }
    collectGarbage();
    const { heapUsed, rss } = process.memoryUsage();
    const after = `after ${count.toLocaleString("en")} jobs, MB`;
    figures[`worker's heap ${after}`] = heapUsed / MEGABYTE;
    figures[`worker's process ${after}`] = rss / MEGABYTE;
    heaps.push(heapUsed);
  }
  await worker.close();
  await running;
  const growth = (heaps.at(-1) ?? NaN) / (heaps[0] ?? NaN);
  return { ...figures, "worker's heap at the end, × after a tenth": growth };
}

print({ ...await measureQueued(), ...await measureWorker() });
process.exit(0); // Some peers keep their connections.
