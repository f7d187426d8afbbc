/**
 * Watching a job: its steps, from wherever it is to its end.
 *
 * The store tells of each step. It is also looked at now and then, and whenever some news may have
 * been missed: then the steps follow from what is different. That look is what keeps the job
 * watched, too, so a process that ends stops watching by itself.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { QueueConnectionError } from "./errors.ts";
import {
  type JobRef,
  jobResult,
  type JobSource,
  LATE_NEWS_MS,
  notFound,
  statusOf,
} from "./job_results.ts";
import { decodeJob, decodeProgress, decodeResult } from "./serializer.ts";
import { type Step, StepBuffer } from "./step_buffer.ts";
import type { JobNews, JobObservation, ProgressReport } from "./store.ts";
import { checkOptions, checkSignal } from "./validation.ts";

/** The job is in the queue; the first event where no worker has it yet. */
export interface JobQueued {
  /** Tells the kinds of events apart. */
  readonly kind: "queued";
  /** When it was enqueued, by the clock of the program that did. */
  readonly at: Date;
  /** When it is due, or was. */
  readonly dueAt: Date;
}

/** A worker has taken the job. After a try whose worker was lost it comes without `retried` before. */
export interface JobStarted {
  /** Tells the kinds of events apart. */
  readonly kind: "started";
  /** When, by the store's clock; when it was seen, if it was so before the watching or was missed. */
  readonly at: Date;
  /** Which try it is, as in `ctx.jobTry`. */
  readonly jobTry: number;
}

/** The job's function has called `ctx.progress`. */
export interface JobProgress {
  /** Tells the kinds of events apart. */
  readonly kind: "progress";
  /** When, by the store's clock. */
  readonly at: Date;
  /** The try that tells it. */
  readonly jobTry: number;
  /** What the function handed over. */
  readonly value: unknown;
}

/** The job went back to the queue: it asked for a retry, or its worker stopped. */
export interface JobRetried {
  /** Tells the kinds of events apart. */
  readonly kind: "retried";
  /** When, by the store's clock; when it was seen, if it was missed. */
  readonly at: Date;
  /** The try that is over. */
  readonly jobTry: number;
  /** When the next try is due. */
  readonly dueAt: Date;
}

/** The job has ended; the last event. */
export type JobFinished<Result = unknown> =
  & {
    /** Tells the kinds of events apart. */
    readonly kind: "finished";
    /** When, by the clock of its worker. */
    readonly at: Date;
    /** The try that ended it; null if it was aborted before one. */
    readonly jobTry: number | null;
  }
  & (
    | { readonly success: true; readonly result: Result }
    | { readonly success: false; readonly error: unknown }
  );

/**
 * A step of a job, told apart by its `kind`.
 *
 * - `queued`: it waits for a worker; becomes `started`.
 * - `started`: a worker runs it; any number of `progress` may follow, then `retried` or `finished`.
 * - `progress`: its function has told how far it is.
 * - `retried`: it waits again; becomes `started`.
 * - `finished`: it has ended, by success, failure, abort or expiry. Nothing follows.
 */
export type JobEvent<Result = unknown> =
  | JobQueued
  | JobStarted
  | JobProgress
  | JobRetried
  | JobFinished<Result>;

/** Options of `Job.events`. */
export interface EventOptions {
  /** Ends the watching when it aborts: the loop throws its reason. */
  readonly signal?: AbortSignal;
}

const logger = getLogger(["arq", "client"]);
/** The store is asked to tell the job's steps for so long, and looked at so often. */
const WATCH_MS = 30_000;
const LOOK_EVERY_MS = 10_000;
/** How often it is looked at where nothing can be told. */
const POLL_MS = 500;

/**
 * Checks the options of watching.
 *
 * @throws {TypeError} if one is unknown or has a bad value.
 */
export function checkEventOptions(options: EventOptions): void {
  checkOptions("events", "{ signal }", options, ["signal"]);
  checkSignal("events", options.signal);
}

/** The events of a job. Nothing happens before the first one is asked for. */
export class JobEvents<Result> implements AsyncIterableIterator<JobEvent<Result>, undefined, void> {
  readonly #source: JobSource;
  readonly #job: JobRef;
  readonly #signal: AbortSignal | undefined;
  #watch: JobWatch | undefined;
  #isOver = false;

  /** Takes where the job lives, and which it is. */
  constructor(source: JobSource, job: JobRef, { signal }: EventOptions) {
    this.#source = source;
    this.#job = job;
    this.#signal = signal;
  }

  /** The next event. */
  async next(): Promise<IteratorResult<JobEvent<Result>, undefined>> {
    if (this.#isOver) return { done: true, value: undefined };
    const watch = this.#watch ??= new JobWatch(this.#source, this.#job, this.#signal);
    try {
      for (let step = await watch.steps.next(); step; step = await watch.steps.next()) {
        const event = this.#eventOf(step, watch);
        if (event?.kind === "finished") this.#isOver = true;
        if (event) return { done: false, value: event };
      }
      return { done: true, value: undefined };
    } catch (error) {
      void this.return();
      throw error;
    }
  }

  /** Ends the watching; whoever waits for an event is told that there is none. */
  return(): Promise<IteratorResult<JobEvent<Result>, undefined>> {
    this.#isOver = true;
    this.#watch?.close();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** These events, for `for await`. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends the watching, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #eventOf(step: Step, { firstTry }: JobWatch): JobEvent<Result> | undefined {
    if (step.kind === "finished") return this.#finished(step.record);
    const at = new Date(step.at);
    if (step.kind === "queued") return { kind: "queued", at, dueAt: new Date(step.dueAt) };
    const jobTry = Math.max(step.starts, firstTry);
    switch (step.kind) {
      case "started":
        return { kind: "started", at, jobTry };
      case "retried":
        return { kind: "retried", at, jobTry, dueAt: new Date(step.dueAt) };
      case "progress":
        return this.#progress(at, jobTry, step.value);
    }
  }

  #finished(record: Uint8Array): JobFinished<Result> {
    const ended = jobResult(decodeResult(record, this.#source.deserializer));
    const { jobTry, success, result, finishTime: at } = ended;
    const facts = { kind: "finished", at, jobTry } as const;
    return success
      ? { ...facts, success, result: result as Result }
      : { ...facts, success: false, error: result };
  }

  /** A value that nobody can read is left out; those that follow may be better. */
  #progress(at: Date, jobTry: number, value: Uint8Array): JobProgress | undefined {
    try {
      const { deserializer } = this.#source;
      return { kind: "progress", at, jobTry, value: decodeProgress(value, deserializer) };
    } catch (error) {
      const reason = (error as Error).message;
      logger.warn("Progress of job {jobId}: {reason}", { jobId: this.#job.jobId, reason });
    }
  }
}

/** Follows one job in the store, until its end or until nobody wants to know any more. */
class JobWatch {
  readonly steps: StepBuffer = new StepBuffer();
  /** The number the job's tries begin with. */
  firstTry = 1;
  readonly #source: JobSource;
  readonly #job: JobRef;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.#fail(this.#signal?.reason);
  readonly #closing: Disposable;
  readonly #lines: Promise<AsyncDisposable | undefined>[] = [];
  /** What was told before the first look. */
  #early: JobNews[] | undefined = [];
  /** The stage that the job has come to, and when: see `runningStage` and `waitingStage`. */
  #stage = -1;
  #stageAt = 0;
  #lastReport: Pick<ProgressReport, "starts" | "nth"> = { starts: 0, nth: 0 };
  #lookEveryMs = LOOK_EVERY_MS;
  #isLooking = false;
  #mustLookAgain = false;
  #isAway = false;
  #isOver = false;
  #lookTimer: ReturnType<typeof setTimeout> | undefined;
  #goneTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(source: JobSource, job: JobRef, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#job = job;
    this.#signal = signal;
    this.#closing = source.store.onClose(() => this.#fail(this.#closedError()));
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
    else void this.#start();
  }

  /** Ends it, and frees everything it took. */
  close(): void {
    this.steps.end();
    if (this.#isOver) return;
    this.#isOver = true;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#closing[Symbol.dispose]();
    clearTimeout(this.#lookTimer);
    clearTimeout(this.#goneTimer);
    for (const line of this.#lines) void line.then((line) => line?.[Symbol.asyncDispose]());
  }

  #fail(error: unknown): void {
    if (this.#signal?.aborted) this.steps.clear();
    if (!this.#isOver) this.steps.fail(error);
    this.close();
  }

  #closedError(): QueueConnectionError {
    const { store } = this.#source;
    return new QueueConnectionError(
      `${store.address} was closed while job ${this.#job.jobId} was watched`,
    );
  }

  async #start(): Promise<void> {
    const { store } = this.#source;
    const { jobId, queueName } = this.#job;
    const listening = [
      store.onFinished(jobId, (record) => record ? this.#end(record) : void this.#look()),
      store.onNews(queueName, jobId, (news) => this.#hear(news)),
    ];
    this.#lines.push(...listening.map((line) => line.catch((error) => this.#onDeaf(error))));
    await Promise.all(this.#lines);
    await this.#look();
  }

  /** Said once, although there are two things to listen to. */
  #onDeaf(error: Error): undefined {
    if (this.#isOver || this.#lookEveryMs === POLL_MS) return;
    this.#lookEveryMs = POLL_MS;
    const { jobId } = this.#job;
    logger.warn("Cannot hear of job {jobId}, polling: {reason}", { jobId, reason: error.message });
  }

  /** Looks where the job is, once at a time. */
  async #look(): Promise<void> {
    if (this.#isLooking || this.#isOver) {
      this.#mustLookAgain = true;
      return;
    }
    this.#isLooking = true;
    clearTimeout(this.#lookTimer);
    const isFirst = this.#early !== undefined;
    try {
      do {
        this.#mustLookAgain = false;
        const { jobId, queueName } = this.#job;
        const seen = await this.#source.store.observe(queueName, jobId, WATCH_MS, isFirst);
        if (!this.#isOver) this.#apply(seen);
      } while (this.#mustLookAgain && !this.#isOver);
      this.#isAway = false;
    } catch (error) {
      if (isFirst) this.#fail(error);
      else this.#onAway(error as Error);
    }
    this.#isLooking = false;
    if (this.#isOver) return;
    this.#lookTimer = setTimeout(() => void this.#look(), this.#lookEveryMs);
  }

  /** The store will be there again; said once. */
  #onAway(error: Error): void {
    const { jobId } = this.#job;
    if (!this.#isAway) {
      logger.warn("Cannot watch job {jobId}, trying again: {reason}", {
        jobId,
        reason: error.message,
      });
    }
    this.#isAway = true;
  }

  #apply(seen: JobObservation): void {
    const isFirst = this.#early !== undefined;
    const { starts, now, score = now, progress } = seen;
    const status = statusOf(seen);
    switch (status) {
      case "complete":
        if (!isFirst && progress) this.#tellProgress(progress);
        if (seen.result) this.#end(seen.result);
        return;
      case "not_found":
        return this.#expectEnd();
      case "in_progress":
        if (isFirst) this.#readJob(seen);
        this.#enter(runningStage(starts), now, { kind: "started", at: now, starts });
        if (progress) this.#tellProgress(progress);
        break;
      default: {
        const at = isFirst ? this.#readJob(seen) : now;
        const kind = isFirst || starts === 0 ? "queued" : "retried";
        this.#enter(waitingStage(starts), now, { kind, at, starts, dueAt: score });
      }
    }
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const news of early) this.#hear(news);
  }

  /** Reads the number its tries begin with; returns when it was enqueued, as far as one can tell. */
  #readJob({ payload, now }: JobObservation): number {
    if (!payload) return now;
    try {
      const { t, et } = decodeJob(payload, this.#source.deserializer);
      this.firstTry = t ?? 1;
      return et;
    } catch {
      return now; // A job nobody can read can still be watched.
    }
  }

  #hear(news: JobNews): void {
    if (this.#isOver) return;
    if (news.kind === "gap") return void this.#look();
    if (this.#early) return void this.#early.push(news);
    const { at, starts } = news;
    if (news.kind === "progress") return this.#tellProgress(news);
    const stage = news.kind === "started" ? runningStage(starts) : waitingStage(starts);
    this.#enter(stage, at, news);
  }

  /** Takes a step, by the store's clock, unless it or a later one is known. */
  #enter(stage: number, at: number, step: Step): void {
    // The count of starts is forgotten after a day: then a lower stage may be later.
    const isLater = stage > this.#stage || (stage !== this.#stage && at > this.#stageAt);
    if (!isLater) return;
    this.#stage = stage;
    this.#stageAt = at;
    if (step.kind === "started") this.#lastReport = { starts: step.starts, nth: 0 };
    this.steps.push(step);
  }

  /** Takes what was reported in the last start that is known, unless it or a later report is known. */
  #tellProgress({ starts, nth, at, value }: ProgressReport): void {
    const goesOn = this.#goesOn(starts, at);
    if (!goesOn) this.#enter(runningStage(starts), at, { kind: "started", at, starts });
    const last = this.#lastReport;
    if (starts === last.starts ? nth <= last.nth : !goesOn) return;
    this.#lastReport = { starts, nth };
    this.steps.push({ kind: "progress", at, starts, value });
  }

  /** Whether an earlier start goes on under the lease of a later one, which its own worker has got. */
  #goesOn(starts: number, at: number): boolean {
    const isRunning = this.#stage % 2 === 0;
    return isRunning && runningStage(starts) < this.#stage && at > this.#stageAt;
  }

  /** Nothing is left of the job: either the news of its end is on the way, or there never was one. */
  #expectEnd(): void {
    const { jobId, queueName } = this.#job;
    const giveUp = () => this.#fail(notFound(jobId, queueName));
    this.#goneTimer ??= setTimeout(giveUp, LATE_NEWS_MS);
  }

  #end(record: Uint8Array): void {
    if (this.#isOver) return;
    this.steps.push({ kind: "finished", record });
    this.close();
  }
}

/** The stages of a job's life in their order, by the number of its start. */
function runningStage(starts: number): number {
  return 2 * starts;
}

/** The stage after that, until the next start. */
function waitingStage(starts: number): number {
  return 2 * starts + 1;
}
