/**
 * Measures functions in processes of their own, and prints the figures as one line of JSON: what a
 * call of a warm process adds to one in the worker; and how much later short jobs end while every
 * core has a job that computes, as the ratio of their p99 with and without these. Started by
 * `main.ts`.
 */
import { type ArqClient, createPool, func, Worker } from "../mod.ts";
import { pause, print, quantile, QUICK, timesOf } from "./figures.ts";
import type { add, spin } from "./isolated.ts";

const CORES = navigator.hardwareConcurrency;
const SHORT_JOBS = QUICK ? 500 : 1_000;
const PAUSE_MS = 2;
const CALLS = QUICK ? 500 : 2_000;

const specifier = import.meta.resolve("./isolated.ts");
const functions = {
  plain: (_ctx: unknown, a: number, b: number): number => a + b,
  add: func<typeof add>(`${specifier}#add`, { isolate: true }),
  spin: func<typeof spin>(`${specifier}#spin`, { isolate: true }),
};
type Client = ArqClient<typeof functions>;

async function measureCall(arq: Client): Promise<number> {
  const isolated = () => arq.call("add", [1, 2]);
  const plain = () => arq.call("plain", [1, 2]);
  await timesOf(CALLS, isolated);
  await timesOf(CALLS, plain);
  const [with_, without] = [await timesOf(CALLS, isolated), await timesOf(CALLS, plain)];
  return quantile(with_, 0.5) - quantile(without, 0.5);
}

/** Short jobs, a few milliseconds apart. */
async function measureShortJobs(arq: Client): Promise<number> {
  const times: number[] = [];
  const underWay: Promise<unknown>[] = [];
  for (let i = 0; i < SHORT_JOBS; i++) {
    const startedAt = performance.now();
    const ended = arq.call("plain", [i, i]).then(() => times.push(performance.now() - startedAt));
    underWay.push(ended);
    await pause(PAUSE_MS);
  }
  await Promise.all(underWay);
  return quantile(times, 0.99);
}

const url = "sqlite::memory:";
await using arq: Client = await createPool<typeof functions>(url);
await using worker = new Worker({ functions, connection: url, abortGrace: 0, maxJobs: 20 });
const running = worker.run();
const added = await measureCall(arq);
await measureShortJobs(arq);
const alone = await measureShortJobs(arq);
const spinning = await arq.enqueueJobs(
  Array.from({ length: CORES }, () => ({ name: "spin" as const, args: [] as const })),
);
while (worker.jobsOngoing < CORES) await pause(10);
await pause(1_000); // the processes have started
const beside = await measureShortJobs(arq);
for (const job of spinning) await job.abort();
await worker.close();
await running;
print({
  "a warm call adds, p50, ms": added,
  "p99 of short jobs, ms": alone,
  "p99 of short jobs beside jobs that compute, × alone": beside / alone,
});
