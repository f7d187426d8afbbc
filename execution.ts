/**
 * One job, from its claim to its outcome: load, resolve the function, run it, say how it ended.
 * @module
 */
import type { ArqClient } from "./client.ts";
import { DeserializationError, JobAborted, JobExecutionFailed } from "./errors.ts";
import {
  type JobLogger,
  type JobMeta,
  type JobOutcome,
  splitSpecifier,
  throwWithPosition,
} from "./functions.ts";
import type { Isolation } from "./isolation.ts";
import { jobLogger } from "./job_logger.ts";
import type { JobRun } from "./job_run.ts";
import { decodeJob } from "./serializer.ts";
import { beginRun, within } from "./telemetry.ts";
import { log } from "./worker_log.ts";
import type { AnyJobFunction, RegisteredFunction } from "./worker_functions.ts";
import type { ResolvedSettings } from "./worker_settings.ts";

/** What jobs are run with. */
export interface Executor {
  /** The worker's settings. */
  readonly settings: ResolvedSettings;
  /** The state that `onStartup` has filled. */
  readonly state: Readonly<Record<string, unknown>>;
  /** The processes of functions that have some of their own; undefined if none has. */
  readonly isolation: Isolation | undefined;
  /** The store's time, epoch milliseconds, if it is known. */
  readonly now: number | undefined;
  /** Called when the time is set by which the run must end. */
  onDeadline(run: JobRun): void;
  /** Called with what a function tells of its progress. */
  onProgress(run: JobRun, value: unknown): void;
}

/** Runs a claimed job through all its steps; never rejects. */
export async function execute(run: JobRun, executor: Executor): Promise<JobOutcome> {
  const { settings } = executor;
  const unreadable = load(run, settings);
  run.telemetry = beginRun(run, settings.queueName, executor);
  const early = unreadable ?? refuse(run, settings);
  if (early) return early;
  if (run.stopReason) return await run.settle(() => {}); // While it waited for a slot.
  const ctx = new RunContext(run, executor) as unknown as JobMeta;
  run.ctx = ctx;
  const { onJobStart } = settings.hooks;
  if (onJobStart) {
    const start = () => onJobStart(ctx);
    await callHook("onJobStart", () => run.untilAbandoned(within(run.telemetry, start)));
  }
  log.started(run, executor.now);
  const outcome = run.fn?.isolate
    ? await runIsolated(run, ctx, executor)
    : await runHere(run, ctx, executor);
  run.deadline = Infinity;
  return limitRetries(run, settings, outcome);
}

function runHere(run: JobRun, ctx: JobMeta, executor: Executor): Promise<JobOutcome> {
  startTime(run, executor);
  return run.settle(() => callFunction(run, ctx));
}

/** Runs the function in a process of its own; a job that is given up leaves none behind. */
async function runIsolated(run: JobRun, ctx: JobMeta, executor: Executor): Promise<JobOutcome> {
  using slot = await executor.isolation?.acquire(run.fn as RegisteredFunction, run.signal);
  startTime(run, executor);
  return await run.settle(() => slot?.run(run.record, ctx));
}

/** From now on the job's own time runs. */
function startTime(run: JobRun, executor: Executor): void {
  run.deadline = Math.min(run.deadline, performance.now() + (run.fn?.timeoutMs ?? Infinity));
  executor.onDeadline(run);
}

/** Reads the job; returns how it ended if there is none. */
function load(run: JobRun, settings: ResolvedSettings): JobOutcome | undefined {
  const { payload, jobId, starts } = run.claim;
  if (payload === null) return failure(expired(jobId, starts));
  if (payload === undefined) {
    return failure(new DeserializationError(`Job ${jobId} cannot be read: its key holds no text`));
  }
  try {
    run.record = decodeJob(payload, settings.client.deserializer);
  } catch (error) {
    return failure(error);
  }
  run.fn = settings.functions.get(run.record.f);
  run.jobTry = Math.max(starts, run.record.t ?? 0);
}

/** Ends a job that must not be started. */
function refuse(run: JobRun, settings: ResolvedSettings): JobOutcome | undefined {
  const { abortAsked, jobId, handbacks } = run.claim;
  if (abortAsked && settings.allowAbortJobs) {
    return { kind: "aborted", error: new JobAborted(`Job ${jobId} was aborted before it started`) };
  }
  if (!run.fn) {
    const known = [...settings.functions.keys()].join(", ");
    return failure(
      new JobExecutionFailed(
        `Function "${run.record.f}" is not registered; this worker has ${known}`,
      ),
    );
  }
  if (run.jobTry - handbacks > run.fn.maxTries) return failure(outOfTries(run.fn.maxTries));
}

/** Calls the function, importing it first if need be. */
function callFunction(run: JobRun, ctx: JobMeta): unknown {
  const { a: args } = run.record;
  const { fn } = run.fn as RegisteredFunction;
  if (typeof fn === "function") return fn(ctx, ...args);
  return importFunction(fn).then((imported) => {
    if (run.stopReason) throw run.stopError(); // The run may have been given up meanwhile.
    return imported(ctx, ...args);
  });
}

async function importFunction(specifier: string): Promise<AnyJobFunction> {
  const { path, name } = splitSpecifier(specifier);
  const module: Record<string, unknown> = await import(path).catch(throwWithPosition);
  const fn = module[name];
  if (typeof fn !== "function") {
    throw new JobExecutionFailed(`Module ${path} exports no function "${name}"`);
  }
  return fn as AnyJobFunction;
}

/** A retry or hand-back becomes a failure where there is no further try to have. */
function limitRetries(run: JobRun, settings: ResolvedSettings, outcome: JobOutcome): JobOutcome {
  const isAgain = outcome.kind === "retry" || outcome.kind === "released";
  if (!isAgain) return outcome;
  if (!settings.retryJobs) {
    if (outcome.kind === "released") return failure(run.stopError());
    const message = "It asked for a retry, but this worker retries no jobs";
    return failure(new JobExecutionFailed(message, { cause: outcome.cause }));
  }
  const maxTries = run.fn?.maxTries ?? Infinity;
  if (outcome.kind === "retry" && run.jobTry - run.claim.handbacks >= maxTries) {
    return failure(outOfTries(maxTries, outcome.cause));
  }
  return outcome;
}

function failure(error: unknown): JobOutcome {
  return { kind: "failure", error };
}

/** What an earlier try threw is kept by nobody but the log. */
function expired(jobId: string, starts: number): JobExecutionFailed {
  const message = `Job ${jobId} expired`;
  if (starts === 1) return new JobExecutionFailed(message);
  const earlier = `its worker's log tells how try ${starts - 1} ended`;
  return new JobExecutionFailed(`${message} before try ${starts}; ${earlier}`);
}

function outOfTries(maxTries: number, cause?: unknown): JobExecutionFailed {
  const options = cause === undefined ? undefined : { cause };
  return new JobExecutionFailed(`max ${maxTries} tries exceeded`, options);
}

/** Calls a hook; whatever it throws is logged and does no harm. */
export async function callHook(name: string, hook: () => unknown): Promise<void> {
  try {
    await hook();
  } catch (error) {
    log.hookFailed(name, error);
  }
}

/** The first parameter of a function; the worker's state is put on it as well. */
class RunContext {
  readonly jobId: string;
  readonly jobTry: number;
  readonly enqueueTime: Date;
  readonly score: number;
  readonly functionName: string;
  readonly queueName: string;
  readonly kwargs: Readonly<Record<string, unknown>>;
  readonly arq: ArqClient;
  readonly progress: (value: unknown) => void;
  readonly #run: JobRun;

  constructor(run: JobRun, executor: Executor) {
    const { settings, state } = executor;
    const { claim, record, jobTry } = run;
    this.jobId = claim.jobId;
    this.jobTry = jobTry;
    this.enqueueTime = new Date(record.et);
    this.score = Number(claim.score);
    this.functionName = record.f;
    this.queueName = settings.queueName;
    this.kwargs = record.k;
    this.arq = settings.client;
    this.#run = run;
    // A closure in a field would keep the run in memory until a full collection; what is bound does not.
    this.progress = executor.onProgress.bind(executor, run);
    Object.defineProperties(this, RunContext.#lazy);
    Object.assign(this, state);
  }

  /** Made when first asked for; on the object itself, so that a copy by spread has them too. */
  static readonly #lazy: PropertyDescriptorMap = {
    signal: {
      enumerable: true,
      get(this: RunContext): AbortSignal {
        return this.#run.signal;
      },
    },
    logger: {
      enumerable: true,
      get(this: RunContext): JobLogger {
        return jobLogger(this.jobId, this.functionName);
      },
    },
  };
}
