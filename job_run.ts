/**
 * One try of a job while it is in a worker's hands, and how it is told to stop.
 * @module
 */
import type { Bagged } from "./bag.ts";
import { JobAborted, JobTimeoutError } from "./errors.ts";
import { type JobMeta, type JobOutcome, Retry } from "./functions.ts";
import { type JobRecord, UNREADABLE } from "./serializer.ts";
import type { Claim } from "./store.ts";
import { type RunTelemetry, within } from "./telemetry.ts";
import type { RegisteredFunction } from "./worker_functions.ts";

/** Why a running job is told to stop. */
export type StopReason = "timeout" | "abort" | "shutdown" | "lost";

/** One try of a job. */
export class JobRun implements Bagged {
  /** What shows that the job is ours. */
  claim: Claim;
  /** The claim before, where that may have been renewed after this one was made. */
  former: Claim | undefined;
  /** The job as it was enqueued, as far as it could be read. */
  record: JobRecord;
  /** The function's settings, if it is known. */
  fn: RegisteredFunction | undefined;
  /** Which start this is, from 1. */
  jobTry: number;
  /** Where it is: it waits for a slot, runs, or is to be recorded. */
  phase: "waiting" | "running" | "ended" = "waiting";
  /** Whether it came to run. */
  hasBegun = false;
  /** Since when it waits or runs, milliseconds of `performance.now()`. */
  since: number = performance.now();
  /** When the job was taken, and once it runs when the try began; epoch milliseconds. */
  startMs: number = Date.now();
  /**
   * How long the job had been due when it was claimed, milliseconds; undefined for a later try, since
   * the score may be from before the first.
   */
  readonly waitedMs: number | undefined;
  /** When it has to be stopped, or abandoned once it was; milliseconds of `performance.now()`. */
  deadline: number = Infinity;
  /** Whether it has succeeded, which is recorded even after the lease was lost. */
  hasSucceeded = false;
  /** How many times something was told of its progress. */
  reports = 0;
  /** What the function got as its first parameter, if it came so far. */
  ctx: JobMeta | undefined;
  /** Who tells of the run, if anybody listens. */
  telemetry: RunTelemetry | undefined;
  /** Its index among the jobs that are held. */
  bagIndex = 0;
  #stopReason: StopReason | undefined;
  #controller: AbortController | undefined;
  /** What resolves; a closure in a field would keep the run in memory until a full collection. */
  #abandon: ((outcome: JobOutcome) => void) | undefined;

  /** Takes the claim, and when it was made by the store's clock; nothing is read yet. */
  constructor(claim: Claim, claimedAt: number) {
    this.claim = claim;
    this.waitedMs = claim.starts > 1 ? undefined : Math.max(0, claimedAt - Number(claim.score));
    this.record = { ...UNREADABLE, et: this.startMs };
    this.jobTry = claim.starts;
  }

  /** The function is about to be called; returns for how long the job has waited, milliseconds. */
  begin(): number {
    const now = performance.now();
    const waitedMs = now - this.since;
    this.phase = "running";
    this.hasBegun = true;
    this.since = now;
    this.startMs = Date.now();
    return waitedMs;
  }

  /** Why the job was told to stop, if it was. */
  get stopReason(): StopReason | undefined {
    return this.#stopReason;
  }

  /** The context's signal; made when it is first asked for, since most functions never do. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#stopReason) this.#controller.abort(this.stopError());
    }
    return this.#controller.signal;
  }

  /** Tells the function to stop; only the first reason counts, but a shutdown waits for no hook. */
  stop(reason: StopReason, graceMs: number): void {
    const isFirst = this.#stopReason === undefined;
    if (isFirst || reason === "shutdown") this.deadline = performance.now() + graceMs;
    if (!isFirst) return;
    this.#stopReason = reason;
    this.#controller?.abort(this.stopError());
  }

  /** Goes on without the function, which did not heed its signal. */
  abandon(): void {
    this.deadline = Infinity;
    this.#abandon?.(this.#outcomeOfError(this.stopError()));
  }

  /** Resolves when `value` does, or once the run is abandoned. */
  untilAbandoned(value: unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#abandon = resolve;
      Promise.resolve(value).then(resolve, reject);
    });
  }

  /** Calls the function, unless the run was stopped before; resolves with how it ended, or was given up. */
  settle(call: () => unknown): Promise<JobOutcome> {
    return new Promise((resolve) => {
      if (this.#stopReason) return resolve(this.#outcomeOfError(this.stopError()));
      this.#abandon = resolve;
      const succeed = (value: unknown) => resolve(this.#outcomeOfValue(value));
      const fail = (error: unknown) => resolve(this.#outcomeOfError(error));
      try {
        const value = within(this.telemetry, call);
        if (isPromiseLike(value)) value.then(succeed, fail);
        else succeed(value);
      } catch (error) {
        fail(error);
      }
    });
  }

  /** The error that stands for the reason to stop. */
  stopError(): Error {
    const { jobId } = this.claim;
    switch (this.#stopReason) {
      case "timeout":
        return new JobTimeoutError(
          `Job ${jobId} did not end within ${(this.fn?.timeoutMs ?? 0) / 1_000} s`,
        );
      case "lost":
        return new JobAborted(`Job ${jobId} has lost its lease`);
      case "shutdown":
        return new JobAborted(`Job ${jobId} was cut short by the end of its worker`);
      default:
        return new JobAborted(`Job ${jobId} was aborted`);
    }
  }

  /** Work that is done is not thrown away, unless it came after the job's own time. */
  #outcomeOfValue(value: unknown): JobOutcome {
    if (this.#stopReason === "timeout") return { kind: "failure", error: this.stopError() };
    return { kind: "success", value };
  }

  #outcomeOfError(error: unknown): JobOutcome {
    switch (this.#stopReason) {
      case "timeout":
        return { kind: "failure", error: this.stopError() };
      case "abort":
        return { kind: "aborted", error: this.stopError() };
      case "shutdown":
        return { kind: "released" };
      case "lost":
        return { kind: "lost" };
    }
    if (error instanceof Retry) {
      return { kind: "retry", delayMs: error.deferMs, cause: error.cause };
    }
    return { kind: "failure", error };
  }
}

function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value &&
    typeof value.then === "function";
}
