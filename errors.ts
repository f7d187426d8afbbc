/**
 * The errors a caller may want to catch.
 *
 * A program may hold two copies of the library (one from its own imports, one from the command
 * line), so `instanceof` here goes by a shared brand and works across copies.
 * @module
 */

const BRAND = Symbol.for("@arq/arq/error");

/** Base of every error this library throws on purpose. */
export abstract class ArqError extends Error {
  /** Recognises instances by their brand, also those made by another copy of the library. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (typeof value !== "object" || value === null) return false;
    if (!Object.hasOwn(this.prototype, BRAND)) {
      return Object.prototype.isPrototypeOf.call(this.prototype, value);
    }
    const wanted = Reflect.get(this.prototype, BRAND);
    try {
      for (let proto = Object.getPrototypeOf(value); proto; proto = Object.getPrototypeOf(proto)) {
        if (Object.hasOwn(proto, BRAND) && Reflect.get(proto, BRAND) === wanted) return true;
      }
    } catch {
      // A proxy that lets nobody look at it, such as a revoked one, is none of ours.
    }
    return false;
  }
}

/**
 * No job and no result with this id: never enqueued, expired, or its result was not kept.
 *
 * What to do: keep results for longer (`keepResult`), and name the job's queue where it is not the
 * client's own.
 */
export class ResultNotFound extends ArqError {}

/**
 * There is neither a job nor a result with this id, so that nothing can be done to it.
 *
 * What to do: look at the id and the queue; a result goes when its `keepResult` has passed.
 */
export class JobNotFound extends ArqError {}

/**
 * The job is not in a state for what was asked of it; the message says which state it is in.
 *
 * What to do: abort a job that runs before you remove it; enqueue anew what has not failed.
 */
export class JobStateError extends ArqError {}

/**
 * The job was aborted on request; `result()` throws it.
 *
 * What to do: nothing, somebody wanted it. Enqueue the job again if it is to run after all.
 */
export class JobAborted extends ArqError {}

/**
 * The job ran out of its own time (`timeout`, or the worker's `jobTimeout`).
 *
 * What to do: give it more time by `func(fn, { timeout })`, or cut the work into several jobs. It is
 * not run again by itself.
 */
export class JobTimeoutError extends ArqError {}

/**
 * The job failed without an error of its own: expired, out of tries, or an unknown function.
 *
 * What to do: the message says which. Start more workers or raise `expires`; look in the log for why
 * its tries ended; deploy workers that know a function before clients that enqueue it.
 */
export class JobExecutionFailed extends ArqError {}

/**
 * A value cannot travel to another process; the message names its path.
 *
 * What to do: hand over data instead of functions, symbols and cycles, or an id to look it up by.
 */
export class SerializationError extends ArqError {}

/**
 * Bytes found in the queue cannot be read.
 *
 * What to do: give the same `jobDeserializer` to every client and worker, and let it read what older
 * versions have written.
 */
export class DeserializationError extends SerializationError {}

/**
 * The store cannot be reached, or refuses to serve.
 *
 * What to do: the message says what is wrong with it. The call is not known to have taken effect;
 * with a `jobId` of its own a job can be enqueued again without running twice.
 */
export class QueueConnectionError extends ArqError {
  /** The ids that are known to be accepted, where a list of jobs was enqueued. */
  declare readonly accepted?: readonly string[];

  /** Whether the store answered, and refused; it did not answer otherwise. */
  readonly refused: boolean;

  /** Whether it refused what was sent for its size; all else that is refused may be taken later. */
  readonly tooLarge: boolean;

  /** Takes the message, the cause, the ids of a list that were accepted, and why it was refused. */
  constructor(
    message: string,
    options: {
      readonly cause?: unknown;
      readonly accepted?: readonly string[];
      readonly refused?: boolean;
      readonly tooLarge?: boolean;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    if (options.accepted) this.accepted = options.accepted;
    this.refused = options.refused ?? false;
    this.tooLarge = options.tooLarge ?? false;
  }
}

/**
 * Settings that cannot be used: every problem is listed, each on a line of its own.
 *
 * What to do: each line names the setting, the value and what it should be.
 */
export class SettingsError extends ArqError {
  /** One line a problem: the setting, the value, and what it should be. */
  readonly problems: readonly string[];

  /** Takes what the settings are for, such as "worker settings", and the problems found. */
  constructor(what: string, problems: readonly string[]) {
    super([`Cannot use these ${what}:`, ...problems].join("\n  "));
    this.problems = problems;
  }
}

/**
 * `Worker.runCheck` found failed jobs.
 *
 * What to do: the message lists each job and its error; `jobResults` has them as they were thrown.
 */
export class FailedJobs extends ArqError {
  /** How many jobs failed. */
  readonly count: number;
  /** What is known of each failed job, as far as its result was kept. */
  readonly jobResults: readonly { readonly jobId: string; readonly result: unknown }[];

  /** Takes the number of failed jobs and their results. */
  constructor(count: number, jobResults: FailedJobs["jobResults"]) {
    const errors = jobResults.map(({ jobId, result }) => `${jobId}: ${textOf(result)}`);
    const heading = count === 1 ? "1 job failed" : `${count} jobs failed`;
    super([heading + (errors.length ? ":" : ""), ...errors].join("\n  "));
    this.count = count;
    this.jobResults = jobResults;
  }
}

/** Gives each class its literal name and the brand that `instanceof` goes by. */
export function brandErrors(
  classes: Readonly<Record<string, { readonly prototype: ArqError }>>,
): void {
  for (const [name, { prototype }] of Object.entries(classes)) {
    const hidden = { writable: true, configurable: true, enumerable: false };
    Object.defineProperty(prototype, "name", { ...hidden, value: name });
    Object.defineProperty(prototype, BRAND, { ...hidden, value: name });
  }
}

brandErrors({
  ArqError,
  ResultNotFound,
  JobNotFound,
  JobStateError,
  JobAborted,
  JobTimeoutError,
  JobExecutionFailed,
  SerializationError,
  DeserializationError,
  QueueConnectionError,
  SettingsError,
  FailedJobs,
});

/** An error as text; somebody's own error may even refuse to be one. */
function textOf(value: unknown): string {
  try {
    return String(value);
  } catch {
    return "an error that cannot be shown";
  }
}
