/**
 * Handles on jobs: what is known of one, waiting for its result, aborting it.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { type Duration, durationMs } from "./duration.ts";
import { JobAborted, ResultNotFound } from "./errors.ts";
import {
  decodeJob,
  decodeResult,
  type Deserializer,
  encodeResult,
  type JobRecord,
  type ResultRecord,
  type Serializer,
} from "./serializer.ts";
import { sleep } from "./sleep.ts";
import type { JobSnapshot, Store } from "./store.ts";

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
  /** When the last try began. */
  readonly startTime: Date;
  /** When it ended. */
  readonly finishTime: Date;
  /** The queue it ran on. */
  readonly queueName: string;
}

/** Options of {@linkcode Job.result}. */
export interface ResultOptions {
  /** How long to wait: milliseconds or a duration object. @default no limit */
  readonly timeout?: Duration;
  /** How often to look even if no news came: milliseconds or a duration object. @default 500 milliseconds */
  readonly pollDelay?: Duration;
  /** Ends the waiting when it aborts. */
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
/** Results of jobs that were aborted before they ran are kept this long. */
const KEEP_ABORTED_MS = 3_600_000;
/** News of a job that is already gone from the store arrives within this time, or never. */
const LATE_NEWS_MS = 100;

/**
 * A handle on one job, wherever it is: `enqueueJob` returns one, `client.job(id)` makes one.
 *
 * @example
 * ```ts
 * import { createPool } from "@arq/arq";
 *
 * await using arq = await createPool("redis://localhost:6379");
 * const job = await arq.enqueueJob("downloadContent", ["https://deno.com"]);
 * console.log(String(job), await job.status());
 * ```
 */
export class Job<Result = unknown> {
  /** The job's id. */
  readonly jobId: string;
  /** The queue the job was put into. */
  readonly queueName: string;
  readonly #source: JobSource;

  /** Use `client.job(id)` instead. */
  constructor(jobId: string, queueName: string, source: JobSource) {
    this.jobId = jobId;
    this.queueName = queueName;
    this.#source = source;
  }

  /**
   * Waits for the job's end and returns what its function returned, or throws what it threw.
   *
   * The worker announces the end; looking every `pollDelay` is the safety net.
   *
   * @throws {ResultNotFound} if there is neither a job nor a result.
   * @throws {JobAborted} if the job was aborted.
   * @throws {DOMException} named `TimeoutError` if `timeout` passes first; the job goes on.
   */
  async result(options: ResultOptions = {}): Promise<Result> {
    return unwrap(await waitForResult(this.#source, this, options)) as Result;
  }

  /** What is known of the job, its result included; null if there is nothing. Does not wait. */
  async info(): Promise<JobDef | JobResult | null> {
    const snapshot = await this.#lookUp(true);
    if (snapshot.result) return this.#readResult(snapshot.result);
    if (!snapshot.payload) return null;
    const record = decodeJob(snapshot.payload, this.#source.deserializer);
    return jobDef(this.jobId, record, snapshot.score ?? null);
  }

  /** How the job ended, an error among it; null if it has not, or its result was not kept. Does not wait. */
  async resultInfo(): Promise<JobResult | null> {
    const { result } = await this.#lookUp(false);
    return result ? this.#readResult(result) : null;
  }

  /** Where the job is in its life. */
  async status(): Promise<JobStatus> {
    const { result, locked, hasPayload, score, now } = await this.#lookUp(false);
    if (result) return "complete";
    if (locked && (hasPayload || score !== undefined)) return "in_progress";
    if (score === undefined) return "not_found";
    return score > now ? "deferred" : "queued";
  }

  /**
   * Aborts the job: one that waits is never started, one that runs gets its signal aborted.
   *
   * Waits for the end; true only if the job really ended aborted. A job whose function returns in
   * spite of the signal, and one that Python's worker runs, is not known to have been aborted.
   *
   * @throws {DOMException} named `TimeoutError` if `timeout` passes first; the request stands.
   */
  async abort(options: ResultOptions = {}): Promise<boolean> {
    const { store, serializer } = this.#source;
    const { payload } = await this.#lookUp(true);
    const record = encodeResult(this.#abortedRecord(payload), serializer);
    const { queueName, jobId } = this;
    const reply = await store.abort(queueName, jobId, record, KEEP_ABORTED_MS);
    if (reply !== "asked") return reply === "aborted";
    try {
      const { s: success, r: error } = await waitForResult(this.#source, this, options);
      return !success && error instanceof JobAborted;
    } catch (error) {
      if (error instanceof ResultNotFound) return false;
      throw error;
    }
  }

  /** `<arq job ID>`. */
  toString(): string {
    return `<arq job ${this.jobId}>`;
  }

  /** What `console.log` shows in Node-compatible runtimes. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }

  /** What `console.log` shows in Deno. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }

  #lookUp(withPayload: boolean): Promise<JobSnapshot> {
    return this.#source.store.lookUp(this.queueName, this.jobId, withPayload);
  }

  #readResult(bytes: Uint8Array): JobResult {
    return jobResult(decodeResult(bytes, this.#source.deserializer));
  }

  #abortedRecord(payload: Uint8Array | undefined): ResultRecord {
    const now = Date.now();
    return {
      ...this.#readablePart(payload, now),
      s: false,
      r: new JobAborted(`Job ${this.jobId} was aborted before it started`),
      st: now,
      ft: now,
      q: this.queueName,
      id: this.jobId,
    };
  }

  #readablePart(payload: Uint8Array | undefined, now: number): JobRecord {
    const unknown: JobRecord = { t: null, f: "<unknown>", a: [], k: {}, et: now };
    if (!payload) return unknown;
    try {
      return decodeJob(payload, this.#source.deserializer);
    } catch {
      return unknown; // A job nobody can read can still be aborted.
    }
  }
}

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

/** Returns a successful result's value; throws a failed one's error. */
export function unwrap(record: ResultRecord): unknown {
  if (!record.s) throw record.r;
  return record.r;
}

/**
 * Waits for a job's result. With `enqueue` the job need not be there yet: it is called once the
 * options are checked, and listening and enqueueing travel together.
 */
export async function waitForResult(
  { store, deserializer }: JobSource,
  { jobId, queueName }: { readonly jobId: string; readonly queueName: string },
  options: ResultOptions,
  enqueue?: () => Promise<unknown>,
): Promise<ResultRecord> {
  const pollMs = durationMs("pollDelay", options.pollDelay ?? 500, 1);
  const { promise: news, resolve: onNews } = Promise.withResolvers<Uint8Array | undefined>();
  using limit = waitLimit(jobId, options);
  const accepted = enqueue?.();
  const listening = store.onFinished(jobId, onNews).catch((error) => {
    logger.warn("Cannot hear of job {jobId}, polling: {error}", { jobId, error });
  });
  try {
    await limit.race([Promise.all([Promise.race([listening, limit.pause(pollMs)]), accepted])]);
    let wasThere = accepted !== undefined;
    for (;;) {
      const look = store.lookUp(queueName, jobId, false).then(({ result, ...rest }) => {
        const isThere = rest.hasPayload || rest.locked || rest.score !== undefined;
        return result ?? (isThere ? undefined : null);
      });
      const seen = await limit.race([news.then((record) => record ?? look), look]);
      if (seen) return decodeResult(seen, deserializer);
      if (seen === null) {
        const late = wasThere ? await Promise.race([news, sleep(LATE_NEWS_MS)]) : undefined;
        if (late) return decodeResult(late, deserializer);
        throw new ResultNotFound(
          `Job ${jobId} is not in queue "${queueName}" and has no result: it was never enqueued, ` +
            "has expired, or its function does not keep results",
        );
      }
      wasThere = true;
      const record = await limit.race([news, limit.pause(pollMs)]);
      if (record) return decodeResult(record, deserializer);
    }
  } finally {
    void listening.then((line) => line?.[Symbol.asyncDispose]());
  }
}

/** Ends a waiting by the caller's timeout or signal, and leaves no timer or listener behind. */
function waitLimit(jobId: string, { timeout, signal }: ResultOptions) {
  const { promise: end, reject } = Promise.withResolvers<never>();
  end.catch(() => {});
  const timers = new Set<ReturnType<typeof setTimeout>>();
  const onAbort = () => reject(signal?.reason);
  if (signal?.aborted) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  if (timeout !== undefined) {
    const ms = durationMs("timeout", timeout);
    const message = `Job ${jobId} has no result yet after ${ms / 1_000} s`;
    timers.add(setTimeout(() => reject(new DOMException(message, "TimeoutError")), ms));
  }
  return {
    race: <T>(promises: readonly Promise<T>[]): Promise<T> => Promise.race([end, ...promises]),
    pause: (ms: number): Promise<undefined> =>
      new Promise((resolve) => {
        const timer = setTimeout(() => {
          timers.delete(timer);
          resolve(undefined);
        }, ms);
        timers.add(timer);
      }),
    [Symbol.dispose]: () => {
      signal?.removeEventListener("abort", onAbort);
      for (const timer of timers) clearTimeout(timer);
    },
  };
}
