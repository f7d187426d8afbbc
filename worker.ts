/**
 * The worker: takes jobs from a queue and runs them.
 *
 * Its life is told in `Worker.run`; claiming, running and recording jobs are in `job_loop.ts`.
 * @module
 */
import type { ArqClient } from "./client.ts";
import { CronScheduler } from "./cron_scheduler.ts";
import { FailedJobs, QueueConnectionError, SettingsError } from "./errors.ts";
import { callHook } from "./execution.ts";
import { countersText, HealthRecorder } from "./health.ts";
import type { Isolation } from "./isolation.ts";
import { JobLoop } from "./job_loop.ts";
import { END_SIGNALS } from "./signals.ts";
import { atMost, sleep, untilAborted } from "./sleep.ts";
import type { QueueNumbers } from "./store_inspection.ts";
import { checkOptions, checkSignal, isCount, show } from "./validation.ts";
import { type Counters, log } from "./worker_log.ts";
import { WorkerReporter } from "./worker_report.ts";
import {
  type ResolvedSettings,
  resolveSettings,
  shadowProblem,
  type WorkerContext,
  type WorkerSettings,
} from "./worker_settings.ts";

export type { WorkerFunction } from "./worker_functions.ts";
export type { WorkerContext, WorkerSettings } from "./worker_settings.ts";

/** Options of {@linkcode Worker.run}. */
export interface RunOptions {
  /** Stops the worker when it aborts; a text as its reason appears in the log. */
  readonly signal?: AbortSignal;
}

/** Options of {@linkcode Worker.runCheck}. */
export interface RunCheckOptions extends RunOptions {
  /** Whether jobs that throw `Retry` run again. @default the setting of the same name */
  readonly retryJobs?: boolean;
  /** End after this many jobs. @default the setting of the same name */
  readonly maxBurstJobs?: number;
}

/** How often cron slots and the sign of life are looked after, unless `pollDelay` is less. */
const HOUSEKEEPING_MS = 500;
/** `onShutdown` may take this long; the worker ends without it then. */
const SHUTDOWN_HOOK_MS = 15_000;
/** Removing signs of life may take this long; they expire by themselves. */
const FAREWELL_MS = 1_000;
const NO_JOBS: Readonly<Counters> = { jobsComplete: 0, jobsFailed: 0, jobsRetried: 0 };

/**
 * Runs jobs of one queue, up to `maxJobs` at a time.
 *
 * A job whose worker dies is run again by another one when its lease has ended. A worker outlives
 * a lost store: running jobs go on, and their results are recorded when it is there again.
 *
 * @example
 * ```ts
 * import { type JobContext, Worker } from "@arq/arq";
 *
 * const worker = new Worker({
 *   functions: { double: (_ctx: JobContext, n: number) => 2 * n },
 *   connection: "redis://localhost:6379",
 *   burst: true,
 * });
 * await worker.run();
 * console.log(String(worker)); // <Worker j_complete=0 j_failed=0 j_retried=0 j_ongoing=0>
 * ```
 */
export class Worker<State extends object = object> implements AsyncDisposable {
  readonly #settings: ResolvedSettings;
  #loop: JobLoop | undefined;
  /** What was counted in the runs before. */
  #past: Readonly<Counters> = NO_JOBS;
  #stop: AbortController = new AbortController();
  #running: Promise<void> | undefined;
  /** Told once: a test queue starts its worker at every step. */
  #isPauseTold = false;

  /**
   * Checks the settings; does no I/O.
   *
   * @throws {SettingsError} listing every problem.
   */
  constructor(settings: WorkerSettings<State>) {
    this.#settings = resolveSettings(settings as WorkerSettings<never>);
  }

  /** How many jobs completed: their function returned. */
  get jobsComplete(): number {
    return this.#count("jobsComplete");
  }

  /** How many jobs failed for good or were aborted. */
  get jobsFailed(): number {
    return this.#count("jobsFailed");
  }

  /** How many tries ended in a retry or a hand-back. */
  get jobsRetried(): number {
    return this.#count("jobsRetried");
  }

  /** How many jobs run at the moment. */
  get jobsOngoing(): number {
    return this.#loop?.ongoing ?? 0;
  }

  /** The worker's client, which every job finds on its context; connected while the worker runs. */
  get arq(): ArqClient {
    return this.#settings.client;
  }

  /**
   * Runs jobs until the worker is stopped, or in burst mode until the queue is empty.
   *
   * Told to stop, it claims nothing more, lets jobs run for `jobCompletionWait`, aborts the rest
   * and gives them back to the queue, so that another worker starts them at once.
   *
   * @throws {TypeError} if it runs already, or an option is unknown or has a bad value.
   * @throws {QueueConnectionError} if the store cannot be reached at the start, or if the worker's
   * pool is closed before that or while it runs.
   * @throws what `onStartup` throws; no job was taken then.
   */
  async run(options: RunOptions = {}): Promise<void> {
    checkRunOptions("run", options, ["signal"]);
    await this.#runWith(this.#settings, options);
  }

  /**
   * Runs all jobs of the queue in burst mode, for tests and scripts.
   *
   * Returns the number of jobs that completed. Burst mode waits for deferred jobs, too; for tests
   * with a clock that moves by itself see `createTestQueue` in `@arq/arq/testing`.
   *
   * @throws {FailedJobs} if any failed, with their errors.
   * @throws {TypeError | RangeError} if an option is unknown or has a bad value.
   */
  async runCheck(options: RunCheckOptions = {}): Promise<number> {
    checkRunOptions("runCheck", options, ["signal", "retryJobs", "maxBurstJobs"]);
    const { retryJobs = this.#settings.retryJobs } = options;
    const { maxBurstJobs = this.#settings.maxBurstJobs } = options;
    const failures: { jobId: string; result: unknown }[] = [];
    const settings = { ...this.#settings, burst: true, retryJobs, maxBurstJobs };
    const before = this.jobsComplete;
    await this.#runWith(settings, options, (jobId, result) => failures.push({ jobId, result }));
    if (failures.length > 0) throw new FailedJobs(failures.length, failures);
    return this.jobsComplete - before;
  }

  /** Stops the worker as the `signal` of `run` does, and waits for its end; does nothing if it does not run. */
  async close(): Promise<void> {
    this.#stop.abort("close");
    await this.#running?.catch(() => {}); // Its error belongs to whoever called run.
  }

  /** Stops the worker, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** `<Worker j_complete=0 j_failed=0 j_retried=0 j_ongoing=0>` */
  toString(): string {
    const { jobsComplete, jobsFailed, jobsRetried, jobsOngoing: ongoing } = this;
    return `<Worker ${countersText({ jobsComplete, jobsFailed, jobsRetried, ongoing })}>`;
  }

  /** What `console.log` shows in Node-compatible runtimes. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }

  /** What `console.log` shows in Deno. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }

  async #runWith(
    settings: ResolvedSettings,
    { signal }: RunOptions,
    onFailure?: JobLoop["onFailure"],
  ): Promise<void> {
    if (this.#running) throw new TypeError("This worker is running already");
    this.#stop = new AbortController();
    const stop = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    this.#running = this.#live(settings, stop, onFailure);
    try {
      await this.#running;
    } finally {
      this.#running = undefined;
    }
  }

  async #live(
    settings: ResolvedSettings,
    stop: AbortSignal,
    onFailure: JobLoop["onFailure"],
  ): Promise<void> {
    const { client, ownsClient } = settings;
    using _signals = settings.handleSignals ? handleSignals(this.#stop) : undefined;
    log.starting(settings.functions.keys());
    const state = { ...settings.state };
    const isolation = await openIsolation(settings);
    try {
      if (ownsClient) await client.store.connect(stop);
      await client.store.describe().then(
        (described) => log.store(described, client.store.address, settings.queueName),
        (error) => log.storeFailed("read the store's info", error),
      );
      await this.#startUp(settings, state, stop);
      try {
        await this.#work(settings, new JobLoop(settings, isolation, state, onFailure), stop);
      } finally {
        await isolation?.close();
        await this.#shutDown(settings, state);
      }
    } catch (error) {
      if (!stop.aborted || error !== stop.reason) throw error;
    } finally {
      if (ownsClient) await client.close();
    }
  }

  async #startUp(
    settings: ResolvedSettings,
    state: Record<string, unknown>,
    stop: AbortSignal,
  ): Promise<void> {
    stop.throwIfAborted();
    await untilAborted(settings.hooks.onStartup?.(contextOf(settings, state)), stop);
    const { arq, ...ownState } = state;
    const problem = shadowProblem(arq === settings.client ? ownState : state);
    if (problem !== undefined) throw new SettingsError("worker settings", [problem]);
  }

  async #shutDown(settings: ResolvedSettings, state: Record<string, unknown>): Promise<void> {
    const { onShutdown } = settings.hooks;
    if (!onShutdown) return;
    const hook = callHook("onShutdown", () => onShutdown(contextOf(settings, state)));
    await atMost(SHUTDOWN_HOOK_MS, hook);
  }

  async #work(settings: ResolvedSettings, loop: JobLoop, stop: AbortSignal): Promise<void> {
    if (stop.aborted) return;
    const health = new HealthRecorder(settings);
    const cron = new CronScheduler(settings);
    const reporter = new WorkerReporter(settings, loop, cron);
    const keepHouse = (now: number) =>
      Promise.all([
        reporter.tick(now),
        ...(stop.aborted ? [] : [health.tick(loop, now), cron.tick(now)]),
      ]);
    // Before the first claim: a burst finds what is to run at the start.
    const { now, paused } = await readNumbers(settings, stop);
    if (paused && !this.#isPauseTold) log.paused(settings.queueName);
    this.#isPauseTold = paused;
    await keepHouse(now);
    const housekeeping = setInterval(() => {
      if (loop.now !== undefined) void keepHouse(loop.now);
    }, Math.min(settings.pollDelayMs, HOUSEKEEPING_MS));
    const onStop = () => {
      const { jobCompletionWaitMs } = settings;
      log.stopping(reasonText(stop.reason), loop, loop.ongoing, jobCompletionWaitMs);
      void loop.stop(jobCompletionWaitMs);
    };
    if (stop.aborted) onStop();
    else stop.addEventListener("abort", onStop, { once: true });
    this.#loop = loop;
    try {
      await loop.run();
    } finally {
      clearInterval(housekeeping);
      stop.removeEventListener("abort", onStop);
      const { jobsComplete, jobsFailed, jobsRetried } = this;
      this.#past = { jobsComplete, jobsFailed, jobsRetried };
      this.#loop = undefined;
      await atMost(FAREWELL_MS, Promise.all([health.remove(), reporter.end()]));
    }
  }

  #count(name: keyof Counters): number {
    return this.#past[name] + (this.#loop?.[name] ?? 0);
  }
}

/** Processes are loaded by those workers only that have a function for them. */
async function openIsolation({ functions, client }: ResolvedSettings): Promise<
  Isolation | undefined
> {
  if (![...functions.values()].some(({ isolate }) => isolate)) return undefined;
  const { Isolation } = await import("./isolation.ts");
  return new Isolation(functions.values(), client);
}

/** What the store says of the queue. An open store that is away is waited for, as at every later moment. */
async function readNumbers(
  { client: { store }, queueName, pollDelayMs }: ResolvedSettings,
  stop: AbortSignal,
): Promise<QueueNumbers> {
  for (;;) {
    try {
      return await store.inspection.numbers(queueName, 0);
    } catch (error) {
      const isAway = error instanceof QueueConnectionError && !error.refused && store.isOpen;
      if (!isAway) throw error;
      log.storeFailed("read the time", error);
      await sleep(pollDelayMs, stop);
    }
  }
}

/** What `onStartup` and `onShutdown` get: the state itself, with the client on it. */
function contextOf(settings: ResolvedSettings, state: Record<string, unknown>): WorkerContext {
  return Object.assign(state, { arq: settings.client });
}

function checkRunOptions(method: string, options: RunCheckOptions, keys: readonly string[]): void {
  checkOptions(method, "{ signal }", options, keys);
  const { signal, maxBurstJobs = 1 } = options;
  checkSignal(method, signal);
  if (isCount(maxBurstJobs) || maxBurstJobs === Infinity) return;
  const rule = "must be a whole number of 1 or more";
  throw new RangeError(
    `${method}: maxBurstJobs ${rule}, got ${show(maxBurstJobs)}; leave it out for no limit`,
  );
}

function reasonText(reason: unknown): string {
  return typeof reason === "string" ? reason : "abort";
}

/** Stops at the first signal, exits at the second. */
function handleSignals(stop: AbortController): Disposable {
  const handlers = Object.entries(END_SIGNALS).map(([name, number]) => {
    const handler = () => {
      if (stop.signal.aborted) process.exit(128 + number);
      stop.abort(name);
    };
    process.on(name, handler);
    return { name, handler };
  });
  return {
    [Symbol.dispose]: () => {
      for (const { name, handler } of handlers) process.off(name, handler);
    },
  };
}

/**
 * Makes a {@linkcode Worker}; the same as `new Worker(settings)`.
 *
 * @throws {SettingsError} listing every problem.
 */
export function createWorker<State extends object = object>(
  settings: WorkerSettings<State>,
): Worker<State> {
  return new Worker(settings);
}

/**
 * Makes a worker, runs it to its end and returns it, with its counts.
 *
 * @example
 * ```ts
 * import { type JobContext, runWorker } from "@arq/arq";
 *
 * const functions = { double: (_ctx: JobContext, n: number) => 2 * n };
 * const connection = "redis://localhost:6379";
 * const worker = await runWorker({ functions, connection, burst: true });
 * console.log(worker.jobsComplete);
 * ```
 *
 * @throws {SettingsError} listing every problem.
 * @throws what {@linkcode Worker.run} throws.
 */
export async function runWorker<State extends object = object>(
  settings: WorkerSettings<State>,
  options: RunOptions = {},
): Promise<Worker<State>> {
  const worker = new Worker(settings);
  await worker.run(options);
  return worker;
}

/**
 * Reads the sign of life of the workers of these settings' queue; their functions may be left out.
 *
 * Returns a text such as `Mar-01 17:41:22 j_complete=0 j_failed=0 j_retried=0 j_ongoing=0 queued=0`,
 * or undefined if no worker has given one within `healthCheckInterval`. The command line's
 * `worker SETTINGS --check` does the same.
 *
 * @example
 * ```ts
 * import { checkHealth } from "@arq/arq";
 *
 * const settings = { functions: { ping: () => "pong" }, connection: "redis://localhost:6379" };
 * console.log(await checkHealth(settings)); // undefined: there is no worker
 * ```
 *
 * @throws {SettingsError} listing every problem.
 * @throws {QueueConnectionError} if the store cannot be reached.
 */
export async function checkHealth<State = unknown>(
  settings: WorkerSettings<State>,
): Promise<string | undefined> {
  const { client, ownsClient, healthCheckKey } = resolveSettings(
    settings as WorkerSettings<never>,
    true,
  );
  try {
    if (ownsClient) await client.store.connect();
    return await client.store.readHealth(healthCheckKey);
  } finally {
    if (ownsClient) await client.close();
  }
}
