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
import { isGranted } from "./permissions.ts";
import { Feed } from "./sqlite_feed.ts";
import type { NewsRow, ResultRow } from "./sqlite_statements.ts";
import type { ClaimReply } from "./store.ts";

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
  /** The next score to come when somebody, a worker that claims or a look at changes, last saw it. */
  earliest: number;
}

/** Who waits in this process, and for what. */
export class Signals {
  readonly #lines: Map<string, Line> = new Map();
  /** Those who wait for the ends of jobs. */
  readonly ends: Feed<ResultRow> = new Feed();
  /** Those who watch the steps of jobs. */
  readonly news: Feed<NewsRow> = new Feed();
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

  /** Whether anybody waits for what happens to a job. */
  get isListening(): boolean {
    return this.ends.isListening || this.news.isListening;
  }

  /** Whether there may be something to tell that nobody has looked at. */
  get hasMore(): boolean {
    return this.ends.hasMore || this.news.hasMore;
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
  noteNext(key: string, { now, nextDueMs = Infinity }: ClaimReply): boolean {
    const line = this.#line(key);
    const next = now + nextDueMs;
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

  /** Notices what other processes write, for as long as anybody waits. */
  start(): void {
    this.#changes?.start();
  }

  /** Ends all waiting of `owner`. */
  stopWaiting(owner: object): void {
    for (const { waiters } of this.#lines.values()) {
      for (const waiter of waiters) if (waiter.owner === owner) waiter.resolve(false);
    }
  }

  /** Ends everything. */
  close(): void {
    this.#changes?.stop();
    for (const { waiters } of this.#lines.values()) {
      for (const waiter of waiters) waiter.resolve(false);
    }
    this.#lines.clear();
    this.ends.clear();
    this.news.clear();
  }

  #line(key: string): Line {
    const line = this.#lines.get(key) ??
      { waiters: new Set<Waiter>(), markedUntil: 0, earliest: Infinity };
    this.#lines.set(key, line);
    return line;
  }
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

  /** Deno must not ask the user for it: it is a convenience, and the program would stand still. */
  #watch(): void {
    if (!isGranted("read", { path: this.#logPath })) return;
    try {
      this.#watcher = watch(this.#logPath, () => this.#onWrite());
      this.#watcher.on("error", () => {
        this.#watcher = undefined;
        this.#look(FAST_LOOK_MS);
      });
    } catch {
      this.#watcher = undefined; // no more of them: looking is enough
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
