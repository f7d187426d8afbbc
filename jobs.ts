/**
 * Handles on jobs: what is known of one, waiting for its result, aborting it.
 * @module
 */
import { JobAborted, ResultNotFound } from "./errors.ts";
import { checkEventOptions, type EventOptions, type JobEvent, JobEvents } from "./job_events.ts";
import {
  checkResultOptions,
  type JobDef,
  jobDef,
  type JobResult,
  jobResult,
  type JobSource,
  type JobStatus,
  type ResultOptions,
  statusOf,
  unwrap,
  waitForResult,
} from "./job_results.ts";
import {
  decodeJob,
  decodeProgress,
  decodeResult,
  encodeResult,
  type JobRecord,
  type ResultRecord,
  UNREADABLE,
} from "./serializer.ts";
import type { JobSnapshot } from "./store.ts";

export type {
  EventOptions,
  JobEvent,
  JobFinished,
  JobProgress,
  JobQueued,
  JobRetried,
  JobStarted,
} from "./job_events.ts";
export type { JobDef, JobResult, JobSource, JobStatus, ResultOptions } from "./job_results.ts";

/** Results of jobs that were aborted before they ran are kept this long. */
const KEEP_ABORTED_MS = 3_600_000;

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
   * The worker announces the end; looking every `pollDelay` is the safety net. A thrown error comes
   * back with its name, message, stack, cause and fields; built-in classes and those of this library
   * as themselves, others as an `Error`.
   *
   * @throws what the function threw.
   * @throws {ResultNotFound} if there is neither a job nor a result.
   * @throws {JobAborted} if the job was aborted.
   * @throws {JobTimeoutError} if it took longer than its own time.
   * @throws {JobExecutionFailed} if it expired, is out of tries, or the worker that took it does not
   * know its function.
   * @throws {DeserializationError} if the result cannot be read.
   * @throws {TypeError | RangeError} if an option is unknown or has a bad value.
   * @throws {DOMException} named `TimeoutError` if `timeout` passes first; the job goes on.
   * @throws the reason of `signal`, if it aborts first; the job goes on.
   */
  async result(options: ResultOptions = {}): Promise<Result> {
    checkResultOptions("result", options);
    return unwrap(await waitForResult(this.#source, this, options)) as Result;
  }

  /**
   * What is known of the job, its result included; null if there is nothing. Does not wait.
   *
   * @throws {DeserializationError} if it cannot be read.
   */
  async info(): Promise<JobDef | JobResult | null> {
    const snapshot = await this.#lookUp(true);
    if (snapshot.result) return this.#readResult(snapshot.result);
    if (!snapshot.payload) return null;
    const record = decodeJob(snapshot.payload, this.#source.deserializer);
    return jobDef(this.jobId, record, snapshot.score ?? null);
  }

  /**
   * How the job ended, by a result or an error; null if it has not, or its result was not kept. Does
   * not wait, and does not throw what the function threw.
   *
   * @throws {DeserializationError} if it cannot be read.
   */
  async resultInfo(): Promise<JobResult | null> {
    const { result } = await this.#lookUp(false);
    return result ? this.#readResult(result) : null;
  }

  /** Where the job is in its life. Does not wait. */
  async status(): Promise<JobStatus> {
    return statusOf(await this.#lookUp(false));
  }

  /**
   * What the job's function told last by `ctx.progress`; undefined if it told nothing. Does not wait.
   *
   * The value stays for some minutes after the job's end.
   *
   * @throws {DeserializationError} if it cannot be read.
   */
  async progress(): Promise<unknown> {
    const report = await this.#source.store.readProgress(this.jobId);
    return report && decodeProgress(report.value, this.#source.deserializer);
  }

  /**
   * Watches the job: yields its steps as they happen, and ends with the last one, `finished`.
   *
   * The first event says where the job is at the beginning: `queued`, `started` or `finished`. Every
   * later step follows, in order, for as long as the connection is there. After a lost connection
   * the watching goes on by itself; what happened meanwhile comes as one event that says where the
   * job is then, so starts, retries and progress may be missed, but never the end.
   *
   * Whoever is slow gets the latest progress, and every other step. Leaving the loop or aborting
   * the `signal` ends the watching and frees what it took.
   *
   * @example
   * ```ts
   * import { createPool, type JobContext, Worker } from "@arq/arq";
   *
   * const functions = {
   *   count: (ctx: JobContext, to: number): number => {
   *     for (let n = 1; n <= to; n++) ctx.progress(n / to);
   *     return to;
   *   },
   * };
   * await using worker = new Worker({ functions, connection: "redis://localhost:6379" });
   * const running = worker.run();
   *
   * await using arq = await createPool<typeof functions>("redis://localhost:6379");
   * const job = await arq.enqueueJob("count", [1000]);
   * for await (const event of job.events()) {
   *   if (event.kind === "progress") console.log(event.value); // 1: the last value is never lost
   *   if (event.kind === "finished" && event.success) console.log(event.result); // 1000
   * }
   *
   * await worker.close();
   * await running;
   * ```
   *
   * @throws {ResultNotFound} from the loop, if there is neither a job nor a result; also at the end
   * of a job that keeps none, if it came while the connection was lost.
   * @throws {QueueConnectionError} from the loop, if the store cannot be reached at the beginning,
   * or the client is closed.
   * @throws {TypeError} if an option is unknown or has a bad value.
   */
  events(
    options: EventOptions = {},
  ): AsyncIterableIterator<JobEvent<Result>, undefined, void> & AsyncDisposable {
    checkEventOptions(options);
    return new JobEvents<Result>(this.#source, this, options);
  }

  /**
   * Aborts the job: one that waits is never started, one that runs gets its signal aborted.
   *
   * Waits for the end; true only if the job really ended aborted. A job whose function returns in
   * spite of the signal, and one that Python's worker runs, is not known to have been aborted.
   * False as well if there is no such job, or it has ended.
   *
   * @throws {TypeError | RangeError} if an option is unknown or has a bad value.
   * @throws {DOMException} named `TimeoutError` if `timeout` passes first; the request stands.
   * @throws the reason of `signal`, if it aborts first; the request stands.
   */
  async abort(options: ResultOptions = {}): Promise<boolean> {
    checkResultOptions("abort", options);
    const { store, serializer } = this.#source;
    const { payload } = await this.#lookUp(true);
    const { queueName, jobId } = this;
    const ask = () => {
      const record = encodeResult(this.#abortedRecord(payload), serializer);
      return store.abort(queueName, jobId, record, KEEP_ABORTED_MS);
    };
    const reply = await ask();
    if (reply !== "asked") return reply === "aborted";
    try {
      // It may go back to the queue before its worker has heard of the request: then it ends there.
      const end = await waitForResult(this.#source, this, options, { onQueued: ask });
      return !end.s && end.r instanceof JobAborted;
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
    try {
      if (payload) return decodeJob(payload, this.#source.deserializer);
    } catch {
      // A job nobody can read can still be aborted.
    }
    return { ...UNREADABLE, et: now };
  }
}
