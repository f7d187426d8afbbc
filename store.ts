/**
 * What a backend must do for a queue, in the queue's own words.
 *
 * Every instant that decides anything (due times, leases, cron slots) is read from the store's
 * clock, never from the caller's.
 * @module
 */

import type { StoreInspection } from "./store_inspection.ts";

export type * from "./store_inspection.ts";

/** A job about to be enqueued. */
export interface NewJob {
  /** The job's id. */
  readonly jobId: string;
  /** The encoded job. */
  readonly payload: Uint8Array;
  /**
   * How the id is to be treated: `random` ids are known to be new, a `given` one may be taken, and
   * a `slot` (a unique cron job's) is refused also while locked or when over a minute late.
   */
  readonly idKind: "random" | "given" | "slot";
  /** The slot that a job with an id of its own stands for: locked until a minute after it. */
  readonly slotId?: string;
  /** When the job is due, epoch milliseconds; wins over `deferMs`. */
  readonly dueAt?: number;
  /** Milliseconds from now until the job is due; due at once without it. */
  readonly deferMs?: number;
  /** Milliseconds from now after which the job must not be started any more. */
  readonly expiresMs?: number;
}

/** What makes a claimed job ours: every later operation on it must show this. */
export interface Lease {
  /** The job's id. */
  readonly jobId: string;
  /** The random token of the claim, which may have taken other jobs as well. */
  readonly token: string;
  /** The score the job had in the queue, as the store writes it. */
  readonly score: string;
}

/** A due job that a worker has taken. */
export interface Claim extends Lease {
  /** The encoded job; null if it expired, undefined if what is stored cannot be a job. */
  readonly payload: Uint8Array | null | undefined;
  /** How often the job was started, this start included. */
  readonly starts: number;
  /** How many of these starts ended in a hand-back. */
  readonly handbacks: number;
  /** Whether somebody asked to abort the job before it started. */
  readonly abortAsked: boolean;
  /** Whether it may have killed its workers: no other such is to be claimed beside it. */
  readonly isSuspect: boolean;
}

/** The reply to a claim. */
export interface ClaimReply {
  /** The jobs taken, most urgent first; none while the queue is paused. */
  readonly claims: readonly Claim[];
  /** The store's time, epoch milliseconds. */
  readonly now: number;
  /** Milliseconds until the next known job or lease becomes due; undefined if there is none. */
  readonly nextDueMs: number | undefined;
  /** How many jobs the queue holds, running and deferred ones included. */
  readonly queued: number;
  /** Whether the reply to an earlier attempt was lost, which may have taken jobs that nobody knows of. */
  readonly wasRepeated?: boolean;
}

/** The end of a claimed job, to be recorded. */
export interface Finish {
  /** What shows that the job is ours, and how often it was handed back before. */
  readonly lease: Claim;
  /** Whether the job succeeded: only a success may come after the lease was lost. */
  readonly success: boolean;
  /** The encoded result. */
  readonly record: Uint8Array;
  /** Milliseconds to keep the result, 0 for not at all. */
  readonly keepMs: number | "forever";
  /** Milliseconds for which the id stays locked after the end: a unique cron job's slot. */
  readonly lockTailMs: number;
}

/** A claimed job that goes back to the queue. */
export interface GiveBack {
  /** What shows that the job is ours. */
  readonly lease: Lease;
  /** `retry` after a try that asked for it or before one, `release` for a try that was cut short. */
  readonly kind: "retry" | "release";
  /** Milliseconds until it is due again; its old place in the queue without it. */
  readonly deferMs?: number;
  /** The number of starts to remember: the job may have begun with one of its own, or not at all. */
  readonly starts: number;
}

/** What became of a finish or give-back: `refused` means that the lease was lost meanwhile. */
export type Settled = "done" | "refused" | "expires_first";

/** What became of a wish to abort: a worker that runs the job was `asked`, and heeds it soon. */
export type AbortReply = "aborted" | "asked" | "not_found";

/** What a store knows of one job, read in one step. */
export interface JobSnapshot {
  /** The encoded result, once the job is complete. */
  readonly result: Uint8Array | undefined;
  /** The encoded job, if it was asked for and is still there. */
  readonly payload: Uint8Array | undefined;
  /** Whether the encoded job is still there. */
  readonly hasPayload: boolean;
  /** Whether a worker holds the job. */
  readonly locked: boolean;
  /** Its score in the queue: the due time, or the lease's end while it runs. */
  readonly score: number | undefined;
  /** The store's time, epoch milliseconds. */
  readonly now: number;
}

/** What a running job has told of its progress. */
export interface ProgressReport {
  /** In which of the job's starts. */
  readonly starts: number;
  /** The number of the report within that start, from 1; it only grows. */
  readonly nth: number;
  /** When the store took it, epoch milliseconds. */
  readonly at: number;
  /** The encoded value. */
  readonly value: Uint8Array;
}

/** The progress of a claimed job, to be told. */
export interface NewProgress extends Pick<ProgressReport, "starts" | "nth" | "value"> {
  /** What shows that the job is ours. */
  readonly lease: Lease;
}

/** What a store knows of a job that is watched. */
export interface JobObservation extends JobSnapshot {
  /** How often the job was started, as far as that is known. */
  readonly starts: number;
  /** What it reported last. */
  readonly progress: ProgressReport | undefined;
}

/**
 * What happens to a job that is watched; its end is told by {@linkcode Store.onFinished}.
 *
 * - `started`: a worker has taken it, for the start of that number.
 * - `progress`: its function has told how far it is.
 * - `retried`: it went back to the queue, until `dueAt`.
 * - `gap`: some of these may have been missed, so it is time to look.
 */
export type JobNews =
  | { readonly kind: "started"; readonly at: number; readonly starts: number }
  | { readonly kind: "progress" } & ProgressReport
  | {
    readonly kind: "retried";
    readonly at: number;
    readonly starts: number;
    readonly dueAt: number;
  }
  | { readonly kind: "gap" };

/** Called with what happens to a watched job, in the order in which it happened. */
export type NewsListener = (news: JobNews) => void;

/** One entry of a queue. */
export interface QueueEntry {
  /** The job's id. */
  readonly jobId: string;
  /** Its score in the queue. */
  readonly score: number;
  /** The encoded job; undefined if it expired. */
  readonly payload: Uint8Array | undefined;
}

/** A line on which one idle worker is woken. */
export interface WakeLine extends Disposable {
  /** Whether jobs can be claimed at the very moment of a wake-up, without another round trip. */
  readonly canClaim: boolean;
  /**
   * Resolves to true when work may have come, to false after some seconds without any; to the
   * reply to `claim` if that was asked for, the line can do it, and the store has done it.
   */
  wait(claim?: ClaimRequest): Promise<ClaimReply | boolean>;
  /** Ends claiming: a wake-up that comes after this has resolved takes no job for this holder. */
  disarm(holder: string): Promise<void>;
}

/** What a claim is to take, now or at a wake-up. */
export interface ClaimRequest {
  /** What the tokens start with. */
  readonly holder: string;
  /** How many jobs at most. */
  readonly limit: number;
  /** Milliseconds for which each is leased. */
  readonly leaseMs: number;
  /** Which orphans to be careful with; none without it. */
  readonly suspects?: SuspectRule;
}

/** A job whose workers died until it is at try `lastTry` or beyond is a suspect. */
export interface SuspectRule {
  /** The try from which on an orphan is a suspect. */
  readonly lastTry: number;
  /** Whether one may be taken. */
  readonly mayTake: boolean;
}

/**
 * Called when a job has finished, with the encoded result if it is small or is not kept; without one
 * also when that may have been missed.
 */
export type FinishListener = (record: Uint8Array | undefined) => void;

/**
 * Where queues live.
 *
 * All methods may be called again after a lost reply: no operation takes effect twice. All but
 * `connect` end in a reply or a `QueueConnectionError` within the store's timeout.
 */
export interface Store extends AsyncDisposable {
  /** What is put before the name of everything stored. */
  readonly prefix: string;
  /** Where the store is, without secrets, for logs and errors. */
  readonly address: string;
  /** How many jobs of a long list are enqueued in one call: few enough that none takes long. */
  readonly listChunk: number;
  /** The client behind the store, for whoever needs more than a queue; throws where there is none. */
  readonly client: unknown;
  /** The operators' side. */
  readonly inspection: StoreInspection;
  /** Whether it was connected and is not closed since; a connection that is lost may come back. */
  readonly isOpen: boolean;

  /** Connects, with as many attempts as the settings say; may be called again after `close`. */
  connect(signal?: AbortSignal): Promise<void>;
  /** Throws a one-line error if this queue cannot live in the store. */
  checkQueueName(queueName: string): void;
  /** One line about the store for the worker's log, and a warning about its set-up if there is one. */
  describe(): Promise<{ readonly info: string; readonly warning?: string }>;
  /** Calls back whenever a lost connection is there again. */
  onReconnect(listener: () => void): Disposable;
  /** Calls back just before the store closes. */
  onClose(listener: () => void): Disposable;

  /**
   * Accepts jobs, all or none of them; false stands for a taken id. A job without `expiresMs` may
   * be started until `extraMs` after it is due.
   */
  enqueue(queueName: string, jobs: readonly NewJob[], extraMs: number): Promise<boolean[]>;
  /**
   * Takes due jobs and sets a lease on each.
   *
   * Of suspects it takes one at the most: so one that kills its worker does not take others with
   * it to the end of their tries.
   */
  claim(queueName: string, request: ClaimRequest): Promise<ClaimReply>;
  /** Renews leases; false stands for one that is lost. */
  renew(queueName: string, leases: readonly Lease[], leaseMs: number): Promise<boolean[]>;
  /** Records the end of jobs and tells whoever waits for them. */
  finish(queueName: string, ends: readonly Finish[]): Promise<Settled[]>;
  /** Puts jobs back into the queue. */
  giveBack(queueName: string, jobs: readonly GiveBack[]): Promise<Settled[]>;
  /** Releases leases of `holder` that are not among `known`: claims whose reply was lost. */
  releaseUnknown(queueName: string, holder: string, known: readonly Lease[]): Promise<number>;

  /** Opens a line on which an idle worker is woken. */
  openWakeLine(queueName: string): WakeLine;
  /** Passes a wake-up on to another idle worker. */
  wake(queueName: string): Promise<void>;

  /**
   * Asks for a job to be aborted. One that nobody runs is finished at once with `record`; the
   * workers find out about others with {@linkcode Store.findAborts}.
   */
  abort(
    queueName: string,
    jobId: string,
    record: Uint8Array,
    keepMs: number,
  ): Promise<AbortReply>;
  /** Those of the jobs whose abort was asked for. */
  findAborts(jobIds: readonly string[]): Promise<ReadonlySet<string>>;

  /** Reads what is known of a job; the payload only if `withPayload`. */
  lookUp(queueName: string, jobId: string, withPayload: boolean): Promise<JobSnapshot>;
  /**
   * Calls back when the job finishes; resolves once nothing can be missed any more. The end of an
   * earlier job with the id may be told still: from node to node of a Cluster it takes its time.
   * With `isCall` the next calls of this client are to be listened for as well.
   */
  onFinished(jobId: string, listener: FinishListener, isCall?: boolean): Promise<AsyncDisposable>;
  /**
   * Keeps what jobs tell of their progress, and tells those who watch; nothing is done for a job
   * whose lease was lost. It is kept while leases of `leaseMs` are renewed, and some minutes more.
   */
  report(queueName: string, reports: readonly NewProgress[], leaseMs: number): Promise<void>;
  /** What a job has reported last. */
  readProgress(jobId: string): Promise<ProgressReport | undefined>;
  /**
   * Reads what is known of a job, and has its steps told from that moment on for `watchMs`; the
   * payload only if `withPayload`.
   */
  observe(
    queueName: string,
    jobId: string,
    watchMs: number,
    withPayload: boolean,
  ): Promise<JobObservation>;
  /** Calls back with the steps of a job that is observed; resolves once it listens. */
  onNews(queueName: string, jobId: string, listener: NewsListener): Promise<AsyncDisposable>;
  /** All entries of a queue, by score. */
  queueEntries(queueName: string): Promise<QueueEntry[]>;
  /** All encoded results, in no particular order. */
  results(): AsyncIterable<{ readonly jobId: string; readonly record: Uint8Array }>;

  /** Writes a worker's sign of life, which expires by itself. */
  writeHealth(key: string, text: string, ttlMs: number): Promise<void>;
  /** Reads the sign of life; undefined if there is none. */
  readHealth(key: string): Promise<string | undefined>;
  /** Removes the sign of life. */
  removeHealth(key: string): Promise<void>;

  /** Closes every connection; waits for no reply. */
  close(): Promise<void>;
}
