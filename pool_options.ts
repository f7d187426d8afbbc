/**
 * What may be said of a pool: where its queue lives, and its options; and the check of these.
 * @module
 */
import type { Duration } from "./duration.ts";
import type { ExistingClient } from "./redis_clients.ts";
import type { RedisSettings } from "./redis_settings.ts";
import type { Deserializer, Serializer } from "./serializer.ts";
import { checkName, checkOptions, checkSignal, show } from "./validation.ts";

/**
 * Where the queue lives: a connection string, settings, or a client of `@redis/client`.
 *
 * - `sqlite::memory:` is the memory of this process, `sqlite:PATH` a file.
 * - `redis://user:password@host:6379/0`, `rediss://…` for TLS, `unix:///run/redis.sock?db=0`.
 * - `redis+sentinel://host:26379,host:26379/mymaster`, `redis+cluster://host:7000,host:7001`.
 */
export type Connection = string | RedisSettings | ExistingClient;

/** Where it lives if nobody says. */
export const DEFAULT_CONNECTION = "redis://localhost:6379";

/** Options of {@linkcode createPool}. */
export interface PoolOptions {
  /** Turns a job's map into bytes; must be the same for all clients and workers. @default MessagePack */
  readonly jobSerializer?: Serializer;
  /** Turns bytes into a job's map; must be the same for all clients and workers. @default MessagePack */
  readonly jobDeserializer?: Deserializer;
  /** The queue used where none is named. @default `${prefix}queue` */
  readonly defaultQueueName?: string;
  /** How long after its due time a job may still be started: milliseconds or a duration object. @default 1 day */
  readonly expiresExtra?: Duration;
  /**
   * What is put before the name of everything stored. The name of a queue is taken as it is: begin it
   * with the prefix, since pools of two prefixes on one queue of Redis take each other's jobs.
   * @default "arq:"
   */
  readonly prefix?: string;
  /** Ends the connecting when it aborts: `createPool` throws its reason. */
  readonly signal?: AbortSignal;
}

const POOL_KEYS = [
  "jobSerializer",
  "jobDeserializer",
  "defaultQueueName",
  "expiresExtra",
  "prefix",
  "signal",
] as const satisfies readonly (keyof PoolOptions)[];

/**
 * Checks the options of a pool, but for the durations, which are read when they are needed.
 *
 * @throws {TypeError} if one is unknown or has a bad value.
 */
export function checkPoolOptions(options: PoolOptions): void {
  checkOptions("createPool", '{ prefix: "app:" }', options, POOL_KEYS);
  const { jobSerializer, jobDeserializer, defaultQueueName, prefix, signal } = options;
  checkSignal("createPool", signal);
  checkName("createPool: defaultQueueName", defaultQueueName);
  checkName("createPool: prefix", prefix);
  for (const [key, value] of Object.entries({ jobSerializer, jobDeserializer })) {
    if (value !== undefined && typeof value !== "function") {
      throw new TypeError(`createPool: ${key} must be a function, got ${show(value)}`);
    }
  }
}
