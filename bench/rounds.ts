/**
 * Measures all contenders in one process under one runtime, round by round in alternation, and
 * prints the samples as one line of JSON. Started by `main.ts`.
 */
import process from "node:process";
import { arq } from "./arq.ts";
import { beeQueue } from "./bee_queue.ts";
import { bullmq } from "./bullmq.ts";
import type { Contender } from "./contender.ts";
import { floor } from "./floor.ts";

/** Samples of a kind of work: the contenders' names and their figures, one a round. */
export type Samples = Record<string, Record<string, number[]>>;

const [url = "", roundCount = "3", jobCount = "5000"] = process.argv.slice(2);
const ROUNDS = Number(roundCount);
const JOBS = Number(jobCount);
const TRIPS = Math.ceil(JOBS / 10);

const samples: Samples = {};

function record(work: string, contender: string, figure: number): void {
  ((samples[work] ??= {})[contender] ??= []).push(figure);
}

/** Jobs a second. */
async function rate(step: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await step();
  return JOBS / (performance.now() - start) * 1_000;
}

async function measureJobs(contender: Contender): Promise<void> {
  const { name } = contender;
  for (const concurrency of [100, 10]) {
    const bulk = await rate(() => contender.enqueueBulk(JOBS));
    record("enqueue in bulk, jobs/s", name, bulk);
    const run = await rate(() => contender.run(JOBS, concurrency));
    record(`run, ${concurrency} at a time, jobs/s`, name, run);
  }
  const { enqueueOneByOne } = contender;
  if (enqueueOneByOne) {
    const single = await rate(() => enqueueOneByOne.call(contender, JOBS, 100));
    record("enqueue one by one, 100 concurrent, jobs/s", name, single);
    await contender.run(JOBS, 100);
  }
}

async function measureTrips(contender: Contender): Promise<void> {
  const trips = await contender.startRoundTrips?.();
  if (!trips) return;
  for (let i = 0; i < TRIPS / 10; i++) await trips.trip();
  const times: number[] = [];
  for (let i = 0; i < TRIPS; i++) {
    const start = performance.now();
    await trips.trip();
    times.push(performance.now() - start);
  }
  await trips.stop();
  times.sort((a, b) => a - b);
  record("round trip, p50, ms", contender.name, times[Math.floor(TRIPS * 0.5)] ?? NaN);
  record("round trip, p99, ms", contender.name, times[Math.floor(TRIPS * 0.99)] ?? NaN);
}

const makers = [arq, floor, bullmq, beeQueue];
for (let round = 0; round < ROUNDS; round++) {
  for (const make of round % 2 === 0 ? makers : makers.toReversed()) {
    const contender = await make(url);
    await measureJobs(contender);
    await measureTrips(contender);
    await contender.close();
  }
}
console.log(JSON.stringify(samples));
process.exit(0); // Some peers keep their connections.
