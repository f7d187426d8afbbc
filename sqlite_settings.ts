/**
 * Where an embedded store is: its connection string, checked and taken apart.
 * @module
 */
import { resolve } from "node:path";
import { durationMs } from "./duration.ts";
import { SettingsError } from "./errors.ts";
import { checkKeys, parseQuery, show } from "./validation.ts";

/** The path that stands for a store in memory. */
export const MEMORY = ":memory:";

/** An embedded store: where it is, and how long a call on it may take. */
export interface SqliteTarget {
  /** The file's absolute path, or `:memory:`. */
  readonly path: string;
  /** What sets one group of queues apart from others in the same file. */
  readonly prefix: string;
  /** How long a call may take while other processes keep the file busy. */
  readonly timeoutMs: number;
}

/** What a connection string says, which need not name a prefix. */
export type ParsedSqliteUrl = Omit<SqliteTarget, "prefix"> & {
  readonly prefix: string | undefined;
};

const SCHEME = /^sqlite:/i;
const QUERY_KEYS = ["prefix", "timeout"];
const TIMEOUT_MS = 10_000;

/** Whether a connection string means an embedded store. */
export function isSqliteUrl(connection: string): boolean {
  return SCHEME.test(connection);
}

/**
 * Reads a connection string: `sqlite:PATH`, percent-encoded where the path has a `?` or `%`, or
 * `sqlite::memory:`. The query may set `prefix` and `timeout`, in milliseconds.
 *
 * @throws {SettingsError} listing every problem.
 */
export function parseSqliteUrl(connection: string): ParsedSqliteUrl {
  const [, encodedPath = "", query = ""] = /^sqlite:([^?]*)\??(.*)$/is.exec(connection) ?? [];
  const entries: Readonly<Record<string, string>> = Object.fromEntries(parseQuery(query));
  const problems = checkKeys(entries, QUERY_KEYS);
  const path = readPath(encodedPath, problems);
  const timeoutMs = readTimeout(entries.timeout, problems);
  if (problems.length > 0) throw new SettingsError("connection settings", problems);
  return { path, prefix: entries.prefix, timeoutMs };
}

function readPath(encoded: string, problems: string[]): string {
  if (encoded === MEMORY) return MEMORY;
  if (encoded === "") problems.push("sqlite: must be followed by a path or by :memory:");
  if (/^\/\/(?!\/)/.test(encoded)) {
    problems.push(`a path follows sqlite: without //, as in sqlite:queue.db; got ${show(encoded)}`);
  }
  try {
    const path = decodeURIComponent(encoded);
    if (path.includes("\0")) problems.push("a path has no NUL character");
    return resolve(path);
  } catch {
    problems.push(`a path must be percent-encoded (write % as %25), got ${show(encoded)}`);
    return encoded;
  }
}

function readTimeout(text: string | undefined, problems: string[]): number {
  if (text === undefined) return TIMEOUT_MS;
  try {
    return durationMs("timeout", text.trim() === "" ? NaN : Number(text), 1);
  } catch {
    problems.push(`timeout must be a number of 1 or more, got ${show(text)}`);
    return TIMEOUT_MS;
  }
}

/** Where a store is, for logs and errors. */
export function sqliteAddress(path: string): string {
  return `sqlite:${path}`;
}
