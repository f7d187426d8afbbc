/**
 * A worker's sign of life, in the words of Python's arq.
 * @module
 */
import { systemTimeZone } from "./validation.ts";
import { type Counters, log } from "./worker_log.ts";
import type { ResolvedSettings } from "./worker_settings.ts";

/** What the sign of life tells. */
export interface Vitals extends Readonly<Counters> {
  /** Jobs that run at the moment. */
  readonly ongoing: number;
  /** Jobs in the queue. */
  readonly queued: number;
}

/** `Mar-01 17:41:22 j_complete=0 j_failed=0 j_retried=0 j_ongoing=0 queued=0` */
function healthText(vitals: Vitals, now: number, timezone: string | undefined): string {
  return `${clock(now, timezone)} ${countersText(vitals)} queued=${vitals.queued}`;
}

/** `j_complete=0 j_failed=0 j_retried=0 j_ongoing=0` */
export function countersText(vitals: Omit<Vitals, "queued">): string {
  return `j_complete=${vitals.jobsComplete} j_failed=${vitals.jobsFailed} ` +
    `j_retried=${vitals.jobsRetried} j_ongoing=${vitals.ongoing}`;
}

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

function clock(now: number, timezone: string = systemTimeZone()): string {
  const instant = Temporal.Instant.fromEpochMilliseconds(Math.round(now));
  const { month, day, hour, minute, second } = instant.toZonedDateTimeISO(timezone);
  const [dd, hh, mm, ss] = [day, hour, minute, second].map((n) => String(n).padStart(2, "0"));
  return `${MONTHS[month - 1]}-${dd} ${hh}:${mm}:${ss}`;
}

/** The key outlives the interval by this, so that it is never missing while the worker lives. */
const SPARE_MS = 1_000;

/** Writes the sign of life at the start and at every interval. */
export class HealthRecorder {
  readonly #settings: ResolvedSettings;
  #recordedAt = -Infinity;
  #lastText: string | undefined;

  /** Takes the worker's settings; nothing is written yet. */
  constructor(settings: ResolvedSettings) {
    this.#settings = settings;
  }

  /** Writes the sign of life if its time has come; `now` is the store's time. */
  async tick(vitals: Vitals, now: number): Promise<void> {
    const { client, healthCheckKey, healthCheckIntervalMs, timezone } = this.#settings;
    if (performance.now() - this.#recordedAt < healthCheckIntervalMs) return;
    this.#recordedAt = performance.now();
    const text = healthText(vitals, now, timezone);
    try {
      await client.store.writeHealth(healthCheckKey, text, healthCheckIntervalMs + SPARE_MS);
    } catch (error) {
      this.#recordedAt = -Infinity;
      return log.storeFailed("write the sign of life", error);
    }
    if (withoutTime(text) !== withoutTime(this.#lastText)) log.health(text);
    this.#lastText = text;
  }

  /** Removes the sign of life, unless another worker of the queue has given one since. */
  async remove(): Promise<void> {
    const { client: { store }, healthCheckKey } = this.#settings;
    try {
      if (await store.readHealth(healthCheckKey) !== this.#lastText) return;
      await store.removeHealth(healthCheckKey);
    } catch (error) {
      log.storeFailed("remove the sign of life", error);
    }
  }
}

function withoutTime(text: string | undefined): string | undefined {
  return text?.slice("Mar-01 17:41:22 ".length);
}
