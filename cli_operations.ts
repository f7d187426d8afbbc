/**
 * The frame of the commands for operators: options that all of them have, the connection, the
 * output, and how they end.
 * @module
 */
import type { Arguments, CommandSpec, OptionSpec } from "./cli_arguments.ts";
import { connect, type Connected, CONNECTION_OPTIONS } from "./cli_connection.ts";
import { type Command, EXIT, type Host, interruptedCode } from "./cli_host.ts";
import { reportFailure, setUpLog } from "./cli_log.ts";
import { Output } from "./cli_output.ts";
import { readDuration } from "./cli_quantities.ts";
import { QueueConnectionError } from "./errors.ts";
import { sleep } from "./sleep.ts";

/** What a command for operators works with. */
export interface Operation extends Omit<Connected, symbol> {
  /** What was said on the command line. */
  readonly args: Arguments;
  /** Where it prints. */
  readonly out: Output;
  /** Aborts when it is to end before it is done. */
  readonly stop: AbortSignal;
}

const OUTPUT_OPTIONS: readonly OptionSpec[] = [
  { name: "json", help: "Print one JSON object a line" },
  { name: "verbose", short: "v", help: "Show the log, and whole stacks" },
];

/** Options of commands that look again and again. */
export const WATCH_OPTIONS: readonly OptionSpec[] = [
  { name: "watch", short: "w", help: "Look again and again, until it is stopped" },
  { name: "interval", value: "TIME", help: "How long to wait between two looks: 2s" },
];

/** The epilog of commands on single jobs. */
export const JOB_EXIT_CODES =
  "Exit codes: 0 done, 1 failed, 2 bad usage, 3 no such job, 4 in another state.";
/** The epilog of commands that only look. */
export const LOOK_EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 bad usage.";

const DEFAULT_INTERVAL_MS = 2_000;
const LEAST_INTERVAL_MS = 100;

/**
 * Makes a command of what it does: it gets a client that is connected. What can be said wrongly is
 * read by `prepare`, before anything is connected.
 */
export function operation<T>(
  spec: CommandSpec,
  prepare: (args: Arguments) => T,
  run: (operation: Operation, prepared: T) => Promise<number>,
): Command {
  const options = [...spec.options, ...CONNECTION_OPTIONS, ...OUTPUT_OPTIONS];
  return {
    spec: { ...spec, options },
    async run(args: Arguments, host: Host): Promise<number> {
      const isJson = args.switch("json") ?? false;
      const isVerbose = args.switch("verbose") ?? false;
      const { hasColours } = host;
      const format = isJson ? "json" : "pretty";
      await setUpLog({ format, isVerbose, hasColours: hasColours && !isJson }, "stderr", "warning");
      const prepared = prepare(args);
      const stop = host.stopSignal(true);
      try {
        await using connected = await connect(args, stop);
        const out = new Output({ isJson, hasColours });
        return await run({ ...connected, args, out, stop }, prepared);
      } catch (error) {
        if (!stop.aborted || error !== stop.reason) throw error;
        return interruptedCode(stop.reason);
      }
    },
  };
}

/** How often to look: once, or every so many milliseconds. */
export type Repetition = number | undefined;

/**
 * Reads the options of looking again and again.
 *
 * @throws {UsageError} if the interval is none.
 */
export function readRepetition(args: Arguments): Repetition {
  const ms = readDuration("--interval", args.value("interval"));
  const isRepeated = args.switch("watch") ?? ms !== undefined;
  return isRepeated ? Math.max(ms ?? DEFAULT_INTERVAL_MS, LEAST_INTERVAL_MS) : undefined;
}

/**
 * Looks once, or again and again until it is stopped; resolves with the exit code. A store that is
 * away for a while is told on standard error, and is looked for again.
 */
export async function look(
  { out, stop }: Operation,
  everyMs: Repetition,
  draw: () => Promise<void>,
): Promise<number> {
  if (everyMs === undefined) {
    await draw();
    return EXIT.done;
  }
  await out.picture(draw);
  while (await isToGoOn(everyMs, stop)) {
    try {
      await out.picture(draw);
    } catch (error) {
      if (!(error instanceof QueueConnectionError)) throw error;
      reportFailure(out.isJson ? "json" : "pretty", error.message);
    }
  }
  return EXIT.done;
}

async function isToGoOn(ms: number, stop: AbortSignal): Promise<boolean> {
  try {
    await sleep(ms, stop);
    return true;
  } catch {
    return false; // It was stopped, as one does.
  }
}
