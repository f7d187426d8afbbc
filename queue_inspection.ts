/**
 * What the client sees of queues, and how it steers them.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { JobStateError } from "./errors.ts";
import type {
  CronView,
  JobFilter,
  JobPage,
  JobView,
  QueueOptions,
  QueueStats,
  RetryJobsOptions,
  StatsOptions,
  WorkerView,
} from "./inspection.ts";
import { checkFunctionName, listJobs, sinceMs } from "./job_pages.ts";
import { type JobDef, jobDef, type JobResult, jobResult } from "./job_results.ts";
import { retryMany, retryOne } from "./job_retries.ts";
import { endedView, waitingView } from "./job_views.ts";
import { Job } from "./jobs.ts";
import { readStats, readWorkers } from "./queue_stats.ts";
import { decodeJob, decodeResult, type Deserializer, type Serializer } from "./serializer.ts";
import type { Store } from "./store.ts";
import { checkName, checkOptions, checkSignal, nameProblem, show } from "./validation.ts";
import type { WorkerReading } from "./worker_records.ts";

const logger = getLogger(["arq", "client"]);
const RETRY_KEYS = [
  "functionName",
  "queueName",
  "since",
  "signal",
  "onProgress",
] as const satisfies readonly (keyof RetryJobsOptions)[];

/** What an option that names a queue looks like, for errors. */
export const QUEUE_EXAMPLE = '{ queueName: "mail" }';

/** Looks into queues and steers them; every client does. */
export abstract class QueueInspection {
  /** The queue used where none is named. */
  abstract readonly defaultQueueName: string;
  /** The backend; most programs never need it. */
  abstract readonly store: Store;
  /** The program's own serializer, if it gave one. */
  abstract readonly serializer?: Serializer;
  /** The program's own deserializer, if it gave one. */
  abstract readonly deserializer?: Deserializer;
  /** How long after its due time a job may still be started, milliseconds. */
  abstract readonly expiresExtraMs: number;

  /**
   * The numbers of a queue: how many jobs wait, and what ended in the last minutes.
   *
   * It costs the same however long the queue is. What ends is counted by the workers, which tell it
   * once a second: a worker that is killed takes the counts of its last second with it, never a job.
   *
   * @example
   * ```ts
   * import { createPool } from "@arq/arq";
   *
   * await using arq = await createPool("redis://localhost:6379");
   * const { due, inProgress, oldestDueMs, minutes, waitTime } = await arq.stats();
   * const failed = minutes.reduce((sum, minute) => sum + minute.failed, 0);
   * console.log(due, inProgress, oldestDueMs, failed, waitTime?.p90Ms);
   * ```
   *
   * @throws {TypeError | RangeError} if an option is unknown or has a bad value.
   */
  async stats(options: StatsOptions = {}): Promise<QueueStats> {
    checkOptions("stats", "{ history: { minutes: 15 } }", options, ["queueName", "history"]);
    const queueName = this.#checkQueue("stats", options.queueName);
    return await readStats(this.store, queueName, options.history);
  }

  /**
   * The live workers of a queue, or of all queues of this prefix if none is named, by their start.
   *
   * A worker tells of itself once a second while something happens and every 10 seconds otherwise;
   * one that has died is gone after 35 seconds. Python's workers tell nothing.
   *
   * @example
   * ```ts
   * import { createPool } from "@arq/arq";
   *
   * await using arq = await createPool("redis://localhost:6379");
   * for (const { hostname, pid, jobsOngoing, maxJobs } of await arq.workers()) {
   *   console.log(`${hostname}, ${pid}: ${jobsOngoing} of ${maxJobs}`);
   * }
   * ```
   *
   * @throws {TypeError} if an option is unknown or has a bad value.
   */
  async workers(options: QueueOptions = {}): Promise<WorkerView[]> {
    const workers = (await this.#readWorkers("workers", options)).map(({ worker }) => worker);
    return workers.sort((a, b) => a.startedAt.getTime() - b.startedAt.getTime());
  }

  /**
   * The cron jobs of the live workers of a queue, or of all queues of this prefix if none is named,
   * by their next run; one that several workers have stands there once.
   *
   * @throws {TypeError} if an option is unknown or has a bad value.
   */
  async cronJobs(options: QueueOptions = {}): Promise<CronView[]> {
    const cronJobs = new Map<string, CronView>();
    for (const reading of await this.#readWorkers("cronJobs", options)) {
      for (const job of reading.cronJobs) {
        const { queueName, name, pattern, timezone } = job;
        const key = JSON.stringify([queueName, name, pattern, timezone]);
        const known = cronJobs.get(key);
        if (!known || nextOf(job) > nextOf(known)) cronJobs.set(key, job); // the latest report
      }
    }
    return [...cronJobs.values()].sort((a, b) => nextOf(a) - nextOf(b));
  }

  /**
   * The queues of this prefix, by name: those that workers or clients have used in the last seven
   * days; on SQLite all that the file has ever had.
   */
  async queueNames(): Promise<string[]> {
    return [...await this.store.inspection.queueNames()].sort();
  }

  /**
   * Lists jobs, page by page: those in progress, queued, deferred, failed and complete, in this
   * order, or those of one status.
   *
   * A page costs the same however long the queue is; see {@linkcode JobPage}. Jobs that Python's
   * workers run are listed as queued ones, and what Python's workers ended is not listed.
   *
   * @example
   * ```ts
   * import { createPool, type JobPage } from "@arq/arq";
   *
   * await using arq = await createPool("redis://localhost:6379");
   * let page: JobPage | undefined;
   * do {
   *   page = await arq.jobs({ status: "failed", cursor: page?.cursor });
   *   for (const { jobId, functionName, result } of page.jobs) {
   *     console.log(jobId, functionName, String(result));
   *   }
   * } while (page.cursor !== undefined);
   * ```
   *
   * @throws {TypeError | RangeError} if an option is unknown or has a bad value.
   */
  async jobs(filter: JobFilter = {}): Promise<JobPage> {
    const queueName = this.#checkQueue("jobs", filter?.queueName);
    return await listJobs(this, queueName, filter);
  }

  /**
   * One job as it is shown, whatever has become of it; null if nothing is left of it.
   *
   * @throws {TypeError} without an id, or if an option is unknown or has a bad value.
   */
  async jobView(jobId: string, options: QueueOptions = {}): Promise<JobView | null> {
    checkJobId("jobView", jobId);
    const queueName = this.#queueOf("jobView", options);
    const { score, now, ...state } = await this.store.inspection.view(queueName, jobId);
    const job = { ...state, jobId, queueName };
    if (state.result !== null) return endedView(job, this.deserializer);
    if (score === undefined) return null;
    if (state.locked) return waitingView(job, "in_progress", undefined, this.deserializer);
    return waitingView(job, score > now ? "deferred" : "queued", score, this.deserializer);
  }

  /**
   * All results that are kept, of every queue of this prefix, in the order in which their jobs were
   * enqueued. All of them are read, however many there are.
   *
   * Results that cannot be read are left out, with a line in the log.
   */
  async allJobResults(): Promise<JobResult[]> {
    const results: JobResult[] = [];
    for await (const { jobId, record } of this.store.results()) {
      const result = readable(jobId, () => decodeResult(record, this.deserializer));
      if (result) results.push(jobResult(result));
    }
    return results.sort((a, b) => a.enqueueTime.getTime() - b.enqueueTime.getTime());
  }

  /**
   * The jobs in a queue, by score; running and deferred ones too. All of them are read: `jobs` reads
   * a long queue in pages.
   *
   * Jobs that cannot be read are left out, with a line in the log.
   *
   * @throws {TypeError} if an option is unknown or has a bad value.
   */
  async queuedJobs(options: QueueOptions = {}): Promise<JobDef[]> {
    const entries = await this.store.queueEntries(this.#queueOf("queuedJobs", options));
    return entries.flatMap(({ jobId, score, payload }) => {
      const record = payload && readable(jobId, () => decodeJob(payload, this.deserializer));
      return record ? [jobDef(jobId, record, score)] : [];
    });
  }

  /**
   * Enqueues a job that has failed again, with its arguments and under its id, in place of its
   * result; it starts with its first try.
   *
   * Without a `queueName` it goes to the queue that it ran on.
   *
   * @throws {TypeError} without an id, or if an option is unknown or has a bad value.
   * @throws {JobNotFound} if there is neither a job nor a result.
   * @throws {JobStateError} if it has not failed, or its arguments were not kept.
   * @throws {DeserializationError} if its result cannot be read.
   */
  async retryJob(jobId: string, options: QueueOptions = {}): Promise<Job> {
    checkJobId("retryJob", jobId);
    const lookedIn = this.#queueOf("retryJob", options);
    const queueName = await retryOne(this, jobId, lookedIn, options.queueName);
    return new Job(jobId, queueName, this);
  }

  /**
   * Enqueues the failures that are kept again, as `retryJob` does, the oldest first; returns how many.
   * A job that was aborted is one of them.
   *
   * Jobs that fail meanwhile are left alone. Failures whose arguments were not kept are left out,
   * with a line in the log.
   *
   * @throws {TypeError | RangeError} if an option is unknown or has a bad value.
   * @throws the reason of `signal`; what was enqueued until then stays so.
   */
  async retryJobs(options: RetryJobsOptions = {}): Promise<number> {
    checkOptions("retryJobs", '{ functionName: "resize" }', options, RETRY_KEYS);
    const queueName = this.#checkQueue("retryJobs", options.queueName);
    checkFunctionName("retryJobs", options.functionName);
    checkSignal("retryJobs", options.signal);
    return await retryMany(this, queueName, sinceMs("retryJobs", options.since), options);
  }

  /**
   * Removes a job that waits, or the result of one that has ended; false if there is neither.
   *
   * Whoever waits for its result gets `ResultNotFound`.
   *
   * @throws {TypeError} without an id, or if an option is unknown or has a bad value.
   * @throws {JobStateError} if it is running: abort it.
   */
  async removeJob(jobId: string, options: QueueOptions = {}): Promise<boolean> {
    checkJobId("removeJob", jobId);
    const queueName = this.#queueOf("removeJob", options);
    const removal = await this.store.inspection.remove(queueName, jobId);
    if (removal !== "running") return removal === "removed";
    throw new JobStateError(`Cannot remove job ${jobId}: it is running; abort it first`);
  }

  /**
   * Has the workers of a queue claim nothing from now on; running jobs go on, and enqueueing.
   *
   * It lasts until `resume`, whichever workers come and go. Python's workers do not heed it.
   *
   * @example
   * ```ts
   * import { createPool } from "@arq/arq";
   *
   * await using arq = await createPool("redis://localhost:6379");
   * await arq.pause(); // the pool's own queue
   * await arq.resume();
   * ```
   *
   * @throws {TypeError} if the name is no text, or an empty one.
   */
  async pause(queueName?: string): Promise<void> {
    await this.store.inspection.setPaused(this.#checkQueue("pause", queueName), true);
  }

  /**
   * Ends a pause of a queue, of the pool's own if none is named, and wakes a worker.
   *
   * @throws {TypeError} if the name is no text, or an empty one.
   */
  async resume(queueName?: string): Promise<void> {
    await this.store.inspection.setPaused(this.#checkQueue("resume", queueName), false);
  }

  async #readWorkers(method: string, options: QueueOptions): Promise<WorkerReading[]> {
    const queueName = this.#queueOf(method, options);
    const isNamed = options.queueName !== undefined;
    return await readWorkers(this.store, isNamed ? [queueName] : await this.queueNames());
  }

  #queueOf(method: string, options: QueueOptions): string {
    checkOptions(method, QUEUE_EXAMPLE, options, ["queueName"]);
    return this.#checkQueue(method, options.queueName);
  }

  #checkQueue(method: string, queueName: string = this.defaultQueueName): string {
    checkName(`${method}: queueName`, queueName);
    this.store.checkQueueName(queueName);
    return queueName;
  }
}

/** When a cron job runs next, epoch milliseconds. */
function nextOf({ next }: CronView): number {
  return next[0]?.getTime() ?? Infinity;
}

/** What `read` returns, or undefined and a line in the log if nobody can read it. */
function readable<T>(jobId: string, read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    logger.warn("job {jobId} is left out: {reason}", { jobId, reason: (error as Error).message });
  }
}

/**
 * Checks a job's id.
 *
 * @throws {TypeError} if it is none.
 */
export function checkJobId(method: string, jobId: unknown): void {
  const problem = nameProblem(jobId);
  if (problem === undefined) return;
  throw new TypeError(`${method} takes an id, which ${problem}, got ${show(jobId)}`);
}
