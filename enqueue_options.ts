/**
 * What may be said when a job is enqueued, and the check of it.
 * @module
 */
import type { Duration, Instant } from "./duration.ts";
import { RESULT_EXAMPLE, RESULT_KEYS, type ResultOptions } from "./job_results.ts";
import {
  checkKeys,
  checkName,
  checkOptionsObject,
  isCount,
  isOptions,
  isPlain,
  show,
} from "./validation.ts";

/** Options of `ArqClient.enqueueJob`. */
export interface EnqueueOptions {
  /** An id of your own: as long as its job or result exists, no other job gets it. @default a new id that nobody can guess */
  readonly jobId?: string;
  /** The queue. @default the pool's `defaultQueueName` */
  readonly queueName?: string;
  /** When to run it: a `Date`, a `Temporal.Instant` or epoch milliseconds. @default now */
  readonly deferUntil?: Instant;
  /** How long to wait before it is run: milliseconds or a duration object. @default 0 */
  readonly deferBy?: Duration;
  /** Do not start or retry it later than this after now, more than `deferBy`: milliseconds or a duration object. @default due time plus `expiresExtra` */
  readonly expires?: Duration;
  /** The number its tries begin with, for a job that enqueues itself anew. @default 1 */
  readonly jobTry?: number;
  /** Keyword arguments for a Python function; a TypeScript one finds them in `ctx.kwargs`. */
  readonly kwargs?: Readonly<Record<string, unknown>>;
}

/** Options of `ArqClient.call`: those of enqueueing and of waiting. */
export interface CallOptions extends EnqueueOptions, ResultOptions {}

const ENQUEUE_KEYS = [
  "jobId",
  "queueName",
  "deferUntil",
  "deferBy",
  "expires",
  "jobTry",
  "kwargs",
] as const satisfies readonly (keyof EnqueueOptions)[];

/** The options of a method that enqueues. */
export interface OptionsSpec {
  /** The method's name, for errors. */
  readonly method: string;
  /** What they may look like, for errors. */
  readonly example: string;
  /** Those that there are. */
  readonly keys: readonly string[];
}

/** Those of `enqueueJob`. */
export const ENQUEUE: OptionsSpec = {
  method: "enqueueJob",
  example: "{ deferBy: { seconds: 5 } }",
  keys: ENQUEUE_KEYS,
};

/** Those of `call`. */
export const CALL: OptionsSpec = {
  method: "call",
  example: RESULT_EXAMPLE,
  keys: [...ENQUEUE_KEYS, ...RESULT_KEYS],
};

/**
 * Checks the arguments and options of a job; dates and durations are checked where they are read.
 *
 * @throws {TypeError | RangeError} if one is unknown or has a bad value.
 */
export function checkEnqueueOptions(
  args: readonly unknown[],
  options: EnqueueOptions,
  { method, example, keys }: OptionsSpec,
): void {
  if (!Array.isArray(args)) throw new TypeError(`arguments must be a list, got ${show(args)}`);
  checkOptionsObject(method, example, options, keys);
  const [problem] = checkKeys(options, keys);
  if (problem !== undefined) throw new TypeError(problem);
  const { jobId, queueName, deferUntil, deferBy, jobTry, kwargs } = options;
  if (deferUntil !== undefined && deferBy !== undefined) {
    throw new TypeError("deferUntil and deferBy exclude each other; give one of them");
  }
  checkName("jobId", jobId);
  checkName("queueName", queueName);
  if (jobTry !== undefined && !isCount(jobTry)) {
    throw new RangeError(`jobTry must be a whole number of 1 or more, got ${show(jobTry)}`);
  }
  if (kwargs !== undefined && !(isOptions(kwargs) && isPlain(kwargs))) {
    throw new TypeError(`kwargs must be a plain object, got ${show(kwargs)}`);
  }
}
