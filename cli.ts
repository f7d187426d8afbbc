#!/usr/bin/env bun
/**
 * The command line.
 *
 * ```sh
 * deno run -A jsr:@arq/arq/cli worker settings.ts          # Deno
 * bun node_modules/@arq/arq/cli.ts worker settings.ts      # Bun
 * ```
 *
 * The settings are a module, with no build step: its default export, its own exports, or the export
 * named after a `#`.
 *
 * ```ts
 * import type { JobContext } from "@arq/arq";
 *
 * export const functions = { double: (_ctx: JobContext, n: number): number => 2 * n };
 * ```
 *
 * The worker ends at SIGINT, SIGTERM or SIGHUP: it claims nothing more, lets jobs run for
 * `jobCompletionWait`, hands the others back, and exits with 0. A second signal, 300 ms later or
 * more, ends it at once.
 * `worker --help` lists the options.
 *
 * An error that nobody awaits ends it in the same way, but with 1: results are recorded, and jobs
 * that run are handed back with their tries, so that no job fails by its neighbour's fault. Nobody
 * knows which job threw, so that one is handed back as well: one that always does so ends the next
 * worker too, until it is aborted or expires.
 *
 * In Deno a worker needs `--allow-net=HOST:PORT` for its store and `--allow-read` for the folder
 * of its settings. `ARQ_URL` is heeded with `--allow-env=ARQ_URL`, `--watch` also needs to read the
 * folders it watches.
 * @module
 */
import { dispose } from "@logtape/logtape";
import process from "node:process";
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { ABORT, ENQUEUE, PAUSE, REMOVE, RESUME, RETRY } from "./cli_actions.ts";
import {
  Arguments,
  checkOperands,
  commandHelp,
  COMMON_OPTIONS,
  programHelp,
  UsageError,
} from "./cli_arguments.ts";
import { type Command, EXIT, exitCodeOf, type Host } from "./cli_host.ts";
import { JOB, JOBS } from "./cli_jobs.ts";
import { type LogFormat, reportFailure, setUpLog, wantsColours } from "./cli_log.ts";
import { ReaderGone } from "./cli_output.ts";
import { locateExport, missingPermission, positionIn } from "./cli_settings.ts";
import { STATS, WORKERS } from "./cli_stats.ts";
import { UI } from "./cli_ui.ts";
import { reloadOnChange, type ThreadOrder } from "./cli_watch.ts";
import { readStyle, runWorkerCommand, WORKER } from "./cli_worker.ts";
import { ArqError } from "./errors.ts";
import { END_SIGNALS } from "./signals.ts";
import { isTimeout } from "./sleep.ts";
import { nearest } from "./validation.ts";

/** The version in the manifests; a test compares them. */
const VERSION = "0.1.0";
const PROGRAM = "arq";

const COMMANDS: readonly Command[] = [
  { spec: WORKER, run: runOrReload },
  ...[STATS, JOBS, JOB, WORKERS],
  ...[ENQUEUE, RETRY, ABORT, REMOVE, PAUSE, RESUME],
  UI,
];

/** How failures are reported; the command's options may change it. */
const report: { format: LogFormat; isVerbose: boolean } = { format: "pretty", isVerbose: false };

/** Follows a command line, without the program's name; resolves with the exit code. */
export function main(line: readonly string[]): Promise<number> {
  return follow(line, { ...processHost, hasColours: wantsColours() });
}

async function follow(line: readonly string[], host: Host): Promise<number> {
  try {
    return await dispatch(line, host);
  } catch (error) {
    return reportError(error);
  } finally {
    await dispose();
  }
}

async function dispatch(line: readonly string[], host: Host): Promise<number> {
  report.format = wantsJson(line) ? "json" : "pretty";
  const [name, ...rest] = line;
  if (name === undefined || name.startsWith("-")) return runProgram(line);
  const command = COMMANDS.find(({ spec }) => spec.name === name);
  if (!command) throw unknownCommand(name);
  const { spec } = command;
  const args = new Arguments(`${PROGRAM} ${name}`, rest, [...spec.options, ...COMMON_OPTIONS]);
  if (args.switch("help")) return print(commandHelp(PROGRAM, spec));
  if (args.switch("version")) return print(`${PROGRAM} ${VERSION}`);
  report.isVerbose = args.switch("verbose") ?? false;
  checkOperands(PROGRAM, spec, args.operands);
  return await command.run(args, host, line);
}

/** Whether failures are to be told in JSON, also that the line cannot be read. */
function wantsJson(line: readonly string[]): boolean {
  const end = line.indexOf("--");
  const words = end < 0 ? line : line.slice(0, end);
  return words.some((word, i) =>
    word === "--json" || word === "--log-format=json" ||
    (word === "--log-format" && words[i + 1] === "json")
  );
}

function runProgram(line: readonly string[]): number {
  const args = new Arguments(PROGRAM, line, COMMON_OPTIONS);
  const help = programHelp(PROGRAM, COMMANDS.map(({ spec }) => spec));
  if (args.switch("help")) return print(help);
  if (args.switch("version")) return print(`${PROGRAM} ${VERSION}`);
  console.error(help);
  return EXIT.usage;
}

function print(text: string): number {
  console.log(text);
  return EXIT.done;
}

function unknownCommand(name: string): UsageError {
  const names = COMMANDS.map(({ spec }) => spec.name);
  const near = nearest(name, names) ?? (/[./#]/.test(name) ? `worker ${name}` : undefined);
  const hint = near === undefined
    ? `the commands are ${names.join(", ")}`
    : `did you mean ${near}?`;
  return new UsageError(`unknown command ${name}; ${hint}`);
}

async function runOrReload(
  args: Arguments,
  host: Host,
  line: readonly string[],
): Promise<number> {
  const folders = args.values("watch");
  if (folders.length === 0 || host.isReplaceable || args.switch("check")) {
    return await runWorkerCommand(args, host);
  }
  await setUpLog(readStyle(args, host.hasColours), "stdout");
  const { argv } = process;
  const data: ThreadData = { arq: "worker", line, argv, hasColours: host.hasColours };
  const settingsUrl = locateExport(args.operands[0] ?? "").url;
  const stop = host.stopSignal(true);
  return await reloadOnChange({ entry: import.meta.url, data, folders, settingsUrl, stop });
}

/** Says why it failed and returns the exit code. */
function reportError(error: unknown): number {
  if (error instanceof ReaderGone) return EXIT.done; // it has read enough
  const details = error instanceof UsageError ? error.details : [];
  const isExpected = error instanceof UsageError || error instanceof ArqError || isTimeout(error);
  const stack = report.isVerbose ? stackOf(error instanceof UsageError ? error.cause : error) : [];
  reportFailure(report.format, isExpected ? headOf(error) : describe(error), [
    ...details,
    ...stack,
  ]);
  return exitCodeOf(error);
}

function headOf(error: Error): string {
  return error.message.replaceAll("\n  ", " ");
}

/** A thrown value in one line: what it is, where it comes from, and the flag that is missing. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return `thrown: ${String(error)}`;
  const position = positionIn(error.stack);
  const flag = missingPermission(error.message);
  return `${error.name}: ${error.message}` + (position === undefined ? "" : ` at ${position}`) +
    (flag === undefined ? "" : `; start Deno with ${flag}`);
}

function stackOf(error: unknown): string[] {
  return error instanceof Error ? (error.stack ?? "").split("\n") : [];
}

/**
 * Of signals, and of errors, a second one ends the program at once, but not within this time after
 * the first: `bunx` passes on a Ctrl-C that the worker has from the terminal already, and one
 * failure often leaves several rejections.
 */
const ECHO_MS = 300;

/** The end of this process or thread: in order at the first reason, at once at the second. */
class Ending {
  readonly #stop = new AbortController();
  #isHeeded = false;
  #signalledAt: number | undefined;
  #failedAt: number | undefined;

  /** Aborts when the end has come; who listens to it ends in order. */
  listen(): AbortSignal {
    this.#isHeeded = true;
    return this.#stop.signal;
  }

  /** Ends because somebody wants it. */
  ask(reason: string): void {
    this.#stop.abort(reason);
  }

  /** Ends because of a signal. */
  onSignal(name: string, number: number): void {
    if (this.#failedAt !== undefined || isPast(this.#signalledAt)) process.exit(128 + number);
    this.#signalledAt ??= performance.now();
    this.ask(name);
  }

  /** Ends because of an error that nobody awaits; at once if there is nothing to end in order. */
  onError(what: string): void {
    if (!this.#isHeeded || isPast(this.#failedAt)) process.exit(1);
    this.#failedAt ??= performance.now();
    this.ask(what);
  }

  /** The exit code of what would end with `code`. */
  codeFor(code: number): number {
    return this.#failedAt === undefined ? code : 1;
  }
}

function isPast(since: number | undefined): boolean {
  return since !== undefined && performance.now() - since > ECHO_MS;
}

const ending = new Ending();

/** The process itself, which is told to end by signals. */
const processHost: Omit<Host, "hasColours"> = {
  isReplaceable: false,
  stopSignal(heedsSignals: boolean): AbortSignal {
    for (const [name, number] of heedsSignals ? Object.entries(END_SIGNALS) : []) {
      process.on(name, () => ending.onSignal(name, number));
    }
    return ending.listen();
  },
  mayStart: () => Promise.resolve(),
};

interface ThreadData {
  readonly arq: "worker";
  readonly line: readonly string[];
  /** The program's own: a thread's tells nothing of the program. */
  readonly argv: string[];
  readonly hasColours: boolean;
}

/** A thread of `--watch`: it says that it is loaded, and is told when to start and to end. */
function threadHost(hasColours: boolean): Host {
  const started = Promise.withResolvers<void>();
  parentPort?.on("message", (order: ThreadOrder) => {
    if (order.kind === "start") started.resolve();
    else ending.ask(order.reason);
  });
  return {
    hasColours,
    isReplaceable: true,
    stopSignal: () => ending.listen(),
    mayStart() {
      parentPort?.postMessage("loaded");
      return started.promise;
    },
  };
}

/** Errors that nobody awaits end the program: what state it is in is not known any more. */
function endOnUncaught(): void {
  const endFor = (what: string) => (error: unknown) => {
    const stack = report.isVerbose ? stackOf(error) : [];
    reportFailure(report.format, `it ends because of an ${what}: ${describe(error)}`, stack);
    ending.onError(what);
  };
  process.on("uncaughtException", endFor("uncaught exception"));
  process.on("unhandledRejection", endFor("unhandled rejection"));
}

function isThread(data: unknown): data is ThreadData {
  return !isMainThread && typeof data === "object" && data !== null && "arq" in data;
}

// In a thread, Deno's import.meta.main is true as well.
if (isThread(workerData)) {
  endOnUncaught();
  process.argv = workerData.argv;
  const code = await follow(workerData.line, threadHost(workerData.hasColours));
  process.exit(ending.codeFor(code));
} else if (import.meta.main) {
  endOnUncaught();
  const code = await main(process.argv.slice(2));
  process.exit(ending.codeFor(code));
}
