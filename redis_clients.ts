/**
 * Clients of `@redis/client`: what is used of them, how they are made of settings, and how one that a
 * program has already is recognised.
 * @module
 */
import { readFileSync } from "node:fs";
import {
  createClient,
  createCluster,
  createSentinel,
  type RedisClientOptions,
  type RedisFunctions,
  type RedisModules,
  type RedisScripts,
} from "@redis/client";
import { SettingsError } from "./errors.ts";
import type { RedisTarget, TlsSettings } from "./redis_settings.ts";
import { show } from "./validation.ts";

type ClientOptions = RedisClientOptions<RedisModules, RedisFunctions, RedisScripts, 2>;

/**
 * A Sentinel's client sends a command again by itself when the connection was lost, and tells nobody.
 * Whoever sends it again must know, since it may have taken effect.
 */
export const NO_SILENT_REPEATS = { maxCommandRediscovers: 0 } as const;

/** A client of `@redis/client`, as far as this library uses one of any kind. */
export interface RawClient {
  readonly isOpen: boolean;
  connect(): Promise<unknown>;
  destroy(): unknown;
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  subscribe(
    channel: string,
    listener: (message: Uint8Array) => void,
    bufferMode: true,
  ): Promise<unknown>;
  unsubscribe(
    channel: string,
    listener: (message: Uint8Array) => void,
    bufferMode: true,
  ): Promise<unknown>;
}

/** Says when to try a lost connection again, or why not, as in `@redis/client`. */
export type Reconnect = (retries: number, cause: Error) => number | Error;

/** Makes an unconnected client. */
export function makeRawClient(target: RedisTarget, reconnect: Reconnect): RawClient {
  const node = nodeOptions(target, reconnect);
  const [first] = target.nodes;
  if (target.kind === "sentinel") {
    return createSentinel({
      ...NO_SILENT_REPEATS,
      name: target.sentinelMaster,
      sentinelRootNodes: [...target.nodes],
      nodeClientOptions: node,
      sentinelClientOptions: {
        ...node,
        username: target.sentinelUsername,
        password: target.sentinelPassword,
        database: 0,
      },
    }) as unknown as RawClient;
  }
  if (target.kind === "cluster") {
    const rootNodes = target.nodes.map(({ host, port }) => ({ socket: { host, port } }));
    return createCluster({ rootNodes, defaults: node }) as unknown as RawClient;
  }
  const where = target.unixSocketPath === undefined ? first : { path: target.unixSocketPath };
  return createClient({
    ...node,
    socket: { ...node.socket, ...where } as ClientOptions["socket"],
  }) as unknown as RawClient;
}

function nodeOptions(target: RedisTarget, reconnect: Reconnect): ClientOptions {
  return {
    RESP: 2,
    username: target.username,
    password: target.password,
    database: target.database,
    disableClientInfo: true,
    maintNotifications: "disabled",
    commandOptions: { timeout: undefined },
    socket: {
      connectTimeout: target.connTimeoutMs,
      reconnectStrategy: reconnect,
      ...(target.tls && { ...tlsOptions(target.tls), tls: true }),
    } as ClientOptions["socket"],
  };
}

/** Reads the files that the settings name, when a client is made and not before. */
export function tlsOptions(settings: TlsSettings): Readonly<Record<string, unknown>> {
  const read = (key: "sslKeyfile" | "sslCertfile" | "sslCaCerts") => {
    const path = settings[key];
    if (path === undefined) return undefined;
    try {
      return readFileSync(path, "utf8");
    } catch (error) {
      const reason = (error as Error).message;
      throw new SettingsError("Redis settings", [
        `${key} must be a readable file, got ${show(path)}: ${reason}`,
      ]);
    }
  };
  const { sslCaData, sslCertReqs, sslCheckHostname } = settings;
  const options = {
    key: read("sslKeyfile"),
    cert: read("sslCertfile"),
    ca: sslCaData ?? read("sslCaCerts"),
    rejectUnauthorized: sslCertReqs !== "none",
    checkServerIdentity: sslCheckHostname === false ? () => undefined : undefined,
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** A client of `@redis/client` that the program has already: single, Sentinel or Cluster. */
export interface ExistingClient {
  /** Makes a further client with the same options but `changes`; the given one is never written to. */
  duplicate(changes?: object): unknown;
  /** Sends a command. */
  sendCommand(...args: never[]): unknown;
  /** Ends the connection at once; clients of other packages, and old ones, have no such method. */
  destroy(): unknown;
}

/** What kind of client this is; undefined if it is none. */
export function existingClientKind(value: object): RedisTarget["kind"] | undefined {
  if (!("duplicate" in value && "sendCommand" in value && "destroy" in value)) return undefined;
  if ("getMasterNode" in value) return "sentinel";
  return "slots" in value ? "cluster" : "single";
}
