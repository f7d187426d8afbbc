/**
 * Tells the store how far running jobs are: seldom, in one call for all, and only the last value.
 * @module
 */
import type { JobRun } from "./job_run.ts";
import { encodeProgress } from "./serializer.ts";
import { atMost } from "./sleep.ts";
import type { NewProgress } from "./store.ts";
import { log } from "./worker_log.ts";
import type { ResolvedSettings } from "./worker_settings.ts";

/** The pause between two calls. */
const PAUSE_MS = 100;
/** A job's end waits so long at most until its last value was told. */
const LAST_WAIT_MS = 1_000;

/** Sends what jobs say of their progress. */
export class ProgressReporter implements Disposable {
  readonly #settings: ResolvedSettings;
  /** The last value of each run that has something to tell. */
  readonly #waiting: Map<JobRun, unknown> = new Map();
  /** The runs that end: they have said their last. */
  readonly #ending: Set<JobRun> = new Set();
  /** The runs whose value is on its way. */
  #underWay: ReadonlyMap<JobRun, unknown> = new Map();
  readonly #unreadable: WeakSet<JobRun> = new WeakSet();
  #sending: Promise<void> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #nextAt = 0;
  #isFailing = false;

  /** Takes the worker's settings. */
  constructor(settings: ResolvedSettings) {
    this.#settings = settings;
  }

  /** Notes a value, over the one before if that was not sent yet. */
  report(run: JobRun, value: unknown): void {
    if (this.#ending.has(run)) return;
    this.#waiting.set(run, value);
    this.#schedule();
  }

  /** Whether a value of the run was not told yet. */
  isTelling(run: JobRun): boolean {
    return this.#waiting.has(run) || this.#underWay.has(run);
  }

  /** Tells the run's last value now; gives up after a while, for the run's end must not wait for it. */
  async settle(run: JobRun): Promise<void> {
    this.#ending.add(run);
    await atMost(LAST_WAIT_MS, this.#tell(run));
    this.#ending.delete(run);
    this.#waiting.delete(run);
  }

  /** Leaves no timer behind. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  async #tell(run: JobRun): Promise<void> {
    while (this.isTelling(run)) await (this.#sending ?? this.#send());
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#sending) return;
    this.#timer = setTimeout(() => this.#send(), Math.max(0, this.#nextAt - performance.now()));
  }

  #send(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#nextAt = performance.now() + PAUSE_MS;
    this.#underWay = new Map(this.#waiting);
    this.#waiting.clear();
    const reports = [...this.#underWay].flatMap((entry) => this.#encode(...entry));
    this.#sending = this.#deliver(reports).then(() => {
      this.#sending = undefined;
      this.#underWay = new Map();
      if (this.#waiting.size > 0) this.#schedule();
    });
    return this.#sending;
  }

  async #deliver(reports: readonly NewProgress[]): Promise<void> {
    const { queueName, leaseMs, client: { store } } = this.#settings;
    try {
      if (reports.length > 0) await store.report(queueName, reports, leaseMs);
      this.#isFailing = false;
    } catch (error) {
      if (!this.#isFailing) log.progressLost(error);
      this.#isFailing = true;
    }
  }

  /** The value as it is now, encoded; nothing if it cannot travel, which is said once a run. */
  #encode(run: JobRun, value: unknown): NewProgress[] {
    try {
      const encoded = encodeProgress(value, this.#settings.client.serializer);
      return [{ lease: run.claim, starts: run.claim.starts, nth: ++run.reports, value: encoded }];
    } catch (error) {
      if (!this.#unreadable.has(run)) log.progressUnreadable(run, error);
      this.#unreadable.add(run);
      return [];
    }
  }
}
