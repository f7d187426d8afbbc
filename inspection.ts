/**
 * What operators see of a queue: numbers, jobs, workers, schedules.
 *
 * Everything read for these comes from the store and may have been written by anybody: what cannot
 * be read is shown as such or left out with a line in the log, and spoils nothing else.
 * @module
 */
import type { Duration, Instant } from "./duration.ts";

/** Which queue is meant. */
export interface QueueOptions {
  /** The queue. @default the pool's `defaultQueueName` */
  readonly queueName?: string;
}

/** Options of `stats`. */
export interface StatsOptions extends QueueOptions {
  /** How far back `minutes` goes, 3 hours at most: milliseconds or a duration object. @default 1 hour */
  readonly history?: Duration;
}

/**
 * The numbers of a queue at one moment.
 *
 * What ends is counted by the workers, which report once a second: a worker that is killed takes
 * the counts of its last second with it (never a job). Python's workers report nothing.
 */
export interface QueueStats {
  /** The queue. */
  readonly queueName: string;
  /** When the numbers were read, by the store's clock. */
  readonly at: Date;
  /** Whether its workers were told to claim nothing. */
  readonly paused: boolean;
  /** Jobs that could be started now; those that a Python worker runs are among them. */
  readonly due: number;
  /** Jobs that wait for their time. */
  readonly deferred: number;
  /** Jobs that workers hold. */
  readonly inProgress: number;
  /** For how long the oldest due job has been due, milliseconds; null if none is due. */
  readonly oldestDueMs: number | null;
  /** What ended in each minute, newest last and without gaps; the last one has not passed yet. */
  readonly minutes: readonly MinuteStats[];
  /** How long tries took in all these minutes; null without any. */
  readonly runTime: Percentiles | null;
  /** How long jobs had been due when they were first claimed, in all these minutes; null without any. */
  readonly waitTime: Percentiles | null;
  /** What ended since counting began, by the function's name. */
  readonly functions: readonly FunctionTotals[];
}

/** How tries ended. Names that a worker does not have are counted as `<unknown>`. */
export interface Outcomes {
  /** Jobs whose function returned. */
  readonly complete: number;
  /** Jobs that failed for good. */
  readonly failed: number;
  /** Jobs that were aborted by a worker. */
  readonly aborted: number;
  /** Tries that ended in a retry or a hand-back. */
  readonly retried: number;
}

/** What ended in one minute. */
export interface MinuteStats extends Outcomes {
  /** When the minute began, by the store's clock. */
  readonly at: Date;
  /** How long its tries took; null without any. */
  readonly runTime: Percentiles | null;
  /** How long its jobs had been due when they were first claimed; null without any. */
  readonly waitTime: Percentiles | null;
}

/**
 * How long the faster 50, 90 and 99 of a hundred took at most.
 *
 * Taken from a histogram, between whose neighbouring limits there is a factor of two at most; the
 * real value lies between the same two limits as the one given.
 */
export interface Percentiles {
  /** The median, milliseconds. */
  readonly p50Ms: number;
  /** Nine of ten took no longer, milliseconds. */
  readonly p90Ms: number;
  /** 99 of a hundred took no longer, milliseconds. */
  readonly p99Ms: number;
}

/** How often something took how long. */
export interface Histogram {
  /** How many were measured. */
  readonly count: number;
  /** The sum of all, milliseconds. */
  readonly sumMs: number;
  /** How many took up to `leMs`, for growing limits, the last of which is Infinity. */
  readonly buckets: readonly { readonly leMs: number; readonly count: number }[];
}

/** What became of one function's jobs since counting began. */
export interface FunctionTotals extends Outcomes {
  /** The function's name. */
  readonly functionName: string;
  /** How long its tries took. */
  readonly runTime: Histogram;
  /** How long its jobs had been due when they were first claimed. */
  readonly waitTime: Histogram;
}

/**
 * Where a listed job is in its life: as `Job.status` has it, but that `complete` means a success
 * here, and every other end is `failed`.
 */
export type JobViewStatus = "deferred" | "queued" | "in_progress" | "complete" | "failed";

/** A job as it is shown. */
export interface JobView {
  /** The job's id. */
  readonly jobId: string;
  /** Where it is in its life. */
  readonly status: JobViewStatus;
  /** The queue it is in, or ran on. */
  readonly queueName: string;
  /** The name it was enqueued under; null if nobody can read it. */
  readonly functionName: string | null;
  /** Its arguments; empty if nobody can read them. */
  readonly args: readonly unknown[];
  /** Its keyword arguments; empty if nobody can read them. */
  readonly kwargs: Readonly<Record<string, unknown>>;
  /** How often it was started, 0 for not yet; null if nobody can tell. */
  readonly jobTry: number | null;
  /** When it was enqueued, by the clock of the program that did; null if nobody can read it. */
  readonly enqueueTime: Date | null;
  /** When it is or was due, of a job that is deferred or queued. */
  readonly dueAt: Date | null;
  /** When its last try began, of a job that has ended; `workers` tells it of those that run. */
  readonly startTime: Date | null;
  /** When it ended, of a job that has. */
  readonly finishTime: Date | null;
  /** Whether it succeeded, of a job that has ended. */
  readonly success: boolean | null;
  /** What its function returned or the error that ended it, of a job that has ended. */
  readonly result: unknown;
  /** Why it cannot be read, if it cannot. */
  readonly problem: string | null;
}

/** Which jobs `jobs` lists, and how many. */
export interface JobFilter extends QueueOptions {
  /** Only jobs of this status. @default all, in this order: in progress, queued, deferred, failed, complete */
  readonly status?: JobViewStatus;
  /** Only jobs of this function. */
  readonly functionName?: string;
  /** Only jobs that ended since then, or were enqueued since then if they have not ended. */
  readonly since?: Instant;
  /** Where to go on: the `cursor` of the page before, with the same filter. */
  readonly cursor?: string;
  /** How many jobs a page has at most, from 1 to 1,000. @default 50 */
  readonly limit?: number;
}

/**
 * A page of jobs: those that wait by their due time, those that have ended with the newest first.
 *
 * It costs the same however long the queue is, so that it looks at a bounded number of jobs, and
 * with a filter it may have fewer than `limit` or none at all: go on as long as there is a cursor.
 * Jobs that move on between two pages may be listed twice or not at all.
 */
export interface JobPage {
  /** The jobs. */
  readonly jobs: readonly JobView[];
  /** Where the next page begins; undefined at the end. */
  readonly cursor: string | undefined;
}

/** A live worker, as it reported in the last seconds. */
export interface WorkerView {
  /** Its id, new at each start. */
  readonly workerId: string;
  /** The host it runs on; null where it may not know. */
  readonly hostname: string | null;
  /** Its process. */
  readonly pid: number;
  /** What it runs in, such as `deno 2.9.6`. */
  readonly runtime: string;
  /** Its queue. */
  readonly queueName: string;
  /** The names of its functions and cron jobs. */
  readonly functions: readonly string[];
  /** How many jobs it runs at a time. */
  readonly maxJobs: number;
  /** How many jobs it runs now. */
  readonly jobsOngoing: number;
  /** The jobs it runs now, the longest first; a hundred at most. */
  readonly running: readonly RunningJob[];
  /** Jobs whose function returned. */
  readonly jobsComplete: number;
  /** Jobs that failed for good or were aborted. */
  readonly jobsFailed: number;
  /** Tries that ended in a retry or a hand-back. */
  readonly jobsRetried: number;
  /** The memory of its process, bytes. */
  readonly memoryBytes: number;
  /** When it was started, by the store's clock. */
  readonly startedAt: Date;
  /** When it reported, by the store's clock: 10 seconds ago at most, if it is well. */
  readonly seenAt: Date;
}

/** A job that a worker runs. */
export interface RunningJob {
  /** The job's id. */
  readonly jobId: string;
  /** The name it was enqueued under. */
  readonly functionName: string;
  /** When this try began, by the store's clock. */
  readonly startedAt: Date;
  /** Which start of the job this is, from 1. */
  readonly jobTry: number;
}

/** A cron job of a live worker. */
export interface CronView {
  /** The name its jobs are enqueued under. */
  readonly name: string;
  /** When it runs, as a cron string; fields have become one. */
  readonly pattern: string;
  /** The time zone that is read in. */
  readonly timezone: string;
  /** Its queue. */
  readonly queueName: string;
  /** When it runs next, the earliest first; five times at most. */
  readonly next: readonly Date[];
  /** Whether a slot runs once, however many workers there are. */
  readonly unique: boolean;
}

/** Options of `retryJobs`. */
export interface RetryJobsOptions extends QueueOptions {
  /** Only jobs of this function. */
  readonly functionName?: string;
  /** Only jobs that failed since then. */
  readonly since?: Instant;
  /** Ends the work when it aborts; what was enqueued stays so. */
  readonly signal?: AbortSignal;
  /** Called now and then with how far the work is. */
  readonly onProgress?: (progress: RetryProgress) => void;
}

/** How far `retryJobs` is. */
export interface RetryProgress {
  /** How many jobs were enqueued again. */
  readonly retried: number;
  /** How many failures were looked at. */
  readonly looked: number;
  /** How many failures there were at the start. */
  readonly total: number;
}
