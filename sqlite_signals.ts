/**
 * News inside a process, and of what other processes have written to the same file.
 *
 * Inside the process everything is told at once. Other processes are noticed because they write to
 * the file's log, which the system tells us; a slow look at the file's version is the safety net,
 * and a faster one where the system cannot tell. Both go on only while somebody waits.
 * @module
 */
import { type FSWatcher, watch } from "node:fs";
import process from "node:process";
import type { ResultRow } from "./sqlite_statements.ts";
import type { FinishListener } from "./store.ts";

/** A wait for a wake-up ends after this time, as it does on other stores. */
const WAIT_MS = 5_000;
/** A wake-up that nobody waits for is kept this long. */
const MARK_MS = 5_000;
/** How often to look where the system tells of changes, and where it does not. */
const SLOW_LOOK_MS = 500;
const FAST_LOOK_MS = 40;
/** A write is told of when it begins; by then it has ended. */
const SECOND_LOOK_MS = 10;

interface Waiter {
  readonly owner: object;
  readonly resolve: (woken: boolean) => void;
}

interface Line {
  readonly waiters: Set<Waiter>;
  markedUntil: number;
  /** The next score to come when it was last looked at, for changes by other processes. */
  earliest: number;
}

interface Subscription {
  readonly listener: FinishListener;
  /** The number of the last result it was told of. */
  seq: number;
}

/** Who waits in this process, and for what. */
export class Signals {
  readonly #lines: Map<string, Line> = new Map();
  readonly #subscriptions: Map<string, Set<Subscription>> = new Map();
  readonly #changes: ForeignChanges | undefined;

  /** Takes the log that other processes write to, if there can be any, and whom to tell of it. */
  constructor(logPath: string | undefined, onChange: () => void) {
    if (logPath !== undefined) {
      this.#changes = new ForeignChanges(logPath, () => this.isAwaited, onChange);
    }
  }

  /** Whether anybody waits. */
  get isAwaited(): boolean {
    return this.isListening || this.waitedQueues.length > 0;
  }

  /** Whether anybody waits for a job's end. */
  get isListening(): boolean {
    return this.#subscriptions.size > 0;
  }

  /** The queues on which workers wait. */
  get waitedQueues(): string[] {
    return [...this.#lines].filter(([, { waiters }]) => waiters.size > 0).map(([key]) => key);
  }

  /** Wakes the worker that has waited longest, or the next one to wait. */
  wake(key: string): void {
    const line = this.#line(key);
    const [first] = line.waiters;
    if (first) first.resolve(true);
    else line.markedUntil = performance.now() + MARK_MS;
  }

  /** Forgets a wake-up that nobody has taken. */
  clearMark(key: string): void {
    this.#line(key).markedUntil = 0;
  }

  /** Notes the next score to come; true if it is earlier than the last one noted. */
  isEarlier(key: string, next: number): boolean {
    const line = this.#line(key);
    const isEarlier = next < line.earliest;
    line.earliest = next;
    return isEarlier;
  }

  /** Waits to be woken; false after a while, or when `owner` stops waiting. */
  wait(key: string, owner: object): Promise<boolean> {
    const line = this.#line(key);
    const isMarked = line.markedUntil > performance.now();
    line.markedUntil = 0;
    if (isMarked) return Promise.resolve(true);
    this.#changes?.start();
    return new Promise((settle) => {
      const waiter = {
        owner,
        resolve: (woken: boolean) => {
          clearTimeout(timer);
          line.waiters.delete(waiter);
          settle(woken);
        },
      };
      const timer = setTimeout(() => waiter.resolve(false), WAIT_MS);
      line.waiters.add(waiter);
    });
  }

  /** Ends all waiting of `owner`. */
  stopWaiting(owner: object): void {
    for (const { waiters } of this.#lines.values()) {
      for (const waiter of waiters) if (waiter.owner === owner) waiter.resolve(false);
    }
  }

  /** Calls back for each end of a job recorded after `seq`, until disposed. */
  subscribe(space: number, jobId: string, seq: number, listener: FinishListener): Disposable {
    const key = jobKey(space, jobId);
    const subscription = { listener, seq };
    const others = this.#subscriptions.get(key) ?? new Set();
    this.#subscriptions.set(key, others.add(subscription));
    this.#changes?.start();
    return {
      [Symbol.dispose]: () => {
        others.delete(subscription);
        if (others.size === 0 && this.#subscriptions.get(key) === others) {
          this.#subscriptions.delete(key);
        }
      },
    };
  }

  /** Whether somebody waits for this job's end and was not told of it. */
  isWanted({ space, job_id, seq }: Omit<ResultRow, "record">): boolean {
    const subscriptions = this.#subscriptions.get(jobKey(space, job_id)) ?? [];
    return [...subscriptions].some((subscription) => subscription.seq < seq);
  }

  /** Tells of a job's end whoever waits for it and does not know. */
  announce({ space, job_id, seq, record }: ResultRow): void {
    for (const subscription of this.#subscriptions.get(jobKey(space, job_id)) ?? []) {
      if (subscription.seq >= seq) continue;
      subscription.seq = seq;
      subscription.listener(record);
    }
  }

  /** Ends everything. */
  close(): void {
    this.#changes?.stop();
    for (const { waiters } of this.#lines.values()) {
      for (const waiter of waiters) waiter.resolve(false);
    }
    this.#lines.clear();
    this.#subscriptions.clear();
  }

  #line(key: string): Line {
    const line = this.#lines.get(key) ??
      { waiters: new Set<Waiter>(), markedUntil: 0, earliest: Infinity };
    this.#lines.set(key, line);
    return line;
  }
}

function jobKey(space: number, jobId: string): string {
  return `${space}:${jobId}`;
}

/** Notices that somebody may have written to the file; stops by itself when nobody cares. */
class ForeignChanges {
  readonly #logPath: string;
  readonly #isAwaited: () => boolean;
  readonly #onChange: () => void;
  #watcher: FSWatcher | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #secondLook: ReturnType<typeof setTimeout> | undefined;

  constructor(logPath: string, isAwaited: () => boolean, onChange: () => void) {
    this.#logPath = logPath;
    this.#isAwaited = isAwaited;
    this.#onChange = onChange;
  }

  start(): void {
    if (this.#timer !== undefined) return;
    this.#watch();
    // Other systems tell of a change only when the writer closes the file.
    const isTold = this.#watcher !== undefined && process.platform === "linux";
    this.#look(isTold ? SLOW_LOOK_MS : FAST_LOOK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    clearTimeout(this.#secondLook);
    this.#secondLook = undefined;
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #watch(): void {
    try {
      this.#watcher = watch(this.#logPath, () => this.#onWrite());
      this.#watcher.on("error", () => {
        this.#watcher = undefined;
        this.#look(FAST_LOOK_MS);
      });
    } catch {
      this.#watcher = undefined; // not permitted, or no more of them: looking is enough
    }
  }

  /** Looks at once, and again when the write must have ended: of that nobody may tell. */
  #onWrite(): void {
    this.#onChange();
    this.#secondLook ??= setTimeout(() => {
      this.#secondLook = undefined;
      this.#onChange();
    }, SECOND_LOOK_MS);
  }

  #look(everyMs: number): void {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      if (this.#isAwaited()) this.#onChange();
      else this.stop();
    }, everyMs);
  }
}
