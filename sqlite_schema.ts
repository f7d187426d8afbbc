/**
 * The tables of the embedded store, and how a file becomes one, or is refused and left alone.
 * @module
 */
import { statSync } from "node:fs";
import { dirname } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { QueueConnectionError } from "./errors.ts";
import { isGranted } from "./permissions.ts";
import { MEMORY, sqliteAddress } from "./sqlite_settings.ts";
import type { Statements } from "./sqlite_statements.ts";

/** A page has 512 bytes at least. */
const SMALLEST_DATABASE = 512;
/** "arqS": marks a file as ours, so that no other program's database is ever taken for one. */
const APPLICATION_ID = 0x61727153;

/**
 * The steps that lead from an empty file to the schema of today; a file's `user_version` counts
 * those it has. A step that was released is never changed: changes are new steps.
 *
 * - `spaces`: the prefixes, which set groups of queues apart.
 * - `queues`: the queues with the number of their entries, so that nobody has to count.
 * - `jobs`: one row for each job that waits or runs. `score` orders the queue: the due time, or the
 *   lease's end while the job runs. A lease has `lease_until`, `locked_until` (5 ms less), its
 *   `token`, and the score from before in `lease_score`. A row with `lease_score` alone was enqueued
 *   anew after its lease had run out.
 * - `payloads`: the encoded jobs, apart so that a lease is set and renewed without writing them.
 * - `results`: the encoded results. Their numbers only grow, so that other processes see what is
 *   new. One that is not to be kept has expired from the start, and stands there for these alone.
 *   One that is kept has its queue, whether it is a success, and when it ended.
 * - `locks`: ids of unique cron jobs that are refused for a while after the job's end.
 * - `health`: the workers' signs of life.
 * - `workers`: what live workers report of themselves.
 * - `counts`: what ended in a minute, by name, and under minute 0 since counting began.
 * - `jobs.watched_until`: as long as that somebody wants to hear of a job's steps.
 * - `progress`: what jobs have told of their progress.
 * - `news`: the steps of jobs that are watched, numbered as results are. They stand there for other
 *   processes, for some seconds.
 */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE spaces (
    space INTEGER PRIMARY KEY,
    prefix TEXT NOT NULL UNIQUE
  ) STRICT;
  CREATE TABLE queues (
    queue INTEGER PRIMARY KEY,
    space INTEGER NOT NULL,
    name TEXT NOT NULL,
    entries INTEGER NOT NULL DEFAULT 0,
    UNIQUE (space, name)
  ) STRICT;
  CREATE TABLE jobs (
    job INTEGER PRIMARY KEY,
    space INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    queue INTEGER NOT NULL,
    score INTEGER NOT NULL,
    starts INTEGER NOT NULL DEFAULT 0,
    handbacks INTEGER NOT NULL DEFAULT 0,
    abort_asked INTEGER NOT NULL DEFAULT 0,
    token TEXT,
    locked_until INTEGER,
    lease_until INTEGER,
    lease_score INTEGER,
    UNIQUE (space, job_id)
  ) STRICT;
  CREATE INDEX jobs_by_score ON jobs (queue, score);
  CREATE INDEX jobs_by_lease ON jobs (queue, lease_until) WHERE lease_until IS NOT NULL;
  CREATE TABLE payloads (
    job INTEGER PRIMARY KEY,
    expires_at INTEGER NOT NULL,
    payload BLOB NOT NULL
  ) STRICT;
  CREATE INDEX payloads_by_expiry ON payloads (expires_at);
  CREATE TABLE results (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    space INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    expires_at INTEGER,
    record BLOB NOT NULL,
    UNIQUE (space, job_id)
  ) STRICT;
  CREATE INDEX results_by_expiry ON results (expires_at) WHERE expires_at IS NOT NULL;
  CREATE TABLE locks (
    space INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (space, job_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE health (
    space INTEGER NOT NULL,
    key TEXT NOT NULL,
    text TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (space, key)
  ) STRICT, WITHOUT ROWID;
`,
  `
  ALTER TABLE queues ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE results ADD COLUMN queue INTEGER;
  ALTER TABLE results ADD COLUMN success INTEGER;
  ALTER TABLE results ADD COLUMN finished_at INTEGER;
  CREATE INDEX results_by_end ON results (queue, success, finished_at) WHERE queue IS NOT NULL;
  CREATE TABLE workers (
    queue INTEGER NOT NULL,
    worker_id TEXT NOT NULL,
    record TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (queue, worker_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE counts (
    queue INTEGER NOT NULL,
    minute INTEGER NOT NULL,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (queue, minute, name)
  ) STRICT, WITHOUT ROWID;
`,
  `
  ALTER TABLE jobs ADD COLUMN watched_until INTEGER;
  CREATE TABLE progress (
    space INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    at INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    nth INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (space, job_id)
  ) STRICT;
  CREATE INDEX progress_by_expiry ON progress (expires_at);
  CREATE TABLE news (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    space INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    starts INTEGER NOT NULL,
    number INTEGER NOT NULL,
    value BLOB
  ) STRICT;
`,
];

/**
 * What holds for each connection.
 *
 * - `busy_timeout`: a busy file is tried again by timers, not by a call that blocks the event loop.
 * - `synchronous=NORMAL`: with a write-ahead log a transaction is in the system's hands when it
 *   commits, so it survives any end of the process. A power cut may take back the last ones, those
 *   that the system had not written to the disk yet; the file stays sound.
 * - `wal_autocheckpoint`: the store moves the log into the file itself, earlier than this and never
 *   while somebody waits for a commit.
 * - `journal_size_limit`: a log that has grown is cut back once its content is in the file.
 */
const CONNECTION_PRAGMAS = `
  PRAGMA busy_timeout = 0;
  PRAGMA synchronous = NORMAL;
  PRAGMA wal_autocheckpoint = 4000;
  PRAGMA journal_size_limit = 4194304;
  PRAGMA cache_size = -16000;
  PRAGMA temp_store = MEMORY;
  PRAGMA trusted_schema = OFF;
`;

/** What makes a connection: the class of `node:sqlite`, loaded by whoever needs it. */
export type DatabaseClass = new (path: string) => DatabaseSync;

/**
 * Opens a file as a store, making or upgrading its tables. What cannot be one is left as it is.
 *
 * @throws {QueueConnectionError} if it cannot be a store.
 * @throws what `node:sqlite` throws, "busy" among it: then it may be tried again.
 */
export function openSqlite(
  Database: DatabaseClass,
  path: string,
  migrations: readonly string[] = MIGRATIONS,
): DatabaseSync {
  if (path !== MEMORY) checkFile(path);
  const database = new Database(path);
  try {
    const version = checkOwner(database, path, migrations.length);
    database.exec(CONNECTION_PRAGMAS);
    if (version === 0) {
      database.exec("PRAGMA auto_vacuum = INCREMENTAL"); // before the first write, or never
      database.exec("PRAGMA journal_mode = WAL");
    }
    migrate(database, path, migrations);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function checkFile(path: string): void {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats?.isDirectory()) throw unusable(path, "it is a directory");
  if (stats && !stats.isFile()) throw unusable(path, "it is no regular file");
  // SQLite would take the shortest files for empty ones.
  if (stats && stats.size > 0 && stats.size < SMALLEST_DATABASE) {
    throw unusable(path, "it is not a database");
  }
}

/** The file's version, 0 if it is empty; throws if it belongs to somebody else or the future. */
function checkOwner(database: DatabaseSync, path: string, known: number): number {
  const version = pragma(database, "user_version");
  if (pragma(database, "application_id") !== APPLICATION_ID) {
    const objects = database.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get();
    if (objects !== undefined || version !== 0) {
      throw unusable(path, "it is the database of another program");
    }
  }
  if (version > known) throw tooNew(path, version, known);
  return version;
}

function tooNew(path: string, version: number, known: number): QueueConnectionError {
  const reason = `its schema has version ${version}, made by a newer version of this library, ` +
    `which knows up to version ${known} here`;
  return unusable(path, reason);
}

/** Throws if another process has upgraded the file since it was opened. */
export function checkVersion(sql: Statements, path: string): void {
  const version = sql.schemaVersion.get()?.user_version ?? 0;
  if (version > MIGRATIONS.length) throw tooNew(path, version, MIGRATIONS.length);
}

/** What tells one file from another that may take its path; undefined for no file. */
export function fileIdentity(path: string): string | undefined {
  if (path === MEMORY) return undefined;
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats && `${stats.dev}:${stats.ino}`;
}

/** Runs the steps that are missing, all or none; proves with it that the file can be written. */
function migrate(database: DatabaseSync, path: string, migrations: readonly string[]): void {
  database.prepare("BEGIN IMMEDIATE").run();
  try {
    const version = checkOwner(database, path, migrations.length);
    for (const step of migrations.slice(version)) database.exec(step);
    database.exec(`PRAGMA user_version = ${migrations.length}`); // fails where nobody may write
    if (version === migrations.length) database.prepare("ROLLBACK").run();
    else {
      database.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
      database.prepare("COMMIT").run();
    }
  } catch (error) {
    if (database.isTransaction) database.prepare("ROLLBACK").run();
    throw error;
  }
}

function pragma(database: DatabaseSync, name: string): number {
  return Number(database.prepare(`PRAGMA ${name}`).get()?.[name]);
}

/** SQLite's numbers for what goes wrong. */
const CODE = {
  error: 1,
  busy: 5,
  locked: 6,
  readOnly: 8,
  ioError: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  notDatabase: 26,
} as const;
const CODES_BY_TEXT: readonly (readonly [text: string, code: number])[] = [
  ["locked", CODE.busy],
  ["readonly", CODE.readOnly],
  ["disk I/O error", CODE.ioError],
  ["malformed", CODE.corrupt],
  ["is full", CODE.full],
  ["unable to open", CODE.cannotOpen],
  ["not a database", CODE.notDatabase],
];

/** An error of the system, such as `ENOTDIR`. */
const SYSTEM_ERROR = /^E[A-Z]+$/;

/**
 * SQLite's number for what went wrong, also where the system said it before SQLite was asked;
 * undefined if it is neither. Deno's errors often lack it.
 */
function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("code" in error)) return;
  if (SYSTEM_ERROR.test(String(error.code))) return CODE.cannotOpen;
  if (error.code !== "ERR_SQLITE_ERROR") return;
  if ("errcode" in error && typeof error.errcode === "number") return error.errcode & 0xff;
  return CODES_BY_TEXT.find(([text]) => error.message.includes(text))?.[1] ?? CODE.error;
}

/** Whether another process holds the file, so that the same may work soon. */
export function isBusy(error: unknown): boolean {
  const code = sqliteCode(error);
  return code === CODE.busy || code === CODE.locked;
}

/** The error with one line that says what is wrong with the file; others stay as they are. */
export function explainSqlite(path: string, error: unknown, timeoutMs: number): unknown {
  if (error instanceof Error && error.name === "NotCapable") {
    return unusable(path, `Deno needs --allow-read=${path} --allow-write=${path}`, error);
  }
  const code = sqliteCode(error);
  if (code === undefined) return error;
  return unusable(path, reasonOf(code, path, (error as Error).message, timeoutMs), error);
}

function reasonOf(code: number, path: string, message: string, timeoutMs: number): string {
  switch (code) {
    case CODE.busy:
    case CODE.locked:
      return `other processes kept it busy for ${timeoutMs / 1_000} s`;
    case CODE.readOnly:
      return "it is read-only: this process needs to write the file and its folder";
    case CODE.ioError:
      return `reading or writing it failed, is the disk full? (${message})`;
    case CODE.corrupt:
      return `it is damaged (${message})`;
    case CODE.full:
      return "the disk is full";
    case CODE.cannotOpen:
      return hasFolder(path)
        ? "it cannot be opened: this process needs to read and write the file and its folder"
        : `there is no folder ${dirname(path)}`;
    case CODE.notDatabase:
      return "it is not a database";
    default:
      return message;
  }
}

function hasFolder(path: string): boolean {
  const folder = dirname(path);
  if (!isGranted("read", { path: folder })) return true; // nobody may know
  try {
    return statSync(folder).isDirectory();
  } catch (error) {
    return (error as { readonly code?: unknown }).code !== "ENOENT";
  }
}

/** The error of a store that cannot be used. */
export function unusable(path: string, reason: string, cause?: unknown): QueueConnectionError {
  return new QueueConnectionError(`Cannot use ${sqliteAddress(path)}: ${reason}`, { cause });
}
