/**
 * Measures one contender in a process of its own, so that none suffers from what another leaves
 * behind, and prints the figures as one line of JSON. Started by `main.ts`.
 */
import process from "node:process";
import type { Contender } from "./contender.ts";
import { MAKERS } from "./contenders.ts";
import { type Figures, print, quantile, QUICK } from "./figures.ts";
import { RedisInfo } from "./redis_info.ts";

const JOBS = QUICK ? 5_000 : 20_000;
const TRIPS = JOBS / 10;

const [url = "", name = ""] = process.argv.slice(2);
const redis = await RedisInfo.connect(url);

/** Jobs a second; and the processor time of each, which a busy machine changes less. */
async function measure(work: string, count: number, step: () => Promise<void>): Promise<Figures> {
  const [redisCpu, cpu] = [await redis.usedCpu(), process.cpuUsage()];
  const startedAt = performance.now();
  await step();
  const seconds = (performance.now() - startedAt) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  return {
    [`${work}, jobs/s`]: count / seconds,
    [`${work}, CPU of the program, µs`]: (user + system) / count,
    [`${work}, CPU of Redis, µs`]: (await redis.usedCpu() - redisCpu) / count,
  };
}

async function measureRun(contender: Contender, count: number, size: number): Promise<Figures> {
  const worker = await contender.openWorker(size);
  const figures = await measure(`run, ${size} at a time`, count, () => worker.run(count));
  await worker.close();
  return figures;
}

async function measureJobs(contender: Contender, count: number): Promise<Figures> {
  const bulk = () => contender.enqueueBulk(count);
  const oneByOne = contender.enqueueOneByOne?.bind(contender, count, 100);
  const figures: Figures = {};
  if (oneByOne) {
    Object.assign(figures, await measure("enqueue one by one, 100 concurrent", count, oneByOne));
  } else await bulk();
  Object.assign(figures, await measureRun(contender, count, 100));
  Object.assign(figures, await measure("enqueue in bulk", count, bulk));
  return Object.assign(figures, await measureRun(contender, count, 10));
}

async function measureTrips(contender: Contender): Promise<Figures> {
  const trips = await contender.startRoundTrips?.();
  if (!trips) return {};
  const times: number[] = [];
  for (let i = 0; i < 2 * TRIPS; i++) {
    const startedAt = performance.now();
    await trips.trip();
    if (i >= TRIPS) times.push(performance.now() - startedAt);
  }
  await trips.stop();
  return {
    "round trip, p50, ms": quantile(times, 0.5),
    "round trip, p99, ms": quantile(times, 0.99),
  };
}

const make = MAKERS[name];
if (!make) throw new Error(`No contender is called ${name}`);
await redis.command("FLUSHALL");
const contender = await make(url);
await measureJobs(contender, JOBS / 2); // The runtime compiles what is hot.
print({ ...await measureJobs(contender, JOBS), ...await measureTrips(contender) });
process.exit(0); // Some peers keep their connections.
