/**
 * What is known of jobs and their ends, and waiting for a result.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Deadlines } from "./deadlines.ts";
import { type Duration, durationMs } from "./duration.ts";
import { QueueConnectionError, ResultNotFound } from "./errors.ts";
import {
  decodeResult,
  type Deserializer,
  type JobRecord,
  type ResultRecord,
  type Serializer,
} from "./serializer.ts";
import type { JobSnapshot, Store } from "./store.ts";
import { checkOptions, checkSignal } from "./validation.ts";

/**
 * Where a job is in its life.
 *
 * - `deferred`: in the queue, not due yet; becomes `queued` when its time has come.
 * - `queued`: in the queue and due; a worker's claim makes it `in_progress`.
 * - `in_progress`: a worker holds its lease; ends `complete`, or goes back to `queued` or
 *   `deferred` by a retry, a hand-back, or a lease that ran out.
 * - `complete`: its result is there, until `keepResult` has passed; then `not_found`.
 * - `not_found`: never enqueued, or nothing is left of it.
 */
export type JobStatus = "deferred" | "queued" | "in_progress" | "complete" | "not_found";

/** What was enqueued. */
export interface JobDef {
  /** The job's id. */
  readonly jobId: string;
  /** The name it was enqueued under. */
  readonly functionName: string;
  /** Its arguments. */
  readonly args: readonly unknown[];
  /** Its keyword arguments. */
  readonly kwargs: Readonly<Record<string, unknown>>;
  /** The number its tries begin with if one was given; for a result, the try that ended it. */
  readonly jobTry: number | null;
  /** When it was enqueued, by the clock of the program that did. */
  readonly enqueueTime: Date;
  /** Its score in the queue: due time or lease end in epoch milliseconds; null when it is in none. */
  readonly score: number | null;
}

/** How a job ended. */
export interface JobResult extends JobDef {
  /** Whether the function returned. */
  readonly success: boolean;
  /** What it returned, or the error that ended it. */
  readonly result: unknown;
  /** When the last try began, by the clock of its worker. */
  readonly startTime: Date;
  /** When it ended, by the same clock. */
  readonly finishTime: Date;
  /** The queue it ran on. */
  readonly queueName: string;
}

/** Options of `Job.result`. */
export interface ResultOptions {
  /** How long to wait: milliseconds or a duration object. @default no limit */
  readonly timeout?: Duration;
  /** How often to look even if no news came: milliseconds or a duration object. @default 500 milliseconds */
  readonly pollDelay?: Duration;
  /** Ends the waiting when it aborts: its reason is thrown, and the job goes on. */
  readonly signal?: AbortSignal;
}

/** Which job is meant. */
export interface JobRef {
  readonly jobId: string;
  readonly queueName: string;
}

/** What a handle needs of the client it came from. */
export interface JobSource {
  /** Where the job lives. */
  readonly store: Store;
  /** The program's own serializer, if it has one. */
  readonly serializer?: Serializer;
  /** The program's own deserializer, if it has one. */
  readonly deserializer?: Deserializer;
}

const logger = getLogger(["arq", "client"]);
/** How often a job is looked at whose end nobody has told. */
const POLL_MS = 500;
/** News of a job that is already gone from the store arrives within this time, or never. */
export const LATE_NEWS_MS = 100;
/** News is waited for in so many steps, each of which takes longer where the event loop is blocked. */
const STEPS = 10;

/** The public form of an encoded job. */
export function jobDef(jobId: string, record: JobRecord, score: number | null): JobDef {
  return {
    jobId,
    functionName: record.f,
    args: record.a,
    kwargs: record.k,
    jobTry: record.t,
    enqueueTime: new Date(record.et),
    score,
  };
}

/** The public form of an encoded result. */
export function jobResult(record: ResultRecord): JobResult {
  return {
    ...jobDef(record.id, record, null),
    success: record.s,
    result: record.r,
    startTime: new Date(record.st),
    finishTime: new Date(record.ft),
    queueName: record.q,
  };
}

/** Where a job is, by what the store knows of it. */
export function statusOf({ result, locked, hasPayload, score, now }: JobSnapshot): JobStatus {
  if (result) return "complete";
  if (locked && (hasPayload || score !== undefined)) return "in_progress";
  if (score === undefined) return "not_found";
  return score > now ? "deferred" : "queued";
}

/** Returns a successful result's value; throws a failed one's error. */
export function unwrap(record: ResultRecord): unknown {
  if (!record.s) throw record.r;
  return record.r;
}

/** What options of a waiting look like, for errors. */
export const RESULT_EXAMPLE = "{ timeout: { seconds: 5 } }";
/** The options of a waiting. */
export const RESULT_KEYS = [
  "timeout",
  "pollDelay",
  "signal",
] as const satisfies readonly (keyof ResultOptions)[];

/**
 * Checks the options of a waiting before anything is sent.
 *
 * @throws {TypeError | RangeError} if one is unknown or has a bad value.
 */
export function checkResultOptions(what: string, options: ResultOptions): void {
  checkOptions(what, RESULT_EXAMPLE, options, RESULT_KEYS);
  checkWaiting(what, options);
}

/**
 * Checks how long is to be waited, among whatever other options.
 *
 * @throws {TypeError | RangeError} if one has a bad value.
 */
export function checkWaiting(what: string, options: ResultOptions): void {
  const { timeout, pollDelay, signal } = options;
  checkSignal(what, signal);
  if (timeout !== undefined) durationMs("timeout", timeout);
  if (pollDelay !== undefined) durationMs("pollDelay", pollDelay, 1);
}

/** What a waiting does besides. */
interface WaitingSteps {
  /** Called once nothing can be missed any more, where the job need not be there before; says whether it is new. */
  readonly enqueue?: () => Promise<boolean>;
  /** Called at each look that finds the job in the queue, where nobody runs it. */
  readonly onQueued?: () => Promise<unknown>;
}

/**
 * Waits for a job's result. It listens for the end before all else, then enqueues the job where it
 * need not be there before, then looks: at once, or after `pollDelay` if the job is new, and again
 * after each `pollDelay`.
 */
export async function waitForResult(
  { store, deserializer }: JobSource,
  job: JobRef,
  options: ResultOptions,
  { enqueue, onQueued }: WaitingSteps = {},
): Promise<ResultRecord> {
  using wait = new ResultWait(store, job, options, onQueued);
  const { ended } = wait;
  const listening = wait.listen(enqueue !== undefined);
  try {
    await Promise.race([ended, listening, wait.patience()]);
    const isNew = enqueue !== undefined && await Promise.race([ended, enqueue()]) === true;
    if (isNew) wait.pollLater();
    else void wait.poll(false);
    return decodeResult(await ended, deserializer);
  } finally {
    void listening.then((line) => line?.[Symbol.asyncDispose]());
  }
}

/** What goes on while one caller waits for a job's end. */
class ResultWait implements Disposable {
  readonly #store: Store;
  readonly #job: JobRef;
  readonly #onQueued: WaitingSteps["onQueued"];
  readonly #pollMs: number;
  readonly #result: PromiseWithResolvers<Uint8Array> = Promise.withResolvers();
  readonly #limits: DisposableStack = new DisposableStack();
  /** Calls off the one call that is put off, if any is. */
  #callOff: (() => void) | undefined;

  constructor(
    store: Store,
    job: JobRef,
    options: ResultOptions,
    onQueued: WaitingSteps["onQueued"],
  ) {
    this.#store = store;
    this.#job = job;
    this.#onQueued = onQueued;
    this.#pollMs = durationMs("pollDelay", options.pollDelay ?? POLL_MS, 1);
    this.ended.catch(() => {}); // It may be awaited later.
    this.#setLimits(options);
  }

  /** The encoded result; rejects with what ends the waiting before. */
  get ended(): Promise<Uint8Array> {
    return this.#result.promise;
  }

  /** Listens for the end; resolves once nothing can be missed any more, or nothing can be heard. */
  async listen(isCall: boolean): Promise<AsyncDisposable | undefined> {
    const { jobId } = this.#job;
    try {
      return await this.#store.onFinished(jobId, (record) => void this.#onNews(record), isCall);
    } catch (error) {
      const reason = (error as Error).message;
      logger.warn("Cannot hear of job {jobId}, polling: {reason}", { jobId, reason });
    }
  }

  /** Resolves after `pollDelay`: who cannot listen by then looks all the same. */
  patience(): Promise<void> {
    return new Promise((resolve) => this.#afterNews(this.#pollMs, resolve));
  }

  /** Looks after each `pollDelay`, for a job that is known to have been there. */
  pollLater(): void {
    this.#putOff(this.#pollMs, () => void this.poll(true));
  }

  /** Looks, and again after each `pollDelay`; where nothing is, news of a job that was there may be on their way. */
  async poll(wasThere: boolean): Promise<void> {
    const giveUp = () => this.#result.reject(notFound(this.#job.jobId, this.#job.queueName));
    try {
      const seen = await this.#look();
      if (seen.result) this.#result.resolve(seen.result);
      else if (isUnderWay(seen)) this.pollLater();
      else if (wasThere) this.#afterNews(LATE_NEWS_MS, giveUp);
      else giveUp();
    } catch (error) {
      this.#result.reject(error);
    }
  }

  [Symbol.dispose](): void {
    this.#limits.dispose();
    this.#callOff?.();
  }

  /** The caller's timeout and signal end the waiting, and so does the end of the client. */
  #setLimits({ timeout, signal }: ResultOptions): void {
    const { jobId } = this.#job;
    const fail = this.#result.reject;
    const onAbort = () => fail(signal?.reason);
    if (signal?.aborted) onAbort();
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#limits.defer(() => signal?.removeEventListener("abort", onAbort));
    if (timeout !== undefined) {
      const ms = durationMs("timeout", timeout);
      const message = `Job ${jobId} has no result yet after ${ms / 1_000} s`;
      this.#limits.defer(deadlines.set(ms, () => fail(new DOMException(message, "TimeoutError"))));
    }
    if (this.#pollMs <= POLL_MS) return; // It looks soon, and finds out by itself.
    const message = `${this.#store.address} was closed while job ${jobId} was waited for`;
    this.#limits.use(this.#store.onClose(() => fail(new QueueConnectionError(message))));
  }

  async #onNews(record: Uint8Array | undefined): Promise<void> {
    const found = record ?? (await this.#look().catch(() => undefined))?.result; // A poll finds it.
    if (found) this.#result.resolve(found);
  }

  async #look(): Promise<JobSnapshot> {
    const seen = await this.#store.lookUp(this.#job.queueName, this.#job.jobId, false);
    if (!seen.result && !seen.locked && seen.score !== undefined) await this.#onQueued?.();
    return seen;
  }

  /** Nothing is heard while the event loop is blocked: that time does not count. */
  #afterNews(ms: number, call: () => void, steps: number = STEPS): void {
    if (steps > 0) this.#putOff(ms / STEPS, () => this.#afterNews(ms, call, steps - 1));
    else call();
  }

  #putOff(ms: number, call: () => void): void {
    this.#callOff?.();
    if (!this.#limits.disposed) this.#callOff = deadlines.set(ms, call);
  }
}

/** Whether a job is there that has not ended. */
function isUnderWay({ hasPayload, locked, score }: JobSnapshot): boolean {
  return hasPayload || locked || score !== undefined;
}

/** The error of whoever waits for a job that is not there. */
export function notFound(jobId: string, queueName: string): ResultNotFound {
  return new ResultNotFound(
    `Job ${jobId} is not in queue "${queueName}" and has no result: it was never enqueued, has ` +
      "expired, or its function does not keep results",
  );
}

/** Those of all who wait for results: a timer for each would cost more than the waiting. */
const deadlines = new Deadlines();

/** Leaves no timer behind unless somebody waits. */
export function dropIdleTimer(): void {
  deadlines.dropIdleTimer();
}
