/**
 * What a command is, what it has from the process it runs in, and how it ends.
 * @module
 */
import { type Arguments, type CommandSpec, UsageError } from "./cli_arguments.ts";
import { JobNotFound, JobStateError, ResultNotFound, SettingsError } from "./errors.ts";
import { END_SIGNALS } from "./signals.ts";
import { isTimeout } from "./sleep.ts";

/** What a command has from the process, or the thread, it runs in. */
export interface Host {
  /** Whether the output may have colours. */
  readonly hasColours: boolean;
  /** Whether this is a thread that is replaced when sources change. */
  readonly isReplaceable: boolean;
  /**
   * Aborts when the command is to end, by a signal or an error that nobody awaits; listens from the
   * first call on.
   */
  stopSignal(heedsSignals: boolean): AbortSignal;
  /** Resolves when the worker may take jobs; in a thread, once the one before has ended. */
  mayStart(): Promise<void>;
}

/** A command of the program. */
export interface Command {
  /** What it takes. */
  readonly spec: CommandSpec;
  /** Runs it and resolves with its exit code; `line` is the command line as it was given. */
  readonly run: (args: Arguments, host: Host, line: readonly string[]) => Promise<number>;
}

/** Exit codes; one that a signal ends has 128 and the signal's number. */
export const EXIT = {
  /** It was done. */
  done: 0,
  /** It failed: the store cannot be reached, or something unforeseen. */
  failed: 1,
  /** The command line or the settings cannot be used. */
  usage: 2,
  /** There is no such job. */
  notFound: 3,
  /** The job is not in a state for it. */
  state: 4,
  /** The job that was waited for failed or was aborted. */
  jobFailed: 5,
  /** The time to wait has passed. */
  timeout: 6,
} as const;

/** The exit code of a command that ends in this error. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError || error instanceof SettingsError) return EXIT.usage;
  if (error instanceof JobNotFound || error instanceof ResultNotFound) return EXIT.notFound;
  if (error instanceof JobStateError) return EXIT.state;
  return isTimeout(error) ? EXIT.timeout : EXIT.failed;
}

/** The exit code of a command that `reason`, a signal's name, has cut short. */
export function interruptedCode(reason: unknown): number {
  const number = Object.entries(END_SIGNALS).find(([name]) => name === reason)?.[1];
  return number === undefined ? EXIT.failed : 128 + number;
}
