/**
 * A worker's settings: what may be said, the defaults, and the check of all of it at once.
 * @module
 */
import { ArqClient, type Connection, makeClient } from "./client.ts";
import type { CronJob } from "./cron.ts";
import { type Duration, durationMs, keepMs } from "./duration.ts";
import { SettingsError } from "./errors.ts";
import { CONTEXT_FIELDS, type JobContext, type JobMeta, type JobOutcome } from "./functions.ts";
import { DEFAULT_CONNECTION } from "./pool_options.ts";
import type { Deserializer, Serializer } from "./serializer.ts";
import { LONGEST_TIMER_MS } from "./sleep.ts";
import { checkKeys, isCount, isOptions, isTimeZone, nameProblem, show } from "./validation.ts";
import {
  attemptWith,
  isCronJob,
  registerAll,
  type RegisteredFunction,
  type WorkerFunction,
} from "./worker_functions.ts";

/** What `onStartup` and `onShutdown` get: the state all jobs share, and the client. */
export type WorkerContext<State = unknown> = State & {
  /** A client on the worker's connection. */
  readonly arq: ArqClient;
};

/**
 * Settings of a {@linkcode Worker}. Durations are milliseconds or a duration object.
 *
 * Hooks may be async. One that throws is logged and harms neither worker nor job, but an
 * `onStartup` that throws ends the start: `run` rejects with its error before any job is taken.
 *
 * @example A module for the command line: `worker tasks.ts`
 * ```ts
 * // tasks.ts
 * import type { JobContext, WorkerSettings } from "@arq/arq";
 *
 * type State = { greeting: string };
 * const greet = (ctx: JobContext<State>, name: string): string => `${ctx.greeting} ${name}`;
 *
 * export const functions = { greet };
 * export default {
 *   functions,
 *   connection: "redis://localhost:6379",
 *   maxJobs: 20,
 *   jobTimeout: { seconds: 30 },
 *   onStartup: (ctx) => {
 *     ctx.greeting = "Hello";
 *   },
 * } satisfies WorkerSettings<State>;
 * ```
 */
export interface WorkerSettings<State = unknown> {
  /** The functions to run jobs with: a record of names, or a list that takes the functions' own. @default {} */
  readonly functions?:
    | Readonly<Record<string, WorkerFunction<State>>>
    | readonly WorkerFunction<State>[];
  /** Functions to enqueue on a schedule. @default [] */
  readonly cronJobs?: readonly CronJob<State>[];
  /** What `createPool` takes, or a pool that exists already and stays open. @default "redis://localhost:6379" */
  readonly connection?: Connection | ArqClient;
  /** The queue to take jobs from. @default the connection's `defaultQueueName` */
  readonly queueName?: string;
  /** What is put before the name of everything stored; the name of a queue is taken as it is. @default "arq:" */
  readonly prefix?: string;
  /** Whether to end once the queue is empty, deferred jobs included. @default false */
  readonly burst?: boolean;
  /** With `burst`, end after this many jobs. @default no limit */
  readonly maxBurstJobs?: number;
  /** Called before the first job; what it puts on the context, every job finds on its own. */
  onStartup?(ctx: WorkerContext<State>): unknown;
  /** Called after the last job. */
  onShutdown?(ctx: WorkerContext<State>): unknown;
  /** Called before a job's function. */
  onJobStart?(ctx: JobContext<State>): unknown;
  /** Called when the function has ended, before its end is recorded. */
  onJobEnd?(ctx: JobContext<State>, outcome: JobOutcome): unknown;
  /** Called when the end has been recorded. */
  afterJobEnd?(ctx: JobContext<State>, outcome: JobOutcome): unknown;
  /** Whether `run` ends the worker on SIGINT, SIGTERM and SIGHUP; the command line does that by itself. @default false */
  readonly handleSignals?: boolean;
  /** How long running jobs may go on after the worker was told to stop. @default 0 */
  readonly jobCompletionWait?: Duration;
  /** How long a function may go on after its signal was aborted, before it is abandoned. @default 1 second */
  readonly abortGrace?: Duration;
  /** How many jobs to run at a time. @default 10 */
  readonly maxJobs?: number;
  /** How long one try of a job may take before it fails with a `JobTimeoutError`. @default 5 minutes */
  readonly jobTimeout?: Duration;
  /** How long to keep results; 0 keeps none, `"forever"` all. @default 1 hour */
  readonly keepResult?: Duration | "forever";
  /** How often to look for jobs nobody told of, and for aborts. @default 500 milliseconds */
  readonly pollDelay?: Duration;
  /** How many jobs to take in one call at most, and of short ones before there is a slot for them. @default 5 × maxJobs, at least 100 */
  readonly queueReadLimit?: number;
  /** How often a job may be started before it fails for good. @default 5 */
  readonly maxTries?: number;
  /** How long a job belongs to this worker without a sign of life; a killed worker's jobs run again after it. @default 30 seconds */
  readonly lease?: Duration;
  /** How often to write the sign of life that health checks read. @default 1 hour */
  readonly healthCheckInterval?: Duration;
  /** The key it is written under. @default `${queueName}:health-check` */
  readonly healthCheckKey?: string;
  /** State to start with; every job finds it on its context. @default {} */
  readonly ctx?: Partial<State>;
  /** Whether jobs that throw `Retry`, or are cut short by the worker's end, run again. @default true */
  readonly retryJobs?: boolean;
  /** Whether `Job.abort` works on running jobs. @default true */
  readonly allowAbortJobs?: boolean;
  /** As in `createPool`. */
  readonly jobSerializer?: Serializer;
  /** As in `createPool`. */
  readonly jobDeserializer?: Deserializer;
  /** As in `createPool`. @default 1 day */
  readonly expiresExtra?: Duration;
  /** IANA name of the time zone of cron jobs and log times. @default the system's */
  readonly timezone?: string;
  /** Whether results appear in the log. @default true */
  readonly logResults?: boolean;
}

/** Settings with every default filled in and every duration in milliseconds. */
export interface ResolvedSettings {
  readonly functions: ReadonlyMap<string, RegisteredFunction>;
  /** How long to keep results of jobs whose function is not known. */
  readonly keepResultMs: number | "forever";
  readonly cronJobs: readonly CronJob[];
  readonly client: ArqClient;
  /** Whether the client was made for this worker, and is closed with it. */
  readonly ownsClient: boolean;
  readonly queueName: string;
  readonly burst: boolean;
  readonly maxBurstJobs: number;
  readonly hooks: Hooks;
  readonly handleSignals: boolean;
  readonly jobCompletionWaitMs: number;
  readonly abortGraceMs: number;
  readonly maxJobs: number;
  readonly pollDelayMs: number;
  readonly queueReadLimit: number;
  readonly leaseMs: number;
  readonly healthCheckIntervalMs: number;
  readonly healthCheckKey: string;
  readonly state: Record<string, unknown>;
  readonly retryJobs: boolean;
  readonly allowAbortJobs: boolean;
  readonly timezone: string | undefined;
  readonly logResults: boolean;
}

/** The hooks of a worker. */
export interface Hooks {
  readonly onStartup?: (ctx: WorkerContext) => unknown;
  readonly onShutdown?: (ctx: WorkerContext) => unknown;
  readonly onJobStart?: (ctx: JobMeta) => unknown;
  readonly onJobEnd?: (ctx: JobMeta, outcome: JobOutcome) => unknown;
  readonly afterJobEnd?: (ctx: JobMeta, outcome: JobOutcome) => unknown;
}

const HOOKS = ["onStartup", "onShutdown", "onJobStart", "onJobEnd", "afterJobEnd"] as const;
const BOOLEANS = [
  "burst",
  "handleSignals",
  "retryJobs",
  "allowAbortJobs",
  "logResults",
] as const;
const COUNTS = ["maxJobs", "queueReadLimit", "maxTries", "maxBurstJobs"] as const;
const DURATIONS = [
  "jobCompletionWait",
  "abortGrace",
  "jobTimeout",
  "pollDelay",
  "lease",
  "healthCheckInterval",
  "expiresExtra",
] as const;
const TEXTS = ["queueName", "prefix", "healthCheckKey"] as const;
const SERIALIZERS = ["jobSerializer", "jobDeserializer"] as const;

/** Every key that settings may have. */
export const SETTINGS_KEYS: readonly (keyof WorkerSettings)[] = [
  "functions",
  "cronJobs",
  "connection",
  "keepResult",
  "ctx",
  "timezone",
  ...HOOKS,
  ...BOOLEANS,
  ...COUNTS,
  ...DURATIONS,
  ...TEXTS,
  ...SERIALIZERS,
];

/** Names that arq, or habit, has for the connection. */
export const CONNECTION_ALIASES: readonly string[] = [
  "redisSettings",
  "redisPool",
  "redis_settings",
  "redis_pool",
];

/** The shortest lease: it must outlive a pause of the server or the garbage collector. */
const MIN_LEASE_MS = 100;

/**
 * Checks settings and fills in the defaults; does no I/O. Who runs no jobs needs no functions:
 * `mayBeIdle`.
 *
 * @throws {SettingsError} listing every problem.
 */
export function resolveSettings(
  settings: WorkerSettings<never>,
  mayBeIdle: boolean = false,
): ResolvedSettings {
  if (typeof settings !== "object" || settings === null) {
    throw new SettingsError("worker settings", [`they must be an object, got ${show(settings)}`]);
  }
  if (isWorker(settings)) {
    throw new SettingsError("worker settings", ["export the settings, not a Worker"]);
  }
  const problems = [...keyProblems(settings), ...typeProblems(settings)];
  const attempt = attemptWith(problems);
  const ms = (name: typeof DURATIONS[number], fallback: number, min = 0) =>
    attempt(() => durationMs(name, settings[name] ?? fallback, min)) ?? fallback;
  const maxJobs = settings.maxJobs ?? 10;
  const defaults = {
    timeoutMs: ms("jobTimeout", 300_000, 1),
    keepMs: attempt(() => keepMs(settings.keepResult)) ?? 0,
    maxTries: isCount(settings.maxTries) ? settings.maxTries : 5,
  };
  const { functions: given = {}, cronJobs = [] } = settings;
  const functions = attempt(() => registerAll(given, cronJobs, defaults, mayBeIdle)) ?? new Map();
  const client = attempt(() => clientOf(settings));
  const queueName = settings.queueName ?? client?.defaultQueueName ?? "";
  attempt(() => client?.store.checkQueueName(queueName));
  const resolved = {
    functions,
    keepResultMs: defaults.keepMs,
    cronJobs: cronJobs as readonly CronJob[],
    ownsClient: client !== settings.connection,
    queueName,
    burst: settings.burst ?? false,
    maxBurstJobs: settings.maxBurstJobs ?? Infinity,
    hooks: hooksOf(settings),
    handleSignals: settings.handleSignals ?? false,
    jobCompletionWaitMs: ms("jobCompletionWait", 0),
    abortGraceMs: ms("abortGrace", 1_000),
    maxJobs,
    pollDelayMs: Math.min(ms("pollDelay", 500, 1), LONGEST_TIMER_MS),
    queueReadLimit: settings.queueReadLimit ?? Math.max(5 * maxJobs, 100),
    leaseMs: Math.min(ms("lease", 30_000, MIN_LEASE_MS), LONGEST_TIMER_MS),
    healthCheckIntervalMs: ms("healthCheckInterval", 3_600_000, 1),
    healthCheckKey: settings.healthCheckKey ?? `${queueName}:health-check`,
    state: { ...settings.ctx as Record<string, unknown> | undefined },
    retryJobs: settings.retryJobs ?? true,
    allowAbortJobs: settings.allowAbortJobs ?? true,
    timezone: settings.timezone,
    logResults: settings.logResults ?? true,
  };
  if (problems.length > 0 || !client) throw new SettingsError("worker settings", problems);
  return { ...resolved, client };
}

/** What is wrong with a worker's state: it must not hide what every job's context has. */
export function shadowProblem(state: object): string | undefined {
  const shadowing = CONTEXT_FIELDS.filter((field) => field in state);
  if (shadowing.length === 0) return undefined;
  return `ctx: the state must not have ${shadowing.join(", ")}, which every job's context has`;
}

/** What is wrong with a state of some class: a job's context gets copies of what is its own only. */
function lossProblem(state: object): string | undefined {
  const lost: string[] = [];
  for (let level = prototypeOf(state); level && prototypeOf(level); level = prototypeOf(level)) {
    lost.push(...Object.getOwnPropertyNames(level).filter((name) => name !== "constructor"));
  }
  if (lost.length === 0) return undefined;
  const names = lost.join(", ");
  return `ctx: ${names} of its class would be lost; put the object under a name, such as { app: … }`;
}

function prototypeOf(value: object): object | null {
  return Object.getPrototypeOf(value);
}

/** Recognises a worker, whose settings nobody can read any more. */
function isWorker(settings: object): boolean {
  return "runCheck" in settings && "jobsComplete" in settings;
}

function keyProblems(settings: object): string[] {
  const isAlias = (key: string) => CONNECTION_ALIASES.includes(key);
  const aliases = Object.keys(settings).filter(isAlias);
  return [
    ...checkKeys(settings, [...SETTINGS_KEYS, ...aliases]),
    ...aliases.map((key) => `unknown option "${key}"; did you mean "connection"?`),
  ];
}

function typeProblems(settings: WorkerSettings<never>): string[] {
  const problems: string[] = [];
  const check = (
    keys: readonly (keyof WorkerSettings)[],
    rule: string,
    isGood: (value: unknown) => boolean,
  ) => {
    for (const key of keys) {
      const value = settings[key];
      if (value !== undefined && !isGood(value)) {
        problems.push(`${key} must be ${rule}, got ${show(value)}`);
      }
    }
  };
  const isFunction = (value: unknown) => typeof value === "function";
  check([...HOOKS, ...SERIALIZERS], "a function", isFunction);
  check(BOOLEANS, "true or false", (value) => typeof value === "boolean");
  check(COUNTS, "a whole number of 1 or more", isCount);
  for (const key of TEXTS) {
    const value = settings[key];
    const problem = value === undefined ? undefined : nameProblem(value);
    if (problem !== undefined) problems.push(`${key} ${problem}, got ${show(value)}`);
  }
  check(["timezone"], 'an IANA name such as "Europe/London"', isTimeZone);
  check(["ctx"], "an object", isOptions);
  const { ctx } = settings;
  const ctxProblem = isOptions(ctx) ? shadowProblem(ctx) ?? lossProblem(ctx) : undefined;
  if (ctxProblem !== undefined) problems.push(ctxProblem);
  check(
    ["cronJobs"],
    "a list of what cron() returns",
    (value) => Array.isArray(value) && value.every(isCronJob),
  );
  return problems;
}

/** The hooks as functions, bound to the settings they may be methods of. */
function hooksOf(settings: WorkerSettings<never>): Hooks {
  const bound = HOOKS.map((name) => {
    const hook: unknown = settings[name];
    return [name, typeof hook === "function" ? hook.bind(settings) : undefined];
  });
  return Object.fromEntries(bound);
}

function clientOf(settings: WorkerSettings<never>): ArqClient {
  const { connection = DEFAULT_CONNECTION } = settings;
  const { jobSerializer, jobDeserializer, expiresExtra, prefix, queueName } = settings;
  if (isClient(connection)) {
    checkAgainstPool("prefix", prefix, connection.store.prefix);
    checkAgainstPool("jobSerializer", jobSerializer, connection.serializer);
    checkAgainstPool("jobDeserializer", jobDeserializer, connection.deserializer);
    checkAgainstPool("expiresExtra", expiresExtra, undefined);
    return connection;
  }
  const textOf = (value?: string) => nameProblem(value) === undefined ? value : undefined;
  const functionOf = <T>(value: T) => typeof value === "function" ? value : undefined;
  return makeClient(connection, { // what is of a wrong type is a problem of its own
    jobSerializer: functionOf(jobSerializer),
    jobDeserializer: functionOf(jobDeserializer),
    expiresExtra,
    prefix: textOf(prefix),
    defaultQueueName: textOf(queueName),
  });
}

/** A pool that was handed in has these already; another value would be passed over in silence. */
function checkAgainstPool(name: string, value: unknown, ofPool: unknown): void {
  if (value === undefined || value === ofPool) return;
  throw new TypeError(`${name} is the pool's where connection is one: give it to createPool`);
}

/** Recognises a pool, also one made by another copy of the library. */
export function isClient(value: unknown): value is ArqClient {
  return value instanceof ArqClient ||
    (typeof value === "object" && value !== null && "store" in value && "enqueueJob" in value);
}
