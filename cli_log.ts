/**
 * What the command line prints: the log for people or for machines, and why a command failed.
 * @module
 */
import { configure, type LogLevel, type LogRecord } from "@logtape/logtape";
import process from "node:process";
import { inspect } from "node:util";
import { type Colour, painted } from "./cli_tables.ts";
import { displayJson, displayValue, escapeUnsafe } from "./display.ts";
import { ArqError } from "./errors.ts";

/** Lines for people, or one JSON object a line for machines. */
export type LogFormat = "pretty" | "json";

/** How the log is to look. */
export interface LogStyle {
  /** For whom. */
  readonly format: LogFormat;
  /** Whether debug lines are shown. */
  readonly isVerbose: boolean;
  /** Whether lines have colours. */
  readonly hasColours: boolean;
  /** Time zone of the times people read; the system's without it. */
  readonly timezone?: string;
}

/** Whether to use colours: on a terminal only, and never with NO_COLOR. */
export function wantsColours(): boolean {
  const deno = Reflect.get(globalThis, "Deno") as { readonly noColor: boolean } | undefined;
  const isForbidden = deno ? deno.noColor : Boolean(process.env.NO_COLOR);
  return process.stdout.isTTY === true && !isForbidden;
}

/**
 * Sends the log lines of this process from level `least` on to the console: standard output, or
 * error for `stderr`.
 */
export async function setUpLog(
  style: LogStyle,
  stream: "stdout" | "stderr",
  least: LogLevel = "info",
): Promise<void> {
  const format = style.format === "json" ? formatJson : prettyFormatter(style);
  const print = stream === "stdout" ? console.log : console.error;
  await configure({
    reset: true,
    sinks: { console: (record) => print(format(record)) },
    loggers: [
      { category: [], sinks: ["console"], lowestLevel: style.isVerbose ? "debug" : least },
      { category: ["logtape", "meta"], lowestLevel: "warning" },
    ],
  });
}

/**
 * Hides user names and passwords of every connection string in `text`, and of other addresses, whose
 * paths may have an @ as those of JSR do.
 */
export function hideSecrets(text: string): string {
  return text.replace(/(?<![a-z+])(https?:\/\/)[^\s"'`/?#]*@/gi, "$1***@")
    .replace(/(?<![a-z+])((?!https?:)[a-z+]+:\/\/)[^\s"'`]*@/gi, "$1***@")
    .replace(/(\bsentinelPassword=)[^\s"'`&]*/g, "$1***");
}

/** Says on standard error why a command failed: one line, and what there is more on lines of its own. */
export function reportFailure(
  format: LogFormat,
  message: string,
  details: readonly string[] = [],
): void {
  const text = hideSecrets(message);
  const more = details.map(hideSecrets);
  if (format === "pretty") {
    return console.error(
      [`arq: ${oneLine(text)}`, ...more.map((line) => `  ${oneLine(line)}`)].join("\n"),
    );
  }
  const facts = more.length > 0 ? { details: more } : {};
  const head = { time: new Date().toISOString(), level: "fatal", event: "failed" };
  console.error(displayJson({ ...head, ...facts, message: text }));
}

type Formatter = (record: LogRecord) => string;

/** Lines as in the manual of arq: the time, then the text; a function's error with its stack below. */
function prettyFormatter({ hasColours, timezone }: Omit<LogStyle, "format">): Formatter {
  const clock = clockOf(timezone);
  return (record) => {
    const time = `${clock(record.timestamp)}:`;
    const text = indented(`${originOf(record)}${textOf(record)}`);
    const stack = stackOf(record);
    if (!hasColours) return `${time} ${text}${stack}`;
    const colour = colourOf(record);
    return `${painted("dim", time)} ${colour ? painted(colour, text) : text}${stack}`;
  };
}

const COLOURS: Readonly<Record<string, Colour>> = {
  started: "cyan",
  success: "green",
  retry: "yellow",
  released: "yellow",
  lost: "yellow",
  aborted: "yellow",
};

function colourOf({ level, properties: { event } }: LogRecord): Colour | undefined {
  if (level === "warning") return "yellow";
  if (level === "error" || level === "fatal") return "red";
  return level === "info" ? COLOURS[String(event)] : "dim";
}

/** `12:42:38`, worked out once a second. */
function clockOf(timeZone: string | undefined): (timestamp: number) => string {
  const format = new Intl.DateTimeFormat("en-GB", {
    timeStyle: "medium",
    hourCycle: "h23",
    timeZone,
  });
  let second = NaN;
  let text = "";
  return (timestamp) => {
    const now = Math.floor(timestamp / 1_000);
    if (now !== second) text = format.format(now * 1_000);
    second = now;
    return text;
  };
}

/** Who says it, where that is not the worker itself. */
function originOf({ category, properties: { jobId, function: name } }: LogRecord): string {
  if (category[0] !== "arq") return `[${category.join(".")}] `;
  return category[1] === "job" ? `${jobId}:${name} ` : "";
}

function textOf({ message }: LogRecord): string {
  return message.map((part) => typeof part === "string" ? part : inspect(part)).join("");
}

function oneLine(text: string): string {
  return escapeUnsafe(text.replace(/[\t\n\v\f\r]+/g, " ").trimEnd());
}

/** Further lines of a text are indented, so that no data of a job can pass for a log line. */
function indented(text: string): string {
  return text.split(/\r?\n/).map(oneLine).join("\n    ");
}

/** Frames between a worker and the function it calls, but for the bracket that opens its fields. */
const OWN_FRAMES =
  /\n +at .*(?:\b(?:execution|job_run|job_loop|within \([^()]*telemetry)\.ts:\d|new Promise \(|processTicksAndRejections).*?( \{)?$/gm;

/**
 * The stack of an error that a user's function or hook threw, without what the text says already.
 * Errors of this library say all in their message.
 */
function stackOf({ properties: { error, event } }: LogRecord): string {
  const isOfUser = event === "failure" || event === "hook";
  if (!isOfUser || !(error instanceof Error) || error instanceof ArqError) return "";
  try {
    const head = `${error.name}: ${error.message}`;
    const text = inspect(error);
    const rest = text.startsWith(head) ? text.slice(head.length) : `\n${text}`;
    return indented(rest.replace(OWN_FRAMES, "$1"));
  } catch {
    return ""; // A getter of somebody else's object threw.
  }
}

/** One JSON object: the time and the level first, the text last. */
function formatJson(record: LogRecord): string {
  const { timestamp, level, category, properties } = record;
  const head = { time: new Date(timestamp).toISOString(), level, logger: category.join(".") };
  const line = (facts: object) =>
    displayJson({ ...head, ...facts, ...head, message: textOf(record) });
  try {
    return line(properties);
  } catch {
    const shown = Object.entries(properties).map(([key, value]) => [key, displayValue(value)]);
    return line(Object.fromEntries(shown));
  }
}
