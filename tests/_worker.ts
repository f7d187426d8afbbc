/**
 * A stage for worker scenarios: each gets a prefix, a client and workers of its own, and is checked
 * at its end for what it left behind.
 *
 * A scenario speaks of connections and prefixes only, so that it runs on every store.
 */

import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { type ArqClient, createPool, type PoolOptions } from "../client.ts";
import { untilAborted } from "../sleep.ts";
import type { Lease } from "../store.ts";
import { Worker, type WorkerSettings } from "../worker.ts";
import { type Backend, type Key, redisBackend, sqliteBackends } from "./_backends.ts";
import { eventually } from "./_helpers.ts";
import { randomPrefix } from "./_redis.ts";

const DEADLINE_MS = 20_000;

/** A worker that runs. */
export interface RunningWorker<State extends object> {
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
  worker<State extends object = object>(settings: WorkerSettings<State>): Worker<State> {
    return new Worker<State>({ connection: this.connection, prefix: this.prefix, ...settings });
  }

  /** Starts a worker, which is closed with the scene. */
  start<State extends object = object>(settings: WorkerSettings<State>): RunningWorker<State> {
    const worker = this.worker(settings);
    const ended = worker.run();
    ended.catch(() => {}); // told at the end of the scene
    const running = { worker, ended };
    this.#running.push(running as unknown as RunningWorker<never>);
    return running;
  }

  /** Runs a worker until the queue is empty. */
  async burst<State extends object = object>(
    settings: WorkerSettings<State>,
  ): Promise<Worker<State>> {
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

  /** The keys that are there, but for those that soon expire by themselves. */
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
      await this.endLeases();
      const { claims } = await this.arq.store.claim(this.queueName, {
        holder: "thief",
        limit: 10,
        leaseMs: 60_000,
      });
      stolen.push(...claims);
      return stolen.length > 0;
    });
    return stolen;
  }

  /** Lets all leases end, as if nobody had renewed them for long. */
  async endLeases(): Promise<void> {
    await this.#backend.endLeases(this.prefix, this.queueName);
  }

  /** Lets the deferred jobs of the default queue, of which none may be running, be due now. */
  async makeDue(): Promise<void> {
    await this.#backend.makeDue(this.queueName);
  }

  /** Claims what is due as a worker does that dies with it, and lets the leases end. */
  async dieWithLease(): Promise<void> {
    await this.arq.store.claim(this.queueName, { holder: "dead", limit: 10, leaseMs: 60_000 });
    await this.endLeases();
  }

  /** Says which keys the scenario leaves besides results that expire. */
  leaves(...names: string[]): void {
    this.#left = names;
  }

  /** Removes all that is stored. */
  clear(): Promise<void> {
    return this.#backend.clear(this.prefix);
  }

  /** Ends the workers. */
  async stop(): Promise<void> {
    for (const { worker, ended } of this.#running.splice(0)) {
      await worker.close();
      await ended;
    }
  }

  /** Closes everything and looks for what should not be there any more. */
  async end(): Promise<void> {
    await this.stop();
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

/** What is gone by itself, and for how long it may stay, milliseconds. */
const PASSING: readonly (readonly [name: RegExp, limitMs: number])[] = [
  [/:wake$/, 5_000],
  [/^nonce:/, 60_000],
  [/(^|:)ops:/, Infinity],
  [/^progress:/, 630_000],
];

/** Wake-ups, nonces, what operators see and progress are the library's own and gone by themselves. */
function lasting(keys: readonly Key[]): Key[] {
  const isPassing = ({ name, ttlMs }: Key) =>
    PASSING.some(([pattern, limitMs]) => pattern.test(name) && ttlMs >= 0 && ttlMs <= limitMs);
  return keys.filter((key) => !isPassing(key));
}

/** Plays one scenario. */
export type Play = (scene: Scene) => Promise<void>;

/** Declares the scenarios of one theme for every store, or for those that processes can share. */
export function scenarios(
  theme: string,
  declare: (scenario: (title: string, play: Play) => void) => void,
  options: { readonly inProcesses?: boolean } = {},
): void {
  const backends = [redisBackend(), ...sqliteBackends()];
  for (const backend of backends.filter(({ isShared }) => isShared || !options.inProcesses)) {
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

/** Waits until `condition` holds; fails with what was waited for. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  await eventually(condition, what, DEADLINE_MS);
}

/** For jobs that take time, not for tests to wait. */
export { sleep as pause } from "../sleep.ts";

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
    await untilAborted(this.#open.promise, signal);
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

/** A worker that runs until it is disposed of. */
export function start(worker: Worker): AsyncDisposable & { readonly ended: Promise<void> } {
  const ended = worker.run();
  ended.catch(() => {}); // told by whoever awaits it
  return {
    ended,
    [Symbol.asyncDispose]: async () => {
      await worker.close();
      await ended;
    },
  };
}
