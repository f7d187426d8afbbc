/**
 * What a worker tells operators of itself, and what it counts.
 * @module
 */
import { hostname } from "node:os";
import process from "node:process";
import type { CronScheduler } from "./cron_scheduler.ts";
import type { JobLoop } from "./job_loop.ts";
import { isGranted } from "./permissions.ts";
import type { WorkerReport } from "./store_inspection.ts";
import { log } from "./worker_log.ts";
import type { ResolvedSettings } from "./worker_settings.ts";
import type { WorkerRecord } from "./worker_records.ts";

/** A worker that has something to tell reports this often, an idle one that often. */
const BUSY_MS = 1_000;
const IDLE_MS = 10_000;
/** Who has not reported for this long is gone. */
const LIFE_MS = 35_000;
/** A worker that ends tries so often to tell its last counts. */
const LAST_ATTEMPTS = 4;
/** The running jobs of which a report tells. */
const MOST_RUNNING = 100;

/** Counts under way to the store; the id keeps them from being added twice. */
type Batch = Pick<WorkerReport, "reportId" | "minute" | "totals">;

const NOTHING: Batch = { reportId: "", minute: new Map(), totals: new Map() };

/** Reports a worker to the store: at its start, when something has happened, now and then, at its end. */
export class WorkerReporter {
  readonly #settings: ResolvedSettings;
  readonly #loop: JobLoop;
  readonly #cron: CronScheduler;
  readonly #workerId: string = crypto.randomUUID().slice(-12);
  readonly #host: string | null = hostName();
  #startedAt: number | undefined;
  #reportedAt = -Infinity;
  #events = -1;
  #batch: Batch | undefined;
  #sending: Promise<void> | undefined;
  #isRefused = false;

  /** Takes what it tells of; nothing is written yet. */
  constructor(settings: ResolvedSettings, loop: JobLoop, cron: CronScheduler) {
    this.#settings = settings;
    this.#loop = loop;
    this.#cron = cron;
  }

  /** Reports if it is time; `now` is the store's time. */
  async tick(now: number): Promise<void> {
    this.#startedAt ??= now;
    const interval = this.#events === this.#loop.events ? IDLE_MS : BUSY_MS;
    if (this.#sending || performance.now() - this.#reportedAt < interval) return;
    this.#reportedAt = performance.now();
    this.#events = this.#loop.events;
    this.#sending = this.#send(now);
    await this.#sending;
    this.#sending = undefined;
  }

  /** Tells the last counts, and that the worker has gone. */
  async end(): Promise<void> {
    await this.#sending;
    for (let attempts = 0; attempts < LAST_ATTEMPTS; attempts++) {
      await this.#send();
      if (!this.#batch && this.#loop.tally.isEmpty) return;
    }
  }

  /** Sends the counts, and what the worker is at `now`; without it that the worker has gone. */
  async #send(now?: number): Promise<void> {
    const { client, queueName } = this.#settings;
    this.#batch ??= this.#takeCounts();
    try {
      const life = now === undefined
        ? { record: "", ttlMs: 0 }
        : { record: JSON.stringify(this.#record(now)), ttlMs: LIFE_MS };
      const report = { ...this.#batch ?? NOTHING, ...life, workerId: this.#workerId };
      await client.store.inspection.report(queueName, report);
      this.#batch = undefined;
      this.#isRefused = false;
    } catch (error) {
      if (!this.#isRefused) log.storeFailed("report to operators", error);
      this.#isRefused = true;
    }
  }

  #takeCounts(): Batch | undefined {
    const counts = this.#loop.tally.take();
    return counts && { ...counts, reportId: crypto.randomUUID() };
  }

  #record(now: number): WorkerRecord {
    const { functions, maxJobs } = this.#settings;
    const { jobsComplete, jobsFailed, jobsRetried, ongoing, runs } = this.#loop;
    const toStoreTime = now - Date.now();
    return {
      hostname: this.#host,
      pid: process.pid,
      runtime: runtimeName(),
      functions: [...functions.keys()],
      maxJobs,
      jobsOngoing: ongoing,
      running: runs.slice(0, MOST_RUNNING).map(({ claim, record, startMs, jobTry }) => ({
        jobId: claim.jobId,
        functionName: record.f,
        startedAt: startMs + toStoreTime,
        jobTry,
      })),
      jobsComplete,
      jobsFailed,
      jobsRetried,
      memoryBytes: process.memoryUsage().rss,
      startedAt: this.#startedAt ?? now,
      seenAt: now,
      cronJobs: this.#cron.describe(now),
    };
  }
}

/** The host's name, where the program may know it. */
function hostName(): string | null {
  return isGranted("sys", { kind: "hostname" }) ? hostname() : null;
}

/** `deno 2.9.6`, or what else it runs in. */
function runtimeName(): string {
  const { deno, bun, node } = process.versions as Readonly<Record<string, string>>;
  return deno ? `deno ${deno}` : bun ? `bun ${bun}` : `node ${node}`;
}
