/**
 * What a worker logs: the lines people read, with the facts as properties for machines.
 *
 * Nothing is composed unless somebody listens.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { displayValue, escapeUnsafe } from "./display.ts";
import { JobExecutionFailed } from "./errors.ts";
import type { JobOutcome } from "./functions.ts";
import type { JobRun } from "./job_run.ts";
import { pluralText } from "./quantities.ts";
import type { Settled } from "./store.ts";
import { curtail, show } from "./validation.ts";

/** What a worker counts. */
export interface Counters {
  /** Jobs whose function returned. */
  jobsComplete: number;
  /** Jobs that failed for good or were aborted. */
  jobsFailed: number;
  /** Tries that ended in a retry or a hand-back. */
  jobsRetried: number;
}

const logger = getLogger(["arq", "worker"]);
/** Arguments and results are cut at this many characters. */
const SHOWN = 80;

/**
 * Logs a finished text as one line, so that no payload writes lines of its own; braces in it are no
 * placeholders.
 */
function write(
  level: "info" | "warning" | "error",
  text: string,
  properties: Record<string, unknown>,
): void {
  logger[level](escapeUnsafe(text).replaceAll("{", "{{").replaceAll("}", "}}"), properties);
}

function seconds(ms: number): string {
  return (ms / 1_000).toFixed(2);
}

function padded(ms: number): string {
  return seconds(ms).padStart(6);
}

/** A value in at most 80 characters. */
function shown(value: unknown): string {
  return displayValue(value, { limit: SHOWN });
}

function argumentsOf(run: JobRun): string {
  const named = Object.entries(run.record.k).map(([key, value]) => `${key}=${shown(value)}`);
  return curtail([...run.record.a.map(shown), ...named].join(", "), SHOWN);
}

/** How a job is called in the log; a slot's id has the function's name in it already. */
function refOf(run: JobRun): string {
  return run.fn?.isSlot ? run.record.f : `${run.claim.jobId}:${run.record.f}`;
}

function propertiesOf(run: JobRun, event: string): Record<string, unknown> {
  return {
    event,
    jobId: run.claim.jobId,
    function: run.record.f,
    try: run.jobTry,
    durationMs: Math.round(performance.now() - run.since),
  };
}

/** The lines of a worker's log. */
export const log = {
  /** The worker is about to start. */
  starting(functions: Iterable<string>): void {
    const names = [...functions];
    const count = pluralText(names.length, "function");
    write("info", `Starting worker for ${count}: ${names.join(", ")}`, {
      event: "starting",
      functions: names,
    });
  },

  /**
   * The line about the store and what is wrong with its set-up; and which one it is, and which queue,
   * for whoever wonders why a job is not run.
   */
  store(
    { info, warning }: { readonly info: string; readonly warning?: string },
    address: string,
    queueName: string,
  ): void {
    const properties = { event: "store", store: address, queueName };
    write("info", `${info} store=${address} queue=${queueName}`, properties);
    if (warning !== undefined) write("warning", warning, properties);
  },

  /** The queue is paused as the worker starts: whoever wonders why nothing runs is told. */
  paused(queueName: string): void {
    const text = `The queue ${show(queueName)} is paused: nothing is run until it is resumed`;
    write("warning", text, { event: "paused", queueName });
  },

  /** A try begins; `now` is the store's time, for the worker's own clock may be wrong. */
  started(run: JobRun, now: number = run.startMs): void {
    if (!logger.isEnabledFor("info")) return;
    const waitedMs = now - run.record.et;
    const delayMs = now - Number(run.claim.score);
    const tries = run.jobTry > 1 ? ` try=${run.jobTry}` : "";
    const delayed = delayMs > 1_200 ? ` delayed=${seconds(delayMs)}s` : "";
    const call = `${refOf(run)}(${argumentsOf(run)})`;
    write("info", `${padded(waitedMs)}s → ${call}${tries}${delayed}`, {
      ...propertiesOf(run, "started"),
      durationMs: undefined,
      waitedMs,
      delayMs,
    });
  },

  /** A try has ended. */
  ended(run: JobRun, outcome: JobOutcome, logResults: boolean): void {
    const level = outcome.kind === "failure" ? "error" : "info";
    if (!logger.isEnabledFor(level)) return;
    const t = `${padded(performance.now() - run.since)}s`;
    const ref = refOf(run);
    const line = (text: string, more: Record<string, unknown> = {}) =>
      write(level, `${t} ${text}`, { ...propertiesOf(run, outcome.kind), ...more });
    switch (outcome.kind) {
      case "success": {
        const isShown = logResults && outcome.value !== undefined && outcome.value !== null;
        return line(`← ${ref} ●${isShown ? ` ${shown(outcome.value)}` : ""}`);
      }
      case "failure":
        return line(`! ${ref} failed, ${errorText(outcome.error)}`, { error: outcome.error });
      case "retry": {
        const { delayMs = 0, cause } = outcome;
        const why = cause === undefined ? "" : `, ${errorText(cause)}`;
        return line(`↻ ${ref} retrying job in ${seconds(delayMs)}s${why}`, { delayMs, cause });
      }
      case "aborted":
        return line(`⊘ ${ref} ${run.ctx ? "aborted" : "aborted before start"}`);
      case "released":
        return line(`↻ ${ref} cancelled, will be run again`);
      case "lost":
        return line(`↻ ${ref} lost its lease, another worker has it`);
    }
  },

  /** An end was not recorded as it was meant. */
  settled(run: JobRun, settled: Settled): void {
    if (settled === "done") return;
    const text = settled === "refused"
      ? `${refOf(run)} had lost its lease: its end is not recorded`
      : `${refOf(run)} expires before it is to be retried`;
    write("warning", text, propertiesOf(run, settled));
  },

  /** A function did not heed its signal. */
  abandoned(run: JobRun): void {
    const isKilled = run.fn?.isolate !== undefined;
    const end = isKilled ? "its process is killed" : "it is abandoned; let it heed ctx.signal";
    const text = `${refOf(run)} goes on although it was told to stop: ${end}`;
    write("warning", text, propertiesOf(run, isKilled ? "killed" : "abandoned"));
  },

  /** Ends could not be recorded before the worker had to end. */
  unrecorded(runs: readonly JobRun[], error: unknown): void {
    for (const run of runs) {
      const text = `${refOf(run)} could not be recorded and will be run again: ${errorText(error)}`;
      write("error", text, propertiesOf(run, "unrecorded"));
    }
  },

  /** What a function told of its progress cannot travel. */
  progressUnreadable(run: JobRun, error: unknown): void {
    const text = `${refOf(run)} told of a progress that cannot be sent: ${errorText(error)}`;
    write("warning", text, { ...propertiesOf(run, "progress"), error });
  },

  /** The store did not take what jobs told of their progress. */
  progressLost(error: unknown): void {
    write("warning", `Cannot tell the progress of jobs: ${errorText(error)}`, {
      event: "progress",
      error,
    });
  },

  /** A hook threw. */
  hookFailed(name: string, error: unknown): void {
    write("error", `${name} failed, ${errorText(error)}`, { event: "hook", hook: name, error });
  },

  /** The store did not answer; the worker tries again. */
  storeFailed(what: string, error: unknown): void {
    write("warning", `Cannot ${what}, trying again: ${errorText(error)}`, {
      event: "store",
      error,
    });
  },

  /** The worker was told to stop. */
  stopping(reason: string, counters: Counters, ongoing: number, waitMs: number): void {
    const { jobsComplete, jobsFailed, jobsRetried } = counters;
    const wait = waitMs > 0 ? `to finish within ${seconds(waitMs)}s` : "to cancel";
    const text = `shutdown on ${reason} ◆ ${jobsComplete} jobs complete ◆ ${jobsFailed} failed ` +
      `◆ ${jobsRetried} retries ◆ ${ongoing} ongoing ${wait}`;
    // Whoever counts may have more about it than the counts, the state of the user's among it.
    write("info", text, { event: "stopping", jobsComplete, jobsFailed, jobsRetried, ongoing });
  },

  /** The sign of life was written. */
  health(text: string): void {
    write("info", `recording health: ${text}`, { event: "health" });
  },
};

function errorText(error: unknown): string {
  try {
    // Of a job that is out of tries: why it asked for another.
    const { cause } = error instanceof JobExecutionFailed ? error : {};
    return cause === undefined ? nameOf(error) : `${nameOf(error)}, ${nameOf(cause)}`;
  } catch {
    return "an error that cannot be shown"; // A getter or a proxy of somebody else's object threw.
  }
}

function nameOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : shown(error);
}
