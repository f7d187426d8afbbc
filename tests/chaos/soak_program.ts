/**
 * A program with a worker and a client under a mixed load: `soak_program.ts CONNECTION RATE`.
 *
 * Prints a line in JSON every few seconds about what it holds, until it is told to stop.
 */
import { countTimers } from "./timers.ts";
import process from "node:process";
import { createPool, cron, func, type JobContext, Retry, Worker } from "../../mod.ts";
import { Random } from "./random.ts";

const SAMPLE_MS = 5_000;
const [, , connection = "", rate = ""] = process.argv;
const random = new Random(1);

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const functions = {
  add: (_ctx: JobContext, a: number, b: number) => a + b,
  nap: (_ctx: JobContext, ms: number) => sleep(ms),
  echo: (_ctx: JobContext, text: string) => text,
  fails: () => {
    throw new RangeError("as it should");
  },
  again: ({ jobTry }: JobContext) => {
    if (jobTry === 1) throw new Retry({ defer: 50 });
    return jobTry;
  },
  untilAborted: ({ signal }: JobContext) =>
    new Promise((_resolve, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason))
    ),
  tooLong: func(
    ({ signal }: JobContext) =>
      new Promise((_resolve, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason))
      ),
    { timeout: 100 },
  ),
};

await using arq = await createPool(connection);
const worker = new Worker({
  functions,
  cronJobs: [cron(function everyTwoSeconds(): void {}, "*/2 * * * * *")],
  connection,
  keepResult: 2_000,
  pollDelay: 200,
  lease: 3_000,
  maxJobs: 50,
});
const stop = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop.abort());

/** What the client does, and how often. */
const STEPS: Readonly<Record<string, readonly [weight: number, step: () => Promise<unknown>]>> = {
  enqueue: [30, () => arq.enqueueJob("add", [1, 2])],
  list: [1, () => arq.enqueueJobs(Array.from({ length: 20 }, () => ({ name: "nap", args: [20] })))],
  call: [30, () => arq.call("add", [1, 2], { timeout: 30_000 })],
  deferred: [5, () => arq.enqueueJob("nap", [5], { deferBy: 500 })],
  given: [5, () => arq.enqueueJob("add", [1, 2], { jobId: `given ${random.integer(0, 50)}` })],
  large: [2, () => arq.call("echo", ["x".repeat(100_000)], { timeout: 30_000 })],
  fails: [3, () => arq.call("fails", [], { timeout: 30_000 }).catch(() => {})],
  again: [3, () => arq.call("again", [], { timeout: 30_000 })],
  tooLong: [1, () => arq.enqueueJob("tooLong")],
  aborted: [1, async () => {
    const job = await arq.enqueueJob("untilAborted");
    await job.abort({ timeout: 30_000 });
  }],
  gaveUp: [1, async () => {
    const job = await arq.enqueueJob("nap", [300]);
    await job.result({ timeout: 10 }).catch(() => {});
  }],
  look: [1, () => arq.queuedJobs()],
};
const WEIGHTS = Object.fromEntries(Object.entries(STEPS).map(([name, [weight]]) => [name, weight]));

let steps = 0;
async function load(): Promise<void> {
  const under = new Set<Promise<unknown>>();
  const startedAt = performance.now();
  while (!stop.signal.aborted) {
    steps++;
    const step = STEPS[random.weighted(WEIGHTS)]![1]().finally(() => under.delete(step));
    under.add(step);
    if (under.size > 200) await Promise.race(under);
    const aheadMs = steps / Number(rate) * 1_000 - (performance.now() - startedAt);
    if (aheadMs > 0) await sleep(aheadMs);
  }
  await Promise.all(under);
}

function collectGarbage(): void {
  const { gc, Bun } = globalThis as { gc?(): void; Bun?: { gc(force: boolean): void } };
  if (Bun) Bun.gc(true);
  else gc?.();
}

function sample(): void {
  collectGarbage();
  const { rss, heapUsed } = process.memoryUsage();
  const jobs = worker.jobsComplete + worker.jobsFailed;
  console.log(JSON.stringify({ rss, heapUsed, timers: countTimers(), jobs }));
}

const sampling = setInterval(sample, SAMPLE_MS);
const running = worker.run();
await load();
await worker.close();
await running;
clearInterval(sampling);
