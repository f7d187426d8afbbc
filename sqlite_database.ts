/**
 * One open file, or memory, shared by all stores of the process that name it.
 *
 * It knows the numbers of prefixes and queues, and tells this process what was written, by itself or
 * by others.
 * @module
 */
import { hasDue, queueState, type Scope } from "./sqlite_operations.ts";
import { type Connection, SqliteRunner } from "./sqlite_runner.ts";
import type { Clock } from "./sqlite_tidying.ts";
import { MEMORY } from "./sqlite_settings.ts";
import { Signals } from "./sqlite_signals.ts";
import type { Query } from "./sqlite_query.ts";
import type { FeedRow, NewsRow, ResultRow, Statements } from "./sqlite_statements.ts";
import type { Feed } from "./sqlite_feed.ts";
import type { ClaimReply } from "./store.ts";

/** Which queue of which prefix is meant. */
export interface QueueRef {
  readonly prefix: string;
  readonly queueName?: string;
}

const CHECK_TIMEOUT_MS = 1_000;
/** No row has this number. */
const NOWHERE = -1;

/** The numbers of a prefix and of a queue; undefined where nothing was ever stored. */
interface RowIds {
  readonly space?: number;
  readonly queue?: number;
}

/** The open databases that the stores of this process share. */
const shared = new Map<string, SqliteDatabase>();

/** One open file, or memory. */
export class SqliteDatabase {
  readonly path: string;
  readonly signals: Signals;
  readonly #clock: Clock;
  readonly #runner: SqliteRunner;
  readonly #spaces: Map<string, number> = new Map();
  readonly #queues: Map<string, number> = new Map();
  #users = 0;
  #isChecking = false;
  /** The file's version when changes of others were last looked at. */
  #version = 0;

  /** Use {@linkcode SqliteDatabase.acquire}. */
  constructor(path: string, clock: Clock) {
    this.path = path;
    this.#clock = clock;
    this.#runner = new SqliteRunner(path, clock, () => this.#forgetIds());
    const logPath = path === MEMORY ? undefined : `${path}-wal`;
    this.signals = new Signals(logPath, () => this.#checkChanges());
  }

  /** The process's one handle for a path; with a clock of its own a store gets its own handle. */
  static acquire(path: string, clock: Clock | undefined): SqliteDatabase {
    const known = clock ? undefined : shared.get(path);
    const database = known ?? new SqliteDatabase(path, clock ?? Date.now);
    if (!clock) shared.set(path, database);
    database.#users++;
    return database;
  }

  /** Closes the file once nobody uses it any more; what lives in memory is gone then. */
  release(): void {
    if (--this.#users > 0) return;
    if (shared.get(this.path) === this) shared.delete(this.path);
    this.signals.close();
    this.#runner.close();
  }

  /**
   * Opens the file, once for all its users.
   *
   * @throws {QueueConnectionError} if it cannot be used.
   */
  async open(timeoutMs: number): Promise<void> {
    await this.#runner.open(timeoutMs);
    if (this.#version !== 0) return;
    this.#version = await this.#runner.submit(timeoutMs, false, ({ sql }) => {
      const version = readVersion(sql);
      return () => version;
    });
  }

  /** Does `work` in a transaction that may write. */
  write<T>(ref: QueueRef, timeoutMs: number, work: (scope: Scope) => T): Promise<T> {
    return this.#runner.submit(
      timeoutMs,
      true,
      (connection) => this.#write(connection, ref, work),
    );
  }

  /** Does `work` in a transaction that only reads; then, in order with what others ask for, `after`. */
  read<T, R = T>(
    ref: QueueRef,
    timeoutMs: number,
    work: (scope: Scope) => T,
    after?: (result: T) => R,
  ): Promise<R> {
    return this.#runner.submit(timeoutMs, false, ({ sql }) => {
      const scope = this.#scope(sql, this.#findIds(sql, ref));
      const result = work(scope);
      return () => {
        announceAll(this.signals.ends, scope.finished, false);
        return after ? after(result) : result as unknown as R;
      };
    });
  }

  /** Does `look`, which only reads; and `work`, which may write, where it returns undefined. */
  readOrWrite<T>(
    ref: QueueRef,
    timeoutMs: number,
    look: (scope: Scope) => T | undefined,
    work: (scope: Scope) => T,
  ): Promise<T> {
    return this.#runner.submit(timeoutMs, false, (connection, mayWrite) => {
      const { sql } = connection;
      const scope = this.#scope(sql, this.#findIds(sql, ref));
      const seen = look(scope);
      if (seen !== undefined) {
        return () => {
          announceAll(this.signals.ends, scope.finished, false);
          return seen;
        };
      }
      return mayWrite ? this.#write(connection, ref, work) : undefined;
    });
  }

  /** Waits on a queue to be woken. */
  async wait(ref: Required<QueueRef>, owner: object): Promise<boolean> {
    const woken = this.signals.wait(queueKey(ref), owner);
    this.#checkChanges(); // others may have written since the last claim
    return await woken;
  }

  /** Wakes a worker that waits in this process; others notice by themselves. */
  wake(ref: Required<QueueRef>): void {
    this.signals.wake(queueKey(ref));
  }

  /** Forgets a wake-up that no worker has taken. */
  clearMark(ref: Required<QueueRef>): void {
    this.signals.clearMark(queueKey(ref));
  }

  /** Notes what a worker of this process was told: of what comes earlier it is to be woken. */
  noteClaim(ref: Required<QueueRef>, reply: ClaimReply): void {
    this.signals.noteNext(queueKey(ref), reply);
  }

  /** Calls back at a job's end, whoever records it. */
  onEnd(
    ref: QueueRef,
    jobId: string,
    timeoutMs: number,
    listener: (row: ResultRow) => void,
  ): Promise<AsyncDisposable> {
    const { ends } = this.signals;
    return this.#subscribe(ends, (sql) => sql.lastResult, ref, jobId, timeoutMs, listener);
  }

  /** Calls back at each step of a job that is watched, whoever takes it. */
  onNews(
    ref: QueueRef,
    jobId: string,
    timeoutMs: number,
    listener: (row: NewsRow) => void,
  ): Promise<AsyncDisposable> {
    const { news } = this.signals;
    return this.#subscribe(news, (sql) => sql.lastNews, ref, jobId, timeoutMs, listener);
  }

  /** Does `work`; returns what tells of it. */
  #write<T>(connection: Connection, ref: QueueRef, work: (scope: Scope) => T): () => T {
    const { sql } = connection;
    const isUpToDate = this.signals.isListening && !this.signals.hasMore &&
      readVersion(sql) === this.#version;
    const scope = this.#scope(sql, this.#makeIds(sql, ref));
    const result = work(scope);
    if (scope.entries !== 0) sql.addEntries.run(scope.entries, scope.queue);
    return () => {
      this.#tell(ref, scope, isUpToDate);
      return result;
    };
  }

  #scope(sql: Statements, { space = NOWHERE, queue = NOWHERE }: RowIds): Scope {
    const now = Math.floor(this.#clock());
    return { sql, now, space, queue, entries: 0, wakes: false, finished: [], news: [] };
  }

  /** Numbers that were given in a transaction that was undone must not be used. */
  #forgetIds(): void {
    this.#spaces.clear();
    this.#queues.clear();
  }

  /** The numbers of a prefix and a queue, as far as they have any. */
  #findIds(sql: Statements, { prefix, queueName }: QueueRef): RowIds {
    const space = remember(this.#spaces, prefix, () => sql.findSpace.get(prefix)?.space);
    if (space === undefined || queueName === undefined) return { space };
    const queue = remember(
      this.#queues,
      queueKey({ prefix, queueName }),
      () => sql.findQueue.get(space, queueName)?.queue,
    );
    return { space, queue };
  }

  /** The same, given where missing; remembered only when read back, for this may be undone. */
  #makeIds(sql: Statements, ref: QueueRef): RowIds {
    const found = this.#findIds(sql, ref);
    const space = found.space ?? Number(sql.addSpace.run(ref.prefix).lastInsertRowid);
    if (ref.queueName === undefined || found.queue !== undefined) return { ...found, space };
    return { space, queue: Number(sql.addQueue.run(space, ref.queueName).lastInsertRowid) };
  }

  /** Tells this process what a transaction has done. */
  #tell({ prefix, queueName }: QueueRef, scope: Scope, isUpToDate: boolean): void {
    if (scope.wakes && queueName !== undefined) this.signals.wake(queueKey({ prefix, queueName }));
    announceAll(this.signals.news, scope.news, isUpToDate);
    announceAll(this.signals.ends, scope.finished, isUpToDate);
  }

  /** Looks at what other processes have written, once the event loop is free. */
  #checkChanges(): void {
    if (this.path === MEMORY || this.#isChecking) return;
    this.#isChecking = true;
    const check = this.#runner.submit(CHECK_TIMEOUT_MS, false, ({ sql }) => {
      const version = readVersion(sql);
      const hasChanged = version !== this.#version;
      const queues = hasChanged ? this.#queuesWithWork(sql) : [];
      const tellNews = hasChanged || this.signals.hasMore ? this.#catchUp(sql) : () => {};
      return () => {
        this.#version = version;
        tellNews();
        for (const key of queues) this.signals.wake(key);
      };
    });
    // A failure is none of a waiter's business: the next look, by a timer, does what this one left.
    check.then(() => this.signals.hasMore, () => false).then((goesOn) => {
      this.#isChecking = false;
      if (goesOn) this.#checkChanges();
    });
  }

  /** Reads what others tell; a job's last steps come before its end. */
  #catchUp(sql: Statements): () => void {
    const { news, ends } = this.signals;
    const tellNews = news.catchUp({ newRows: sql.newNews, rowAt: sql.newsAt });
    const tellEnds = ends.catchUp({ newRows: sql.newResults, rowAt: sql.resultAt });
    return () => {
      tellNews();
      if (!news.hasMore) tellEnds();
    };
  }

  /** Queues that have work for a worker that waits in this process. */
  #queuesWithWork(sql: Statements): string[] {
    return this.signals.waitedQueues.filter((key) => {
      const scope = this.#scope(sql, this.#findIds(sql, refOf(key)));
      const isEarlier = this.signals.noteNext(key, queueState(scope));
      return hasDue(scope) || isEarlier;
    });
  }

  async #subscribe<Row extends FeedRow>(
    feed: Feed<Row>,
    last: (sql: Statements) => Query<[], { readonly seq: number }>,
    ref: QueueRef,
    jobId: string,
    timeoutMs: number,
    listener: (row: Row) => void,
  ): Promise<AsyncDisposable> {
    if (!this.#spaces.has(ref.prefix)) await this.write(ref, timeoutMs, () => {});
    const start = ({ sql, space }: Scope) => ({ seq: last(sql).get()?.seq ?? 0, space });
    return await this.read(ref, timeoutMs, start, ({ seq, space }) => {
      const subscription = feed.subscribe(space, jobId, seq, listener);
      this.signals.start();
      return { [Symbol.asyncDispose]: () => Promise.resolve(subscription[Symbol.dispose]()) };
    });
  }
}

function announceAll<Row extends FeedRow>(
  feed: Feed<Row>,
  rows: readonly Row[],
  isUpToDate: boolean,
): void {
  for (const row of rows) {
    feed.announce(row);
    if (isUpToDate) feed.noteAnnounced(row.seq);
  }
}

function readVersion(sql: Statements): number {
  return sql.dataVersion.get()?.data_version ?? 0;
}

function remember(
  known: Map<string, number>,
  key: string,
  find: () => number | undefined,
): number | undefined {
  const found = known.get(key) ?? find();
  if (found !== undefined) known.set(key, found);
  return found;
}

function queueKey({ prefix, queueName }: Required<QueueRef>): string {
  return JSON.stringify([prefix, queueName]);
}

function refOf(key: string): QueueRef {
  const [prefix, queueName] = JSON.parse(key);
  return { prefix, queueName };
}
