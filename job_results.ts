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

/** Waits for a job's result. */
export async function waitForResult(
  { store, deserializer }: JobSource,
  { jobId, queueName }: { readonly jobId: string; readonly queueName: string },
  options: ResultOptions,
  { enqueue, onQueued }: WaitingSteps = {},
): Promise<ResultRecord> {
  const pollMs = durationMs("pollDelay", options.pollDelay ?? POLL_MS, 1);
  const { promise: ended, resolve: onRecord, reject: onFailure } = Promise.withResolvers<
    Uint8Array
  >();
  ended.catch(() => {}); // It may be awaited later.
  using limit = waitLimit(jobId, options, onFailure);
  const onClose = () =>
    onFailure(
      new QueueConnectionError(`${store.address} was closed while job ${jobId} was waited for`),
    );
  using _closing = pollMs > POLL_MS ? store.onClose(onClose) : undefined; // others look soon
  const look = () => lookForResult(store, queueName, jobId, onQueued);
  const poll = async (wasThere: boolean) => {
    const seen = await look();
    if (seen) return onRecord(seen);
    if (seen === undefined) return pollLater();
    const giveUp = () => onFailure(notFound(jobId, queueName));
    return wasThere ? afterNews(LATE_NEWS_MS, giveUp) : giveUp();
  };
  // Nothing is heard while the event loop is blocked: that time does not count.
  const afterNews = (ms: number, call: () => void, steps = STEPS): void => {
    if (steps > 0) limit.after(ms / STEPS, () => afterNews(ms, call, steps - 1));
    else call();
  };
  const pollLater = () => limit.after(pollMs, () => void poll(true).catch(onFailure));
  const onFinished = async (record: Uint8Array | undefined) => {
    const found = record ?? await look().catch(() => undefined); // polling will find it
    if (found) onRecord(found);
  };
  const isCall = enqueue !== undefined;
  const listening = store.onFinished(jobId, onFinished, isCall).catch((error) => {
    const reason = (error as Error).message;
    logger.warn("Cannot hear of job {jobId}, polling: {reason}", { jobId, reason });
  });
  try {
    const patience = new Promise<void>((resolve) => afterNews(pollMs, resolve));
    await Promise.race([ended, listening, patience]);
    const isNew = enqueue !== undefined && await Promise.race([ended, enqueue()]) === true;
    if (isNew) pollLater();
    else void poll(false).catch(onFailure);
    return decodeResult(await ended, deserializer);
  } finally {
    void listening.then((line) => line?.[Symbol.asyncDispose]());
  }
}

/** The encoded result, undefined if the job is still to end, null if there is neither. */
async function lookForResult(
  store: Store,
  queueName: string,
  jobId: string,
  onQueued?: () => Promise<unknown>,
): Promise<Uint8Array | undefined | null> {
  const { result, hasPayload, locked, score } = await store.lookUp(queueName, jobId, false);
  if (!result && !locked && score !== undefined) await onQueued?.();
  return result ?? (hasPayload || locked || score !== undefined ? undefined : null);
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
export function restDeadlines(): void {
  deadlines.rest();
}

/** Ends a waiting by the caller's timeout or signal; one call at a time may be put off meanwhile. */
function waitLimit(
  jobId: string,
  { timeout, signal }: ResultOptions,
  onEnd: (reason: unknown) => void,
) {
  let isOver = false;
  let callOff: (() => void) | undefined;
  let endTimeout: (() => void) | undefined;
  const onAbort = () => onEnd(signal?.reason);
  if (signal?.aborted) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  if (timeout !== undefined) {
    const ms = durationMs("timeout", timeout);
    const message = `Job ${jobId} has no result yet after ${ms / 1_000} s`;
    endTimeout = deadlines.set(ms, () => onEnd(new DOMException(message, "TimeoutError")));
  }
  return {
    after: (ms: number, call: () => void): void => {
      callOff?.();
      if (!isOver) callOff = deadlines.set(ms, call);
    },
    [Symbol.dispose]: () => {
      isOver = true;
      signal?.removeEventListener("abort", onAbort);
      callOff?.();
      endTimeout?.();
    },
  };
}
