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
  /** Reads one job; its score is the due time in this queue, or the lease's end while it runs. */
  view(
    queueName: string,
    jobId: string,
  ): Promise<JobState & { readonly score: number | undefined; readonly now: number }>;
  /** How many failures were noted since a time, and the store's time. */
  countFailed(
    queueName: string,
    since: number | undefined,
  ): Promise<{ readonly count: number; readonly now: number }>;
  /**
   * Enqueues failed jobs again in place of their results, under their ids, due at once and to be
   * started within `extraMs`; false where the result is another by now or the id is in use.
   */
  retry(queueName: string, jobs: readonly Retrial[], extraMs: number): Promise<boolean[]>;
}
