/** Several Redis servers that make one service: Sentinel and Cluster, on loopback. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { isDeepStrictEqual, promisify } from "node:util";
import { sleep } from "../sleep.ts";
import { eventually, openRawRedis, type RawRedis, type RawReply } from "./_helpers.ts";
import { ensureRedisServer, type RedisServer, startRedis } from "./_redis.ts";

const HOST = "127.0.0.1";
const DOWN_AFTER_MS = 1_000;
const SENTINELS = 3;
const PRIMARIES = 3;
const NODE_TIMEOUT_MS = 1_000;

/** Sends one command to a server on a connection of its own. */
export async function ask(
  server: RedisServer | undefined,
  ...args: (string | number)[]
): Promise<RawReply> {
  assert.ok(server);
  await using redis = await openRawRedis(server.url);
  return await redis.call(...args);
}

/** Three Sentinels that watch one primary with one replica. */
export class SentinelService implements AsyncDisposable {
  /** What `createPool` takes. */
  readonly url: string;

  private constructor(
    readonly sentinels: readonly RedisServer[],
    /** The primary first, at the start. */
    readonly servers: readonly RedisServer[],
  ) {
    const hosts = sentinels.map(({ port }) => `${HOST}:${port}`);
    this.url = `redis+sentinel://${hosts.join(",")}/mymaster`;
  }

  /** Starts all of it and waits until the Sentinels know each other and the replica. */
  static async start(): Promise<SentinelService> {
    const primary = await startRedis();
    const replica = await startRedis();
    await ask(replica, "REPLICAOF", HOST, primary.port);
    const sentinel = [
      `sentinel monitor mymaster ${HOST} ${primary.port} 2`,
      `sentinel down-after-milliseconds mymaster ${DOWN_AFTER_MS}`,
      "sentinel failover-timeout mymaster 3000",
    ];
    const starts = Array.from({ length: SENTINELS }, () => startRedis({ sentinel }));
    const service = new SentinelService(await Promise.all(starts), [primary, replica]);
    await eventually(() => service.#isWhole(), "the Sentinels know each other", 20_000);
    return service;
  }

  /** The server that the Sentinels call the primary. */
  async primary(): Promise<RedisServer> {
    const question = ["SENTINEL", "get-master-addr-by-name", "mymaster"];
    const reply = await ask(this.sentinels.at(-1), ...question) as RawReply[];
    const primary = this.servers.find(({ port }) => port === Number(reply[1]));
    if (!primary) throw new Error(`No server of ours is the primary: ${reply}`);
    return primary;
  }

  /** Waits until the replica has all that was written so far. */
  async replicate(): Promise<void> {
    await using primary = await openRawRedis((await this.primary()).url);
    await primary.call("SET", "replicated", 1); // WAIT is about the connection's own writes
    assert.equal(await primary.call("WAIT", 1, 5_000), 1);
  }

  async #isWhole(): Promise<boolean> {
    for (const sentinel of this.sentinels) {
      const reply = await ask(sentinel, "SENTINEL", "MASTER", "mymaster") as string[];
      const field = (name: string) => Number(reply[reply.indexOf(name) + 1]);
      if (field("num-other-sentinels") < SENTINELS - 1 || field("num-slaves") < 1) return false;
    }
    const [, replica] = this.servers;
    return String(await ask(replica, "INFO", "replication")).includes("master_link_status:up");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.sentinels, ...this.servers].map((server) => server.stop()));
  }
}

const MOVES = 12;
const MOVE_REST_MS = 100;

/** How {@linkcode ClusterService.migrate} moves a slot. */
export interface MigrateOptions {
  readonly keysAtATime?: number;
  readonly meanwhile?: () => Promise<void>;
}

/** Three primaries that share the slots of a Cluster. */
export class ClusterService implements AsyncDisposable {
  /** What `createPool` takes. */
  readonly url: string;
  readonly #connections: Map<string, Promise<RawRedis>> = new Map();
  #lastMigration: Promise<void> = Promise.resolve();

  private constructor(readonly nodes: readonly RedisServer[]) {
    this.url = `redis+cluster://${nodes.map(({ port }) => `${HOST}:${port}`).join(",")}`;
  }

  /** Starts the nodes and makes a Cluster of them. */
  static async start(): Promise<ClusterService> {
    const args = [
      ...["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"],
      ...["--cluster-node-timeout", String(NODE_TIMEOUT_MS), "--appendonly", "yes"],
    ];
    const nodes = await Promise.all(Array.from({ length: PRIMARIES }, () => startRedis({ args })));
    const addresses = nodes.map(({ port }) => `${HOST}:${port}`);
    const client = (await ensureRedisServer()).replace(/server$/, "cli");
    await promisify(execFile)(client, ["--cluster", "create", ...addresses, "--cluster-yes"]);
    const service = new ClusterService(nodes);
    await service.isUp();
    return service;
  }

  /** Resolves when every node serves its slots. */
  async isUp(): Promise<void> {
    await eventually(
      async () => {
        const states = await this.#askAll("CLUSTER", "INFO");
        return states.every((state) => String(state).includes("cluster_state:ok"));
      },
      "all nodes serve",
      20_000,
    );
  }

  /** How often nodes have answered with an error of one of these first words. */
  async countErrors(...words: string[]): Promise<number> {
    const stats = await this.#askAll("INFO", "errorstats");
    const pattern = new RegExp(`_(?:${words.join("|")}):count=(\\d+)`, "g");
    const counts = stats.flatMap((text) => [...String(text).matchAll(pattern)]);
    return counts.reduce((sum, [, count]) => sum + Number(count), 0);
  }

  /** The slot of a key. */
  async slotOf(key: string): Promise<number> {
    return Number((await this.#askAll("CLUSTER", "KEYSLOT", key))[0]);
  }

  /** The index of the node that serves a slot, once all nodes agree on it. */
  async ownerOf(slot: number): Promise<number> {
    const find = async () => {
      const [first, ...others] = await this.#portsOf(slot);
      return others.every((port) => port === first) && first;
    };
    const owner = await eventually(find, `all nodes agree on slot ${slot}`);
    return this.nodes.findIndex(({ port }) => port === owner);
  }

  /** The port of the node that serves a slot, as each node sees it. */
  async #portsOf(slot: number): Promise<(number | undefined)[]> {
    const views = await this.#askAll("CLUSTER", "SLOTS") as [number, number, [string, number]][][];
    return views.map((ranges) => ranges.find(([from, to]) => from <= slot && slot <= to)?.[2][1]);
  }

  /**
   * Moves a slot to the next node, so many keys at a time; `meanwhile` is called before the first has
   * moved. One slot at a time moves.
   */
  migrate(slot: number, options?: MigrateOptions): Promise<void> {
    const migration = this.#lastMigration.then(() => this.#migrate(slot, options));
    this.#lastMigration = migration.catch(() => {}); // its caller is told
    return migration;
  }

  async #migrate(slot: number, { keysAtATime = 1, meanwhile }: MigrateOptions = {}): Promise<void> {
    const from = await this.ownerOf(slot);
    const [source, target] = [this.nodes[from], this.nodes[(from + 1) % PRIMARIES]];
    assert.ok(source && target);
    const setSlot = async (node: RedisServer, state: string, other: RedisServer) => {
      const id = String(await this.#ask(other, "CLUSTER", "MYID"));
      await this.#ask(node, "CLUSTER", "SETSLOT", slot, state, id);
    };
    const left = () => this.#ask(source, "CLUSTER", "GETKEYSINSLOT", slot, keysAtATime);
    await setSlot(target, "IMPORTING", source);
    await setSlot(source, "MIGRATING", target);
    await meanwhile?.();
    for (let keys = await left() as string[]; keys.length > 0; keys = await left() as string[]) {
      await this.#ask(source, "MIGRATE", HOST, target.port, "", 0, 5_000, "KEYS", ...keys);
    }
    await this.#agreeOnEpochs();
    for (const node of [target, source]) await setSlot(node, "NODE", target);
    await eventually(async () => { // what a node hears of an older state may change its mind
      const ports = await this.#portsOf(slot);
      const wrong = this.nodes.filter((_, i) => ports[i] !== target.port);
      for (const node of wrong) await setSlot(node, "NODE", target);
      return wrong.length === 0;
    }, `all nodes know where slot ${slot} is`);
  }

  /**
   * Waits until all nodes know the epoch of each, and no two are equal. If the old owner's rose
   * meanwhile, the new one would take its last claim for a newer one, and delete the slot's keys.
   */
  async #agreeOnEpochs(): Promise<void> {
    await eventually(async () => {
      const views = (await this.#askAll("CLUSTER", "NODES")).map((text) => {
        const nodes = String(text).matchAll(/^(\w+) .* (\d+) connected/gm);
        return new Map([...nodes].map(([, id, epoch]) => [id, epoch]));
      });
      const [first] = views;
      return views.every((view) => isDeepStrictEqual(view, first)) &&
        new Set(first?.values()).size === PRIMARIES;
    }, "all nodes agree on the epochs");
  }

  /** Moves the slot of a key from node to node for a second or two, or until disposed of. */
  keepMoving(key: string, moves: number = MOVES): AsyncDisposable {
    const over = new AbortController();
    const move = async () => {
      const slot = await this.slotOf(key);
      // Within one blocking pop a client follows some moves, but not dozens.
      for (let left = moves; left > 0 && !over.signal.aborted; left--) {
        await this.migrate(slot, { keysAtATime: 100 });
        await sleep(MOVE_REST_MS, over.signal).catch(() => {}); // told to stop
      }
    };
    const moving = move();
    return {
      [Symbol.asyncDispose]: async () => {
        over.abort();
        await moving;
      },
    };
  }

  /** Asks a node on a connection that stays for as long as the node does. */
  async #ask(node: RedisServer, ...args: (string | number)[]): Promise<RawReply> {
    const key = `${node.url} ${node.pid}`;
    const connection = this.#connections.get(key) ?? openRawRedis(node.url);
    this.#connections.set(key, connection);
    return (await connection).call(...args);
  }

  #askAll(...args: string[]): Promise<RawReply[]> {
    return Promise.all(this.nodes.map((node) => this.#ask(node, ...args)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connections = await Promise.all(this.#connections.values());
    for (const connection of connections) await connection[Symbol.asyncDispose]();
    await Promise.all(this.nodes.map((node) => node.stop()));
  }
}
