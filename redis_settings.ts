/**
 * Where a Redis is and how to connect to it: settings, checked, with the defaults filled in.
 * @module
 */
import { type Duration, durationMs } from "./duration.ts";
import { SettingsError } from "./errors.ts";
import { checkKeys, isCount, isOptions, show } from "./validation.ts";

/** How often, and at what pace, a command is repeated after an error that may pass. */
export interface CommandRetry {
  /** Repetitions at most. @default Infinity, until `timeout` */
  readonly retries?: number;
  /** The first pause; it doubles with every repetition. @default 50 milliseconds */
  readonly minDelay?: Duration;
  /** The longest pause. @default 2 seconds */
  readonly maxDelay?: Duration;
}

/**
 * Where a Redis is and how to connect to it.
 *
 * Durations are milliseconds or a duration object.
 */
export interface RedisSettings {
  /** Host name or address, or a list of hosts and ports of Sentinels or Cluster nodes. @default "localhost" */
  readonly host?: string | readonly (readonly [host: string, port: number])[];
  /** TCP port. @default 6379 */
  readonly port?: number;
  /** Path of a Unix socket; host and port are not used then. */
  readonly unixSocketPath?: string;
  /** Number of the database. @default 0 */
  readonly database?: number;
  /** User name for Redis's access control lists. */
  readonly username?: string;
  /** Password; it appears in no log or error. */
  readonly password?: string;
  /** Whether to use TLS. @default false */
  readonly ssl?: boolean;
  /** File with the client's private key, PEM. */
  readonly sslKeyfile?: string;
  /** File with the client's certificate, PEM. */
  readonly sslCertfile?: string;
  /** Whether the server must show a valid certificate. @default "required" */
  readonly sslCertReqs?: "required" | "optional" | "none";
  /** File with the certificates of trusted authorities, PEM. */
  readonly sslCaCerts?: string;
  /** Certificates of trusted authorities, PEM. */
  readonly sslCaData?: string;
  /** Whether the server's certificate must bear the host name. @default true */
  readonly sslCheckHostname?: boolean;
  /** How long one attempt to connect may take. @default 1 second */
  readonly connTimeout?: Duration;
  /** Further attempts to connect at the start, may be Infinity. @default 5 */
  readonly connRetries?: number;
  /** Pause between these attempts. @default 1 second */
  readonly connRetryDelay?: Duration;
  /**
   * Connections at most: one for commands, one to wait for results, one for a worker to be woken.
   * With fewer the library polls instead. @default 3
   */
  readonly maxConnections?: number;
  /** Whether `host` lists Sentinels. @default false */
  readonly sentinel?: boolean;
  /** The name Sentinels know the primary by. @default "mymaster" */
  readonly sentinelMaster?: string;
  /** User name for the Sentinels themselves; `username` is for the servers they watch. */
  readonly sentinelUsername?: string;
  /** Password of the Sentinels themselves, where they want one; it appears in no log or error. */
  readonly sentinelPassword?: string;
  /** Whether `host` lists nodes of a Cluster. @default false */
  readonly cluster?: boolean;
  /** How long a call may take, repetitions and waiting for a lost connection included. @default 10 seconds */
  readonly timeout?: Duration;
  /** Whether a call without a reply within `timeout` is repeated once on a new connection. @default false */
  readonly retryOnTimeout?: boolean;
  /** First words of Redis errors on which a command is repeated besides those known to pass. @default [] */
  readonly retryOnError?: readonly string[];
  /** How often and at what pace commands are repeated. */
  readonly retry?: CommandRetry;
}

/** Settings with every default filled in and every duration in milliseconds. */
export interface RedisTarget {
  readonly kind: "single" | "sentinel" | "cluster";
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  readonly unixSocketPath: string | undefined;
  readonly database: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly tls: TlsSettings | undefined;
  readonly sentinelMaster: string;
  readonly sentinelUsername: string | undefined;
  readonly sentinelPassword: string | undefined;
  readonly connTimeoutMs: number;
  readonly connRetries: number;
  readonly connRetryDelayMs: number;
  readonly maxConnections: number;
  readonly timeoutMs: number;
  readonly retryOnTimeout: boolean;
  readonly retryOnError: readonly string[];
  readonly retries: number;
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
  /** Where this is, without secrets. */
  readonly address: string;
}

const TLS_KEYS = [
  "sslKeyfile",
  "sslCertfile",
  "sslCertReqs",
  "sslCaCerts",
  "sslCaData",
  "sslCheckHostname",
] as const;

const STRING_KEYS = [
  "unixSocketPath",
  "username",
  "password",
  "sslKeyfile",
  "sslCertfile",
  "sslCaCerts",
  "sslCaData",
  "sentinelMaster",
  "sentinelUsername",
  "sentinelPassword",
] as const;
/** What must not be shown. */
const SECRETS: ReadonlySet<keyof RedisSettings> = new Set(["password", "sentinelPassword"]);
const BOOLEAN_KEYS = ["ssl", "sslCheckHostname", "sentinel", "cluster", "retryOnTimeout"] as const;
const DURATION_KEYS = ["connTimeout", "connRetryDelay", "timeout"] as const;
const RETRY_KEYS = ["retries", "minDelay", "maxDelay"] as const satisfies readonly (
  keyof CommandRetry
)[];

/**
 * Checks settings and fills in the defaults.
 *
 * @throws {SettingsError} listing every problem.
 */
export function resolveRedisSettings(settings: RedisSettings): RedisTarget {
  const problems = settingsProblems(settings);
  if (problems.length > 0) throw new SettingsError("Redis settings", problems);
  const { host = "localhost", port = 6379, sentinel = false, cluster = false } = settings;
  const { connTimeout = 1_000, connRetryDelay = 1_000, timeout = 10_000 } = settings;
  const { retries = Infinity, minDelay = 50, maxDelay = 2_000 } = settings.retry ?? {};
  const hosts = typeof host === "string" ? [[host, port] as const] : host;
  const target = {
    kind: sentinel ? "sentinel" : cluster ? "cluster" : "single",
    nodes: hosts.map(([host, port]) => ({ host, port })),
    unixSocketPath: settings.unixSocketPath,
    database: settings.database ?? 0,
    username: settings.username,
    password: settings.password,
    sentinelMaster: settings.sentinelMaster ?? "mymaster",
    sentinelUsername: settings.sentinelUsername,
    sentinelPassword: settings.sentinelPassword,
    connTimeoutMs: durationMs("connTimeout", connTimeout),
    connRetries: settings.connRetries ?? 5,
    connRetryDelayMs: durationMs("connRetryDelay", connRetryDelay),
    maxConnections: settings.maxConnections ?? 3,
    timeoutMs: durationMs("timeout", timeout),
    retryOnTimeout: settings.retryOnTimeout ?? false,
    retryOnError: settings.retryOnError ?? [],
    retries,
    minDelayMs: durationMs("retry.minDelay", minDelay),
    maxDelayMs: durationMs("retry.maxDelay", maxDelay),
  } as const;
  return { ...target, tls: settings.ssl ? settings : undefined, address: addressOf(target) };
}

/** What is said of TLS. */
export type TlsSettings = Pick<RedisSettings, typeof TLS_KEYS[number]>;

type Rule = readonly [
  key: keyof RedisSettings,
  rule: string,
  isGood: (value: unknown) => boolean,
];

/** What a setting must be where it is given. */
const RULES: readonly Rule[] = [
  ...STRING_KEYS.map((key): Rule => [key, "a string", isText]),
  ...BOOLEAN_KEYS.map((key): Rule => [key, "a boolean", (value) => typeof value === "boolean"]),
  ["host", "a name or a list of [host, port]", (value) => isText(value) || isHostList(value)],
  ["port", "a whole number from 1 to 65535", isPort],
  ["database", "a whole number of 0 or more", (value) => isCount(value, 0)],
  [
    "connRetries",
    "a whole number of 0 or more, or Infinity",
    (value) => isCountOrInfinity(value, 0),
  ],
  ["maxConnections", "a whole number of 1 or more", (value) => isCountOrInfinity(value, 1)],
  [
    "sslCertReqs",
    '"required", "optional" or "none"',
    (value) => value === "required" || value === "optional" || value === "none",
  ],
  [
    "retryOnError",
    "a list of words",
    (value) => Array.isArray(value) && value.every((word) => isText(word) && word !== ""),
  ],
];

const KNOWN_KEYS = [...RULES.map(([key]) => key), ...DURATION_KEYS, "retry"];

/** One line for each problem of settings that may be anything. */
function settingsProblems(settings: RedisSettings): string[] {
  const broken = RULES.filter(([key, , isGood]) =>
    settings[key] !== undefined && !isGood(settings[key])
  );
  return [
    ...checkKeys(settings, KNOWN_KEYS),
    ...broken.map(([key, rule]) => problemOf(settings, key, rule)),
    ...combinationProblems(settings),
    ...DURATION_KEYS.flatMap((key) => durationProblems(key, settings[key])),
    ...retryProblems(settings.retry),
  ];
}

function problemOf(settings: RedisSettings, key: keyof RedisSettings, rule: string): string {
  const value = SECRETS.has(key) ? "something else" : show(settings[key]);
  return `${key} must be ${rule}, got ${value}`;
}

/** What does not go together. */
function combinationProblems(settings: RedisSettings): string[] {
  const { host, sentinel, cluster, database } = settings;
  const problems: string[] = [];
  if (typeof host === "string" && /[@/]/.test(host)) {
    problems.push("host must be a name or an address, not a connection string");
  }
  if (isHostList(host) && host.length > 1 && !sentinel && !cluster) {
    problems.push(
      problemOf(settings, "host", "one name where neither sentinel nor cluster is true"),
    );
  }
  if (sentinel && cluster) {
    problems.push(problemOf(settings, "cluster", "false where sentinel is true"));
  }
  for (const key of ["sentinelUsername", "sentinelPassword"] as const) {
    if (settings[key] !== undefined && !sentinel) {
      problems.push(`${key} is for Sentinels: use redis+sentinel:// or set sentinel to true`);
    }
  }
  // Somebody who gives these and gets no TLS would send the password in the clear.
  for (const key of TLS_KEYS) {
    if (settings[key] !== undefined && settings.ssl === undefined) {
      problems.push(`${key} is for TLS: set ssl to true`);
    }
  }
  if (cluster && database) problems.push(problemOf(settings, "database", "0 on a Cluster"));
  return problems;
}

function retryProblems(retry: unknown): string[] {
  if (retry === undefined) return [];
  if (!isOptions(retry)) {
    return [`retry must be an object such as { retries: 5 }, got ${show(retry)}`];
  }
  const { retries = 0, minDelay, maxDelay }: CommandRetry = retry;
  const rule = "retry.retries must be a whole number of 0 or more, or Infinity";
  return [
    ...checkKeys(retry, RETRY_KEYS).map((problem) => `retry: ${problem}`),
    ...(isCountOrInfinity(retries, 0) ? [] : [`${rule}, got ${show(retries)}`]),
    ...durationProblems("retry.minDelay", minDelay),
    ...durationProblems("retry.maxDelay", maxDelay),
  ];
}

function durationProblems(name: string, value: Duration | undefined): string[] {
  try {
    if (value !== undefined) durationMs(name, value, 1);
    return [];
  } catch (error) {
    return [(error as Error).message];
  }
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

/** Whether this can be a TCP port. */
export function isPort(value: unknown): boolean {
  return isCount(value) && value <= 65_535;
}

function isCountOrInfinity(value: unknown, min: number): boolean {
  return value === Infinity || isCount(value, min);
}

function isHostList(value: unknown): value is readonly (readonly [string, number])[] {
  return Array.isArray(value) && value.length > 0 &&
    value.every((entry) =>
      Array.isArray(entry) && typeof entry[0] === "string" && entry[0] !== "" && isPort(entry[1])
    );
}

function addressOf(
  target: Pick<RedisTarget, "kind" | "nodes" | "unixSocketPath" | "sentinelMaster">,
) {
  if (target.unixSocketPath !== undefined) return target.unixSocketPath;
  const nodes = target.nodes.map(({ host, port }) =>
    `${host.includes(":") ? `[${host}]` : host}:${port}`
  ).join(",");
  return target.kind === "sentinel" ? `${nodes}/${target.sentinelMaster}` : nodes;
}
