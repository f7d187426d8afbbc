/**
 * Records how jobs ended: in batches, again after a failure, and one by one where a batch failed,
 * so that one end which the store refuses keeps no other from being recorded. Whatever a store
 * refuses may be taken later, but for a result that is too large.
 * @module
 */
import { JobExecutionFailed, QueueConnectionError } from "./errors.ts";
import { callHook } from "./execution.ts";
import type { JobOutcome } from "./functions.ts";
import type { JobRun } from "./job_run.ts";
import { encodeResult, type ResultRecord, type Serializer } from "./serializer.ts";
import type { Finish, GiveBack, Settled } from "./store.ts";
import type { Outcome } from "./tally.ts";
import { within } from "./telemetry.ts";
import { log } from "./worker_log.ts";
import type { ResolvedSettings } from "./worker_settings.ts";

/** A slot of a unique cron job stays locked this long after its end, as Python expects. */
const SLOT_LOCK_MS = 60_000;
/** What the store did not take is sent again after this, or after `pollDelay` if that is less. */
const RETRY_MS = 500;
const NOTHING = new Uint8Array();

/** How the end of a try is counted; not where another worker has the job by now. */
export const OUTCOMES: Readonly<Record<JobOutcome["kind"], Outcome | undefined>> = {
  success: "complete",
  failure: "failed",
  aborted: "aborted",
  retry: "retried",
  released: "retried",
  lost: undefined,
};

/** What ends a job; all else ends a try only. */
type JobEnd = Extract<JobOutcome, { readonly kind: "success" | "failure" | "aborted" }>;

/** A try that is over. */
export interface Ended {
  /** The try. */
  readonly run: JobRun;
  /** How it ended. */
  readonly outcome: JobOutcome;
  /** The encoded end, where the outcome is one. */
  readonly record?: Uint8Array;
  /** Whether it stands for an end that was too large for the store. */
  readonly isReplacement?: boolean;
}

/** Whom the recorder tells. */
export interface RecorderEvents {
  /** The lease of this run is no concern of ours any more. */
  onGone(run: JobRun): void;
  /** Something was recorded, or could not be. */
  onRecorded(): void;
}

/** Sends the ends of jobs to the store. */
export class JobRecorder implements Disposable {
  readonly #settings: ResolvedSettings;
  readonly #events: RecorderEvents;
  #fresh: Ended[] = [];
  #postponed: Ended[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sending = 0;
  #hooksRunning = 0;
  #isClosing = false;

  /** Takes the worker's settings, and whom to tell. */
  constructor(settings: ResolvedSettings, events: RecorderEvents) {
    this.#settings = settings;
    this.#events = events;
  }

  /** Whether there is nothing left to record, and no `afterJobEnd` running. */
  get isAtRest(): boolean {
    return this.#fresh.length === 0 && this.#postponed.length === 0 && this.#sending === 0 &&
      this.#hooksRunning === 0;
  }

  /** Encodes an end; a result that cannot travel makes a failure of a success. */
  encode(run: JobRun, outcome: JobOutcome): Ended {
    if (!isEnd(outcome)) return { run, outcome };
    const { serializer } = this.#settings.client;
    const record = this.#recordOf(run, outcome);
    try {
      return { run, outcome, record: encodeResult(record, serializer) };
    } catch (error) {
      const failed = { ...record, s: false, r: error };
      return { run, outcome: { kind: "failure", error }, record: encodeAnyhow(failed, serializer) };
    }
  }

  /** Takes an end; it is sent with the next flush. */
  add(ended: Ended): void {
    this.#fresh.push(ended);
  }

  /** Sends what was added, in one batch. */
  flush(): void {
    if (this.#fresh.length > 0) void this.#send(this.#fresh.splice(0));
  }

  /** Sends again what the store did not take, one by one. */
  retry(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const ended of this.#postponed.splice(0)) void this.#send([ended]);
  }

  /** From now on what fails is given up after a last attempt; its job will be run again. */
  close(): void {
    this.#isClosing = true;
    this.retry();
  }

  /** Leaves no timer behind. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  async #send(ended: readonly Ended[]): Promise<void> {
    const { queueName, client: { store } } = this.#settings;
    const ends = ended.filter(({ outcome }) => isEnd(outcome));
    const returned = ended.filter(({ outcome }) => isReturn(outcome));
    for (const { run, outcome } of ended) if (outcome.kind === "lost") this.#events.onGone(run);
    this.#sending++;
    await Promise.all([
      this.#record(ends, () => store.finish(queueName, ends.map((end) => this.#finishOf(end)))),
      this.#record(returned, () => store.giveBack(queueName, returned.map(giveBackOf))),
    ]);
    this.#sending--;
    this.#events.onRecorded();
  }

  async #record(ended: readonly Ended[], send: () => Promise<Settled[]>): Promise<void> {
    if (ended.length === 0) return;
    let settled: Settled[];
    try {
      settled = await send();
    } catch (error) {
      return this.#postpone(ended, error);
    }
    for (const [i, { run, outcome }] of ended.entries()) {
      this.#events.onGone(run);
      if (run.hasBegun) log.settled(run, settled[i] ?? "refused");
      this.#callAfterJobEnd(run, outcome);
    }
  }

  #callAfterJobEnd({ ctx, telemetry }: JobRun, outcome: JobOutcome): void {
    const { afterJobEnd } = this.#settings.hooks;
    if (!afterJobEnd || !ctx) return;
    this.#hooksRunning++;
    const end = () => afterJobEnd(ctx, outcome);
    void callHook("afterJobEnd", () => within(telemetry, end)).then(() => {
      this.#hooksRunning--;
      this.#events.onRecorded();
    });
  }

  #postpone(ended: readonly Ended[], error: unknown): void {
    const [only] = ended;
    const isTooLarge = error instanceof QueueConnectionError && error.tooLarge;
    if (only && ended.length === 1 && isTooLarge && isEnd(only.outcome) && !only.isReplacement) {
      this.#postponed.push(this.#replace(only, error));
    } else if (this.#isClosing) {
      log.unrecorded(ended.map(({ run }) => run), error);
      for (const { run } of ended) this.#events.onGone(run);
      return;
    } else {
      log.storeFailed("record results", error);
      this.#postponed.push(...ended);
    }
    const delay = Math.min(this.#settings.pollDelayMs, RETRY_MS);
    this.#timer ??= setTimeout(() => this.retry(), delay);
  }

  /** A result that is too large for the store becomes a failure that says so. */
  #replace({ run }: Ended, cause: Error): Ended {
    run.hasSucceeded = false;
    const error = new JobExecutionFailed(`The result could not be recorded: ${cause.message}`);
    const outcome = { kind: "failure", error } as const;
    const record = { ...this.#recordOf(run, outcome), a: [], k: {}, cut: true as const };
    const encoded = encodeAnyhow(record, this.#settings.client.serializer);
    return { run, outcome, record: encoded, isReplacement: true };
  }

  #recordOf(run: JobRun, outcome: JobEnd): ResultRecord {
    const success = outcome.kind === "success";
    return {
      ...run.record,
      t: run.jobTry,
      s: success,
      r: success ? outcome.value : outcome.error,
      st: run.startMs,
      ft: Date.now(),
      q: this.#settings.queueName,
      id: run.claim.jobId,
    };
  }

  #finishOf({ run, outcome, record = NOTHING }: Ended): Finish {
    const { claim, fn } = run;
    const keepMs = fn?.keepMs ?? this.#settings.keepResultMs;
    return {
      lease: claim,
      success: outcome.kind === "success",
      record,
      keepMs: fn?.isSlot && keepMs !== "forever" ? Math.max(keepMs, SLOT_LOCK_MS) : keepMs,
      lockTailMs: fn?.isSlot ? SLOT_LOCK_MS : 0,
    };
  }
}

/** A job must end even if the program's own serializer can write nothing at all. */
function encodeAnyhow(record: ResultRecord, serializer: Serializer | undefined): Uint8Array {
  try {
    return encodeResult(record, serializer);
  } catch {
    return encodeResult(record);
  }
}

function isEnd(outcome: JobOutcome): outcome is JobEnd {
  return outcome.kind === "success" || outcome.kind === "failure" || outcome.kind === "aborted";
}

function isReturn({ kind }: JobOutcome): boolean {
  return kind === "retry" || kind === "released";
}

function giveBackOf({ run, outcome }: Ended): GiveBack {
  const { claim, hasBegun, jobTry } = run;
  // What never began was not started.
  if (!hasBegun) return { lease: claim, kind: "retry", starts: claim.starts - 1 };
  return {
    lease: claim,
    kind: outcome.kind === "released" ? "release" : "retry",
    deferMs: outcome.kind === "retry" ? outcome.delayMs : undefined,
    starts: jobTry,
  };
}
