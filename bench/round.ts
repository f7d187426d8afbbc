/**
 * Measures one contender in a process of its own, so that none suffers from what another leaves
 * behind, and prints the figures as one line of JSON. Started by `main.ts`.
 */
import process from "node:process";
import { arq } from "./arq.ts";
import { beeQueue } from "./bee_queue.ts";
import { bullmq } from "./bullmq.ts";
import type { Contender } from "./contender.ts";
import { floor } from "./floor.ts";

/** The figures of one round by kind of work. */
export type Figures = Record<string, number>;

const MAKERS = { arq, floor, BullMQ: bullmq, "bee-queue": beeQueue };

const [url = "", name = "", jobCount = "5000"] = process.argv.slice(2);
const JOBS = Number(jobCount);
const TRIPS = Math.ceil(JOBS / 10);

/** Jobs a second. */
async function rate(count: number, step: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await step();
  return count / (performance.now() - start) * 1_000;
}

async function measureJobs(contender: Contender, count: number): Promise<Figures> {
  const figures: Figures = {};
  for (const concurrency of [100, 10]) {
    figures["enqueue in bulk, jobs/s"] = await rate(count, () => contender.enqueueBulk(count));
    figures[`run, ${concurrency} at a time, jobs/s`] = await rate(
      count,
      () => contender.run(count, concurrency),
    );
  }
  const { enqueueOneByOne } = contender;
  if (!enqueueOneByOne) return figures;
  figures["enqueue one by one, 100 concurrent, jobs/s"] = await rate(
    count,
    () => enqueueOneByOne.call(contender, count, 100),
  );
  await contender.run(count, 100);
  return figures;
}

async function measureTrips(contender: Contender): Promise<Figures> {
  const trips = await contender.startRoundTrips?.();
  if (!trips) return {};
  for (let i = 0; i < TRIPS; i++) await trips.trip();
  const times: number[] = [];
  for (let i = 0; i < TRIPS; i++) {
    const start = performance.now();
    await trips.trip();
    times.push(performance.now() - start);
  }
  await trips.stop();
  times.sort((a, b) => a - b);
  return {
    "round trip, p50, ms": times[Math.floor(TRIPS * 0.5)] ?? NaN,
    "round trip, p99, ms": times[Math.floor(TRIPS * 0.99)] ?? NaN,
  };
}

const make = Object.entries(MAKERS).find(([known]) => known === name)?.[1];
if (!make) throw new Error(`No contender is called ${name}`);
const contender = await make(url);
await measureJobs(contender, Math.ceil(JOBS / 2)); // The runtime compiles what is hot.
const figures = { ...await measureJobs(contender, JOBS), ...await measureTrips(contender) };
await contender.close();
console.log(JSON.stringify(figures));
process.exit(0); // Some peers keep their connections.
