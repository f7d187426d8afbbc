/**
 * The SQL of the embedded store: each statement under a comment that states its contract.
 *
 * All run inside a transaction of `sqlite_database.ts`; `now` is always the store's clock. An
 * `expires_at` that has come means that the row is gone, whether it was removed yet or not.
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import { INSPECTION_SQL } from "./sqlite_inspection_statements.ts";
import { count, LARGEST, type Prepared, sql, whole } from "./sqlite_query.ts";
import type { ProgressReport } from "./store.ts";

/** A job that waits or runs; `expires_at` is null once its payload was swept away. */
export interface JobRow {
  readonly job: number;
  readonly queue: number;
  readonly score: number;
  readonly starts: number;
  readonly handbacks: number;
  readonly token: string | null;
  readonly locked_until: number | null;
  readonly lease_until: number | null;
  readonly lease_score: number | null;
  readonly watched_until: number | null;
  readonly expires_at: number | null;
}

/** A job to be claimed. */
export interface DueRow {
  readonly job: number;
  readonly job_id: string;
  /** Its score in the queue: for an orphan the one from before its lease. */
  readonly score: number;
  readonly starts: number;
  readonly handbacks: number;
  readonly abort_asked: number;
  readonly watched_until: number | null;
}

/** A job whose lease is held. */
export interface HeldRow {
  readonly job: number;
  readonly job_id: string;
  readonly token: string | null;
  readonly lease_score: number;
  readonly starts: number;
  readonly watched_until: number | null;
}

/** An entry of a queue. */
export interface EntryRow {
  readonly job: number;
  readonly job_id: string;
  readonly score: number;
  readonly payload: Uint8Array | null;
}

/** What each row has that tells something of a job to whoever waits for it. */
export interface FeedRow {
  /** The row's number; it only grows. */
  readonly seq: number;
  /** The number of the job's prefix. */
  readonly space: number;
  /** The job's id, as it is stored. */
  readonly job_id: string;
}

/** A result that was recorded. */
export interface ResultRow extends FeedRow {
  readonly record: Uint8Array;
}

/** A step of a job that is watched. */
export interface NewsRow extends FeedRow {
  readonly at: number;
  readonly kind: "started" | "progress" | "retried";
  readonly starts: number;
  /** The number of a report, or the time until which the job waits. */
  readonly number: number;
  readonly value: Uint8Array | null;
}

/** How long the log is; both are -1 where there is none. */
export interface LogState {
  readonly log: number;
  readonly checkpointed: number;
}

/** What a claim reads of a job; `score` says where its score in the queue stands. */
const dueRow = (score: string) =>
  `job, job_id, ${whole(score, "score")}, ${count("starts")}, ` +
  `${count("handbacks")}, abort_asked = 1 AS abort_asked, ${whole("watched_until")}`;
/** An orphan without the score from before has the oldest. */
const ORPHAN = dueRow("coalesce(lease_score, 1)");

const SQL = {
  /** Names a prefix; once named it stays. */
  addSpace: sql<[prefix: string]>("INSERT INTO spaces (prefix) VALUES (?)"),
  /** The number of a prefix. */
  findSpace: sql<[prefix: string], { readonly space: number }>(
    "SELECT space FROM spaces WHERE prefix = ?",
  ),
  /** Names a queue; once named it stays. */
  addQueue: sql<[space: number, name: string]>("INSERT INTO queues (space, name) VALUES (?, ?)"),
  /** The number of a queue. */
  findQueue: sql<[space: number, name: string], { readonly queue: number }>(
    "SELECT queue FROM queues WHERE space = ? AND name = ?",
  ),
  /** Adds to the number of a queue's entries. */
  addEntries: sql<[count: number, queue: number]>(
    "UPDATE queues SET entries = entries + ? WHERE queue = ?",
  ),
  /** How many entries a queue has. */
  countEntries: sql<[queue: number], { readonly entries: number }>(
    "SELECT entries FROM queues WHERE queue = ?",
  ),
  /** How many entries the queues of a prefix have. */
  countAllEntries: sql<[space: number], { readonly entries: number }>(
    "SELECT coalesce(sum(entries), 0) AS entries FROM queues WHERE space = ?",
  ),

  /** One job by its id, with the expiry of its payload. */
  findJob: sql<[space: number, jobId: string], JobRow>(`
    SELECT job, queue, ${whole("score")}, ${count("starts")}, ${count("handbacks")}, token,
      ${whole("locked_until")}, ${whole("lease_until")}, ${whole("lease_score")},
      ${whole("watched_until")}, ${whole("expires_at")}
    FROM jobs LEFT JOIN payloads USING (job) WHERE space = ? AND job_id = ?`),
  /** A new entry; nothing if the id has one. */
  addJob: sql<[space: number, jobId: string, queue: number, score: number]>(
    "INSERT OR IGNORE INTO jobs (space, job_id, queue, score) VALUES (?, ?, ?, ?)",
  ),
  /**
   * Makes an entry a new incarnation: no start, no abort, no lease. Of a lease that ran out in the
   * same queue the score stays, so that a late success is known.
   */
  renewJob: sql<[queue: number, score: number, job: number]>(`
    UPDATE jobs SET lease_score = iif(queue = ?1, lease_score, NULL), queue = ?1, score = ?2,
      starts = 0, handbacks = 0, abort_asked = 0, token = NULL, locked_until = NULL,
      lease_until = NULL
    WHERE job = ?3`),
  /** Stores a job's payload, over that of an earlier incarnation. */
  putPayload: sql<[job: number, expiresAt: number, payload: Uint8Array]>(
    "INSERT OR REPLACE INTO payloads (job, expires_at, payload) VALUES (?, ?, ?)",
  ),
  /** A job's payload, unless it has expired. */
  readPayload: sql<[job: number, now: number], { readonly payload: Uint8Array }>(
    "SELECT payload FROM payloads WHERE job = ? AND expires_at > ?",
  ),
  /** Removes a job's entry, and its lease with it. */
  dropJob: sql<[job: number]>("DELETE FROM jobs WHERE job = ?"),
  /** Removes a job's payload. */
  dropPayload: sql<[job: number]>("DELETE FROM payloads WHERE job = ?"),

  /** Jobs whose lease has run out and whose next try is not the last yet, the longest ago first. */
  findOrphans: sql<[queue: number, now: number, lastTry: number, limit: number], DueRow>(`
    SELECT ${ORPHAN} FROM jobs
    WHERE queue = ? AND lease_until <= ? AND starts + 1 - handbacks < ?
    ORDER BY lease_until, lease_score, job LIMIT ?`),
  /** The job whose lease has run out the longest ago, of those whose next try is the last. */
  findSuspect: sql<[queue: number, now: number, lastTry: number], DueRow>(`
    SELECT ${ORPHAN} FROM jobs
    WHERE queue = ? AND lease_until <= ? AND starts + 1 - handbacks >= ?
    ORDER BY lease_until, lease_score, job LIMIT 1`),
  /** Jobs that are due and no orphans, by score and then as they came; locked ids are passed over. */
  findDue: sql<[queue: number, now: number, limit: number], DueRow>(`
    SELECT ${dueRow("jobs.score")} FROM jobs WHERE queue = ?1 AND score <= ?2
    AND lease_until IS NULL AND NOT EXISTS (
      SELECT 1 FROM locks
      WHERE locks.space = jobs.space AND locks.job_id = jobs.job_id AND locks.expires_at > ?2
    ) ORDER BY jobs.score, job LIMIT ?3`),
  /** Whether anything is due, orphans among it. */
  anyDue: sql<[queue: number, now: number], object>(`
    SELECT 1 FROM jobs WHERE queue = ?1 AND score <= ?2 AND NOT EXISTS (
      SELECT 1 FROM locks
      WHERE locks.space = jobs.space AND locks.job_id = jobs.job_id AND locks.expires_at > ?2
    ) LIMIT 1`),
  /** The first score that is not due yet. */
  nextScore: sql<[queue: number, now: number], { readonly score: number }>(`
    SELECT ${whole("score")} FROM jobs WHERE queue = ? AND score > ?
    ORDER BY jobs.score LIMIT 1`),
  /** Sets a lease and counts a start. */
  takeLease: sql<
    [
      leaseUntil: number,
      lockedUntil: number,
      score: number,
      token: string,
      starts: number,
      job: number,
    ]
  >(`
    UPDATE jobs SET score = ?1, lease_until = ?1, locked_until = ?2, lease_score = ?3, token = ?4,
      starts = ?5
    WHERE job = ?6`),
  /** Sets a lease anew, under the token of whoever showed that it is theirs. */
  renewLease: sql<[leaseUntil: number, lockedUntil: number, token: string, job: number]>(`
    UPDATE jobs SET score = ?1, lease_until = ?1, locked_until = ?2, token = ?3 WHERE job = ?4`),
  /** Ends a lease and gives the job a score in the queue; without a start there was no hand-back. */
  giveBack: sql<[score: number, starts: number, handbacks: number, job: number]>(`
    UPDATE jobs SET score = ?1, starts = ?2, token = NULL, locked_until = NULL, lease_until = NULL,
      lease_score = NULL, handbacks = iif(?2 = 0, 0, min(handbacks, ${2 ** 31}) + ?3)
    WHERE job = ?4`),
  /** Forgets the lease of an earlier incarnation. */
  forgetLease: sql<[job: number]>("UPDATE jobs SET lease_score = NULL WHERE job = ?"),
  /** All leases of a queue that have not run out. */
  findHeld: sql<[queue: number, now: number], HeldRow>(`
    SELECT job, job_id, token, ${whole("lease_score")}, ${count("starts")},
      ${whole("watched_until")}
    FROM jobs
    WHERE queue = ? AND lease_until IS NOT NULL AND locked_until > ?`),
  /** Asks for a job's abort. */
  askAbort: sql<[job: number]>("UPDATE jobs SET abort_asked = 1 WHERE job = ?"),
  /** A job whose abort was asked for. */
  findAbort: sql<[space: number, jobId: string], { readonly asked: number }>(
    "SELECT 1 AS asked FROM jobs WHERE space = ? AND job_id = ? AND abort_asked = 1",
  ),
  /**
   * Entries of a queue that come after one, in order of score, if it is one; payloads unless expired.
   * Many may have the same score: each half begins at its position in the index, however far that is.
   */
  pageEntries: sql<
    [now: number, queue: number, afterScore: number, afterJob: number, limit: number],
    EntryRow
  >(`
    SELECT page.job, job_id, score, payload FROM (
      SELECT job, job_id, score FROM jobs WHERE queue = ?2 AND score = ?3 AND job > ?4
      UNION ALL SELECT job, job_id, score FROM jobs
      WHERE queue = ?2 AND score > max(?3, -${LARGEST} - 1) AND score <= ${LARGEST}
      ORDER BY score, job LIMIT ?5
    ) AS page LEFT JOIN payloads ON payloads.job = page.job AND payloads.expires_at > ?1
    ORDER BY score, page.job`),

  /** Records a result under a new number, over an earlier one of the same id. */
  putResult: sql<
    [
      space: number,
      jobId: string,
      expiresAt: number | null,
      record: Uint8Array,
      queue: number | null,
      success: number,
      finishedAt: number,
    ]
  >(`
    INSERT OR REPLACE INTO results (space, job_id, expires_at, record, queue, success, finished_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)`),
  /** A result, unless it has expired. */
  readResult: sql<[space: number, jobId: string, now: number], { readonly record: Uint8Array }>(`
    SELECT record FROM results
    WHERE space = ? AND job_id = ? AND (expires_at IS NULL OR expires_at > ?)`),
  /** Whether there is a result that has not expired. */
  hasResult: sql<[space: number, jobId: string, now: number], { readonly found: number }>(`
    SELECT 1 AS found FROM results
    WHERE space = ? AND job_id = ? AND (expires_at IS NULL OR expires_at > ?)`),
  /** A result, expired or not. */
  findResult: sql<[space: number, jobId: string], ResultRow>(
    "SELECT seq, space, job_id, record FROM results WHERE space = ? AND job_id = ?",
  ),
  /** Results of a prefix that come after one, by id. */
  pageResults: sql<[space: number, afterJobId: string, now: number, limit: number], ResultRow>(`
    SELECT seq, space, job_id, record FROM results
    WHERE space = ? AND job_id > ? AND (expires_at IS NULL OR expires_at > ?)
    ORDER BY job_id LIMIT ?`),
  /** Ids of results recorded after one, expired or not. */
  newResults: sql<[afterSeq: number, limit: number], FeedRow>(
    "SELECT seq, space, job_id FROM results WHERE seq > ? ORDER BY seq LIMIT ?",
  ),
  /** One result by number, expired or not. */
  resultAt: sql<[seq: number], ResultRow>(
    "SELECT seq, space, job_id, record FROM results WHERE seq = ?",
  ),
  /** The number of the last result ever recorded. */
  lastResult: sql<[], { readonly seq: number }>(
    "SELECT coalesce(max(seq), 0) AS seq FROM sqlite_sequence WHERE name = 'results'",
  ),

  /** Locks an id for a while. */
  putLock: sql<[space: number, jobId: string, expiresAt: number]>(
    "INSERT OR REPLACE INTO locks (space, job_id, expires_at) VALUES (?, ?, ?)",
  ),
  /** Whether an id is locked. */
  hasLock: sql<[space: number, jobId: string, now: number], { readonly found: number }>(
    "SELECT 1 AS found FROM locks WHERE space = ? AND job_id = ? AND expires_at > ?",
  ),

  /** Has a job's steps told for a while. */
  watch: sql<[until: number, space: number, jobId: string]>(
    "UPDATE jobs SET watched_until = ? WHERE space = ? AND job_id = ?",
  ),
  /** Tells a step of a job. */
  putNews: sql<
    [
      space: number,
      jobId: string,
      at: number,
      kind: NewsRow["kind"],
      starts: number,
      number: number,
      value: Uint8Array | null,
    ]
  >(`
    INSERT INTO news (space, job_id, at, kind, starts, number, value)
    VALUES (?, ?, ?, ?, ?, ?, ?)`),
  /** The steps after one, without what they say. */
  newNews: sql<[afterSeq: number, limit: number], FeedRow>(
    "SELECT seq, space, job_id FROM news WHERE seq > ? ORDER BY seq LIMIT ?",
  ),
  /** One step by number. */
  newsAt: sql<[seq: number], NewsRow>(`
    SELECT seq, space, job_id, at, kind, starts, number, value FROM news WHERE seq = ?`),
  /** The number of the last step ever told. */
  lastNews: sql<[], { readonly seq: number }>(
    "SELECT coalesce(max(seq), 0) AS seq FROM sqlite_sequence WHERE name = 'news'",
  ),
  /** Keeps what a job tells of its progress, over what it told before. */
  putProgress: sql<
    [
      space: number,
      jobId: string,
      expiresAt: number,
      at: number,
      starts: number,
      nth: number,
      value: Uint8Array,
    ]
  >(`
    INSERT OR REPLACE INTO progress (space, job_id, expires_at, at, starts, nth, value)
    VALUES (?, ?, ?, ?, ?, ?, ?)`),
  /** What a job told last. */
  readProgress: sql<[space: number, jobId: string, now: number], ProgressReport>(`
    SELECT at, starts, nth, value FROM progress
    WHERE space = ? AND job_id = ? AND expires_at > ?`),
  /** Keeps it longer. */
  renewProgress: sql<[expiresAt: number, space: number, jobId: string]>(
    "UPDATE progress SET expires_at = ? WHERE space = ? AND job_id = ?",
  ),
  /** Forgets what an earlier incarnation told. */
  dropProgress: sql<[space: number, jobId: string]>(
    "DELETE FROM progress WHERE space = ? AND job_id = ?",
  ),

  /** Writes a sign of life. */
  putHealth: sql<[space: number, key: string, text: string, expiresAt: number]>(
    "INSERT OR REPLACE INTO health (space, key, text, expires_at) VALUES (?, ?, ?, ?)",
  ),
  /** Reads a sign of life. */
  readHealth: sql<[space: number, key: string, now: number], { readonly text: string }>(
    "SELECT text FROM health WHERE space = ? AND key = ? AND expires_at > ?",
  ),
  /** Removes a sign of life. */
  dropHealth: sql<[space: number, key: string]>("DELETE FROM health WHERE space = ? AND key = ?"),

  /** Whether payloads, locks, progress or signs of life have expired, or results and news some time ago. */
  hasExpired: sql<[now: number, before: number], { readonly found: number }>(`
    SELECT EXISTS (SELECT 1 FROM payloads WHERE expires_at <= ?1)
      OR EXISTS (SELECT 1 FROM results WHERE expires_at <= ?2)
      OR EXISTS (SELECT 1 FROM locks WHERE expires_at <= ?1)
      OR EXISTS (SELECT 1 FROM progress WHERE expires_at <= ?1)
      OR EXISTS (SELECT 1 FROM (SELECT at FROM news ORDER BY seq LIMIT 1) WHERE at <= ?2)
      OR EXISTS (SELECT 1 FROM workers WHERE expires_at <= ?1)
      OR EXISTS (SELECT 1 FROM health WHERE expires_at <= ?1) AS found`),
  /** Removes up to so many expired payloads; their entries stay until a worker reports them. */
  sweepPayloads: sql<[now: number, limit: number]>(`
    DELETE FROM payloads WHERE job IN (SELECT job FROM payloads WHERE expires_at <= ? LIMIT ?)`),
  /** Removes up to so many expired results. */
  sweepResults: sql<[now: number, limit: number]>(`
    DELETE FROM results WHERE seq IN (SELECT seq FROM results WHERE expires_at <= ? LIMIT ?)`),
  /** Removes up to so much expired progress. */
  sweepProgress: sql<[now: number, limit: number]>(`
    DELETE FROM progress WHERE rowid IN (SELECT rowid FROM progress WHERE expires_at <= ? LIMIT ?)`),
  /** Removes up to so many of the oldest news. */
  sweepNews: sql<[before: number, limit: number]>(`
    DELETE FROM news WHERE seq IN (SELECT seq FROM news WHERE at <= ? ORDER BY seq LIMIT ?)`),
  /** Removes expired locks. */
  sweepLocks: sql<[now: number]>("DELETE FROM locks WHERE expires_at <= ?"),
  /** Removes expired signs of life. */
  sweepHealth: sql<[now: number]>("DELETE FROM health WHERE expires_at <= ?"),

  /** Starts a transaction that writes; fails at once if another process is writing. */
  begin: sql("BEGIN IMMEDIATE"),
  /** Starts a transaction that sees one state. */
  beginReading: sql("BEGIN"),
  /** Ends a transaction: what it wrote survives the end of the process. */
  commit: sql("COMMIT"),
  /** Undoes a transaction. */
  rollback: sql("ROLLBACK"),
  /** A number that changes when another connection has written. */
  dataVersion: sql<[], { readonly data_version: number }>("PRAGMA data_version"),
  /** How many pages the log has, and how many of them are in the file already. */
  measureLog: sql<[], LogState>("PRAGMA wal_checkpoint(NOOP)"),
  /** Moves the log's pages into the file, as far as nobody reads an older state. */
  checkpoint: sql<[], LogState>("PRAGMA wal_checkpoint(PASSIVE)"),
  /** The version of the file's schema. */
  schemaVersion: sql<[], { readonly user_version: number }>("PRAGMA user_version"),
  /** How many pages the file has. */
  pageCount: sql<[], { readonly page_count: number }>("PRAGMA page_count"),
  /** How large a page is, in bytes. */
  pageSize: sql<[], { readonly page_size: number }>("PRAGMA page_size"),
  /** How the journal is kept. */
  journalMode: sql<[], { readonly journal_mode: string }>("PRAGMA journal_mode"),
  /** How many pages are unused. */
  freePages: sql<[], { readonly freelist_count: number }>("PRAGMA freelist_count"),
  /** The library's version. */
  libraryVersion: sql<[], { readonly version: string }>("SELECT sqlite_version() AS version"),
};

const ALL = { ...SQL, ...INSPECTION_SQL };

/** The statements of one connection. */
export type Statements = Prepared<typeof ALL>;

/** Prepares all statements. */
export function prepareStatements(database: DatabaseSync): Statements {
  const prepared = Object.entries(ALL).map(([name, text]) => [name, database.prepare(text)]);
  return Object.fromEntries(prepared) as Statements;
}

/** Does `work` in a transaction: all of it, or on an error none. */
export function atomically<T>(
  { sql, database }: { readonly sql: Statements; readonly database: DatabaseSync },
  mayWrite: boolean,
  work: () => T,
): T {
  (mayWrite ? sql.begin : sql.beginReading).run();
  try {
    const result = work();
    sql.commit.run();
    return result;
  } catch (error) {
    if (database.isTransaction) sql.rollback.run();
    throw error;
  }
}

// Deno cuts a text that is read at its first NUL, so none is stored.
const NUL = "\0";
const ESCAPE = "\u0001";

/** An id as it is stored. */
export function storedId(jobId: string): string {
  if (!jobId.includes(NUL) && !jobId.includes(ESCAPE)) return jobId;
  return jobId.replaceAll(ESCAPE, `${ESCAPE}e`).replaceAll(NUL, `${ESCAPE}n`);
}

/** The id that is stored so. */
export function idOf(stored: string): string {
  if (!stored.includes(ESCAPE)) return stored;
  return stored.replaceAll(`${ESCAPE}n`, NUL).replaceAll(`${ESCAPE}e`, ESCAPE);
}
