/**
 * Does what is asked of one SQLite file: in order, several tasks in one transaction, and never for
 * long without giving the event loop its turn. A busy file is tried again by timers.
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import { sleep } from "./sleep.ts";
import {
  checkVersion,
  explainSqlite,
  fileIdentity,
  isBusy,
  openSqlite,
  unusable,
} from "./sqlite_schema.ts";
import { atomically, prepareStatements, type Statements } from "./sqlite_statements.ts";
import { type Clock, Tidying } from "./sqlite_tidying.ts";

/** Work is done for this long, then the event loop gets its turn. */
const SLICE_MS = 1;
/** Pauses before a busy file is tried again: they grow to this. */
const LONGEST_PAUSE_MS = 10;
/** How often to look whether the path still means the file that is open. */
const LOOK_EVERY_MS = 250;
/** How many tasks may share a transaction. */
const LARGEST_GROUP = 100;

/** An open file, with its statements. */
export interface Connection {
  readonly database: DatabaseSync;
  readonly sql: Statements;
  readonly tidying: Tidying;
}

/** Something asked for; several may be done in one transaction. */
interface Task {
  /** Whether the transaction must be one that may write. */
  writes: boolean;
  /**
   * Does it, perhaps again after its transaction was undone; returns what is to be done once it is
   * committed, or undefined if that needs a transaction that may write.
   */
  readonly run: (connection: Connection, mayWrite: boolean) => (() => void) | undefined;
  readonly reject: (error: unknown) => void;
  readonly timeoutMs: number;
  readonly deadline: number;
}

/** What a task does: it returns what gives its result once it is committed. */
export type Work<T> = (connection: Connection, mayWrite: boolean) => (() => T) | undefined;

/** The one connection of a process to a file. */
export class SqliteRunner {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #onUndone: () => void;
  readonly #tasks: Task[] = [];
  #connection: Connection | undefined;
  #opening: Promise<void> | undefined;
  #identity: string | undefined;
  #lookAt = 0;
  #isClosed = false;
  #isScheduled = false;
  /** How often in a row the file was busy. */
  #busyTimes = 0;
  /** How many tasks may share a transaction; one after an error, to find whose it is. */
  #groupSize: number = LARGEST_GROUP;

  /** Takes the path, the clock, and whom to tell when a transaction was undone. */
  constructor(path: string, clock: Clock, onUndone: () => void) {
    this.#path = path;
    this.#clock = clock;
    this.#onUndone = onUndone;
  }

  /** Opens the file, or joins the attempt that is under way. */
  open(timeoutMs: number): Promise<void> {
    this.#opening ??= this.#open(timeoutMs).then(() => this.#schedule(), (error) => {
      this.#opening = undefined;
      for (const { reject } of this.#tasks.splice(0)) reject(error);
      throw error;
    });
    return this.#opening;
  }

  /** Closes the file; what was not done yet is rejected. */
  close(): void {
    this.#isClosed = true;
    for (const { reject } of this.#tasks.splice(0)) reject(unusable(this.#path, "it was closed"));
    this.#connection?.database.close();
    this.#connection = undefined;
  }

  /**
   * Queues `work`, also while the file is being opened; what it returns is called once it is
   * committed, and gives the result.
   */
  submit<T>(
    timeoutMs: number,
    writes: boolean,
    work: Work<T>,
  ): Promise<T> {
    if (this.#isClosed || !this.#opening) {
      return Promise.reject(unusable(this.#path, "it is closed"));
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const run = (connection: Connection, mayWrite: boolean) => {
      const after = work(connection, mayWrite);
      return after && (() => settle(after, resolve, reject));
    };
    const deadline = performance.now() + timeoutMs;
    this.#tasks.push({ writes, run, reject, timeoutMs, deadline });
    if (this.#connection) this.#schedule();
    return promise;
  }

  async #open(timeoutMs: number): Promise<void> {
    const { DatabaseSync: Database } = await import("node:sqlite");
    const deadline = performance.now() + timeoutMs;
    for (let attempt = 1;; attempt++) {
      if (this.#isClosed) throw unusable(this.#path, "it was closed");
      try {
        const database = openSqlite(Database, this.#path);
        const sql = prepareStatements(database);
        this.#identity = fileIdentity(this.#path);
        this.#connection = { database, sql, tidying: new Tidying(database, sql, this.#clock) };
        return;
      } catch (error) {
        const isLast = !isBusy(error) || performance.now() > deadline;
        if (isLast) throw explainSqlite(this.#path, error, timeoutMs);
        await sleep(pauseMs(attempt));
      }
    }
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#work());
  }

  /** Does what is asked for, or what is to be tidied up, for a slice of time. */
  #work(): void {
    this.#isScheduled = false;
    if (!this.#connection) return;
    const { tidying } = this.#connection;
    let afters: readonly (() => void)[] = [];
    let isUntidy = false; // after an error, tidying up waits for the next task
    try {
      this.#checkFile();
      if (!tidying.step()) afters = this.#runGroup(this.#connection);
      isUntidy = tidying.isUrgent;
      this.#busyTimes = 0;
    } catch (error) {
      this.#onUndone();
      if (isBusy(error)) return this.#repeatLater(error);
      if (this.#groupSize > 1) this.#groupSize = 1; // which of them failed?
      else this.#fail(this.#tasks.shift(), error);
    }
    if (this.#tasks.length > 0 || isUntidy) this.#schedule();
    else this.#groupSize = LARGEST_GROUP;
    for (const after of afters) after();
  }

  /** Does the first tasks in one transaction; returns what is to be done now. */
  #runGroup(connection: Connection): readonly (() => void)[] {
    const tasks = this.#tasks.slice(0, this.#groupSize);
    if (tasks.length === 0) return [];
    const end = performance.now() + SLICE_MS;
    const mayWrite = tasks.some(({ writes }) => writes);
    const afters: (() => void)[] = [];
    atomically(connection, mayWrite, () => {
      checkVersion(connection.sql, this.#path);
      for (const task of tasks) {
        const after = task.run(connection, mayWrite);
        task.writes ||= after === undefined;
        if (after) afters.push(after);
        if (!after || performance.now() > end) break;
      }
    });
    if (mayWrite) connection.tidying.noteWrites();
    this.#tasks.splice(0, afters.length);
    return afters;
  }

  /** What is written to a file that nobody can find would be lost. */
  #checkFile(): void {
    const now = performance.now();
    if (now < this.#lookAt) return;
    if (fileIdentity(this.#path) !== this.#identity) {
      throw unusable(this.#path, "the file was removed or replaced while it was open");
    }
    this.#lookAt = now + LOOK_EVERY_MS;
  }

  #fail(task: Task | undefined, error: unknown): void {
    task?.reject(explainSqlite(this.#path, error, task.timeoutMs));
  }

  #repeatLater(error: unknown): void {
    const now = performance.now();
    const late = this.#tasks.filter(({ deadline }) => deadline < now);
    const left = this.#tasks.filter(({ deadline }) => deadline >= now);
    this.#tasks.splice(0, Infinity, ...left);
    for (const task of late) this.#fail(task, error);
    this.#isScheduled = true;
    setTimeout(() => this.#work(), pauseMs(++this.#busyTimes));
  }
}

/** Pauses grow with each attempt and differ, so that processes don't meet again and again. */
function pauseMs(attempt: number): number {
  return Math.min(attempt, LONGEST_PAUSE_MS) * (0.5 + Math.random());
}

function settle<T>(
  work: () => T,
  resolve: (value: T) => void,
  reject: (error: unknown) => void,
): void {
  try {
    resolve(work());
  } catch (error) {
    reject(error);
  }
}
