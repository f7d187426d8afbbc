/**
 * Lengths and points of time as users write them, checked and turned into milliseconds.
 * @module
 */
import { isOptions, show } from "./validation.ts";

/** The parts of a duration; a `Temporal.Duration` without years, months or weeks fits. */
export interface DurationParts {
  /** Days of 24 hours. */
  readonly days?: number;
  /** Hours. */
  readonly hours?: number;
  /** Minutes. */
  readonly minutes?: number;
  /** Seconds. */
  readonly seconds?: number;
  /** Milliseconds. */
  readonly milliseconds?: number;
}

/** A length of time: milliseconds, or an object such as `{ minutes: 5 }`. */
export type Duration = number | DurationParts;

/** A point in time: a `Date`, a `Temporal.Instant` or `ZonedDateTime`, or epoch milliseconds. */
export type Instant = number | Date | { readonly epochMilliseconds: number };

const UNIT_MS: Readonly<Record<string, number>> = {
  days: 86_400_000,
  hours: 3_600_000,
  minutes: 60_000,
  seconds: 1_000,
  milliseconds: 1,
  microseconds: 1e-3,
  nanoseconds: 1e-6,
};

/** Epoch seconds of the years 1973 to 5138; as milliseconds these would be days of the 1970s. */
const SECONDS = { min: 1e8, max: 1e11 };

/**
 * Returns whole milliseconds of `value`, which is called `option` in errors.
 *
 * @throws {TypeError} if it is neither a number nor a duration object.
 * @throws {RangeError} if it is not finite or less than `min`.
 */
export function durationMs(option: string, value: Duration, min = 0): number {
  const ms = Math.round(typeof value === "number" ? value : sumOfParts(option, value));
  if (!Number.isSafeInteger(ms)) {
    throw new RangeError(`${option} must be a finite duration, got ${show(value)}`);
  }
  if (ms >= min) return ms;
  const limit = min === 0 ? "0" : `${min} ms`;
  const unit = min !== 0 && typeof value === "number" ? " (milliseconds)" : "";
  throw new RangeError(`${option} must be ${limit} or more, got ${show(value)}${unit}`);
}

/** Returns for how many milliseconds `keepResult` has results kept; an hour if it says nothing. */
export function keepMs(keepResult: Duration | "forever" = 3_600_000): number | "forever" {
  if (keepResult === "forever") return keepResult;
  if (typeof keepResult !== "string") return durationMs("keepResult", keepResult);
  const forms = 'milliseconds, an object such as { hours: 5 } or "forever"';
  throw new TypeError(`keepResult must be ${forms}, got ${show(keepResult)}`);
}

function sumOfParts(option: string, value: unknown): number {
  if (Object.prototype.toString.call(value) === "[object Temporal.Duration]") {
    return sumOfTemporal(option, value as Temporal.Duration);
  }
  const parts = isOptions(value) ? Object.entries(value) : [];
  if (parts.length === 0) { // also a Date or an instant, which have no own parts
    throw new TypeError(
      `${option} must be milliseconds or an object such as { seconds: 5 }, got ${show(value)}`,
    );
  }
  let ms = 0;
  for (const [unit, amount] of parts) {
    const factor = Object.hasOwn(UNIT_MS, unit) ? UNIT_MS[unit] : undefined;
    if (factor === undefined) {
      const units = Object.keys(UNIT_MS).slice(0, 5).join(", ");
      throw new TypeError(`${option} has an unknown unit "${unit}"; use ${units}`);
    }
    if (amount === undefined) continue;
    if (typeof amount !== "number") {
      throw new TypeError(`${option}.${unit} must be a number, got ${show(amount)}`);
    }
    ms += amount * factor;
  }
  return ms;
}

function sumOfTemporal(option: string, value: Temporal.Duration): number {
  if (value.years || value.months || value.weeks) {
    throw new RangeError(`${option} must not have years, months or weeks, got ${value}`);
  }
  return value.total("milliseconds");
}

/**
 * Returns epoch milliseconds of `value`, which is called `option` in errors.
 *
 * @throws {TypeError} if it is not a point in time.
 * @throws {RangeError} if it is an invalid date, not finite, or a number that looks like seconds.
 */
export function instantMs(option: string, value: Instant): number {
  const ms = value instanceof Date
    ? value.getTime()
    : typeof value === "object" && value !== null
    ? value.epochMilliseconds
    : value;
  if (typeof ms !== "number") {
    throw new TypeError(
      `${option} must be a Date, a Temporal.Instant or epoch milliseconds, got ${show(value)}`,
    );
  }
  if (!Number.isFinite(ms)) {
    throw new RangeError(`${option} must be a valid point in time, got ${show(value)}`);
  }
  if (typeof value === "number" && value > SECONDS.min && value < SECONDS.max) {
    throw new RangeError(`${option} is in milliseconds; ${value} looks like seconds`);
  }
  return Math.round(ms);
}
