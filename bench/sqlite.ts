/**
 * Measures the embedded store on a file, in a process of its own, and prints the figures as one line
 * of JSON: jobs a second from `enqueueJob` to the result, 100 at a time; and how long the store ever
 * keeps the event loop when 100,000 jobs are queued.
 *
 * That is processor time, so that neither the disk's own sync nor other programs count; and the
 * median of the longest turns of some passes, each after the garbage was collected, so that a
 * collection that the runtime makes in a turn counts only if it is the rule. Started by `main.ts`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type ArqClient, createPool, Worker } from "../mod.ts";
import type { Lease } from "../store.ts";
import { forEachConcurrently } from "./contender.ts";
import { type Figures, median, print, QUICK, rate } from "./figures.ts";
import { collectGarbage } from "./garbage.ts";

const CONCURRENCY = 100;
const QUEUED = 100_000;
const LEASE_MS = 30_000;
const RECORD = new Uint8Array(110);
const TIMES = 50;
const PASSES = QUICK ? 2 : 5;
const CHUNK = 5_000;
const functions = { add: (_ctx: unknown, a: number, b: number): number => a + b };
type Client = ArqClient<typeof functions>;

const JOBS = QUICK ? 5_000 : 20_000;
const folder = mkdtempSync(join(tmpdir(), "arq-bench-"));

/** Enqueues, runs and awaits jobs, as one program with a worker of its own. */
async function measureSpeed(): Promise<Figures> {
  const url = `sqlite:${join(folder, "speed.db")}`;
  await using client: Client = await createPool<typeof functions>(url);
  await using worker = new Worker({ functions, connection: url, maxJobs: CONCURRENCY });
  const running = worker.run();
  const trip = async () => {
    const job = await client.enqueueJob("add", [1, 2]);
    if (await job.result() !== 3) throw new Error("a wrong result");
  };
  const run = (count: number) => forEachConcurrently(count, CONCURRENCY, trip);
  await run(1_000);
  const jobsPerSecond = await rate(JOBS, () => run(JOBS));
  await worker.close();
  await running;
  return { "enqueue, run, result, jobs/s": jobsPerSecond };
}

let longest = 0;

/** Times every turn that is asked for with `setImmediate`, as all that the store does is. */
function watchTurns(): void {
  const ask = globalThis.setImmediate;
  const timed = (work: () => void) =>
    ask(() => {
      const cpu = process.cpuUsage();
      const startedAt = performance.now();
      work();
      const elapsed = performance.now() - startedAt;
      const { user, system } = process.cpuUsage(cpu); // other threads' too, so it may be more
      longest = Math.max(longest, Math.min(elapsed, (user + system) / 1_000));
    });
  globalThis.setImmediate = timed as typeof setImmediate;
}

/** Has the library open files without waiting for the disk. */
function leaveOutSync(): void {
  const { exec } = DatabaseSync.prototype;
  DatabaseSync.prototype.exec = function (this: DatabaseSync, sql: string): void {
    exec.call(this, sql.replace("synchronous = NORMAL", "synchronous = OFF"));
  };
}

/** The longest turn while each of the store's calls is made many times. */
async function measureTurns(): Promise<Figures> {
  watchTurns();
  leaveOutSync();
  await using client: Client = await createPool<typeof functions>(
    `sqlite:${join(folder, "turns.db")}`,
  );
  const worst: Record<string, number[]> = {};
  const measure = async (what: string, step: (i: number) => Promise<unknown>, times = TIMES) => {
    collectGarbage();
    longest = 0;
    for (let i = 0; i < times; i++) await step(i);
    (worst[`longest turn, ${what}, ms`] ??= []).push(longest);
  };
  const list = (count: number, named = false) =>
    Array.from({ length: count }, (_, i) => ({
      name: "add" as const,
      args: [i, i] as const,
      options: named ? { jobId: crypto.randomUUID() } : {},
    }));
  for (let pass = 0; pass < PASSES; pass++) {
    await measure(
      "filling the queue",
      () => client.enqueueJobs(list(CHUNK)),
      QUEUED / CHUNK / PASSES,
    );
  }
  for (let pass = 0; pass < PASSES; pass++) {
    await measure("enqueue one", () => client.enqueueJob("add", [1, 2]));
    await measure("enqueue 250", () => client.enqueueJobs(list(250)));
    await measure("enqueue 250 under given ids", () => client.enqueueJobs(list(250, true)));
    await measure("look up one", (i) => client.job(`${i}`).info());
    await measureLeases(client, measure);
    await measure("list the queue", () => client.queuedJobs(), 1);
  }
  return Object.fromEntries(Object.entries(worst).map(([what, all]) => [what, median(all)]));
}

async function measureLeases(
  { store, defaultQueueName: queue }: Client,
  measure: (what: string, step: (i: number) => Promise<unknown>) => Promise<void>,
): Promise<void> {
  const batches: (readonly Lease[])[] = [];
  await measure("claim 100", async () => {
    batches.push(
      (await store.claim(queue, { holder: "holder", limit: 100, leaseMs: LEASE_MS })).claims,
    );
  });
  await measure("renew 100", (i) => store.renew(queue, batches[i] ?? [], LEASE_MS));
  await measure("finish 100", (i) => {
    const ends = batches[i] ?? [];
    const end = { success: true, record: RECORD, keepMs: 3_600_000, lockTailMs: 0 };
    return store.finish(queue, ends.map((lease) => ({ ...end, lease })));
  });
}

try {
  print({ ...await measureSpeed(), ...await measureTurns() });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
