/**
 * The SQL of the embedded store for operators; what holds in `sqlite_statements.ts` holds here.
 * @module
 */
import { count, LARGEST, sql, whole } from "./sqlite_query.ts";

/** An entry of a list of jobs that wait or run. */
export interface WaitingRow {
  readonly row: number;
  readonly job_id: string;
  /** When it is or was due. */
  readonly at: number;
  /** What the list is ordered by. */
  readonly sort_key: number;
  readonly starts: number;
  readonly locked_until: number | null;
}

/** An entry of a list of ends. */
export interface EndRow {
  readonly row: number;
  readonly job_id: string;
  readonly at: number;
  readonly sort_key: number;
  readonly expires_at: number | null;
  readonly record: Uint8Array;
}

type WaitingPage = [
  queue: number,
  afterKey: number,
  afterRow: number,
  until: number,
  limit: number,
];
type EndPage = [
  queue: number,
  success: number,
  afterKey: number,
  afterRow: number,
  bound: number,
  limit: number,
];

/** What a page of ends reads of each. */
const END_ROW = `seq AS row, job_id, finished_at AS at, finished_at AS sort_key,
      ${whole("expires_at")}, record`;

/** The statements for operators, each under its contract. */
export const INSPECTION_SQL = {
  /** Pauses a queue, or ends that. */
  setPaused: sql<[paused: number, queue: number]>("UPDATE queues SET paused = ? WHERE queue = ?"),
  /** Whether a queue is paused. */
  isPaused: sql<[queue: number], { readonly paused: number }>(
    "SELECT 1 AS paused FROM queues WHERE queue = ? AND paused = 1",
  ),
  /** Entries of a queue up to a score that come after one; many may have the same score. */
  pageWaiting: sql<WaitingPage, WaitingRow>(`
    SELECT job AS row, job_id, score AS at, score AS sort_key, ${count("starts")},
      ${whole("locked_until")}
    FROM jobs WHERE queue = ?1 AND score = ?2 AND job > ?3
    UNION ALL SELECT job, job_id, score, score, ${count("starts")}, ${whole("locked_until")}
    FROM jobs WHERE queue = ?1 AND score > ?2 AND score <= ?4
    ORDER BY sort_key, row LIMIT ?5`),
  /** Jobs whose lease ends up to a time and after that of one. */
  pageRunning: sql<WaitingPage, WaitingRow>(`
    SELECT job AS row, job_id, ${whole("lease_score", "at")}, lease_until AS sort_key,
      ${count("starts")}, ${whole("locked_until")}
    FROM jobs WHERE queue = ?1 AND (lease_until, job) > (?2, ?3) AND lease_until <= ?4
    ORDER BY lease_until, job LIMIT ?5`),
  /** Ends of a queue that were kept, come after one, and up to a time. */
  pageEnds: sql<EndPage, EndRow>(`
    SELECT ${END_ROW}
    FROM results WHERE queue = ?1 AND success = ?2 AND (finished_at, seq) > (?3, ?4)
      AND finished_at <= ?5 ORDER BY finished_at, seq LIMIT ?6`),
  /** Ends of a queue that were kept, come before one, and since a time; the last first. */
  pageEndsBack: sql<EndPage, EndRow>(`
    SELECT ${END_ROW}
    FROM results WHERE queue = ?1 AND success = ?2 AND (finished_at, seq) < (?3, ?4)
      AND finished_at >= ?5 ORDER BY finished_at DESC, seq DESC LIMIT ?6`),
  /** How many failures were kept since a time. */
  countFailed: sql<[queue: number, since: number], { readonly count: number }>(`
    SELECT count(*) AS count FROM results WHERE queue = ? AND success = 0 AND finished_at >= ?`),
  /** Notes a worker of a queue. */
  putWorker: sql<[queue: number, workerId: string, record: string, expiresAt: number]>(
    "INSERT OR REPLACE INTO workers (queue, worker_id, record, expires_at) VALUES (?, ?, ?, ?)",
  ),
  /** Removes a worker of a queue. */
  dropWorker: sql<[queue: number, workerId: string]>(
    "DELETE FROM workers WHERE queue = ? AND worker_id = ?",
  ),
  /** The live workers of a queue. */
  listWorkers: sql<
    [queue: number, now: number],
    { readonly worker_id: string; readonly record: string }
  >("SELECT worker_id, record FROM workers WHERE queue = ? AND expires_at > ? LIMIT 1000"),
  /** Adds to a count; minute 0 has those of all times. */
  addCount: sql<[queue: number, minute: number, name: string, count: number]>(`
    INSERT INTO counts (queue, minute, name, count) VALUES (?, ?, ?, ?)
    ON CONFLICT (queue, minute, name) DO UPDATE SET count = min(count, ${LARGEST}) + excluded.count`),
  /** The counts of a queue since a minute, and those of all times. */
  listCounts: sql<
    [queue: number, since: number],
    { readonly minute: number; readonly name: string; readonly count: number }
  >(`
    SELECT minute, name, ${whole("count")} FROM counts WHERE queue = ?1 AND minute = 0
    UNION ALL SELECT ${whole("minute")}, name, ${whole("count")}
    FROM counts WHERE queue = ?1 AND minute >= ?2`),
  /** Removes a queue's counts of minutes before one. */
  dropCounts: sql<[queue: number, before: number]>(
    "DELETE FROM counts WHERE queue = ? AND minute > 0 AND minute < ?",
  ),
  /** How many entries of a queue are due, counted as far as a limit. */
  countDue: sql<[queue: number, now: number, limit: number], { readonly count: number }>(`
    SELECT count(*) AS count
    FROM (SELECT 1 FROM jobs WHERE queue = ? AND score <= ? LIMIT ?)`),
  /** How many entries of a queue are not due, running ones too, counted as far as a limit. */
  countNotDue: sql<[queue: number, now: number, limit: number], { readonly count: number }>(`
    SELECT count(*) AS count
    FROM (SELECT 1 FROM jobs WHERE queue = ? AND score > ? LIMIT ?)`),
  /** How many leases of a queue are held. */
  countHeld: sql<[queue: number, now: number], { readonly count: number }>(
    "SELECT count(*) AS count FROM jobs WHERE queue = ? AND lease_until > ?",
  ),
  /** The first score of a queue. */
  firstScore: sql<[queue: number], { readonly score: number }>(
    `SELECT ${whole("score")} FROM jobs WHERE queue = ? ORDER BY jobs.score LIMIT 1`,
  ),
  /** The queues of a prefix. */
  listQueues: sql<[space: number], { readonly name: string }>(
    "SELECT name FROM queues WHERE space = ? ORDER BY name LIMIT 10000",
  ),
  /** Removes workers that have gone. */
  sweepWorkers: sql<[now: number]>("DELETE FROM workers WHERE expires_at <= ?"),
  /** Removes a result, unless it has expired: then others may still wait for it. */
  dropResult: sql<[space: number, jobId: string, now: number]>(`
    DELETE FROM results
    WHERE space = ? AND job_id = ? AND (expires_at IS NULL OR expires_at > ?)`),
  /** Ends the lock of an id. */
  dropLock: sql<[space: number, jobId: string]>("DELETE FROM locks WHERE space = ? AND job_id = ?"),
};
