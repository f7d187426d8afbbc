/**
 * Schedules: functions that a worker enqueues by itself, and the pure arithmetic behind them.
 *
 * **Weekdays count differently in the two forms.** In fields, as in Python's arq, 0 is Monday and
 * 6 is Sunday; in a cron string, as everywhere else, 0 and 7 are Sunday and 1 is Monday. Names
 * (`mon`, `tue`, `wed`, `thu`, …) mean the same in both; fields take Python's `tues` and `thurs` too.
 *
 * **When clocks change** in the schedule's time zone:
 * - A wall-clock time that occurs twice runs once, at its first occurrence. A job that runs every
 *   few minutes therefore rests for that hour; `timezone: "UTC"` has no such hour.
 * - A wall-clock time that is left out is moved to the moment the clock has jumped to, if the
 *   schedule has one single hour, minute and second; otherwise that run is skipped.
 *
 * @module
 */
import { Cron } from "croner";
import { type Duration, durationMs, instantMs, keepMs } from "./duration.ts";
import { type FuncOptions, type JobContext, splitSpecifier } from "./functions.ts";
import type { IsolateOptions } from "./isolate_options.ts";
import {
  checkKeys,
  checkName,
  checkOptionsObject,
  isCount,
  isOptionsObject,
  isTimeZone,
  show,
  systemTimeZone,
} from "./validation.ts";

/** A weekday as in a cron string, or as Python's arq spells it. */
export type WeekdayName =
  | ("mon" | "tue" | "wed" | "thu" | "fri" | "sat" | "sun")
  | ("tues" | "thurs");

/** One allowed value, or a list or Set of them. */
export type CronField<Value = number> = Value | Iterable<Value>;

/** The time zone a schedule is read in. */
export interface CronZone {
  /** IANA name such as `Europe/London`. @default the worker's `timezone`, else the system's */
  readonly timezone?: string;
}

/** When to run, field by field; all fields given must match, and an absent field matches any. */
export interface CronFields extends CronZone {
  /** 1 to 12. @default any */
  readonly month?: CronField;
  /** Day of the month, 1 to 31. @default any */
  readonly day?: CronField;
  /** 0 (Monday) to 6 (Sunday), or names; a cron string counts from Sunday. @default any */
  readonly weekday?: CronField<number | WeekdayName>;
  /** 0 to 23. @default any */
  readonly hour?: CronField;
  /** 0 to 59. @default any */
  readonly minute?: CronField;
  /** 0 to 59; for every second give the string `"* * * * * *"`. @default 0 */
  readonly second?: CronField;
  /** 0 to 999; not 0, since the world is busiest at the top of a second. @default 123 */
  readonly millisecond?: CronField;
}

/** When to run, as a cron string. */
export interface CronPattern extends CronZone {
  /**
   * Minute, hour, day, month, weekday, or the same with the second in front. `L`, `W`, `#` and
   * nicknames such as `@daily` work as in croner. Weekdays: 0 and 7 are Sunday, 1 is Monday.
   */
  readonly pattern: string;
  /** 0 to 999. @default 123 */
  readonly millisecond?: CronField;
}

/** What {@linkcode nextCron} reads: fields or a cron string. */
export type CronSchedule = CronFields | CronPattern;

/** Options of a cron job that don't say when it runs, and the time zone. */
export interface CronJobOptions extends CronZone {
  /** Name its jobs are enqueued under. @default "cron:" and the function's own name */
  readonly name?: string;
  /** Enqueue once when a worker starts, too. @default false */
  readonly runAtStartup?: boolean;
  /** Run once per slot, however many workers there are; otherwise once per worker. @default true */
  readonly unique?: boolean;
  /** One id for every job, also across schedules: none starts while another has it. @default the name and the slot */
  readonly jobId?: string;
  /** How long one try may take: milliseconds or a duration object. @default the worker's `jobTimeout` */
  readonly timeout?: Duration;
  /** How long to keep results: milliseconds, a duration object or `"forever"`; 0 keeps none. @default 0 */
  readonly keepResult?: Duration | "forever";
  /** How often a job may be started before it fails for good. @default 1 */
  readonly maxTries?: number;
  /** As in `func`: run it in processes of its own. @default false */
  readonly isolate?: boolean | IsolateOptions;
}

/** Everything {@linkcode cron} takes in one object. */
export interface CronOptions extends CronFields, CronJobOptions {}

/** A function that a worker runs on a schedule, made by {@linkcode cron}; fits `Func`. */
export interface CronJob<State = never> {
  /** The name its jobs are enqueued under, `cron:report` for a function `report`. */
  readonly name: string;
  /** The function, or a module specifier such as `file:///app/tasks.ts#report`. */
  readonly fn: ((ctx: JobContext<State>) => unknown) | string;
  /** `timeout`, `keepResult`, `maxTries` and `isolate`, defaults filled in. */
  readonly options: FuncOptions;
  /** When it runs, as {@linkcode nextCron} takes it; fields have become a cron string. */
  readonly schedule: CronPattern;
  /** Whether a slot runs once, however many workers there are. */
  readonly unique: boolean;
  /** Id of every job; undefined if each slot has its own. */
  readonly jobId: string | undefined;
  /** Whether it is enqueued when a worker starts, too. */
  readonly runAtStartup: boolean;
}

/** What {@linkcode cron} takes besides a schedule. */
const JOB_KEYS = [
  "name",
  "runAtStartup",
  "unique",
  "jobId",
  "timeout",
  "keepResult",
  "maxTries",
  "isolate",
] as const satisfies readonly (keyof CronJobOptions)[];

type FieldName = Exclude<keyof CronFields, "timezone">;

const RANGES: Readonly<Record<FieldName, readonly [min: number, max: number]>> = {
  month: [1, 12],
  day: [1, 31],
  weekday: [0, 6],
  hour: [0, 23],
  minute: [0, 59],
  second: [0, 59],
  millisecond: [0, 999],
};
const WEEKDAYS: readonly string[] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const CRON_WEEKDAYS = WEEKDAYS.map((name) => name.toUpperCase());
/** How Python's arq spells the others. */
const PYTHON_WEEKDAYS: Readonly<Record<string, string>> = { tues: "tue", thurs: "thu" };

/**
 * Schedules a function: a worker that has the result among its `cronJobs` enqueues it at or just
 * after each slot. A unique job runs once per slot, however many workers are running.
 *
 * The default name equals Python's, so that workers of both languages share each slot's job id.
 *
 * @example
 * ```ts
 * import { cron, type JobContext } from "@arq/arq";
 *
 * function report(ctx: JobContext): void {
 *   ctx.logger.info("Nothing new");
 * }
 *
 * export const cronJobs = [
 *   cron(report, { hour: [9, 12, 18], minute: 12 }),
 *   cron(report, "0,30 9-17 * * mon-fri", { name: "often", timezone: "Europe/London" }),
 * ];
 * ```
 *
 * @param fn The function, or a module specifier whose part after `#` is its name.
 * @param when Fields and options in one object, or a cron string of 5 or 6 fields.
 * @param options Options beside a cron string.
 * @throws {TypeError} if an option is unknown or of the wrong type, or the function has no name.
 * @throws {RangeError} if a field is out of range, no date ever matches, or the zone is unknown.
 */
export function cron<State = unknown>(
  fn: ((ctx: JobContext<State>) => unknown) | string,
  when: string | CronOptions,
  options: CronJobOptions = {},
): CronJob<State> {
  if (typeof fn !== "function" && typeof fn !== "string") {
    throw new TypeError(`cron takes a function or a module specifier, got ${show(fn)}`);
  }
  checkWhen("cron", when);
  checkOptionsObject("cron", '{ timezone: "Europe/London" }', options, JOB_KEYS);
  const given = { ...options, ...(typeof when === "string" ? { pattern: when } : when) };
  const { name = defaultName(fn), jobId, unique = true, runAtStartup = false, ...rest } = given;
  const { timeout, keepResult = 0, maxTries = 1, isolate, ...time } = rest;
  checkName("name", name);
  checkName("jobId", jobId);
  checkBooleans({ unique, runAtStartup });
  checkFuncOptions({ timeout, keepResult, maxTries });
  const schedule = toPattern(time, JOB_KEYS);
  nextCron(new Date(0), schedule); // Throws now rather than in the worker.
  return {
    name,
    fn,
    options: { timeout, keepResult, maxTries, isolate },
    schedule,
    unique,
    jobId,
    runAtStartup,
  };
}

/**
 * Returns the first match strictly after `previous`. It reads no clock, and no time zone but the
 * one given or, without one, the system's.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { nextCron } from "@arq/arq/cron";
 *
 * const monthEnds = { day: 31, hour: 9, minute: 0, timezone: "UTC" };
 * const next = nextCron(new Date("2026-01-31T12:00:00Z"), monthEnds);
 * assert.equal(next.toISOString(), "2026-03-31T09:00:00.123Z");
 * ```
 *
 * @throws {TypeError} if a field is unknown or of the wrong type, or `previous` is not a date.
 * @throws {RangeError} if a field is out of range, no date before the year 3000 matches, the zone
 * is unknown or `previous` is an invalid date.
 */
export function nextCron(previous: Date, schedule: string | CronSchedule): Date {
  const after = instantMs("previous", previous);
  checkWhen("nextCron", schedule);
  const given = typeof schedule === "string" ? { pattern: schedule } : schedule;
  const { pattern, millisecond, timezone = systemTimeZone() } = toPattern(given);
  const matcher = createMatcher(pattern, timezone);
  let second = Math.floor(after / 1000) * 1000 - 1;
  for (;;) {
    const run = nextSecond(matcher, second, timezone);
    if (run === undefined) throw new RangeError(`No date matches the cron string ${show(pattern)}`);
    const offset = millisecond.find((ms) => run + ms > after);
    if (offset !== undefined) return new Date(run + offset);
    second = run;
  }
}

/** Finds the first matching second after `after`; a wall-clock time that occurs twice counts once. */
function nextSecond(matcher: Cron, after: number, zone: string): number | undefined {
  const run = matcher.nextRun(new Date(after))?.getTime();
  const resumeAt = run === undefined ? undefined : repeatEnd(run, zone);
  if (resumeAt === undefined) return run;
  return matcher.nextRun(new Date(resumeAt - 1))?.getTime();
}

/** If the wall-clock time at `ms` has occurred before, returns when the repetition is over. */
function repeatEnd(ms: number, zone: string): number | undefined {
  const run = Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(zone);
  const first = run.toPlainDateTime().toZonedDateTime(zone, { disambiguation: "earlier" });
  const setBackMs = ms - first.epochMilliseconds;
  if (setBackMs === 0) return undefined;
  const setBackAt = run.add({ nanoseconds: 1 }).getTimeZoneTransition("previous");
  return setBackAt === null ? undefined : setBackAt.epochMilliseconds + setBackMs;
}

/** Compiles a pattern; without a function to call, croner starts no timer. */
function createMatcher(pattern: string, timezone: string): Cron {
  try {
    return new Cron(pattern, { timezone, domAndDow: true, mode: "5-or-6-parts" });
  } catch (cause) {
    const reason = (cause as Error).message.replace(/^CronPattern: /, "");
    throw new RangeError(`${show(pattern)} is not a cron string: ${reason}`, { cause });
  }
}

/** A date, say, or a time of `Temporal` has no fields of its own: it would pass for every minute. */
function checkWhen(what: string, when: unknown): void {
  if (typeof when === "string" || isOptionsObject(when, [])) return;
  throw new TypeError(`${what} takes fields or a cron string, got ${show(when)}`);
}

/** Checks a schedule and brings either form into one; `others` might have stood beside it. */
function toPattern(
  schedule: CronSchedule,
  others: readonly string[] = [],
): CronPattern & { readonly millisecond: number[] } {
  const isPattern = "pattern" in schedule;
  const known = isPattern ? ["pattern", "millisecond"] : Object.keys(RANGES);
  const unknown = checkKeys(schedule, [...known, "timezone", ...others]);
  if (unknown.length > 0) throw new TypeError(`cron: ${unknown.join("; ")}`);
  const { millisecond = 123, timezone } = schedule;
  return {
    pattern: isPattern ? checkPattern(schedule.pattern) : joinFields(schedule),
    millisecond: checkField("millisecond", millisecond),
    timezone: checkTimezone(timezone),
  };
}

function joinFields({ second = 0, minute, hour, day, month, weekday }: CronFields): string {
  const column = (field: FieldName, value: unknown, names: readonly string[] = []) =>
    value === undefined
      ? "*"
      : checkField(field, value).map((number) => names[number] ?? number).join(",");
  return [
    column("second", second),
    column("minute", minute),
    column("hour", hour),
    column("day", day),
    column("month", month),
    column("weekday", weekday, CRON_WEEKDAYS),
  ].join(" ");
}

/** Refuses what croner would take for one date rather than a pattern. */
function checkPattern(pattern: unknown): string {
  if (typeof pattern !== "string") {
    throw new TypeError(`A cron string must be a string, got ${show(pattern)}`);
  }
  if (pattern.includes(":")) throw new RangeError(`${show(pattern)} is not a cron string`);
  return pattern;
}

function checkTimezone(timezone: string | undefined): string | undefined {
  if (timezone === undefined || isTimeZone(timezone)) return timezone;
  const rule = 'timezone must be an IANA name such as "Europe/London"';
  throw new RangeError(`${rule}, got ${show(timezone)}`);
}

function checkField(field: FieldName, value: unknown): number[] {
  const isList = typeof value === "object" && value !== null && Symbol.iterator in value;
  const items = isList ? [...value as Iterable<unknown>] : [value];
  if (items.length === 0) throw new RangeError(`${field} must have a value, got an empty list`);
  const numbers = new Set(items.map((item) => checkNumber(field, item)));
  return [...numbers].sort((a, b) => a - b);
}

function checkNumber(field: FieldName, item: unknown): number {
  const isName = field === "weekday" && typeof item === "string";
  const value = isName ? WEEKDAYS.indexOf(PYTHON_WEEKDAYS[item] ?? item) : item;
  const [min, max] = RANGES[field];
  const names = field === "weekday" ? ` or one of ${WEEKDAYS.join(", ")}` : "";
  const whole = typeof item === "number" && !Number.isInteger(item) ? "a whole number, " : "";
  const message = `${field} must be ${whole}${min} to ${max}${names}, got ${show(item)}`;
  if (typeof value !== "number") throw new TypeError(message);
  if (!Number.isInteger(value) || value < min || value > max) throw new RangeError(message);
  return value;
}

/** Returns the name Python's arq gives a cron job. */
function defaultName(fn: { readonly name: string } | string): string {
  const own = typeof fn === "string" ? splitSpecifier(fn).name : fn.name;
  if (own === "" || (own === "default" && typeof fn === "string")) {
    throw new TypeError("cron needs the option name: its function has none of its own");
  }
  return `cron:${own}`;
}

function checkBooleans(options: Readonly<Record<string, unknown>>): void {
  for (const [option, value] of Object.entries(options)) {
    if (typeof value === "boolean") continue;
    throw new TypeError(`${option} must be true or false, got ${show(value)}`);
  }
}

function checkFuncOptions({ timeout, keepResult, maxTries }: FuncOptions): void {
  if (timeout !== undefined) durationMs("timeout", timeout, 1);
  keepMs(keepResult);
  if (!isCount(maxTries)) {
    throw new RangeError(`maxTries must be a whole number of 1 or more, got ${show(maxTries)}`);
  }
}
