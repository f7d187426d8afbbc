/**
 * The embedded store: queues in a file, shared by the processes of one machine, or in memory.
 * @module
 */
import { QueueConnectionError } from "./errors.ts";
import { type QueueRef, SqliteDatabase } from "./sqlite_database.ts";
import { SqliteInspection } from "./sqlite_inspection.ts";
import {
  abort,
  claim,
  enqueue,
  finish,
  giveBack,
  hasDue,
  hasJob,
  lookUp,
  observation,
  observe,
  queueState,
  readProgress,
  releaseUnknown,
  renew,
  report,
  type Scope,
} from "./sqlite_operations.ts";
import { untilAborted } from "./sleep.ts";
import { sqliteAddress, type SqliteTarget } from "./sqlite_settings.ts";
import { idOf, type NewsRow, storedId } from "./sqlite_statements.ts";
import type { Clock } from "./sqlite_tidying.ts";
import type {
  AbortReply,
  Claim,
  ClaimReply,
  ClaimRequest,
  Finish,
  FinishListener,
  GiveBack,
  JobNews,
  JobObservation,
  JobSnapshot,
  Lease,
  NewJob,
  NewProgress,
  NewsListener,
  ProgressReport,
  QueueEntry,
  Settled,
  Store,
  WakeLine,
} from "./store.ts";
import type { StoreInspection } from "./store_inspection.ts";

/** Jobs handled by one transaction, so that none holds the event loop for long. */
const BATCH = 32;
/** Rows read in one step where payloads or results are listed. */
const PAGE = 200;

/**
 * Queues in a SQLite file or in memory.
 *
 * Stores of one process that name the same file share one connection, and all that name
 * `:memory:` share one memory, which lasts as long as one of them is open. A store with a clock of
 * its own shares neither.
 */
export class SqliteStore implements Store {
  readonly prefix: string;
  readonly listChunk = 50;
  readonly address: string;
  readonly inspection: StoreInspection;
  readonly #target: SqliteTarget;
  readonly #clock: Clock | undefined;
  readonly #lines: Set<object> = new Set();
  readonly #closeListeners: Set<() => void> = new Set();
  #database: SqliteDatabase | undefined;

  /** Takes where the store is, and a clock for tests; does no I/O. */
  constructor(target: SqliteTarget, clock?: Clock) {
    this.#target = target;
    this.#clock = clock;
    this.prefix = target.prefix;
    this.address = sqliteAddress(target.path);
    this.inspection = new SqliteInspection(
      (...call) => this.#read(...call),
      (...call) => this.#write(...call),
    );
  }

  get client(): unknown {
    throw new TypeError(`${this.address} is no Redis, so there is no Redis client`);
  }

  get isOpen(): boolean {
    return this.#database !== undefined;
  }

  async connect(signal?: AbortSignal): Promise<void> {
    const { path, timeoutMs } = this.#target;
    const database = this.#database ??= SqliteDatabase.acquire(path, this.#clock);
    try {
      signal?.throwIfAborted();
      await untilAborted(database.open(timeoutMs), signal);
    } catch (error) {
      if (this.#database === database) await this.close();
      throw error;
    }
  }

  checkQueueName(_queueName: string): void {
    // Any name will do.
  }

  async describe(): Promise<{ readonly info: string; readonly warning?: string }> {
    return await this.#read(undefined, ({ sql, space }) => {
      const version = sql.libraryVersion.get()?.version;
      const pages = sql.pageCount.get()?.page_count ?? 0;
      const pageSize = sql.pageSize.get()?.page_size ?? 0;
      const jobs = sql.countAllEntries.get(space)?.entries ?? 0;
      const mode = sql.journalMode.get()?.journal_mode;
      const size = sizeText(pages * pageSize);
      return {
        info: `sqlite_version=${version} file_size=${size} jobs=${jobs}`,
        ...(mode !== "wal" && mode !== "memory" && {
          warning: `This file system has no shared memory: SQLite's journal_mode is ${mode}, so ` +
            "processes wait for each other more often",
        }),
      };
    });
  }

  onReconnect(_listener: () => void): Disposable {
    return { [Symbol.dispose]() {} }; // a file is never lost and found
  }

  onClose(listener: () => void): Disposable {
    this.#closeListeners.add(listener);
    return { [Symbol.dispose]: () => void this.#closeListeners.delete(listener) };
  }

  enqueue(queueName: string, jobs: readonly NewJob[], extraMs: number): Promise<boolean[]> {
    return this.#write(queueName, (scope) => enqueue(scope, jobs, extraMs));
  }

  async claim(queueName: string, request: ClaimRequest): Promise<ClaimReply> {
    const database = this.#open;
    const ref = { prefix: this.prefix, queueName };
    // Whoever finds nothing must not keep others from writing.
    const look = (scope: Scope) => {
      database.clearMark(ref);
      return hasDue(scope) ? undefined : queueState(scope);
    };
    const { limit, suspects } = request;
    const claims: Claim[] = [];
    for (;;) {
      const hasSuspect = claims.some(({ isSuspect }) => isSuspect);
      const part = {
        ...request,
        limit: Math.min(limit - claims.length, BATCH),
        suspects: suspects && { ...suspects, mayTake: suspects.mayTake && !hasSuspect },
      };
      const take = (scope: Scope) => claim(scope, part);
      const reply = await database.readOrWrite(ref, this.#target.timeoutMs, look, take);
      database.noteClaim(ref, reply);
      claims.push(...reply.claims);
      if (reply.claims.length < BATCH || claims.length === limit) return { ...reply, claims };
    }
  }

  renew(queueName: string, leases: readonly Lease[], leaseMs: number): Promise<boolean[]> {
    return this.#writeBatches(queueName, leases, (scope, some) => renew(scope, some, leaseMs));
  }

  finish(queueName: string, ends: readonly Finish[]): Promise<Settled[]> {
    return this.#writeBatches(queueName, ends, finish);
  }

  giveBack(queueName: string, jobs: readonly GiveBack[]): Promise<Settled[]> {
    return this.#writeBatches(queueName, jobs, giveBack);
  }

  releaseUnknown(queueName: string, holder: string, known: readonly Lease[]): Promise<number> {
    return this.#write(queueName, (scope) => releaseUnknown(scope, holder, known));
  }

  openWakeLine(queueName: string): WakeLine {
    const owner = {};
    this.#lines.add(owner);
    return {
      canClaim: false,
      disarm: async () => {},
      wait: async () => await this.#open.wait({ prefix: this.prefix, queueName }, owner),
      [Symbol.dispose]: () => {
        this.#lines.delete(owner);
        this.#database?.signals.stopWaiting(owner);
      },
    };
  }

  async wake(queueName: string): Promise<void> {
    await this.#open.wake({ prefix: this.prefix, queueName });
  }

  abort(
    queueName: string,
    jobId: string,
    record: Uint8Array,
    keepMs: number,
  ): Promise<AbortReply> {
    return this.#write(queueName, (scope) => abort(scope, jobId, record, keepMs));
  }

  findAborts(jobIds: readonly string[]): Promise<ReadonlySet<string>> {
    return this.#read(undefined, ({ sql, space }) => {
      const isAsked = (jobId: string) => sql.findAbort.get(space, storedId(jobId)) !== undefined;
      return new Set(jobIds.filter(isAsked));
    });
  }

  lookUp(queueName: string, jobId: string, withPayload: boolean): Promise<JobSnapshot> {
    return this.#read(queueName, (scope) => lookUp(scope, jobId, withPayload));
  }

  async onFinished(jobId: string, listener: FinishListener): Promise<AsyncDisposable> {
    const { timeoutMs } = this.#target;
    const onEnd = ({ record }: { readonly record: Uint8Array }) => listener(record);
    return await this.#open.onEnd(this.#ref(), storedId(jobId), timeoutMs, onEnd);
  }

  async report(
    queueName: string,
    reports: readonly NewProgress[],
    leaseMs: number,
  ): Promise<void> {
    await this.#writeBatches(queueName, reports, (scope, some) => {
      report(scope, some, leaseMs);
      return [];
    });
  }

  readProgress(jobId: string): Promise<ProgressReport | undefined> {
    return this.#read(undefined, (scope) => readProgress(scope, jobId));
  }

  async observe(
    queueName: string,
    jobId: string,
    watchMs: number,
    withPayload: boolean,
  ): Promise<JobObservation> {
    return await this.#open.readOrWrite(
      this.#ref(queueName),
      this.#target.timeoutMs,
      (scope) => hasJob(scope, jobId) ? undefined : observation(scope, jobId, withPayload),
      (scope) => observe(scope, jobId, watchMs, withPayload),
    );
  }

  async onNews(
    _queueName: string,
    jobId: string,
    listener: NewsListener,
  ): Promise<AsyncDisposable> {
    const { timeoutMs } = this.#target;
    const onNews = (row: NewsRow) => listener(newsOf(row));
    return await this.#open.onNews(this.#ref(), storedId(jobId), timeoutMs, onNews);
  }

  async queueEntries(queueName: string): Promise<QueueEntry[]> {
    const entries: QueueEntry[] = [];
    let [score, job] = [-Infinity, 0];
    for (;;) {
      const page = await this.#read(
        queueName,
        ({ sql, queue, now }) => sql.pageEntries.all(now, queue, score, job, PAGE),
      );
      for (const { job_id, score, payload } of page) {
        entries.push({ jobId: idOf(job_id), score, payload: payload ?? undefined });
      }
      const last = page.at(-1);
      if (!last || page.length < PAGE) return entries;
      [score, job] = [last.score, last.job];
    }
  }

  async *results(): AsyncIterable<{ readonly jobId: string; readonly record: Uint8Array }> {
    let after = "";
    for (;;) {
      const page = await this.#read(
        undefined,
        ({ sql, space, now }) => sql.pageResults.all(space, after, now, PAGE),
      );
      for (const { job_id, record } of page) yield { jobId: idOf(job_id), record };
      const last = page.at(-1);
      if (!last || page.length < PAGE) return;
      after = last.job_id;
    }
  }

  async writeHealth(key: string, text: string, ttlMs: number): Promise<void> {
    await this.#write(undefined, ({ sql, space, now }) => {
      sql.putHealth.run(space, key, text, Math.round(now + ttlMs));
    });
  }

  readHealth(key: string): Promise<string | undefined> {
    return this.#read(
      undefined,
      ({ sql, space, now }) => sql.readHealth.get(space, key, now)?.text,
    );
  }

  async removeHealth(key: string): Promise<void> {
    await this.#write(undefined, ({ sql, space }) => void sql.dropHealth.run(space, key));
  }

  close(): Promise<void> {
    for (const listener of [...this.#closeListeners]) listener();
    const database = this.#database;
    this.#database = undefined;
    for (const owner of this.#lines) database?.signals.stopWaiting(owner);
    this.#lines.clear();
    database?.release();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #open(): SqliteDatabase {
    if (this.#database) return this.#database;
    throw new QueueConnectionError(`Cannot use ${this.address}: it is closed`);
  }

  async #write<T>(queueName: string | undefined, work: (scope: Scope) => T): Promise<T> {
    return await this.#open.write(this.#ref(queueName), this.#target.timeoutMs, work);
  }

  async #read<T>(queueName: string | undefined, work: (scope: Scope) => T): Promise<T> {
    return await this.#open.read(this.#ref(queueName), this.#target.timeoutMs, work);
  }

  #ref(queueName?: string): QueueRef {
    return { prefix: this.prefix, queueName };
  }

  /** Writes in as many transactions as needed. */
  async #writeBatches<T, R>(
    queueName: string,
    items: readonly T[],
    work: (scope: Scope, some: readonly T[]) => R[],
  ): Promise<R[]> {
    const batches: Promise<R[]>[] = [];
    for (let i = 0; i < items.length; i += BATCH) {
      const some = items.slice(i, i + BATCH);
      batches.push(this.#write(queueName, (scope) => work(scope, some)));
    }
    return (await Promise.all(batches)).flat();
  }
}

function newsOf({ kind, at, starts, number, value }: NewsRow): JobNews {
  switch (kind) {
    case "started":
      return { kind, at, starts };
    case "progress":
      return { kind, at, starts, nth: number, value: value ?? new Uint8Array() };
    case "retried":
      return { kind, at, starts, dueAt: number };
  }
}

function sizeText(bytes: number): string {
  return bytes < 1 << 20 ? `${Math.ceil(bytes / 1024)}K` : `${(bytes / (1 << 20)).toFixed(1)}M`;
}
