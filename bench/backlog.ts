/**
 * Measures how fast jobs run from a short and from a long queue, each on a Redis of its own, in
 * turns, and prints it as one line of JSON.
 */
import { startRedis } from "../tests/_redis.ts";
import { type ArqClient, createPool, Worker } from "../mod.ts";
import type { Payload } from "./contender.ts";
import { median, print, QUICK, rate } from "./figures.ts";

const SHORT = 10_000;
const LONG = QUICK ? 200_000 : 1_000_000;
const ROUNDS = QUICK ? 3 : 11;
/**
 * Rounds that count for nothing. The runtime compiles what is hot; and with the 1,048,577th key, of a
 * job or a result, Redis makes room for a million more: while each command moves a part of the table,
 * for some 40,000 jobs, jobs run at less than half the rate. That is over before the first round.
 */
const WARM_UPS = QUICK ? 1 : 12;
const CHUNK = 10_000;

const functions = { noop: (_ctx: unknown, payload: Payload) => payload.id };
type Client = ArqClient<typeof functions>;

async function fill(client: Client, count: number): Promise<void> {
  const jobs = Array.from(
    { length: CHUNK },
    (_, id) => ({ name: "noop" as const, args: [{ id }] as const }),
  );
  for (let queued = 0; queued < count; queued += CHUNK) await client.enqueueJobs(jobs);
}

/** Runs as many jobs as the short queue has, and enqueues as many again. */
async function measure(client: Client): Promise<number> {
  const burst = { burst: true, maxBurstJobs: SHORT, maxJobs: 100 };
  const worker = new Worker({ functions, connection: client, ...burst });
  const jobsPerSecond = await rate(SHORT, () => worker.run());
  if (worker.jobsComplete !== SHORT) throw new Error(`${worker} did not run ${SHORT} jobs`);
  await fill(client, SHORT);
  return jobsPerSecond;
}

await using shortRedis = await startRedis();
await using longRedis = await startRedis();
await using short: Client = await createPool<typeof functions>(shortRedis.url);
await using long: Client = await createPool<typeof functions>(longRedis.url);
await fill(short, SHORT);
await fill(long, LONG);
for (let i = 0; i < WARM_UPS; i++) {
  await measure(short);
  await measure(long);
}
const rates: { short: number; long: number }[] = [];
for (let i = 0; i < ROUNDS; i++) {
  if (i % 2 === 0) rates.push({ short: await measure(short), long: await measure(long) });
  else {
    const longRate = await measure(long);
    rates.push({ short: await measure(short), long: longRate });
  }
}
const named = (count: number) => `run with ${count.toLocaleString("en")} queued, jobs/s`;
print({
  [named(SHORT)]: median(rates.map(({ short }) => short)),
  [named(LONG)]: median(rates.map(({ long }) => long)),
  "run from a long queue, × a short one": median(rates.map(({ short, long }) => long / short)),
});
