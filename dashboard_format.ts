/**
 * Numbers, lengths of time and instants as people read them at a glance.
 * @module
 */
import { type Content, type Html, html } from "./dashboard_html.ts";

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const UNITS = [[DAY_MS, "d"], [HOUR_MS, "h"], [MINUTE_MS, "min"], [SECOND_MS, "s"]] as const;
const WHOLE = new Intl.NumberFormat("en-GB");
const SHORT = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 1 });
/** From here on the exact number says less than its size. */
const LONG_COUNT = 100_000;
const MEMORY_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** `1,234`, and from 100,000 on `1.2M`. */
export function count(value: number): string {
  return Math.abs(value) < LONG_COUNT ? WHOLE.format(value) : SHORT.format(value);
}

/** `1 job`, `2 jobs`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A length of time in at most two units: `12 ms`, `1.5 s`, `3 min 20 s`, `2 d 4 h`. */
export function duration(ms: number): string {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 0) return `−${duration(-ms)}`;
  if (ms < 1 && ms > 0) return "< 1 ms";
  if (ms < SECOND_MS) return `${Math.round(ms)} ms`;
  if (ms < 10 * SECOND_MS) return `${Number((ms / SECOND_MS).toFixed(1))} s`;
  const seconds = Math.round(ms / SECOND_MS);
  if (seconds < 60) return `${seconds} s`;
  if (ms < HOUR_MS) return twoUnits(seconds, 60, "min", "s");
  if (ms < DAY_MS) return twoUnits(Math.round(ms / MINUTE_MS), 60, "h", "min");
  return twoUnits(Math.round(ms / HOUR_MS), 24, "d", "h");
}

function twoUnits(amount: number, size: number, large: string, small: string): string {
  const rest = amount % size;
  return `${WHOLE.format(Math.floor(amount / size))} ${large}${
    rest === 0 ? "" : ` ${rest} ${small}`
  }`;
}

/** `48.3 MiB`. */
export function memory(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), 4);
  return `${Number((bytes / 1024 ** power).toFixed(1))} ${MEMORY_UNITS[power]}`;
}

/** `3 min ago`, `in 5 s`, or `now`: in one unit, rounded down. */
export function relative(at: Date, now: Date): string {
  const ms = at.getTime() - now.getTime();
  const [size, unit] = UNITS.find(([size]) => Math.abs(ms) >= size) ?? [0, ""];
  if (size === 0) return "now";
  const amount = `${WHOLE.format(Math.floor(Math.abs(ms) / size))} ${unit}`;
  return ms < 0 ? `${amount} ago` : `in ${amount}`;
}

/** `2026-03-01 17:41:22`, in UTC. */
export function clock(at: Date): string {
  return at.toISOString().slice(0, 19).replace("T", " ");
}

/** `17:41`, in UTC. */
export function hourAndMinute(at: Date): string {
  return at.toISOString().slice(11, 16);
}

/** An instant, by how long ago it was or how soon it is; the instant itself on hovering. */
export function timeAgo(at: Date | null, now: Date): Content {
  return at && timeElement(at, relative(at, now));
}

/** An instant with date and time. */
export function timeExact(at: Date): Html {
  return timeElement(at, clock(at));
}

function timeElement(at: Date, text: string): Html {
  return html`<time datetime="${at.toISOString()}" title="${clock(at)} UTC">${text}</time>`;
}
