/**
 * Measures one contender, a step at a time: for each line of the input, the name of a step, it prints
 * the figures as one line of JSON. Started by `peers.ts`.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import type { Contender } from "./contender.ts";
import { MAKERS } from "./contenders.ts";
import { type Figures, median, print, quantile, QUICK, rate, timesOf } from "./figures.ts";
import { RedisInfo } from "./redis_info.ts";
import { isStep, type Step } from "./step_names.ts";

const JOBS = QUICK ? 4_000 : 10_000;
const TRIPS = JOBS / 10;
const FAR_TRIPS = 20;

const [url = "", name = ""] = process.argv.slice(2).filter((argument) => argument !== "--quick");
const redis = await RedisInfo.connect(url);

const STEPS: Readonly<Record<Step, (contender: Contender) => Promise<Figures>>> = {
  async "one by one, run 100"(contender) {
    const oneByOne = contender.enqueueOneByOne?.bind(contender, JOBS, 100);
    const enqueued = oneByOne
      ? await measure("enqueue one by one, 100 concurrent", oneByOne)
      : (await contender.enqueueBulk(JOBS), {});
    return { ...enqueued, ...await measureRun(contender, 100) };
  },
  async "bulk, run 10"(contender) {
    const bulk = () => contender.enqueueBulk(JOBS);
    return { ...await measure("enqueue in bulk", bulk), ...await measureRun(contender, 10) };
  },
  async "round trips"(contender) {
    const times = await timesOfTrips(contender, TRIPS);
    return {
      "round trip, p50, ms": median(times),
      "round trip, p99, ms": quantile(times, 0.99),
    };
  },
  async "far round trips"(contender) {
    return {
      "round trip, Redis over 2 ms away, p50, ms": median(await timesOfTrips(contender, FAR_TRIPS)),
    };
  },
};

/** Jobs a second; and the processor time of each, which a busy machine changes less. */
async function measure(work: string, step: () => Promise<void>): Promise<Figures> {
  const [redisCpu, cpu] = [await redis.usedCpu(), process.cpuUsage()];
  const jobsPerSecond = await rate(JOBS, step);
  const { user, system } = process.cpuUsage(cpu);
  return {
    [`${work}, jobs/s`]: jobsPerSecond,
    [`${work}, CPU of the program, µs`]: (user + system) / JOBS,
    [`${work}, CPU of Redis, µs`]: (await redis.usedCpu() - redisCpu) / JOBS,
  };
}

async function measureRun(contender: Contender, size: number): Promise<Figures> {
  const worker = await contender.openWorker(size);
  const figures = await measure(`run, ${size} at a time`, () => worker.run(JOBS));
  await worker.close();
  return figures;
}

/** How long each trip takes, ms; the first ones of a worker meet what it has yet to open. */
async function timesOfTrips(contender: Contender, count: number): Promise<number[]> {
  const trips = await contender.startRoundTrips();
  const trip = () => trips.trip();
  await timesOf(count, trip);
  const times = await timesOf(count, trip);
  await trips.stop();
  return times;
}

const make = MAKERS[name];
if (!make) throw new Error(`No contender is called ${name}`);
const contender = await make(url);
for await (const step of createInterface(process.stdin)) {
  if (!isStep(step)) throw new Error(`No step is called ${step}`);
  print(await STEPS[step](contender));
}
process.exit(0); // Some peers keep their connections.
