/**
 * The functions a worker has: those of its settings and of its cron jobs, checked, each under one
 * name and with the limits that hold for it.
 * @module
 */
import type { CronJob } from "./cron.ts";
import { durationMs, keepMs } from "./duration.ts";
import { SettingsError } from "./errors.ts";
import { type Func, type FuncOptions, type JobFunction, splitSpecifier } from "./functions.ts";
import { type IsolateSettings, relativeProblem, resolveIsolate } from "./isolate_options.ts";
import { checkKeys, isCount, isOptions, show } from "./validation.ts";

/** A function as it may be registered. */
export type WorkerFunction<State> = JobFunction<State> | Func<JobFunction<State>>;

/** One function, ready to be called. */
export interface RegisteredFunction {
  readonly name: string;
  /** The function, or the module specifier to import it from. */
  readonly fn: AnyJobFunction | string;
  readonly timeoutMs: number;
  readonly keepMs: number | "forever";
  readonly maxTries: number;
  /** How it runs in processes of its own, if it does. */
  readonly isolate: IsolateSettings | undefined;
  /** Whether its jobs are slots of a unique cron job, whose id stays locked for a while. */
  readonly isSlot: boolean;
}

/** A function as it is called. */
export type AnyJobFunction = (ctx: unknown, ...args: readonly unknown[]) => unknown;

/** What holds for a function that has no options of its own. */
export type Limits = Pick<RegisteredFunction, "timeoutMs" | "keepMs" | "maxTries">;
type Resolved = Limits & Pick<RegisteredFunction, "isolate">;

/** A function as the settings have it, under the name it gets. */
interface Entry {
  readonly name: string;
  readonly fn: AnyJobFunction | string;
  readonly options: FuncOptions;
  readonly isSlot: boolean;
}

/**
 * Gives each function its name and its limits; a cron job's function counts as one. There must be
 * one, unless `mayBeIdle`.
 *
 * @throws {TypeError} if `functions` is neither a record nor a list.
 * @throws {SettingsError} listing every problem.
 */
export function registerAll(
  functions: unknown,
  cronJobs: unknown,
  defaults: Limits,
  mayBeIdle: boolean,
): Map<string, RegisteredFunction> {
  if (typeof functions !== "object" || functions === null) {
    throw new TypeError(
      `functions must be a record or a list of functions, got ${show(functions)}`,
    );
  }
  const registered = new Map<string, RegisteredFunction>();
  const problems: string[] = [];
  const register = ({ name, fn, options, isSlot }: Entry, maker: string) => {
    if (name === "") problems.push("functions: a function without a name needs func(fn, { name })");
    else if (registered.has(name)) {
      problems.push(
        `functions: two functions are named "${name}", give one of them a name: ${maker}`,
      );
    } else {
      const { problems: found, ...resolved } = functionOptions(fn, options, defaults);
      problems.push(...found.map((problem) => `functions.${name}: ${problem}`));
      registered.set(name, { name, fn, isSlot, ...resolved });
    }
  };
  for (const [key, value] of Object.entries<unknown>({ ...functions })) {
    const entry = readEntry(key, value, Array.isArray(functions));
    if (typeof entry === "string") problems.push(entry);
    else register(entry, "func(fn, { name })");
  }
  for (const job of Array.isArray(cronJobs) ? cronJobs.filter(isCronJob) : []) {
    register(cronEntry(job), "cron(fn, …, { name })");
  }
  const isEmpty = Array.isArray(cronJobs) && cronJobs.length === 0 && registered.size === 0;
  if (isEmpty && !mayBeIdle && problems.length === 0) {
    problems.push("functions is empty, and so is cronJobs: give the worker at least one function");
  }
  if (problems.length > 0) throw new SettingsError("worker settings", problems);
  return registered;
}

/** Reads one of `functions`; what is none is told as a text. */
function readEntry(key: string, value: unknown, isInList: boolean): Entry | string {
  const { fn, options } = typeof value === "function" ? { fn: value, options: {} } : funcOf(value);
  if (fn === undefined) {
    return `functions.${key} must be a function or what func() returns, got ${show(value)}`;
  }
  if (!isOptions(options)) {
    const example = "{ timeout: { minutes: 2 } }";
    return `functions.${key}: func takes an object such as ${example}, got ${show(options)}`;
  }
  const ownName = options.name ?? (typeof fn === "string" ? splitSpecifier(fn).name : fn.name);
  const name = isInList ? ownName : key;
  return { name, fn: fn as AnyJobFunction | string, options, isSlot: false };
}

function funcOf(value: unknown): Func | { readonly fn?: undefined; readonly options: FuncOptions } {
  const isFunc = typeof value === "object" && value !== null && "fn" in value && "options" in value;
  return isFunc ? value as Func : { options: {} };
}

function cronEntry({ name, fn, options, unique, jobId }: CronJob): Entry {
  const isSlot = unique && jobId === undefined;
  return { name, fn: fn as AnyJobFunction | string, options, isSlot };
}

const FUNC_KEYS = [
  "name",
  "keepResult",
  "timeout",
  "maxTries",
  "isolate",
] as const satisfies readonly (keyof FuncOptions)[];

function functionOptions(
  fn: Entry["fn"],
  options: FuncOptions,
  defaults: Limits,
): Resolved & { readonly problems: readonly string[] } {
  const problems = checkKeys(options, FUNC_KEYS);
  const attempt = attemptWith(problems);
  const { timeout = defaults.timeoutMs, keepResult = defaults.keepMs } = options;
  const { maxTries = defaults.maxTries } = options;
  if (!isCount(maxTries)) {
    problems.push(`maxTries must be a whole number of 1 or more, got ${show(maxTries)}`);
  }
  const relative = relativeProblem(fn);
  if (relative !== undefined) problems.push(relative);
  const isolate = resolveIsolate(options.isolate, typeof fn === "string");
  problems.push(...isolate.problems);
  return {
    isolate: isolate.settings,
    timeoutMs: attempt(() => durationMs("timeout", timeout, 1)) ?? defaults.timeoutMs,
    keepMs: attempt(() => keepMs(keepResult)) ?? defaults.keepMs,
    maxTries,
    problems,
  };
}

/** Recognises what `cron` returns. */
export function isCronJob(value: unknown): value is CronJob {
  return typeof value === "object" && value !== null && "schedule" in value && "options" in value;
}

/** Reads values; what is wrong with one is noted in `problems`, a line each, and it is undefined. */
export function attemptWith(problems: string[]): <T>(read: () => T) => T | undefined {
  return (read) => {
    try {
      return read();
    } catch (error) {
      problems.push(...problemsOf(error));
    }
  };
}

function problemsOf(error: unknown): readonly string[] {
  if (error instanceof SettingsError) return error.problems;
  return [error instanceof Error ? error.message : String(error)];
}

/** The first try that is some function's last; a single try is not repeated, so it does not count. */
export function firstLastTry(
  functions: ReadonlyMap<string, RegisteredFunction>,
): number | undefined {
  const tries = [...functions.values()].map(({ maxTries }) => maxTries).filter((n) => n > 1);
  return tries.length > 0 ? Math.min(...tries) : undefined;
}

/**
 * Whether jobs may be taken before there is a slot for them. Not where one has a single try, which it
 * would lose with its worker before it began; those of cron jobs come one at a time.
 */
export function mayTakeAhead(functions: ReadonlyMap<string, RegisteredFunction>): boolean {
  return [...functions.values()].every(({ maxTries, isSlot }) => maxTries > 1 || isSlot);
}
