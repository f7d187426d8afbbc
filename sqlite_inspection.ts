/**
 * The operators' side of the embedded store.
 * @module
 */
import { Buffer } from "node:buffer";
import { drop, isLocked, isPaused, putEntry, type Scope, stored } from "./sqlite_operations.ts";
import type { EndRow, WaitingRow } from "./sqlite_inspection_statements.ts";
import { idOf, storedId } from "./sqlite_statements.ts";
import type {
  Counts,
  FailureCount,
  JobList,
  JobState,
  ListedJob,
  ListPage,
  LiveWorker,
  PageQuery,
  QueueNumbers,
  Removal,
  Retrial,
  SeenJob,
  StoreInspection,
  WorkerReport,
} from "./store_inspection.ts";

/** Does work on a queue in a transaction. */
export type Transact = <T>(queueName: string | undefined, work: (scope: Scope) => T) => Promise<T>;

/** A page has no more bytes of jobs than this and one job. */
const PAGE_BYTES = 4 << 20;
/** Counts of minutes are kept for so many, those of all times under a minute of their own. */
const KEPT_MINUTES = 182;
const TOTALS = 0;
/** Comes after every position. */
const LAST = Number.MAX_SAFE_INTEGER;

/** Inspection of queues in a SQLite file or in memory. */
export class SqliteInspection implements StoreInspection {
  readonly #read: Transact;
  readonly #write: Transact;

  /** Takes what does work in a transaction that only reads, and in one that may write. */
  constructor(read: Transact, write: Transact) {
    this.#read = read;
    this.#write = write;
  }

  async setPaused(queueName: string, paused: boolean): Promise<void> {
    await this.#write(queueName, (scope) => {
      scope.sql.setPaused.run(paused ? 1 : 0, scope.queue);
      scope.wakes = !paused;
    });
  }

  remove(queueName: string, jobId: string): Promise<Removal> {
    return this.#write(queueName, (scope) => remove(scope, storedId(jobId)));
  }

  async page(queueName: string, query: PageQuery): Promise<ListPage> {
    const after = query.after === undefined ? undefined : parsePosition(query.after);
    return await this.#read(queueName, (scope) => page(scope, query, after));
  }

  view(queueName: string, jobId: string): Promise<SeenJob> {
    return this.#read(queueName, (scope) => view(scope, storedId(jobId)));
  }

  countFailed(queueName: string, since: number | undefined = 0): Promise<FailureCount> {
    return this.#read(queueName, ({ sql, queue, now }) => {
      return { count: sql.countFailed.get(queue, since)?.count ?? 0, now };
    });
  }

  retry(
    queueName: string,
    jobs: readonly Retrial[],
    extraMs: number,
  ): Promise<boolean[]> {
    return this.#write(queueName, (scope) => jobs.map((job) => retry(scope, job, extraMs)));
  }

  report(queueName: string, report: WorkerReport): Promise<void> {
    return this.#write(queueName, (scope) => addReport(scope, report));
  }

  numbers(queueName: string, minutes: number): Promise<QueueNumbers> {
    return this.#read(queueName, (scope) => readNumbers(scope, minutes));
  }

  workers(queueName: string): Promise<readonly LiveWorker[]> {
    return this.#read(queueName, ({ sql, queue, now }) => {
      const rows = sql.listWorkers.all(queue, now);
      return rows.map(({ worker_id: workerId, record }) => ({ workerId, record }));
    });
  }

  queueNames(): Promise<readonly string[]> {
    return this.#read(
      undefined,
      ({ sql, space }) => sql.listQueues.all(space).map(({ name }) => name),
    );
  }
}

function remove(scope: Scope, jobId: string): Removal {
  const { sql, space, queue, now } = scope;
  const row = sql.findJob.get(space, jobId);
  const entry = row?.queue === queue ? row : undefined;
  if (entry && isLocked(entry, now)) return "running";
  const results = Number(sql.dropResult.run(space, jobId, now).changes);
  if (entry) drop(scope, entry.job);
  if (!entry && results === 0) return "not_found";
  sql.dropProgress.run(space, jobId);
  return "removed";
}

type Position = readonly [sortKey: number, row: number];

function page(scope: Scope, query: PageQuery, after: Position | undefined): ListPage {
  const rows = readRows(scope, query, after);
  const jobs: ListedJob[] = [];
  let room = PAGE_BYTES;
  let last: WaitingRow | EndRow | undefined;
  for (const row of rows) {
    if (room <= 0) return { jobs, next: positionOf(last) };
    last = row;
    const state = "record" in row ? endState(scope, row) : waitingState(scope, row, query.list);
    if (!state) continue;
    room -= (state.payload?.length ?? 0) + (state.result?.length ?? 0);
    jobs.push({ ...state, jobId: idOf(row.job_id), at: row.at, position: positionOf(row) });
  }
  return { jobs, next: rows.length < query.limit ? undefined : positionOf(last) };
}

function readRows(
  { sql, queue, now }: Scope,
  { list, since = 0, until = LAST, oldestFirst = false, limit }: PageQuery,
  after: Position | undefined,
): readonly (WaitingRow | EndRow)[] {
  const notDue = laterOf(after, [now, LAST]);
  switch (list) {
    case "in_progress":
      return sql.pageRunning.all(queue, ...notDue, LAST, limit);
    case "queued":
      return sql.pageWaiting.all(queue, ...laterOf(after, [0, 0]), now, limit);
    case "deferred":
      return sql.pageWaiting.all(queue, ...notDue, LAST, limit);
  }
  const success = list === "complete" ? 1 : 0;
  if (oldestFirst) {
    return sql.pageEnds.all(queue, success, ...laterOf(after, [since, 0]), until, limit);
  }
  const before = after === undefined || after[0] > until ? [until, LAST] as const : after;
  return sql.pageEndsBack.all(queue, success, ...before, since, limit);
}

function laterOf(after: Position | undefined, start: Position): Position {
  return after === undefined || after[0] < start[0] ? start : after;
}

/** Undefined for a job that belongs to another list by now. */
function waitingState(scope: Scope, row: WaitingRow, list: JobList): JobState | undefined {
  const { sql, space, now } = scope;
  const locked = isLocked(row, now);
  if (locked !== (list === "in_progress")) return undefined;
  const payload = sql.readPayload.get(row.row, now)?.payload ?? null;
  if (!payload && sql.hasResult.get(space, row.job_id, now)) return undefined;
  return { payload, result: null, locked, starts: row.starts };
}

function endState({ now }: Scope, { expires_at, record }: EndRow): JobState | undefined {
  if (expires_at !== null && expires_at <= now) return undefined;
  return { payload: null, result: record, locked: false, starts: 0 };
}

function view({ sql, space, queue, now }: Scope, jobId: string): SeenJob {
  const row = sql.findJob.get(space, jobId);
  return {
    payload: row && sql.readPayload.get(row.job, now)?.payload || null,
    result: sql.readResult.get(space, jobId, now)?.record ?? null,
    locked: row !== undefined && isLocked(row, now),
    starts: row?.starts ?? 0,
    score: row?.queue === queue ? row.score : undefined,
    now,
  };
}

function retry(scope: Scope, { jobId, result, payload }: Retrial, extraMs: number): boolean {
  const { sql, space, now } = scope;
  const id = storedId(jobId);
  const found = sql.readResult.get(space, id, now)?.record;
  if (!found || Buffer.compare(found, result) !== 0) return false;
  if (sql.findJob.get(space, id)) return false;
  const job = putEntry(scope, id, stored(now), undefined);
  sql.putPayload.run(job, stored(now + extraMs), payload);
  sql.dropResult.run(space, id, now);
  sql.dropProgress.run(space, id);
  sql.dropLock.run(space, id); // the tail of a slot, which would keep the job waiting
  scope.wakes = true;
  return true;
}

/** Nothing is added twice here: a transaction that was not known to be done was not. */
function addReport(scope: Scope, report: WorkerReport): void {
  const { sql, queue, now } = scope;
  const { workerId, record, ttlMs, minute, totals } = report;
  if (ttlMs === 0) sql.dropWorker.run(queue, workerId);
  else sql.putWorker.run(queue, workerId, record, stored(now + ttlMs));
  const thisMinute = minuteOf(now);
  for (const [name, count] of minute) sql.addCount.run(queue, thisMinute, name, count);
  for (const [name, count] of totals) sql.addCount.run(queue, TOTALS, storedId(name), count);
  if (minute.size > 0) sql.dropCounts.run(queue, thisMinute - KEPT_MINUTES);
}

function readNumbers(scope: Scope, minutes: number): QueueNumbers {
  const { sql, queue, now } = scope;
  const inProgress = sql.countHeld.get(queue, now)?.count ?? 0;
  const all = sql.countEntries.get(queue)?.entries ?? 0;
  const due = countDue(scope, all);
  const counts = new Map<number, Map<string, number>>();
  for (const { minute, name, count } of sql.listCounts.all(queue, minuteOf(now) - minutes + 1)) {
    const known = counts.get(minute);
    if (known) known.set(idOf(name), count);
    else counts.set(minute, new Map([[idOf(name), count]]));
  }
  const totals: Counts = counts.get(TOTALS) ?? new Map();
  counts.delete(TOTALS);
  return {
    now,
    paused: isPaused(scope),
    due,
    deferred: Math.max(0, all - due - inProgress),
    inProgress,
    oldestDueAt: due > 0 ? sql.firstScore.get(queue)?.score : undefined,
    totals,
    minutes: [...counts].map(([minute, counts]) => ({ minute, counts })),
  };
}

/** Counts whichever are fewer: the entries that are due or those that are not. */
function countDue({ sql, queue, now }: Scope, all: number): number {
  for (let limit = 1_000;; limit *= 4) {
    const due = sql.countDue.get(queue, now, limit)?.count ?? 0;
    if (due < limit) return due;
    const notDue = sql.countNotDue.get(queue, now, limit)?.count ?? 0;
    if (notDue < limit) return all - notDue;
  }
}

function minuteOf(now: number): number {
  return Math.floor(now / 60_000);
}

function positionOf(row: WaitingRow | EndRow | undefined): string {
  return row ? `${row.sort_key}_${row.row}` : "0_0";
}

function parsePosition(text: string): Position {
  const [, sortKey, row] = /^(\d{1,16})_(\d{1,16})$/.exec(text) ?? [];
  if (sortKey !== undefined && row !== undefined) return [Number(sortKey), Number(row)];
  throw new RangeError(`cursor must be that of a page, got "${text}"`);
}
