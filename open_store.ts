/**
 * From what a program says about its connection to the store it means.
 * @module
 */
import { SettingsError } from "./errors.ts";
import {
  type ExistingClient,
  existingClientKind,
  makeRawClient,
  NO_SILENT_REPEATS,
  type RawClient,
} from "./redis_clients.ts";
import { parseDsn } from "./redis_dsn.ts";
import { type RedisSettings, type RedisTarget, resolveRedisSettings } from "./redis_settings.ts";
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
  const kind = isOptions(connection) ? existingClientKind(connection) : undefined;
  if (kind !== undefined) return storeBeside(connection as ExistingClient, kind, prefix);
  if (mayBeSettings(connection)) return redisStore(connection as RedisSettings, prefix);
  const forms = "a connection string, an object of settings or a client of @redis/client";
  throw new TypeError(`A connection is ${forms}, got ${named(connection)}`);
}

/**
 * Whether this may be settings. A client of another package is none; nor is what has a class and no
 * settings, a promise of a pool for example, which would mean the defaults.
 */
function mayBeSettings(value: unknown): boolean {
  if (!isOptions(value) || "duplicate" in value) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null || Object.keys(value).length > 0;
}

/** Objects by their class alone, since a password may be in them. */
function named(value: unknown): string {
  if (typeof value !== "object" || value === null || value instanceof Promise) return show(value);
  return `an object of ${value.constructor?.name ?? "no class"}`;
}

function redisStore(settings: RedisSettings, prefix: string = DEFAULT_PREFIX): Store {
  const target = resolveRedisSettings(settings);
  return new RedisStore(target, (reconnect) => makeRawClient(target, reconnect), prefix);
}

/** A store whose clients are made like the one that the program has, which stays its own. */
function storeBeside(
  given: ExistingClient,
  kind: RedisTarget["kind"],
  prefix: string = DEFAULT_PREFIX,
): Store {
  const target = { ...resolveRedisSettings({}), kind, address: "the given client's server" };
  const duplicate = () => given.duplicate(NO_SILENT_REPEATS) as RawClient;
  return new RedisStore(target, duplicate, prefix, given);
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
