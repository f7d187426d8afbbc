/**
 * Counts, lengths of time, sizes and instants as people read them at a glance, in a terminal and on
 * a page alike.
 * @module
 */
const WHOLE = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
/** From here on the exact number says less than its size. */
const LONG_COUNT = 100_000;
/** Below it, parts of a second matter. */
const FEW_SECONDS_MS = 9_995;
/** Seconds in each unit of time. */
const TIME_UNITS = [[86_400, "d"], [3_600, "h"], [60, "m"], [1, "s"]] as const;
const MEMORY_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** `12,345`. */
export function countText(count: number): string {
  return WHOLE.format(count);
}

/** `12,345`, and from 100,000 on `1.2M`, where there is little room. */
export function shortCountText(count: number): string {
  return (Math.abs(count) < LONG_COUNT ? WHOLE : SHORT).format(count);
}

/** `1 job`, `2 jobs`. */
export function pluralText(count: number, noun: string): string {
  return `${countText(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** `<1ms`, `850ms`, `1.25s`, `4m 10s`, `3h 5m`, `2d 4h`: two units at most. */
export function durationText(ms: number): string {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 0) return `-${durationText(-ms)}`;
  if (ms > 0 && ms < 1) return "<1ms";
  if (ms < 999.5) return `${Math.round(ms)}ms`;
  if (ms < FEW_SECONDS_MS) return `${Number((ms / 1_000).toFixed(2))}s`;
  let seconds = Math.round(ms / 1_000);
  const first = TIME_UNITS.findIndex(([size]) => seconds >= size);
  const parts = TIME_UNITS.slice(first, first + 2).map(([size, name]) => {
    const amount = Math.floor(seconds / size);
    seconds -= amount * size;
    return amount === 0 ? "" : `${countText(amount)}${name}`;
  });
  return parts.join(" ").trim();
}

/** `3m 20s ago`, `in 5s`, or `now`: in whole seconds. */
export function distanceText(at: Date, now: Date): string {
  const seconds = Math.trunc((at.getTime() - now.getTime()) / 1_000);
  if (seconds === 0) return "now";
  const text = durationText(Math.abs(seconds) * 1_000);
  return seconds > 0 ? `in ${text}` : `${text} ago`;
}

/** `48.3 MiB`. */
export function memoryText(bytes: number): string {
  const last = MEMORY_UNITS.length - 1;
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), last);
  return `${Number((bytes / 1_024 ** power).toFixed(1))} ${MEMORY_UNITS[power]}`;
}

/** `2032-01-28 12:00:00`, in the zone. */
export function timeText(at: Date, timeZone: string): string {
  const zoned = Temporal.Instant.fromEpochMilliseconds(at.getTime()).toZonedDateTimeISO(timeZone);
  return zoned.toPlainDateTime().toString({ smallestUnit: "second" }).replace("T", " ");
}
