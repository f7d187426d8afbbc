/**
 * A stage for worker scenarios: each gets a prefix, a client and workers of its own, and is checked
 * at its end for what it left behind.
 *
 * A scenario speaks of connections and prefixes only, so that it runs on every store.
 */

import { createClient } from "@redis/client";
import assert from "node:assert/strict";
import process from "node:process";
import { after, describe, it } from "node:test";
import { type ArqClient, createPool, type PoolOptions } from "../client.ts";
import type { Lease } from "../store.ts";
import { Worker, type WorkerSettings } from "../worker.ts";
import { OWN_SERVICE_VARIABLE, randomPrefix, type RedisServer, startRedis } from "./_redis.ts";

const DEADLINE_MS = 15_000;

/** A key and what is known of it: its milliseconds to live are -1 where it stays for ever. */
export interface Key {
  readonly name: string;
  readonly ttlMs: number;
}

/** A place where queues live, as far as scenarios need to look behind the library. */
export interface Backend {
  readonly name: string;
  /** What `createPool` takes. */
  connect(): Promise<string>;
  /** The keys under a prefix, names without it, in order. */
  keys(prefix: string): Promise<Key[]>;
  /** How many connections there are besides the one that asks; undefined if others use the store. */
  countConnections(): Promise<number | undefined>;
  /** Lets the leases of all running jobs end now, as if their workers had been silent. */
  endLeases(prefix: string, queueName: string): Promise<void>;
  /** Removes every key under a prefix. */
  clear(prefix: string): Promise<void>;
  /** Releases what `connect` took. */
  close(): Promise<void>;
}

/** A worker that runs. */
export interface RunningWorker<State> {
  readonly worker: Worker<State>;
  /** Settles as `run` does. */
  readonly ended: Promise<void>;
}

/** What a scenario plays with. */
export class Scene {
  readonly connection: string;
  readonly prefix: string;
  readonly arq: ArqClient;
  readonly #backend: Backend;
  readonly #running: RunningWorker<never>[] = [];
  readonly #pools: ArqClient[] = [];
  #left: readonly string[] | undefined;

  constructor(backend: Backend, connection: string, prefix: string, arq: ArqClient) {
    this.#backend = backend;
    this.connection = connection;
    this.prefix = prefix;
    this.arq = arq;
    this.#pools.push(arq);
  }

  /** The name of the scene's default queue. */
  get queueName(): string {
    return `${this.prefix}queue`;
  }

  /** A worker on the scene's queue with a connection of its own, not started. */
  worker<State = unknown>(settings: WorkerSettings<State>): Worker<State> {
    return new Worker<State>({ connection: this.connection, prefix: this.prefix, ...settings });
  }

  /** Starts a worker, which is closed with the scene. */
  start<State = unknown>(settings: WorkerSettings<State>): RunningWorker<State> {
    const worker = this.worker(settings);
    const ended = worker.run();
    ended.catch(() => {}); // told at the end of the scene
    const running = { worker, ended };
    this.#running.push(running as unknown as RunningWorker<never>);
    return running;
  }

  /** Runs a worker until the queue is empty. */
  async burst<State = unknown>(settings: WorkerSettings<State>): Promise<Worker<State>> {
    const worker = this.worker<State>({ burst: true, pollDelay: 20, ...settings });
    await worker.run();
    return worker;
  }

  /** A further pool on the scene's prefix, closed with the scene. */
  async pool(options: PoolOptions = {}): Promise<ArqClient> {
    const pool = await createPool(this.connection, { prefix: this.prefix, ...options });
    this.#pools.push(pool);
    return pool;
  }

  /** The keys that are there, but for wake-ups and nonces, which expire within a minute. */
  async keys(): Promise<string[]> {
    return lasting(await this.#backend.keys(this.prefix)).map(({ name }) => name);
  }

  /** How long a key lives, milliseconds; -1 for ever, undefined if there is none. */
  async timeToLive(name: string): Promise<number | undefined> {
    const keys = await this.#backend.keys(this.prefix);
    return keys.find((key) => key.name === name)?.ttlMs;
  }

  /** Takes the running jobs away from their workers, under a lease of its own. */
  async stealLeases(): Promise<Lease[]> {
    const stolen: Lease[] = [];
    await until("the stolen lease", async () => {
      await this.#backend.endLeases(this.prefix, this.queueName);
      const { claims } = await this.arq.store.claim(this.queueName, "thief", 10, 60_000);
      stolen.push(...claims);
      return stolen.length > 0;
    });
    return stolen;
  }

  /** Says which keys the scenario leaves besides results that expire. */
  leaves(...names: string[]): void {
    this.#left = names;
  }

  /** Closes everything and looks for what should not be there any more. */
  async end(): Promise<void> {
    for (const { worker, ended } of this.#running) {
      await worker.close();
      await ended;
    }
    for (const pool of this.#pools) await pool.close();
    const keys = await this.#backend.keys(this.prefix);
    await this.#backend.clear(this.prefix);
    const immortal = keys.filter(({ ttlMs, name }) => ttlMs < 0 && !this.#left?.includes(name));
    assert.deepEqual(immortal, [], "keys without an expiry are left");
    const strange = lasting(keys).map(({ name }) => name).filter((name) =>
      !name.startsWith("result:") && !this.#left?.includes(name)
    );
    assert.deepEqual(strange, [], "keys are left that are no results");
    let connections: number | undefined;
    await until("every connection is closed", async () => {
      connections = await this.#backend.countConnections();
      return connections === undefined || connections === 0;
    });
  }
}

/** Wake-ups and nonces are the library's own and soon gone by themselves. */
function lasting(keys: readonly Key[]): Key[] {
  return keys.filter(({ name, ttlMs }) =>
    !(name.endsWith(":wake") && ttlMs >= 0 && ttlMs <= 5_000) &&
    !(name.startsWith("nonce:") && ttlMs >= 0 && ttlMs <= 60_000)
  );
}

/** Plays one scenario. */
export type Play = (scene: Scene) => Promise<void>;

/** Declares the scenarios of one theme for every store. */
export function scenarios(
  theme: string,
  declare: (scenario: (title: string, play: Play) => void) => void,
): void {
  for (const backend of [redisBackend()]) {
    describe(`${theme}, on ${backend.name}`, () => {
      after(() => backend.close());
      declare((title, play) => {
        it(title, async () => {
          const connection = await backend.connect();
          const prefix = randomPrefix();
          const arq = await createPool(connection, { prefix });
          const scene = new Scene(backend, connection, prefix, arq);
          try {
            await play(scene);
          } catch (error) {
            await scene.end().catch(() => {}); // the first error tells more
            throw error;
          }
          await scene.end();
        });
      });
    });
  }
}

/** A server of the file's own, so that a leaked connection shows; or the service that was given. */
function redisBackend(): Backend {
  const given = process.env[OWN_SERVICE_VARIABLE];
  let server: Promise<RedisServer> | undefined;
  let probe: Promise<ReturnType<typeof createClient>> | undefined;
  const connect = async () => given || (await (server ??= startRedis())).url;
  const openProbe = () =>
    probe ??= connect().then(async (url) => {
      const client = createClient({ url, RESP: 2 });
      client.on("error", () => {});
      await client.connect();
      return client as unknown as ReturnType<typeof createClient>;
    });
  return {
    name: "Redis",
    connect,
    keys: async (prefix) => await listKeys(await openProbe(), prefix),
    countConnections: async () => {
      if (given) return undefined;
      const list = String(await (await openProbe()).sendCommand(["CLIENT", "LIST"]));
      return list.trim().split("\n").length - 1;
    },
    endLeases: async (prefix, queueName) => {
      const client = await openProbe();
      const leases = `${queueName}:leases`;
      for (const member of await client.zRange(leases, 0, -1)) {
        const jobId = member.slice(member.indexOf(":") + 1);
        await client.del(`${prefix}in-progress:${jobId}`);
        await client.zAdd(leases, { score: 2, value: member }, { condition: "XX" });
        await client.zAdd(queueName, { score: 2, value: jobId }, { condition: "XX" });
      }
    },
    clear: async (prefix) => {
      const client = await openProbe();
      const names = (await listKeys(client, prefix)).map(({ name }) => prefix + name);
      if (names.length > 0) await client.del(names);
    },
    close: async () => {
      if (probe) (await probe).destroy();
      if (server) await (await server).stop();
    },
  };
}

async function listKeys(
  client: ReturnType<typeof createClient>,
  prefix: string,
): Promise<Key[]> {
  const names = new Set<string>();
  for await (const found of client.scanIterator({ MATCH: `${prefix}*`, COUNT: 1_000 })) {
    for (const name of found) names.add(String(name));
  }
  const keys = await Promise.all(
    [...names].sort().map(async (name) => ({
      name: name.slice(prefix.length),
      ttlMs: Number(await client.pTTL(name)),
    })),
  );
  return keys.filter(({ ttlMs }) => ttlMs !== -2); // gone meanwhile
}

/** Waits until `condition` holds; fails with what was waited for. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!await condition()) {
    if (performance.now() > deadline) assert.fail(`Waited in vain: ${what}`);
    await pause(5);
  }
}

/** Waits; for jobs that take time, not for tests to wait. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

/** A promise that a job waits at, and that tells when jobs have come there. */
export class Gate {
  #arrived = 0;
  readonly #open = Promise.withResolvers<void>();

  /** How many wait, or have waited. */
  get arrived(): number {
    return this.#arrived;
  }

  /** Waits until the gate opens; rejects when the signal aborts. */
  async pass(signal?: AbortSignal): Promise<void> {
    this.#arrived++;
    if (!signal) return await this.#open.promise;
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    if (signal.aborted) throw signal.reason;
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    await Promise.race([this.#open.promise, aborted]);
  }

  /** Resolves when `count` have come. */
  async reached(count = 1): Promise<void> {
    await until(`${count} jobs at the gate`, () => this.#arrived >= count);
  }

  /** Lets all pass. */
  open(): void {
    this.#open.resolve();
  }
}
