/**
 * Connection strings of Redis, read into settings.
 * @module
 */
import { SettingsError } from "./errors.ts";
import { isPort, type RedisSettings } from "./redis_settings.ts";
import { checkKeys, parseQuery, show } from "./validation.ts";

/** What a connection string says: where the server is, and the prefix of its keys if given. */
export interface ParsedDsn {
  /** The settings it stands for. */
  readonly settings: RedisSettings;
  /** The `prefix` of its query. */
  readonly prefix: string | undefined;
}

const DSN = /^([a-z+]+):\/\/(?:([^@/?]*)@)?([^/?]*)(\/[^?]*)?(?:\?(.*))?$/i;
const SCHEMES = ["redis", "rediss", "unix", "redis+sentinel", "redis+cluster"];

/**
 * Reads a connection string: `redis://user:password@host:port/db`, `rediss://` for TLS,
 * `unix:///path/to/socket`, `redis+sentinel://host:port,host:port/NAME`,
 * `redis+cluster://host:port,host:port`. The query may set `db`, `prefix`, `timeout`,
 * `connTimeout`, `connRetries` and `connRetryDelay`, durations in milliseconds, and
 * `sentinelUsername` and `sentinelPassword`.
 *
 * @throws {SettingsError} listing every problem; never with the password.
 */
export function parseDsn(dsn: string): ParsedDsn {
  const match = DSN.exec(dsn);
  const scheme = match?.[1]?.toLowerCase() ?? "";
  if (!match || !SCHEMES.includes(scheme)) {
    const found = /^[a-z+]+(?=:)/i.exec(dsn)?.[0];
    const got = found === undefined ? "" : `, got ${show(`${found}:`)}`;
    const starts = SCHEMES.map((name) => `${name}://`).join(", ");
    throw new SettingsError("connection settings", [
      `a connection string starts with ${starts} or sqlite:${got}`,
    ]);
  }
  const [, , credentials, authority = "", path = "", query = ""] = match;
  if (scheme !== "unix" && `${authority}${path}${query}`.includes("@")) {
    throw new SettingsError("connection settings", [
      "user name, password and prefix must be percent-encoded (write @ as %40, / as %2F, ? as %3F)",
    ]);
  }
  const problems: string[] = [];
  const settings: Mutable<RedisSettings> = readQuery(query, problems);
  if (credentials !== undefined) Object.assign(settings, readCredentials(credentials, problems));
  if (scheme === "unix") {
    settings.unixSocketPath = readPath(authority + path, problems);
    if (settings.unixSocketPath === "") problems.push("unix:// must be followed by a path");
  } else {
    Object.assign(settings, readHosts(authority, scheme, problems));
    Object.assign(settings, readService(scheme, readPath(path.slice(1), problems), problems));
  }
  if (problems.length > 0) throw new SettingsError("connection settings", problems);
  return { settings, prefix: parseQuery(query).get("prefix") ?? undefined };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const QUERY_TEXTS = ["sentinelUsername", "sentinelPassword"] as const;
const QUERY_NUMBERS = {
  db: "database",
  timeout: "timeout",
  connTimeout: "connTimeout",
  connRetries: "connRetries",
  connRetryDelay: "connRetryDelay",
} as const;

function readQuery(query: string, problems: string[]): Mutable<RedisSettings> {
  const settings: Mutable<RedisSettings> = {};
  const entries = Object.fromEntries(parseQuery(query));
  problems.push(...checkKeys(entries, [...Object.keys(QUERY_NUMBERS), ...QUERY_TEXTS, "prefix"]));
  for (const key of QUERY_TEXTS) if (entries[key] !== undefined) settings[key] = entries[key];
  for (const [key, name] of Object.entries(QUERY_NUMBERS)) {
    const value = entries[key];
    if (value !== undefined) settings[name] = readNumber(key, value, problems);
  }
  return settings;
}

/** What kind of service it is, and what `name`, behind the hosts, says of it if it is not empty. */
function readService(scheme: string, name: string, problems: string[]): RedisSettings {
  switch (scheme) {
    case "redis+sentinel":
      return { sentinel: true, ...(name !== "" && { sentinelMaster: name }) };
    case "redis+cluster":
      return { cluster: true };
  }
  return {
    ...(scheme === "rediss" && { ssl: true }),
    ...(name !== "" && { database: readNumber("the database", name, problems) }),
  };
}

function readNumber(name: string, text: string, problems: string[]): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) {
    problems.push(`${name} must be a number, got ${show(text)}`);
  }
  return value;
}

function readPath(text: string, problems: string[]): string {
  try {
    return decodeURIComponent(text);
  } catch {
    problems.push("the path must be percent-encoded (write % as %25)");
    return "";
  }
}

function readCredentials(text: string, problems: string[]): RedisSettings {
  const [username = "", ...password] = text.split(":");
  try {
    return {
      username: decodeURIComponent(username) || undefined,
      password: password.length > 0 ? decodeURIComponent(password.join(":")) : undefined,
    };
  } catch {
    problems.push("user name and password must be percent-encoded (write % as %25)");
    return {};
  }
}

/** A password whose @ was forgotten looks like a port; it must not be shown. */
function shownPort(text: string | undefined): string {
  if (text !== undefined && /^\d{1,5}$/.test(text)) return `, got ${show(text)}`;
  return "; a user name and password stand before the host, followed by an @";
}

function readHosts(authority: string, scheme: string, problems: string[]): RedisSettings {
  const defaultPort = scheme === "redis+sentinel" ? 26_379 : 6_379;
  const hosts = authority.split(",").map((node) => {
    const match = /^(\[[^\]]+\]|[^:[\]]*)(?::(.*))?$/.exec(node);
    if (!match) problems.push(`a host must look like name:port, got ${show(node)}`);
    const host = match?.[1]?.replace(/^\[|\]$/g, "") || "localhost";
    const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
    if (!isPort(port)) {
      problems.push(`the port of ${host} must be from 1 to 65535${shownPort(match?.[2])}`);
    }
    return [host, port] as const;
  });
  if (scheme.includes("+")) return { host: hosts };
  if (hosts.length > 1) {
    problems.push(
      `${scheme}:// takes one host; use redis+sentinel:// or redis+cluster:// for more`,
    );
  }
  const [host, port] = hosts[0] ?? ["localhost", defaultPort];
  return { host, port };
}
