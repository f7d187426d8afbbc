/**
 * From what a program says about its connection to the store it means.
 * @module
 */
import { SettingsError } from "./errors.ts";
import { parseDsn } from "./redis_dsn.ts";
import {
  type ExistingClient,
  existingClientKind,
  makeClient,
  NO_SILENT_REPEATS,
  type RawClient,
  type RedisSettings,
  resolveRedisSettings,
} from "./redis_settings.ts";
import { RedisStore } from "./redis_store.ts";
import { isSqliteUrl, parseSqliteUrl } from "./sqlite_settings.ts";
import { SqliteStore } from "./sqlite_store.ts";
import type { Store } from "./store.ts";
import { isOptions, show } from "./validation.ts";

const DEFAULT_PREFIX = "arq:";

/**
 * Makes the store, not connected yet; does no I/O.
 *
 * @throws {SettingsError | TypeError} if the connection cannot be one.
 */
export function openStore(
  connection: string | RedisSettings | ExistingClient,
  prefix: string | undefined,
): Store {
  if (typeof connection === "string") {
    if (isSqliteUrl(connection)) return sqliteStore(connection, prefix);
    const dsn = parseDsn(connection);
    checkPrefix(dsn.prefix);
    return redisStore(dsn.settings, prefix ?? dsn.prefix);
  }
  // A promise, of a pool that nobody has awaited, has no settings, and so would mean the defaults.
  if (!isOptions(connection) || connection instanceof Promise) {
    const forms = "a connection string, an object of settings or a Redis client";
    throw new TypeError(`A connection is ${forms}, got ${show(connection)}`);
  }
  const kind = existingClientKind(connection);
  if (kind === undefined) return redisStore(connection as RedisSettings, prefix);
  const given = connection as ExistingClient;
  const target = { ...resolveRedisSettings({}), kind, address: "the given client's server" };
  return new RedisStore(
    target,
    () => given.duplicate(NO_SILENT_REPEATS) as RawClient,
    prefix ?? DEFAULT_PREFIX,
    given,
  );
}

function redisStore(settings: RedisSettings, prefix: string | undefined): Store {
  const target = resolveRedisSettings(settings);
  return new RedisStore(
    target,
    (reconnect) => makeClient(target, reconnect),
    prefix ?? DEFAULT_PREFIX,
  );
}

function sqliteStore(connection: string, prefix: string | undefined): Store {
  const url = parseSqliteUrl(connection);
  checkPrefix(url.prefix);
  return new SqliteStore({ ...url, prefix: prefix ?? url.prefix ?? DEFAULT_PREFIX });
}

/** With an empty prefix the names of keys would be those of other programs. */
function checkPrefix(prefix: string | undefined): void {
  if (prefix !== "") return;
  const problem = "prefix must not be empty: write ?prefix=NAME: or leave it out";
  throw new SettingsError("connection settings", [problem]);
}
