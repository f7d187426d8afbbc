/**
 * Keeps a SQLite file small: moves its log into it, removes what has expired, gives room back. Each
 * step is short, and done when there is other work anyway.
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import { atomically, type LogState, type Statements } from "./sqlite_statements.ts";

/** Tells the time, epoch milliseconds. */
export type Clock = () => number;

const SWEEP_EVERY_MS = 1_000;
/** Others get more turns than the sweep, and still it keeps up with them. */
const SWEEP_AGAIN_MS = 3;
const SWEEP_ROWS = 150;
/** Results stay this much longer than they are visible: for other processes that wait for them. */
const RESULT_GRACE_MS = 10_000;
/** The log is moved into the file when it has so many pages: that takes some milliseconds. */
const LONG_LOG_PAGES = 500;
/** Unused pages that a file keeps for what comes next. */
const SPARE_PAGES = 1_000;
const VACUUM_PAGES = 100;

/** The tidying up of one connection. */
export class Tidying {
  readonly #database: DatabaseSync;
  readonly #sql: Statements;
  readonly #clock: Clock;
  #sweepAt: number = performance.now() + SWEEP_EVERY_MS;
  /** Pages that stand in the log alone, and how many are too many. */
  #logPages = 0;
  #longLog: number = LONG_LOG_PAGES;

  /** Takes the connection and the store's clock. */
  constructor(database: DatabaseSync, sql: Statements, clock: Clock) {
    this.#database = database;
    this.#sql = sql;
    this.#clock = clock;
  }

  /** Whether a step should come although there is no other work. */
  get isUrgent(): boolean {
    return this.#logPages >= this.#longLog;
  }

  /** Notes that something was written. */
  noteWrites(): void {
    this.#logPages = unsavedPages(this.#sql.measureLog.get());
  }

  /** Does one thing, if it is time; tells whether it took any. A failure is left for another time. */
  step(): boolean {
    if (this.isUrgent) {
      attempt(() => this.#logPages = unsavedPages(this.#sql.checkpoint.get()));
      this.#longLog = this.#logPages + LONG_LOG_PAGES; // others may still read some
      return true;
    }
    if (performance.now() < this.#sweepAt) return false;
    let isMore = false;
    attempt(() => {
      isMore = this.#sweep();
      this.noteWrites();
    });
    this.#sweepAt = performance.now() + (isMore ? SWEEP_AGAIN_MS : SWEEP_EVERY_MS);
    return isMore;
  }

  /** Removes some of what has expired, or gives some room back; tells if there is more. */
  #sweep(): boolean {
    const now = Math.floor(this.#clock());
    const before = now - RESULT_GRACE_MS;
    const connection = { sql: this.#sql, database: this.#database };
    if (this.#sql.hasExpired.get(now, before)?.found === 1) {
      return atomically(connection, true, () => sweep(this.#sql, now, before));
    }
    const free = this.#sql.freePages.get()?.freelist_count ?? 0;
    if (free < SPARE_PAGES) return false;
    this.#database.prepare(`PRAGMA incremental_vacuum(${VACUUM_PAGES})`).all();
    const isMore = free - VACUUM_PAGES >= SPARE_PAGES;
    if (!isMore) this.#longLog = 1; // the file is cut when the log is moved into it
    return isMore;
  }
}

function attempt(act: () => void): void {
  try {
    act();
  } catch {
    // Busy or full: whoever has work to do finds out.
  }
}

/** Removes some rows of each kind that have expired, results and news `before` then; tells if there may be more. */
function sweep(sql: Statements, now: number, before: number): boolean {
  const swept = [
    sql.sweepPayloads.run(now, SWEEP_ROWS),
    sql.sweepResults.run(before, SWEEP_ROWS),
    sql.sweepProgress.run(now, SWEEP_ROWS),
    sql.sweepNews.run(before, SWEEP_ROWS),
  ];
  sql.sweepLocks.run(now);
  sql.sweepWorkers.run(now);
  sql.sweepHealth.run(now);
  return swept.some(({ changes }) => Number(changes) === SWEEP_ROWS);
}

/** How many pages stand in the log alone. */
function unsavedPages(state: LogState | undefined): number {
  return state ? Math.max(0, state.log - state.checkpointed) : 0;
}
