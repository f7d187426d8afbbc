/**
 * Durations, instants and counts, as people write them on the command line.
 * @module
 */
import { UsageError } from "./cli_arguments.ts";
import { show, systemTimeZone } from "./validation.ts";

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
/** The first point in time that a date can hold. */
const FIRST_INSTANT = -8.64e15;
const DURATION = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/;

/**
 * Reads a duration such as `90s`, `1h30m` or `PT10M`, in milliseconds; undefined if none is given.
 *
 * @throws {UsageError} if it is none.
 */
export function readDuration(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = durationOf(text);
  if (Number.isSafeInteger(ms)) return ms;
  const unit = /^\d+$/.test(text) ? `; did you mean ${text}s?` : "";
  throw new UsageError(
    `${option} must be a duration such as 500ms, 30s, 1h30m or 2d, got ${show(text)}${unit}`,
  );
}

function durationOf(text: string): number | undefined {
  if (DURATION.test(text)) {
    const parts = [...text.matchAll(/([\d.]+)([a-z]+)/g)];
    const ms = parts.map(([, amount, unit = ""]) => Number(amount) * (UNIT_MS[unit] ?? NaN));
    return Math.round(ms.reduce((sum, part) => sum + part, 0));
  }
  try {
    const ms = Temporal.Duration.from(text).total("milliseconds");
    return ms >= 0 ? ms : undefined;
  } catch {
    return undefined; // Neither of the two, or with months, which have no length.
  }
}

/**
 * Reads a point in time: ISO 8601 with a zone, or without one in the system's.
 *
 * @throws {UsageError} if it is none.
 */
export function readInstant(option: string, text: string | undefined): Date | undefined {
  if (text === undefined) return undefined;
  const instant = instantOf(text);
  if (instant) return new Date(instant.epochMilliseconds);
  throw new UsageError(
    `${option} must be a time such as 2032-01-28T12:00:00Z, got ${show(text)}`,
  );
}

/** `Date.parse` would take a date alone for one in UTC, and the 30th of February for the 1st of March. */
function instantOf(text: string): Temporal.Instant | Temporal.ZonedDateTime | undefined {
  if (!/^\d{4}-\d\d-\d\d[^[]*$/.test(text)) return undefined;
  try {
    return Temporal.Instant.from(text);
  } catch {
    // It has no zone, or is no time at all.
  }
  try {
    return Temporal.PlainDateTime.from(text).toZonedDateTime(systemTimeZone());
  } catch {
    return undefined;
  }
}

/**
 * Reads a point in the past: a duration that has passed since, or a time.
 *
 * @throws {UsageError} if it is neither.
 */
export function readSince(
  option: string,
  text: string | undefined,
  now: number = Date.now(),
): Date | undefined {
  const agoMs = text === undefined ? undefined : durationOf(text);
  if (agoMs !== undefined) return new Date(Math.max(now - agoMs, FIRST_INSTANT));
  if (text === undefined || /^\d{4}-/.test(text)) return readInstant(option, text);
  throw new UsageError(
    `${option} must be a duration such as 30m, or a time such as 2032-01-28T12:00:00Z, ` +
      `got ${show(text)}`,
  );
}

/**
 * Reads a whole number between `min` and `max`.
 *
 * @throws {UsageError} if it is none.
 */
export function readCount(
  option: string,
  text: string | undefined,
  min: number,
  max: number = Number.MAX_SAFE_INTEGER,
): number | undefined {
  if (text === undefined) return undefined;
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= min && count <= max) return count;
  const range = max === Number.MAX_SAFE_INTEGER ? `of ${min} or more` : `from ${min} to ${max}`;
  throw new UsageError(`${option} must be a whole number ${range}, got ${show(text)}`);
}
