/**
 * Enqueues cron jobs shortly before their slots, by the store's clock.
 * @module
 */
import { type CronJob, nextCron } from "./cron.ts";
import { DeserializationError } from "./errors.ts";
import { decodeResult } from "./serializer.ts";
import { systemTimeZone } from "./validation.ts";
import { log } from "./worker_log.ts";
import type { CronRecord } from "./worker_records.ts";
import type { ResolvedSettings } from "./worker_settings.ts";

/** A slot is enqueued this long before it, so that it is run on time. */
const AHEAD_MS = 1_000;

/** Slots that were missed by more than this, since the worker was busy or asleep, are left out. */
const LATEST_MS = 60_000;

/** So many of a cron job's next runs are shown. */
const SHOWN_RUNS = 5;

/** Keeps track of when each cron job of a worker comes next. */
export class CronScheduler {
  readonly #settings: ResolvedSettings;
  readonly #next: Map<CronJob, number> = new Map();
  readonly #shown: Map<CronJob, readonly number[]> = new Map();
  #busy = false;

  /** Takes the worker's settings; nothing is enqueued yet. */
  constructor(settings: ResolvedSettings) {
    this.#settings = settings;
  }

  /** When the next slot comes, as far as slots were looked at; Infinity if there is none. */
  get nextAt(): number {
    return Math.min(...this.#next.values());
  }

  /** Enqueues the slots that are near; a failure is logged, and the next tick tries again. */
  async tick(now: number): Promise<void> {
    try {
      await this.enqueueSlots(now);
    } catch (error) {
      log.storeFailed("enqueue cron jobs", error);
    }
  }

  /**
   * Enqueues the slots that are near; `now` is the store's time in epoch milliseconds.
   *
   * @throws if a slot cannot be enqueued; that slot still comes next.
   */
  async enqueueSlots(now: number): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (const job of this.#settings.cronJobs) await this.#advance(job, now);
    } finally {
      this.#busy = false;
    }
  }

  /** The cron jobs with their next runs, which are computed when the first of them has passed. */
  describe(now: number): CronRecord[] {
    return this.#settings.cronJobs.map((job) => {
      const { name, unique, schedule: { pattern } } = job;
      const known = this.#shown.get(job);
      const next = known && (known[0] ?? Infinity) > now ? known : this.#comingRuns(job, now);
      this.#shown.set(job, next);
      return { name, pattern, timezone: this.#timezoneOf(job), next, unique };
    });
  }

  #comingRuns(job: CronJob, now: number): readonly number[] {
    const runs: number[] = [];
    for (let ms = now; runs.length < SHOWN_RUNS;) runs.push(ms = this.#after(job, ms));
    return runs;
  }

  async #advance(job: CronJob, now: number): Promise<void> {
    let next = this.#next.get(job);
    if (next === undefined) {
      if (job.runAtStartup) await this.#enqueue(job, now);
      this.#next.set(job, next = this.#after(job, now));
    }
    const { burst, pollDelayMs } = this.#settings;
    const aheadMs = burst ? 0 : Math.max(AHEAD_MS, 2 * pollDelayMs); // a burst waits for no slot
    while (next - now <= aheadMs) {
      if (now - next <= LATEST_MS) await this.#enqueue(job, next);
      next = this.#after(job, Math.max(next, now - LATEST_MS));
      this.#next.set(job, next);
    }
  }

  #after(job: CronJob, ms: number): number {
    const timezone = this.#timezoneOf(job);
    return nextCron(new Date(ms), { ...job.schedule, timezone }).getTime();
  }

  #timezoneOf(job: CronJob): string {
    return job.schedule.timezone ?? this.#settings.timezone ?? systemTimeZone();
  }

  /**
   * A slot has one id in all workers of either language, the name and its time; but an id is one among
   * all queues: where another queue has a cron job of that name, the id has our queue in it, too.
   */
  async #enqueue({ name, jobId, unique }: CronJob, dueAt: number): Promise<void> {
    const { client, queueName } = this.#settings;
    const enqueue = (slotId?: string) =>
      client.enqueueScheduled(name, { queueName, deferUntil: dueAt, jobId }, slotId);
    const slotId = `${name}:${dueAt}`;
    const ownSlotId = `${slotId}:${queueName}`;
    if (!unique) await enqueue();
    else if (jobId !== undefined) await enqueue(ownSlotId); // a lock, which Python does not look at
    else if (!await enqueue(slotId) && await this.#isElsewhere(slotId)) await enqueue(ownSlotId);
  }

  /** Whether the job of this id is in another queue, or was. */
  async #isElsewhere(jobId: string): Promise<boolean> {
    const { client: { store, deserializer }, queueName } = this.#settings;
    const { result, hasPayload, score } = await store.lookUp(queueName, jobId, false);
    if (result === undefined) return hasPayload && score === undefined;
    try {
      return decodeResult(result, deserializer).q !== queueName;
    } catch (error) {
      if (error instanceof DeserializationError) return true; // in a format that is not our queue's
      throw error;
    }
  }
}
