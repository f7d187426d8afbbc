/**
 * What a backend must do for operators: steering a queue, and looking into it at a cost that does
 * not grow with it.
 * @module
 */

/** What became of a job that was to be removed. */
export type Removal = "removed" | "running" | "not_found";

/** A list of the jobs of a queue. */
export type JobList = "in_progress" | "queued" | "deferred" | "failed" | "complete";

/** Which part of a list is to be read. */
export interface PageQuery {
  /** The list: waiting jobs come by their due time, ended ones with the newest first. */
  readonly list: JobList;
  /** The position after which it begins. */
  readonly after?: string;
  /** Only jobs that ended at this time or later, epoch milliseconds. */
  readonly since?: number;
  /** Only jobs that ended at this time or earlier, epoch milliseconds. */
  readonly until?: number;
  /** Ended jobs with the oldest first. */
  readonly oldestFirst?: boolean;
  /** How many entries to look at. */
  readonly limit: number;
}

/** What a store knows of one job, for its view. */
export interface JobState {
  /** The encoded job; null if there is none, undefined if what is stored cannot be one. */
  readonly payload: Uint8Array | null | undefined;
  /** The encoded result; null if there is none, undefined if what is stored cannot be one. */
  readonly result: Uint8Array | null | undefined;
  /** Whether a worker holds the job. */
  readonly locked: boolean;
  /** How often it was started. */
  readonly starts: number;
}

/** What a store knows of one job at a moment. */
export interface SeenJob extends JobState {
  /** The due time in the queue, or the lease's end while it runs; undefined if it is not there. */
  readonly score: number | undefined;
  /** The store's time, epoch milliseconds. */
  readonly now: number;
}

/** One job of a list. */
export interface ListedJob extends JobState {
  /** The job's id. */
  readonly jobId: string;
  /** When it is or was due, or when it ended; epoch milliseconds. */
  readonly at: number;
  /** Its position, for the `after` of a further page. */
  readonly position: string;
}

/** A part of a list. */
export interface ListPage {
  /** The jobs, without those that belong to another list by now. */
  readonly jobs: readonly ListedJob[];
  /** The position of the last entry that was looked at; undefined at the list's end. */
  readonly next: string | undefined;
}

/** A failed job to be enqueued again. */
export interface Retrial {
  /** The job's id. */
  readonly jobId: string;
  /** Its encoded result, as it was read. */
  readonly result: Uint8Array;
  /** The encoded job. */
  readonly payload: Uint8Array;
}

/** How many failures were noted. */
export interface FailureCount {
  /** How many. */
  readonly count: number;
  /** The store's time, epoch milliseconds. */
  readonly now: number;
}

/** Counts by name; the names are the business of whoever counts. */
export type Counts = ReadonlyMap<string, number>;

/** What a worker tells of itself, and what has ended since it did so before. */
export interface WorkerReport {
  /** The worker's id. */
  readonly workerId: string;
  /** What it tells, as text. */
  readonly record: string;
  /** Milliseconds until it is taken for gone; 0 when it goes. */
  readonly ttlMs: number;
  /** An id of the counts, so that they are added once. */
  readonly reportId: string;
  /** What is to be added to the counts of this minute. */
  readonly minute: Counts;
  /** What is to be added to the counts of all times. */
  readonly totals: Counts;
}

/** What a live worker has told of itself last. */
export type LiveWorker = Pick<WorkerReport, "workerId" | "record">;

/** The numbers of a queue. */
export interface QueueNumbers {
  /** The store's time, epoch milliseconds. */
  readonly now: number;
  /** Whether claims take nothing. */
  readonly paused: boolean;
  /** Jobs that could be started. */
  readonly due: number;
  /** Jobs that are not due. */
  readonly deferred: number;
  /** Jobs under a lease. */
  readonly inProgress: number;
  /** Since when the oldest due job has been due, epoch milliseconds. */
  readonly oldestDueAt: number | undefined;
  /** The counts of those minutes that have any; `minute` counts from the epoch. */
  readonly minutes: readonly { readonly minute: number; readonly counts: Counts }[];
  /** The counts of all times. */
  readonly totals: Counts;
}

/** The operators' side of a store. */
export interface StoreInspection {
  /** Has claims of a queue take nothing, or ends that and wakes a worker. */
  setPaused(queueName: string, paused: boolean): Promise<void>;
  /** Removes a job of this queue that nobody runs, and the result of its id. */
  remove(queueName: string, jobId: string): Promise<Removal>;
  /**
   * Reads a part of a list, at a cost that does not grow with the list.
   *
   * @throws {RangeError} if `after` is no position.
   */
  page(queueName: string, query: PageQuery): Promise<ListPage>;
  /** Reads one job. */
  view(queueName: string, jobId: string): Promise<SeenJob>;
  /** How many failures were noted since a time. */
  countFailed(queueName: string, since: number | undefined): Promise<FailureCount>;
  /**
   * Enqueues failed jobs again in place of their results, under their ids, due at once and to be
   * started within `extraMs`; false where the result is another by now or the id is in use.
   */
  retry(queueName: string, jobs: readonly Retrial[], extraMs: number): Promise<boolean[]>;
  /** Notes that a worker lives or goes, and adds up what ended; counts of minutes are kept for hours. */
  report(queueName: string, report: WorkerReport): Promise<void>;
  /** Reads the numbers of a queue and the counts of the last minutes, this one included. */
  numbers(queueName: string, minutes: number): Promise<QueueNumbers>;
  /** What the live workers of a queue have told of themselves. */
  workers(queueName: string): Promise<readonly LiveWorker[]>;
  /** The queues of the prefix, at least those that were used in the last days. */
  queueNames(): Promise<readonly string[]>;
}
