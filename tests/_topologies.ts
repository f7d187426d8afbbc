/** Several Redis servers that make one service: Sentinel and Cluster, on loopback. */
import assert from "node:assert/strict";
import { eventually, openRawRedis, type RawReply } from "./_helpers.ts";
import { type RedisServer, startRedis } from "./_redis.ts";

const HOST = "127.0.0.1";
const DOWN_AFTER_MS = 1_000;
const SENTINELS = 3;

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
