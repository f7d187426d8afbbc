/**
 * What is done to a queue of the embedded store, each operation inside one transaction.
 *
 * They keep the rules of the Redis scripts; whoever shows a lease's token owns the job.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Buffer } from "node:buffer";
import type {
  AbortReply,
  Claim,
  ClaimReply,
  ClaimRequest,
  Finish,
  GiveBack,
  JobObservation,
  JobSnapshot,
  Lease,
  NewJob,
  NewProgress,
  ProgressReport,
  Settled,
  SuspectRule,
} from "./store.ts";
import {
  type DueRow,
  idOf,
  type JobRow,
  type NewsRow,
  type ResultRow,
  type Statements,
  storedId,
} from "./sqlite_statements.ts";

/** What an operation works on: one queue at one instant. It notes here what follows from it. */
export interface Scope {
  readonly sql: Statements;
  readonly now: number;
  readonly space: number;
  readonly queue: number;
  /** By how much the queue's length has changed. */
  entries: number;
  /** Whether an idle worker is to be woken. */
  wakes: boolean;
  /** The ends of jobs to be told. */
  readonly finished: ResultRow[];
  /** The steps of jobs that are watched. */
  readonly news: NewsRow[];
}

const logger = getLogger(["arq", "sqlite"]);
/** The lock ends before the entry becomes due, so that no claim finds it locked. */
const LOCK_GAP_MS = 5;
/** What a job has told of its progress is kept this much longer than the lease it is renewed with. */
const PROGRESS_KEEP_MS = 600_000;
/** The last instant of a `Date`. */
const LAST_INSTANT = 8.64e15;
/** No job has as many tries. */
const NO_SUSPECTS: SuspectRule = { lastTry: Number.MAX_SAFE_INTEGER, mayTake: false };
/** A slot of a cron job that comes later than this is refused. */
const SLOT_LATE_MS = 60_000;

/** Accepts jobs; false stands for a taken id. */
export function enqueue(scope: Scope, jobs: readonly NewJob[], extraMs: number): boolean[] {
  let earliest = Infinity;
  const accepted = jobs.map((job) => {
    const score = scoreOf(scope, job);
    const isNew = accept(scope, job, score, extraMs);
    if (isNew) earliest = Math.min(earliest, score);
    return isNew;
  });
  if (earliest !== Infinity) wakeFor(scope, earliest);
  return accepted;
}

function scoreOf({ now }: Scope, { dueAt, deferMs = 0 }: NewJob): number {
  return stored(dueAt === undefined ? now + deferMs : Math.max(1, dueAt));
}

function accept(scope: Scope, job: NewJob, score: number, extraMs: number): boolean {
  const { sql, space, now } = scope;
  const jobId = storedId(job.jobId);
  const isGiven = job.idKind !== "random"; // a random one is new, so nobody has to look
  const row = isGiven ? sql.findJob.get(space, jobId) : undefined;
  if (isGiven && isTaken(scope, jobId, job, score, row)) return false;
  if (isGiven) sql.dropProgress.run(space, jobId);
  const key = putEntry(scope, jobId, score, row);
  const ttl = job.expiresMs ?? Math.max(score, now) - now + extraMs;
  sql.putPayload.run(key, stored(now + ttl), job.payload);
  if (job.slotId !== undefined) {
    sql.putLock.run(space, storedId(job.slotId), stored(score + SLOT_LATE_MS + 1));
  }
  return true;
}

/** Puts an id into the queue, over an earlier incarnation if there is one; returns the row's number. */
export function putEntry(
  scope: Scope,
  jobId: string,
  score: number,
  known: JobRow | undefined,
): number {
  const { sql, space, queue } = scope;
  if (known === undefined) {
    const { changes, lastInsertRowid } = sql.addJob.run(space, jobId, queue, score);
    if (Number(changes) === 1) {
      scope.entries++;
      return Number(lastInsertRowid);
    }
  }
  const row = known ?? sql.findJob.get(space, jobId) as JobRow;
  sql.renewJob.run(queue, score, row.job);
  if (row.queue !== queue) {
    sql.addEntries.run(-1, row.queue);
    scope.entries++;
  }
  return row.job;
}

function isTaken(
  scope: Scope,
  jobId: string,
  { idKind, slotId }: NewJob,
  score: number,
  row: JobRow | undefined,
): boolean {
  const { sql, space, now } = scope;
  if (row && (hasPayload(row, now) || isLocked(row, now))) return true;
  if (sql.hasResult.get(space, jobId, now)) return true;
  if (idKind !== "slot") return false;
  const slot = slotId === undefined ? jobId : storedId(slotId);
  return score < now - SLOT_LATE_MS || sql.hasLock.get(space, slot, now) !== undefined;
}

/** Takes due jobs, orphans first, of suspects one at the most, and sets a lease on each. */
export function claim(
  scope: Scope,
  { holder, limit, leaseMs, suspects = NO_SUSPECTS }: ClaimRequest,
): ClaimReply {
  const { lastTry, mayTake } = suspects;
  const { sql, queue, now } = scope;
  const token = `${holder}:${crypto.randomUUID()}`;
  const claims: Claim[] = [];
  const takeAll = (rows: readonly DueRow[]) => {
    for (const row of rows) {
      const taken = take(scope, row, token, leaseMs);
      if (taken) claims.push(taken);
    }
    return rows.length > 0 && claims.length < limit;
  };
  const orphans = () => sql.findOrphans.all(queue, now, lastTry, limit - claims.length);
  while (takeAll(orphans()));
  const mayTakeOne = mayTake && claims.length < limit;
  const suspect = mayTakeOne ? sql.findSuspect.get(queue, now, lastTry) : undefined;
  const taken = suspect && take(scope, suspect, token, leaseMs);
  if (taken) claims.push({ ...taken, isSuspect: true });
  if (claims.length < limit) {
    while (takeAll(sql.findDue.all(queue, now, limit - claims.length)));
  }
  const reply = { ...queueState(scope), claims };
  if (claims.length < limit || !hasDue(scope)) return reply;
  scope.wakes = true;
  return { ...reply, nextDueMs: 0 };
}

/** What a claim that finds nothing replies. */
export function queueState(scope: Scope): ClaimReply {
  const { sql, queue, now } = scope;
  const next = isPaused(scope) ? undefined : sql.nextScore.get(queue, now)?.score;
  const queued = (sql.countEntries.get(queue)?.entries ?? 0) + scope.entries;
  return { claims: [], now, nextDueMs: next === undefined ? undefined : next - now, queued };
}

/** Whether a claim would find something, as far as one can tell without writing. */
export function hasDue(scope: Scope): boolean {
  const { sql, queue, now } = scope;
  return sql.anyDue.get(queue, now) !== undefined && !isPaused(scope);
}

/** Whether a queue is paused. */
export function isPaused({ sql, queue }: Scope): boolean {
  return sql.isPaused.get(queue) !== undefined;
}

function take(scope: Scope, row: DueRow, token: string, leaseMs: number): Claim | undefined {
  const { sql, space, now } = scope;
  const { job, job_id, score, handbacks } = row;
  const payload = sql.readPayload.get(job, now)?.payload ?? null;
  if (payload === null && sql.hasResult.get(space, job_id, now)) return void drop(scope, job);
  const jobId = idOf(job_id);
  if (storedId(jobId) !== job_id) {
    logger.warn("Removed a job whose id nobody can have given: {job_id}", { job_id });
    return void drop(scope, job);
  }
  const starts = row.starts + 1;
  const jobToken = `${token}:${jobId}`;
  const lockedUntil = stored(now + leaseMs);
  sql.takeLease.run(lockedUntil + LOCK_GAP_MS, lockedUntil, score, storedId(jobToken), starts, job);
  if (payload !== null) tell(scope, row, job_id, "started", starts, 0, null);
  return {
    jobId,
    token: jobToken,
    score: String(score),
    payload,
    starts,
    handbacks,
    abortAsked: row.abort_asked === 1,
    isSuspect: false,
  };
}

/** Renews leases; false stands for one that is lost. */
export function renew(scope: Scope, leases: readonly Lease[], leaseMs: number): boolean[] {
  const lockedUntil = stored(scope.now + leaseMs);
  return leases.map((lease) => {
    const row = findEntry(scope, lease);
    if (!row || !isMine(scope, row, lease)) return false;
    const token = storedId(lease.token);
    scope.sql.renewLease.run(lockedUntil + LOCK_GAP_MS, lockedUntil, token, row.job);
    const keepUntil = stored(scope.now + leaseMs + PROGRESS_KEEP_MS);
    scope.sql.renewProgress.run(keepUntil, scope.space, storedId(lease.jobId));
    return true;
  });
}

/** Records how jobs ended: one result for an incarnation. A job enqueued anew meanwhile stays. */
export function finish(scope: Scope, ends: readonly Finish[]): Settled[] {
  return ends.map((end) => {
    const row = findEntry(scope, end.lease);
    if (!row || !isAccepted(scope, row, end)) return isRecorded(scope, end) ? "done" : "refused";
    if (row.lease_until === null) {
      scope.sql.forgetLease.run(row.job);
      scope.wakes = true;
    } else drop(scope, row.job);
    const { keepMs } = end;
    const jobId = storedId(end.lease.jobId);
    const expiresAt = keepMs === "forever" ? null : stored(scope.now + keepMs);
    record(scope, jobId, end.record, expiresAt, end.success);
    if (end.lockTailMs > 0) {
      scope.sql.putLock.run(scope.space, jobId, stored(scope.now + end.lockTailMs));
    }
    return "done";
  });
}

/** Puts jobs back into the queue. */
export function giveBack(scope: Scope, jobs: readonly GiveBack[]): Settled[] {
  return jobs.map(({ lease, kind, deferMs, starts }) => {
    const row = findEntry(scope, lease);
    if (!row || !isMine(scope, row, lease)) return "refused";
    const due = stored(deferMs === undefined ? Number(lease.score) : scope.now + deferMs);
    scope.sql.giveBack.run(due, starts, kind === "release" ? 1 : 0, row.job);
    wakeFor(scope, due);
    tell(scope, row, storedId(lease.jobId), "retried", starts, due, null);
    const expires = deferMs !== undefined && due > (row.expires_at ?? 0);
    return expires ? "expires_first" : "done";
  });
}

/** Releases leases of `holder` that are not among `known`. */
export function releaseUnknown(scope: Scope, holder: string, known: readonly Lease[]): number {
  const { sql, queue, now } = scope;
  const tokens = new Set(known.map(({ token }) => storedId(token)));
  const start = storedId(`${holder}:`);
  const lost = sql.findHeld.all(queue, now).filter(({ token }) =>
    token !== null && token.startsWith(start) && !tokens.has(token)
  );
  for (const row of lost) {
    const { job, lease_score, starts } = row;
    sql.giveBack.run(lease_score, starts, 1, job);
    tell(scope, row, row.job_id, "retried", starts, lease_score, null);
  }
  if (lost.length > 0) scope.wakes = true;
  return lost.length;
}

/** Aborts a job that nobody runs, or asks the worker that runs it to. */
export function abort(
  scope: Scope,
  givenId: string,
  result: Uint8Array,
  keepMs: number,
): AbortReply {
  const { sql, space, now } = scope;
  const jobId = storedId(givenId);
  const row = sql.findJob.get(space, jobId);
  if (!row) return "not_found";
  const isHeld = isLocked(row, now);
  if (!hasPayload(row, now) && !(isHeld && row.queue === scope.queue)) return "not_found";
  if (isHeld || row.queue !== scope.queue) {
    sql.askAbort.run(row.job);
    return "asked";
  }
  drop(scope, row.job);
  record(scope, jobId, result, stored(now + keepMs), false);
  return "aborted";
}

/**
 * Reads what is known of a job. Where nothing is, whoever listens for its end hears of one that was not
 * kept before the reply comes: the news of it may be far behind.
 */
export function lookUp(scope: Scope, givenId: string, withPayload: boolean): JobSnapshot {
  const { sql, space, queue, now } = scope;
  const jobId = storedId(givenId);
  const row = sql.findJob.get(space, jobId);
  const result = sql.readResult.get(space, jobId, now)?.record;
  const end = row || result ? undefined : sql.findResult.get(space, jobId);
  if (end) scope.finished.push(end);
  return {
    result,
    payload: withPayload && row ? sql.readPayload.get(row.job, now)?.payload : undefined,
    hasPayload: row !== undefined && hasPayload(row, now),
    locked: (row !== undefined && isLocked(row, now)) ||
      sql.hasLock.get(space, jobId, now) !== undefined,
    score: row?.queue === queue ? row.score : undefined,
    now,
  };
}

/** Keeps what jobs tell of their progress, and tells those who watch. */
export function report(scope: Scope, reports: readonly NewProgress[], leaseMs: number): void {
  const { sql, space, now } = scope;
  const expiresAt = stored(now + leaseMs + PROGRESS_KEEP_MS);
  for (const { lease, starts, nth, value } of reports) {
    const row = findEntry(scope, lease);
    if (!row || !isMine(scope, row, lease)) continue;
    const jobId = storedId(lease.jobId);
    sql.putProgress.run(space, jobId, expiresAt, now, starts, nth, value);
    tell(scope, row, jobId, "progress", starts, nth, value);
  }
}

/** What a job has reported last. */
export function readProgress(
  { sql, space, now }: Scope,
  jobId: string,
): ProgressReport | undefined {
  const row = sql.readProgress.get(space, storedId(jobId), now);
  return row && { ...row };
}

/** Whether a job waits or runs. */
export function hasJob({ sql, space }: Scope, jobId: string): boolean {
  return sql.findJob.get(space, storedId(jobId)) !== undefined;
}

/** Reads what is known of a job, and has its steps told from now on. */
export function observe(
  scope: Scope,
  jobId: string,
  watchMs: number,
  withPayload: boolean,
): JobObservation {
  scope.sql.watch.run(stored(scope.now + watchMs), scope.space, storedId(jobId));
  return observation(scope, jobId, withPayload);
}

/** Reads what is known of a job that may be watched. */
export function observation(scope: Scope, jobId: string, withPayload: boolean): JobObservation {
  const starts = scope.sql.findJob.get(scope.space, storedId(jobId))?.starts ?? 0;
  return {
    ...lookUp(scope, jobId, withPayload),
    starts,
    progress: readProgress(scope, jobId),
  };
}

/** Tells a step of a job, if somebody watches. */
function tell(
  { sql, space, now, news }: Scope,
  { watched_until: watchedUntil }: Pick<JobRow, "watched_until">,
  jobId: string,
  kind: NewsRow["kind"],
  starts: number,
  number: number,
  value: Uint8Array | null,
): void {
  if (watchedUntil === null || watchedUntil <= now) return;
  const { lastInsertRowid } = sql.putNews.run(space, jobId, now, kind, starts, number, value);
  const seq = Number(lastInsertRowid);
  news.push({ seq, space, job_id: jobId, at: now, kind, starts, number, value });
}

function record(
  scope: Scope,
  jobId: string,
  result: Uint8Array,
  expiresAt: number | null,
  success: boolean,
): void {
  const { sql, space, now, finished } = scope;
  const queue = expiresAt !== null && expiresAt <= now ? null : scope.queue;
  const { lastInsertRowid } = sql.putResult.run(
    space,
    jobId,
    expiresAt,
    result,
    queue,
    success ? 1 : 0,
    now,
  );
  finished.push({ seq: Number(lastInsertRowid), space, job_id: jobId, record: result });
}

/** Removes a job's entry and payload. */
export function drop(scope: Scope, job: number): void {
  scope.sql.dropJob.run(job);
  scope.sql.dropPayload.run(job);
  scope.entries--;
}

/** Wakes a worker for a job that is due now, or that becomes the next one to come. */
function wakeFor(scope: Scope, due: number): void {
  const { sql, queue, now } = scope;
  if (due <= now || sql.nextScore.get(queue, now)?.score === due) scope.wakes = true;
}

function findEntry({ sql, space, queue }: Scope, { jobId }: Lease): JobRow | undefined {
  const row = sql.findJob.get(space, storedId(jobId));
  return row?.queue === queue ? row : undefined;
}

/**
 * Is the job still held under this token? A lease that ran out while nobody else took the job is
 * still its holder's.
 */
function isMine({ now }: Scope, row: JobRow, { token, score }: Lease): boolean {
  if (row.lease_until === null) return false;
  if (isLocked(row, now)) return row.token === storedId(token);
  return row.lease_score === Number(score);
}

/** Is this the repetition of a call whose reply was lost? */
function isRecorded({ sql, space, now }: Scope, end: Finish): boolean {
  const found = sql.readResult.get(space, storedId(end.lease.jobId), now)?.record;
  return found !== undefined && Buffer.compare(found, end.record) === 0;
}

/** A success may come after the lease was lost, as long as nobody else has finished the job. */
function isAccepted(scope: Scope, row: JobRow, { lease, success }: Finish): boolean {
  return isMine(scope, row, lease) || (success && row.lease_score === Number(lease.score));
}

/** Whether a worker holds the job. */
export function isLocked(row: Pick<JobRow, "locked_until">, now: number): boolean {
  return row.locked_until !== null && row.locked_until > now;
}

function hasPayload(row: JobRow, now: number): boolean {
  return row.expires_at !== null && row.expires_at > now;
}

/** An instant as it is stored: whole milliseconds, none later than a `Date` can be. */
export function stored(ms: number): number {
  return Math.min(LAST_INSTANT, Math.round(ms));
}
