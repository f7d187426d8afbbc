/**
 * For the tests of programs that use the library: a queue in memory whose clock the test moves.
 *
 * Jobs are enqueued, claimed, run, retried and recorded by the same code as everywhere else. No
 * server is needed, no permission, and no waiting: an hour passes when the test says so. Works in
 * `deno test`, in `bun test` and with `node:test` in both.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { createTestQueue } from "@arq/arq/testing";
 *
 * const functions = { greet: (_ctx: unknown, name: string): string => `Hello ${name}` };
 *
 * await using queue = await createTestQueue({ functions });
 * const job = await queue.arq.enqueueJob("greet", ["Ann"], { deferBy: { hours: 1 } });
 * queue.assertEnqueued("greet", ["Ann"], { deferBy: { hours: 1 } });
 * assert.deepEqual(await queue.runDue(), []);
 * await queue.advance({ hours: 1 });
 * assert.equal(await job.result(), "Hello Ann");
 * ```
 * @module
 */
import { inspect, isDeepStrictEqual } from "node:util";
import { ArqClient } from "./client.ts";
import { CronScheduler } from "./cron_scheduler.ts";
import { type Duration, durationMs, type Instant, instantMs } from "./duration.ts";
import { FailedJobs } from "./errors.ts";
import { callHook } from "./execution.ts";
import { func, type FuncOptions, type JobOutcome, Retry } from "./functions.ts";
import { type JobResult, jobResult } from "./job_results.ts";
import { pluralText } from "./quantities.ts";
import { decodeResult } from "./serializer.ts";
import { type EnqueuedJob, readEnqueued, TestStore } from "./testing_store.ts";
import type {
  AnyFunction,
  ArgsAndOptions,
  ArgsOf,
  Functions,
  ResultOf,
  UntypedFunctions,
  WrappedFunction,
} from "./typed_names.ts";
import { checkOptions } from "./validation.ts";
import { Worker, type WorkerContext, type WorkerFunction, type WorkerSettings } from "./worker.ts";
import { resolveSettings } from "./worker_settings.ts";

export type { EnqueuedJob } from "./testing_store.ts";

/** Settings of a worker whose connection does not matter. */
export interface TestSettings<State, F extends Functions>
  extends Omit<WorkerSettings<State>, "functions"> {
  /** The functions to run jobs with: a record of names, or a list that takes the functions' own. @default {} */
  readonly functions?: F | readonly WorkerFunction<State>[];
}

/** The functions of a test queue; those of a list, or without types of their own, are untyped. */
export type TypedFunctions<F extends Functions> = Functions extends F ? UntypedFunctions : F;

/** Options of {@linkcode createTestQueue}. */
export interface TestQueueOptions {
  /** What the queue's clock shows at the start: a `Date`, a `Temporal.Instant` or epoch milliseconds. @default the system's time */
  readonly now?: Instant;
}

/** When a job is expected to be due. */
export interface ExpectedTime {
  /** A time after it was enqueued: milliseconds or a duration object. */
  readonly deferBy?: Duration;
  /** A point in time. */
  readonly deferUntil?: Instant;
}

/** Options of {@linkcode runFunction}. */
export interface RunFunctionOptions {
  /** What the function finds on its context besides what every job has. @default {} */
  readonly ctx?: object;
  /** Which try it is. @default 1 */
  readonly jobTry?: number;
  /** Keyword arguments, for `ctx.kwargs`. @default {} */
  readonly kwargs?: Readonly<Record<string, unknown>>;
}

/** Makes a worker's settings those of a test: its own store, and no schedule but the test's clock. */
function settingsForTest(
  settings: TestSettings<never, Functions>,
  connection: ArqClient,
): WorkerSettings<never> {
  return {
    ...settings as WorkerSettings<never>,
    connection,
    prefix: undefined, // the client has it, and so it has the next
    expiresExtra: undefined,
    queueName: connection.defaultQueueName,
    burst: true,
    handleSignals: false,
  };
}

/** Cron jobs as functions: the worker runs them, the test's clock enqueues them. */
function withCronFunctions(settings: WorkerSettings<never>): WorkerSettings<never> {
  const { functions = {}, cronJobs = [] } = settings;
  const cronFunctions = cronJobs.map(({ name, fn, options }) =>
    func(fn as AnyFunction, { ...options, name })
  ) as WorkerFunction<never>[];
  const named = cronJobs.map(({ name }, i) => [name, cronFunctions[i]]);
  const all: WorkerSettings<never>["functions"] = Array.isArray(functions)
    ? [...functions, ...cronFunctions]
    : { ...functions, ...Object.fromEntries(named) };
  return { ...settings, cronJobs: [], functions: all };
}

/** A queue in memory whose clock stands still until the test moves it; see {@linkcode createTestQueue}. */
export class TestQueue<F extends Functions = UntypedFunctions> implements AsyncDisposable {
  /** The queue's client: enqueue jobs, look at them, read their results. */
  readonly arq: ArqClient<F>;
  readonly #settings: TestSettings<never, Functions>;
  readonly #store: TestStore;
  readonly #clock: { now: number };
  readonly #worker: Worker<never>;
  readonly #cron: CronScheduler;
  #state: Record<string, unknown> | undefined;

  /** Use {@linkcode createTestQueue} instead. */
  constructor(settings: TestSettings<never, Functions>, options: TestQueueOptions = {}) {
    checkOptions("createTestQueue", '{ now: new Date("2030-01-01") }', options, ["now"]);
    this.#settings = settings;
    this.#clock = { now: instantMs("now", options.now ?? Date.now()) };
    const { prefix = "arq:", queueName, expiresExtra, jobSerializer, jobDeserializer } = settings;
    this.#store = new TestStore(prefix, this.#clock);
    const client = new ArqClient(this.#store, {
      defaultQueueName: queueName,
      expiresExtra,
      jobSerializer,
      jobDeserializer,
    });
    this.arq = client as unknown as ArqClient<F>;
    const ours = settingsForTest(settings, client);
    this.#cron = new CronScheduler(resolveSettings(ours));
    this.#worker = new Worker<never>({
      ...withCronFunctions(ours),
      onStartup: (ctx) => this.#startUp(ctx),
      onShutdown: undefined, // it comes when the queue is disposed of
    });
  }

  /** What the queue's clock shows. */
  get now(): Date {
    return new Date(this.#clock.now);
  }

  /** Opens the store; `createTestQueue` has done it. */
  async open(): Promise<void> {
    await this.#store.connect();
  }

  /**
   * Runs all jobs that are due, also those that they enqueue or retry without a delay, and returns
   * how they ended, in that order.
   *
   * @throws the first error if a job failed for good; all others have run, and
   * `job.resultInfo()` tells of each. Before any has run, what keeps a cron job from being enqueued.
   */
  async runDue(): Promise<JobResult[]> {
    return await this.#collect(() => this.#runNow());
  }

  /**
   * Moves the clock, milliseconds or a duration object, and runs what becomes due on the way: jobs
   * and cron jobs at their times, one time after the other. Returns how they ended, in that order.
   *
   * Results expire on the way as they always do: look at what this returns, or set `keepResult`. A
   * job's own timeout is measured in real time, and its `enqueueTime`, `startTime` and `finishTime`
   * are of the machine's own clock.
   *
   * @throws the first error if a job failed for good, when the clock has arrived; what keeps a cron
   * job from being enqueued, when the clock shows its time.
   * @throws {TypeError | RangeError} if `duration` is not a duration of 0 or more.
   */
  async advance(duration: Duration): Promise<JobResult[]> {
    const end = this.#clock.now + durationMs("advance", duration);
    return await this.#collect(async () => {
      const errors = await this.#runNow();
      for (;;) {
        const nextJob = await this.#store.nextDueAt(this.arq.defaultQueueName);
        const next = Math.min(nextJob, this.#cron.nextAt);
        this.#clock.now = Math.min(next, end);
        if (next > end) return errors;
        errors.push(...await this.#runNow());
      }
    });
  }

  /** All jobs that were enqueued so far, also those that have run, in that order; or those of one function. */
  enqueued(functionName?: string): EnqueuedJob[] {
    const all = this.#store.enqueued.map((accepted) =>
      readEnqueued(accepted, this.arq.deserializer)
    );
    return all.filter((job) => functionName === undefined || job.functionName === functionName);
  }

  /**
   * Returns the last job that was enqueued like this; without `args` with any, without `when` for
   * any time.
   *
   * @throws {Error} if there is none, listing what was enqueued.
   */
  assertEnqueued<N extends keyof F & string>(
    functionName: N,
    args?: Readonly<ArgsOf<F[N]>>,
    when: ExpectedTime = {},
  ): EnqueuedJob {
    checkOptions("assertEnqueued", "{ deferBy: 5_000 }", when, ["deferBy", "deferUntil"]);
    const jobs = this.enqueued();
    const found = jobs.findLast((job) =>
      job.functionName === functionName && isDueAt(job, when) &&
      (args === undefined || isDeepStrictEqual(job.args, args))
    );
    if (found) return found;
    const time = Object.keys(when).length > 0 ? ` with ${inspect(when)}` : "";
    const wanted = `${functionName}(${args === undefined ? "…" : listed(args)})${time}`;
    const lines = jobs.map((job) =>
      `  ${job.functionName}(${listed(job.args)}) ${dueText(job, when)}`
    );
    const others = jobs.length === 0
      ? ", nor anything else"
      : `, but ${pluralText(jobs.length, "other")}:`;
    throw new Error([`${wanted} was not enqueued${others}`, ...lines].join("\n"));
  }

  /** Calls the settings' `onShutdown` and closes the store; jobs that are left are gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    const ctx = this.#state && Object.assign(this.#state, { arq: this.#worker.arq });
    if (ctx) await callHook("onShutdown", () => this.#settings.onShutdown?.(ctx as never));
    await this.arq.close();
  }

  /** Calls `onStartup` once: the worker starts anew at each step, with the state from the first time. */
  async #startUp(ctx: WorkerContext): Promise<void> {
    if (this.#state) Object.assign(ctx, this.#state);
    else {
      await this.#settings.onStartup?.(ctx as never);
      const { arq: _, ...state } = ctx;
      this.#state = state;
    }
  }

  /** Runs what is due at this instant; returns the errors of jobs that failed. */
  async #runNow(): Promise<unknown[]> {
    await this.#cron.enqueueSlots(this.#clock.now);
    try {
      await this.#worker.runCheck();
      return [];
    } catch (error) {
      if (error instanceof FailedJobs) return error.jobResults.map(({ result }) => result);
      throw error;
    }
  }

  async #collect(run: () => Promise<readonly unknown[]>): Promise<JobResult[]> {
    const errors = await run();
    const records = this.#store.takeRecords();
    if (errors.length > 0) throw errors[0];
    return records.map((record) => jobResult(decodeResult(record, this.arq.deserializer)));
  }
}

function isDueAt(job: EnqueuedJob, { deferBy, deferUntil }: ExpectedTime): boolean {
  const due = job.dueTime.getTime();
  const isAfter = deferBy === undefined ||
    due - job.enqueueTime.getTime() === durationMs("deferBy", deferBy);
  return isAfter && (deferUntil === undefined || due === instantMs("deferUntil", deferUntil));
}

/** When a job is due, as it was asked for. */
function dueText({ enqueueTime, dueTime }: EnqueuedJob, { deferBy }: ExpectedTime): string {
  return deferBy === undefined
    ? `for ${dueTime.toISOString()}`
    : `with { deferBy: ${dueTime.getTime() - enqueueTime.getTime()} }`;
}

function listed(args: readonly unknown[]): string {
  return args.map((arg) => inspect(arg)).join(", ");
}

/**
 * Makes a queue for one test, from a worker's settings; close it with `await using`.
 *
 * It lives in a memory of its own and its clock stands still: `runDue` runs what is due, `advance`
 * lets time pass. The settings may be those of the real worker; their connection is not used.
 * `onStartup` is called before the first job and `onShutdown` at the end.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { cron } from "@arq/arq";
 * import { createTestQueue } from "@arq/arq/testing";
 *
 * const report = () => "Nothing new";
 * const cronJobs = [cron(report, "0 9 * * *", { timezone: "UTC" })];
 *
 * await using queue = await createTestQueue({ cronJobs }, { now: new Date("2030-01-01T08:00Z") });
 * const results = await queue.advance({ days: 2 });
 * assert.deepEqual(results.map(({ result }) => result), ["Nothing new", "Nothing new"]);
 * ```
 *
 * @throws {SettingsError} listing every problem of the settings.
 * @throws {TypeError | RangeError} if an option is unknown, or `now` is no point in time.
 */
export async function createTestQueue<State = unknown, F extends Functions = Functions>(
  settings: TestSettings<State, F>,
  options: TestQueueOptions = {},
): Promise<TestQueue<TypedFunctions<F>>> {
  const queue = new TestQueue<TypedFunctions<F>>(
    settings as unknown as TestSettings<never, Functions>,
    options,
  );
  await queue.open();
  return queue;
}

/**
 * Runs one function as a job and returns its result: with a real context, arguments and result as
 * they would travel, and the timeout that `func` gave it.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { type JobContext, Retry } from "@arq/arq";
 * import { runFunction } from "@arq/arq/testing";
 *
 * function greet({ jobTry, greeting }: JobContext<{ greeting: string }>, name: string): string {
 *   if (jobTry === 1) throw new Retry({ defer: { seconds: 5 } });
 *   return `${greeting} ${name}`;
 * }
 *
 * const ctx = { greeting: "Hello" };
 * await assert.rejects(runFunction(greet, ["Ann"], { ctx }), Retry);
 * assert.equal(await runFunction(greet, ["Ann"], { ctx, jobTry: 2 }), "Hello Ann");
 * ```
 *
 * @throws what the function throws, a `Retry` among it.
 */
export async function runFunction<Fn extends AnyFunction | WrappedFunction>(
  fn: Fn,
  ...rest: ArgsAndOptions<ArgsOf<Fn>, RunFunctionOptions>
): Promise<ResultOf<Fn>> {
  const [args = [], options = {}] = rest as [unknown[]?, RunFunctionOptions?];
  checkOptions("runFunction", "{ jobTry: 2 }", options, ["ctx", "jobTry", "kwargs"]);
  const { ctx = {}, jobTry, kwargs } = options;
  const name = nameOf(fn);
  const outcomes: JobOutcome[] = [];
  await using queue = await createTestQueue<unknown, Functions>({
    functions: { [name]: fn },
    ctx,
    maxBurstJobs: 1,
    onJobEnd: (_ctx, outcome) => outcomes.push(outcome),
  });
  await queue.arq.enqueueJob(name, args as never, { jobTry, kwargs });
  const [outcome] = await queue.runDue().then(
    (results) => [...results.map(succeeded), ...outcomes], // as it travelled, which comes first
    (error) => [...outcomes, failed(error)],
  );
  return valueOf(outcome) as ResultOf<Fn>;
}

function nameOf(fn: AnyFunction | WrappedFunction): string {
  const { name } = typeof fn === "function"
    ? fn
    : (fn as { readonly options?: FuncOptions }).options ?? {};
  return name || "function";
}

function succeeded({ result }: JobResult): JobOutcome {
  return { kind: "success", value: result };
}

function failed(error: unknown): JobOutcome {
  return { kind: "failure", error };
}

function valueOf(outcome: JobOutcome | undefined): unknown {
  switch (outcome?.kind) {
    case "success":
      return outcome.value;
    case "retry":
      throw new Retry({ defer: outcome.delayMs, cause: outcome.cause });
    case "failure":
    case "aborted":
      throw outcome.error;
    default:
      throw new Error("The function did not end");
  }
}
