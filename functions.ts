/**
 * What a worker's author writes with: the job's context, `func` for a function with options, and
 * `Retry` to run a job again later.
 * @module
 */
import type { ArqClient } from "./client.ts";
import { type Duration, durationMs } from "./duration.ts";
import { ArqError, brandErrors } from "./errors.ts";
import type { IsolateOptions } from "./isolate_options.ts";
import type { UntypedFunction } from "./typed_names.ts";
import { checkOptions } from "./validation.ts";

/** Logs for one job; a text in braces stands for the property of that name. */
export interface JobLogger {
  /** Logs what only developers want to know. */
  debug(message: string, properties?: Record<string, unknown>): void;
  /** Logs what happens. */
  info(message: string, properties?: Record<string, unknown>): void;
  /** Logs what may need a look. */
  warn(message: string, properties?: Record<string, unknown>): void;
  /** Logs what went wrong. */
  error(message: string, properties?: Record<string, unknown>): void;
}

/** What every function is told about the job it runs. */
export interface JobMeta {
  /** The job's id. */
  readonly jobId: string;
  /** Which start of the job this is, from 1; a start that ended in a hand-back counts too. */
  readonly jobTry: number;
  /** When the job was enqueued, by the clock of the program that enqueued it. */
  readonly enqueueTime: Date;
  /** When the job was due, in epoch milliseconds. */
  readonly score: number;
  /** The name the job was enqueued under. */
  readonly functionName: string;
  /** The queue the job was taken from. */
  readonly queueName: string;
  /** Aborts when the job is aborted, runs out of time, loses its lease or the worker stops. */
  readonly signal: AbortSignal;
  /**
   * A client on the worker's connection, to enqueue further jobs: to the worker's queue, or to the
   * default one of the pool that `connection` is. It takes any name and arguments;
   * `ctx.arq as ArqClient<typeof functions>` has them checked.
   */
  readonly arq: ArqClient;
  /** Keyword arguments, as Python programs or the `kwargs` option pass them. */
  readonly kwargs: Readonly<Record<string, unknown>>;
  /** Logs with LogTape under `["arq", "job"]`, with the job's id and function attached. */
  readonly logger: JobLogger;
  /**
   * Tells those who watch the job how far it is, by any value that can travel.
   *
   * It may be called as often as one likes: it only notes the value. At most ten times a second,
   * and before the job's end is recorded, the last one is sent as it is then. Whatever goes wrong
   * with that is logged, and never harms the job.
   */
  readonly progress: (value: unknown) => void;
}

/** The fields that the worker's state must not have. */
export const CONTEXT_FIELDS: readonly (keyof JobMeta)[] = [
  "jobId",
  "jobTry",
  "enqueueTime",
  "score",
  "functionName",
  "queueName",
  "signal",
  "arq",
  "kwargs",
  "logger",
  "progress",
];

/**
 * A function's first parameter: {@linkcode JobMeta} and what `onStartup` put on the context.
 *
 * @example
 * ```ts
 * import type { JobContext } from "@arq/arq";
 *
 * interface State {
 *   greeting: string;
 * }
 * type Ctx = JobContext<State>;
 *
 * export function greet(ctx: Ctx, name: string): string {
 *   return `${ctx.greeting}, ${name}, on try ${ctx.jobTry}`;
 * }
 * ```
 */
export type JobContext<State = unknown> = JobMeta & State;

/**
 * The context of a function that runs in a process of its own; see the option `isolate` of
 * {@linkcode func}. The worker's client and what `onStartup` made stay with the worker.
 */
export type IsolatedContext = Omit<JobMeta, "arq">;

/** A function that jobs run: the context first, then the job's arguments. */
export type JobFunction<State = never> = (
  ctx: [State] extends [never] ? never : JobContext<State>,
  ...args: never[]
) => unknown;

/** Options of one function; each overrides the worker's setting for it. */
export interface FuncOptions {
  /** Name to register under in a list of functions. @default the function's own name */
  readonly name?: string;
  /** How long to keep results: milliseconds, a duration object or `"forever"`; 0 keeps none. @default the worker's `keepResult` */
  readonly keepResult?: Duration | "forever";
  /** How long one try may take: milliseconds or a duration object. @default the worker's `jobTimeout` */
  readonly timeout?: Duration;
  /** How often a job may be started before it fails for good; 1 means no retry. @default the worker's `maxTries` */
  readonly maxTries?: number;
  /**
   * Whether to run it in processes of its own, which hold up nothing and can be killed; options say
   * how. For module specifiers only. It gets an {@linkcode IsolatedContext}, which has no `arq` and
   * nothing of the worker's state.
   * @default false
   */
  readonly isolate?: boolean | IsolateOptions;
}

/** A function with options, made by {@linkcode func}. */
export interface Func<F extends JobFunction = JobFunction> {
  /** The function, or a module specifier such as `file:///app/tasks.ts#resize`. */
  readonly fn: F | string;
  /** The options given to `func`. */
  readonly options: FuncOptions;
}

/**
 * Imports the function from a module when its first job runs. Without its type as a type argument
 * the compiler lets every argument pass; with it, it checks them.
 *
 * @example
 * ```ts
 * import { func } from "@arq/arq";
 *
 * export const functions = {
 *   shrink: func("file:///srv/app/images.ts#shrink"),
 *   resize: func<(ctx: unknown, width: number) => number>("file:///srv/app/images.ts#resize"),
 * };
 * ```
 */
export function func( // Of no type parameter, which settings around it would infer as no arguments.
  specifier: string,
  options?: FuncOptions,
): Func<UntypedFunction>;
/**
 * Attaches options to a function.
 *
 * A module specifier in place of the function is imported when its first job runs: an absolute
 * URL or a package name, `#` and the export's name (the default export without it). Use
 * `import.meta.resolve` for a path relative to your own module.
 *
 * With the option `isolate` such a function runs in a process of its own: it may compute for long
 * without holding up the worker, and is killed if it does not heed its signal.
 *
 * The options are checked by the worker that the function is given to.
 *
 * @example
 * ```ts
 * import { func, type JobContext } from "@arq/arq";
 *
 * const resize = (_ctx: JobContext, width: number): number => width / 2;
 *
 * export const functions = {
 *   resize: func(resize, { timeout: { minutes: 2 }, maxTries: 3 }),
 * };
 * ```
 */
export function func<F extends JobFunction>(
  fn: F | string, // Either, for the compiler tells of the last signature: that the option is wrong.
  options?: FuncOptions,
): Func<F>;
export function func(fn: JobFunction | string, options: FuncOptions = {}): Func {
  if (typeof fn !== "function" && typeof fn !== "string") {
    throw new TypeError(`func takes a function or a module specifier, got ${typeof fn}`);
  }
  return { fn, options };
}

/**
 * Takes a module specifier apart: what to import, and the export's name, which follows its last `#`;
 * without one it is the default export.
 */
export function splitSpecifier(
  specifier: string,
): { readonly path: string; readonly name: string } {
  const [, path = "", name = ""] = /^(.*?)(?:#([^#]*))?$/s.exec(specifier) ?? [];
  return { path, name: name || "default" };
}

/** Throws why a module cannot be loaded; what Bun cannot parse does not say by itself where it is. */
export function throwWithPosition(error: unknown): never {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  if (!(first instanceof Error) || first.name !== "BuildMessage") throw error;
  const { position } = first as Error & { readonly position?: Readonly<Record<string, unknown>> };
  if (!position) throw error;
  const { file, line, column } = position;
  throw new SyntaxError(`${first.message} at ${file}:${line}:${column}`);
}

/** Options of {@linkcode Retry}. */
export interface RetryOptions {
  /** How long to wait before the next try: milliseconds or a duration object. @default at once, in its old place in the queue */
  readonly defer?: Duration;
  /** What made the retry necessary; it is logged. */
  readonly cause?: unknown;
}

/**
 * Thrown by a function to have its job run again, unless it is out of tries: then the job fails
 * with a {@linkcode JobExecutionFailed}.
 *
 * @example
 * ```ts
 * import { type JobContext, Retry } from "@arq/arq";
 *
 * export async function download(ctx: JobContext, url: string): Promise<number> {
 *   const response = await fetch(url, { signal: ctx.signal });
 *   if (response.status === 503) throw new Retry({ defer: { seconds: ctx.jobTry * 5 } });
 *   return (await response.text()).length;
 * }
 * ```
 */
export class Retry extends ArqError {
  /** Milliseconds to wait before the next try; undefined runs it again in its old place. */
  readonly deferMs: number | undefined;

  /**
   * Takes the delay before the next try.
   *
   * @throws {TypeError | RangeError} if an option is unknown, or `defer` is not a duration of 0 or more.
   */
  constructor(options: RetryOptions = {}) {
    if (options instanceof Error) { // it has no options of its own, and would be lost
      const rule = "Retry takes an error as its cause: { cause: error }";
      throw new TypeError(`${rule}, got the error itself`, { cause: options });
    }
    checkOptions("Retry", "{ defer: { seconds: 5 } }", options, ["defer", "cause"]);
    const deferMs = options.defer === undefined
      ? undefined
      : durationMs("Retry: defer", options.defer);
    super(deferMs === undefined ? "retry" : `retry in ${deferMs / 1000} s`, {
      cause: options.cause,
    });
    this.deferMs = deferMs;
  }
}
brandErrors({ Retry });

/**
 * How a try ended.
 *
 * - `success`: the function returned `value`.
 * - `failure`: the job ends with `error`.
 * - `retry`: it runs again, after `delayMs` or in its old place in the queue.
 * - `aborted`: somebody asked for its end.
 * - `released`: the worker stops; the job goes back and the try does not count.
 * - `lost`: another worker has it by now; nothing is recorded.
 */
export type JobOutcome =
  | { readonly kind: "success"; readonly value: unknown }
  | { readonly kind: "failure"; readonly error: unknown }
  | { readonly kind: "retry"; readonly delayMs: number | undefined; readonly cause: unknown }
  | { readonly kind: "aborted"; readonly error: Error }
  | { readonly kind: "released" }
  | { readonly kind: "lost" };
