/** Losing the connection, being woken on it, and closing it: on real sockets. */
import { createClient } from "@redis/client";
import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, it } from "node:test";
import { createPool, type RedisClient } from "../client.ts";
import { QueueConnectionError } from "../errors.ts";
import { openStore } from "../open_store.ts";
import { makeRawClient } from "../redis_clients.ts";
import { type ClientFactory, RedisConnection } from "../redis_connection.ts";
import { type RedisSettings, resolveRedisSettings } from "../redis_settings.ts";
import type { Store } from "../store.ts";
import { FakeServer, startLossyRelay } from "./_fake_server.ts";
import {
  bytes,
  endOf,
  eventually,
  newJob,
  only,
  openRawRedis,
  openTestStore,
  type RawRedis,
  rejection,
  within,
} from "./_helpers.ts";
import { randomPrefix, startRedis, testRedisUrl } from "./_redis.ts";

const HOST = "127.0.0.1";
const LEASE_MS = 30_000;
/** Nobody polls within a test. */
const NEVER = 60_000;

async function connected(settings: RedisSettings, prefix = randomPrefix()): Promise<Store> {
  const store = openStore({ host: HOST, ...settings }, prefix);
  await store.connect();
  return store;
}

/** How many clients the server has besides the one that asks. */
async function countOthers(redis: RawRedis): Promise<number> {
  return String(await redis.call("CLIENT", "LIST")).trim().split("\n").length - 1;
}

const isThere = async (store: Store, queue: string, id: string) =>
  (await store.lookUp(queue, id, false)).hasPayload;

describe("Losing the connection", () => {
  it("repeats a call whose reply was lost, and the job is there once", async () => {
    await using server = await startRedis();
    await using relay = await startLossyRelay(server.port);
    await using store = await connected({ port: relay.port });
    const queue = `${store.prefix}queue`;
    await store.enqueue(queue, [newJob("warm", { idKind: "given" })], LEASE_MS);
    for (const idKind of ["given", "random"] as const) {
      relay.loseReplyTo(idKind);
      assert.deepEqual(await store.enqueue(queue, [newJob(idKind, { idKind })], LEASE_MS), [true]);
    }
    assert.equal(relay.lost, 2);
    const { claims } = await store.claim(queue, { holder: "h", limit: 10, leaseMs: LEASE_MS });
    assert.equal(claims.length, 3);
    relay.loseReplyTo("result of given");
    const settled = await store.finish(queue, claims.map((claim) => endOf(claim)));
    assert.deepEqual(settled, ["done", "done", "done"]);
    assert.equal(relay.lost, 3);
    await store.enqueue(queue, [newJob("late")], LEASE_MS);
    const aborted = bytes("aborted late");
    // From then on the server knows the script.
    assert.equal(await store.abort(queue, "nobody", aborted, LEASE_MS), "not_found");
    relay.loseReplyTo("aborted late");
    assert.equal(await store.abort(queue, "late", aborted, LEASE_MS), "aborted");
    assert.equal(relay.lost, 4);
    assert.equal(await store.abort(queue, "late", bytes("another"), LEASE_MS), "not_found");
  });

  it("repeats calls in flight when the server restarts, and tells of the reconnect", async () => {
    await using server = await startRedis({ args: ["--appendonly", "yes"] });
    await using store = await connected({ port: server.port });
    const queue = `${store.prefix}queue`;
    let reconnects = 0;
    using _listening = store.onReconnect(() => reconnects++);
    using line = store.openWakeLine(queue);
    line.wait().catch(() => {});
    let isBack = false;
    const restarted = server.restart().then(() => isBack = true);
    const replies: boolean[][] = [];
    let count = 0;
    for (; !isBack || count < 100; count++) {
      const job = newJob(`j${count}`, { idKind: "given" });
      replies.push(await store.enqueue(queue, [job], LEASE_MS));
    }
    await restarted;
    assert.ok(replies.every(([isNew]) => isNew));
    assert.equal((await store.queueEntries(queue)).length, count);
    await eventually(() => reconnects >= 1, "it is told");
  });

  it("hears of ends again after a restart", async () => {
    await using server = await startRedis({ args: ["--appendonly", "yes"] });
    await using store = await connected({ port: server.port });
    await using other = await connected({ port: server.port }, store.prefix);
    const queue = `${store.prefix}queue`;
    let heard = 0;
    await using _ = await store.onFinished("a", (record) => record && heard++);
    await server.restart();
    await eventually(async () => {
      await other.enqueue(queue, [newJob("a")], LEASE_MS);
      await other.abort(queue, "a", bytes("x"), 1);
      return heard > 0;
    }, "the listener is told");
  });

  it("looks for an end that came while nothing could be heard", async () => {
    await using server = await startRedis();
    await using relay = await startLossyRelay(server.port);
    const prefix = randomPrefix();
    await using arq = await createPool({ host: HOST, port: relay.port }, { prefix });
    await using there = await createPool(server.url, { prefix });
    await arq.enqueueJob("f", [], { jobId: "a" });
    const result = arq.job("a").result({ pollDelay: NEVER });
    const ended = assert.rejects(within(15_000, "it ends", result), { name: "JobAborted" });
    const isHeard = async () =>
      String(await (there.redis as RedisClient).sendCommand(["PUBSUB", "CHANNELS", `${prefix}*`]));
    await eventually(isHeard, "it listens");
    relay.cut();
    assert.equal(await there.job("a").abort(), true);
    relay.mend();
    await ended;
  });

  it("hears again once the connection on which it listened has fallen silent", async () => {
    await using server = await startRedis();
    await using relay = await startLossyRelay(server.port);
    await using store = await connected({ port: relay.port, timeout: 1_500 });
    await using other = await connected({ port: server.port }, store.prefix);
    const queue = `${store.prefix}queue`;
    let heard = 0;
    await using _ = await store.onFinished("a", (record) => record && heard++);
    relay.silence();
    await eventually(
      async () => {
        await other.enqueue(queue, [newJob("a")], LEASE_MS);
        await other.abort(queue, "a", bytes("x"), 1);
        return heard > 0;
      },
      "the listener is told",
      30_000,
    );
  });

  it("tries again to listen, as often as it would try to connect", async () => {
    await using server = await startRedis();
    await using relay = await FakeServer.start((near) => {
      if (relay.accepted === 2) return void near.destroy(); // the one to listen on
      const far = connect({ port: server.port, host: HOST });
      relay.keep(far);
      near.pipe(far).pipe(near);
    });
    const prefix = randomPrefix();
    const settings = { host: HOST, port: relay.port, connRetryDelay: 50 };
    await using arq = await createPool(settings, { prefix });
    await using there = await createPool(server.url, { prefix });
    const call = arq.call("f", [], { pollDelay: NEVER, jobId: "a" });
    const called = assert.rejects(within(15_000, "it ends", call), { name: "JobAborted" });
    await eventually(async () => await there.job("a").status() === "queued", "it is enqueued");
    assert.equal(await there.job("a").abort(), true);
    await called;
  });

  it("ends calls on a frozen server in time, and works again once it has thawed", async () => {
    await using server = await startRedis();
    await using store = await connected({ port: server.port, timeout: 1_500 });
    const queue = `${store.prefix}queue`;
    await store.enqueue(queue, [newJob("a")], LEASE_MS);
    await using _listening = await store.onFinished("b", () => {});
    server.kill("SIGSTOP");
    const calls = [
      store.lookUp(queue, "a", false),
      store.claim(queue, { holder: "h", limit: 1, leaseMs: LEASE_MS }),
      store.queueEntries(queue),
      store.onFinished("a", () => {}),
    ];
    for (const call of calls.map(rejection)) {
      const error = await within(8_000, "the call ends", call);
      assert.ok(error instanceof QueueConnectionError);
      assert.match(error.message, /^Redis at \S+: no reply within 1\.5 s$/);
    }
    server.kill("SIGCONT");
    await eventually(() => isThere(store, queue, "a").catch(() => false), "calls work again");
  });

  it("replaces a connection on which nothing comes any more", async () => {
    await using server = await startRedis();
    await using relay = await startLossyRelay(server.port);
    await using store = await connected({ port: relay.port, timeout: 1_500 });
    const queue = `${store.prefix}queue`;
    await store.enqueue(queue, [newJob("a")], LEASE_MS);
    relay.silence();
    const error = await within(8_000, "the call ends", rejection(store.lookUp(queue, "a", false)));
    assert.ok(error instanceof QueueConnectionError);
    assert.equal(await isThere(store, queue, "a"), true);
  });

  it("repeats a call that timed out once, where it is told to", async () => {
    await using server = await startRedis();
    await using store = await connected({
      port: server.port,
      timeout: 1_500,
      retryOnTimeout: true,
    });
    const queue = `${store.prefix}queue`;
    server.kill("SIGSTOP");
    const error = await within(8_000, "the call ends", rejection(store.lookUp(queue, "a", false)));
    assert.ok(error instanceof QueueConnectionError);
    const call = store.enqueue(queue, [newJob("a", { idKind: "given" })], LEASE_MS);
    server.kill("SIGCONT");
    assert.deepEqual(await call, [true]);
  });

  it("gives a clear error in time while the server is down", async () => {
    await using server = await startRedis();
    await using store = await connected({ port: server.port, timeout: 400 });
    const queue = `${store.prefix}queue`;
    server.kill("SIGKILL");
    for (let i = 0; i < 2; i++) {
      const call = rejection(store.lookUp(queue, "a", false));
      const error = await within(8_000, "the call ends", call);
      assert.ok(error instanceof QueueConnectionError);
      assert.match(error.message, /^Redis at \S+: .+$/);
    }
    await server.restart();
    await eventually(() => store.lookUp(queue, "a", false).catch(() => false), "it is back");
  });
});

describe("A wake-up that claims", () => {
  it("claims at a wake-up, in the same moment", async () => {
    await using server = await startRedis();
    await using store = await connected({ port: server.port });
    const queue = `${store.prefix}queue`;
    using line = store.openWakeLine(queue);
    assert.equal(line.canClaim, true);
    await store.claim(queue, { holder: "me", limit: 1, leaseMs: LEASE_MS }); // The server knows the script from now on.
    const request = { holder: "me", limit: 1, leaseMs: LEASE_MS };
    const waiting = line.wait(request);
    await store.enqueue(queue, [newJob("first"), newJob("second")], LEASE_MS);
    const reply = await waiting;
    assert.ok(typeof reply === "object");
    assert.deepEqual(reply.claims.map(({ jobId }) => jobId), ["first"]);
    assert.equal(reply.nextDueMs, 0, "there is more to claim");
    assert.match(reply.claims[0]?.token ?? "", /^me:/);
  });

  it("is only woken where the server has forgotten the script, and loses nothing", async () => {
    await using server = await startRedis();
    await using store = await connected({ port: server.port });
    const queue = `${store.prefix}queue`;
    using line = store.openWakeLine(queue);
    const waiting = line.wait({ holder: "me", limit: 1, leaseMs: LEASE_MS });
    await store.enqueue(queue, [newJob("a")], LEASE_MS);
    assert.equal(await waiting, true, "no claim has taught the server its script yet");
    assert.equal(
      (await store.claim(queue, { holder: "me", limit: 1, leaseMs: LEASE_MS })).claims.length,
      1,
    );
  });

  it("keeps a claim at a wake-up although the wake-up itself is refused", async () => {
    await using server = await startRedis();
    await using store = await connected({ port: server.port });
    const queue = `${store.prefix}queue`;
    using line = store.openWakeLine(queue);
    await store.enqueue(queue, [newJob("a")], LEASE_MS);
    assert.deepEqual(
      (await store.claim(queue, { holder: "me", limit: 0, leaseMs: LEASE_MS })).claims,
      [],
    );
    await (store.client as RedisClient).sendCommand(["SET", `${queue}:wake`, "no list"]);
    const reply = await line.wait({ holder: "me", limit: 1, leaseMs: LEASE_MS });
    assert.ok(typeof reply === "object" && reply.claims.length === 1);
  });
});

describe("Connections", () => {
  it("are one for commands, one for results, and one to be woken, as far as allowed", async () => {
    await using server = await startRedis();
    await using admin = await openRawRedis(server.url);
    for (const maxConnections of [1, 2, 3]) {
      const settings = { host: HOST, port: server.port, maxConnections };
      await using arq = await createPool(settings, { prefix: randomPrefix() });
      const queue = arq.defaultQueueName;
      const job = await arq.enqueueJob("f");
      using line = arq.store.openWakeLine(queue);
      line.wait().catch(() => {});
      const aborted = assert.rejects(job.result({ pollDelay: 20 }), { name: "JobAborted" });
      await eventually(async () => await countOthers(admin) === maxConnections, "they are open");
      assert.equal(await arq.job(job.jobId).abort(), true);
      await aborted;
      assert.equal(await countOthers(admin), maxConnections);
      await arq.close();
      await eventually(async () => await countOthers(admin) === 0, "all are closed");
    }
  });

  it("are opened by no call that comes after close", async () => {
    await using server = await startRedis();
    await using admin = await openRawRedis(server.url);
    const store = await connected({ port: server.port });
    await store.close();
    using line = store.openWakeLine(`${store.prefix}queue`);
    for (const call of [store.onFinished("a", () => {}), line.wait()]) {
      assert.match((await rejection(call)).message, /^The connection to \S+ is closed$/);
    }
    await eventually(async () => await countOthers(admin) === 0, "none is left");
    await store.connect();
    await using _ = await store.onFinished("a", () => {});
    assert.equal(await countOthers(admin), 2);
    await store.close();
  });

  it("are not doubled by a call that comes while the store is opened again", async () => {
    await using server = await startRedis();
    await using admin = await openRawRedis(server.url);
    const store = await connected({ port: server.port });
    await store.close();
    const connecting = store.connect();
    assert.equal(store.isOpen, false);
    assert.match((await rejection(isThere(store, "q", "a"))).message, /not connected$/);
    await connecting;
    assert.equal(await isThere(store, "q", "a"), false);
    await store.close();
    await eventually(async () => await countOthers(admin) === 0, "none is left");
  });

  it("are tried again by no client that was closed, whatever it has opened since", async () => {
    await using server = await startRedis();
    const target = resolveRedisSettings({ host: HOST, port: server.port });
    const strategies: Parameters<ClientFactory>[0][] = [];
    const connection = new RedisConnection((reconnect) => {
      strategies.push(reconnect);
      return makeRawClient(target, reconnect);
    }, target);
    await connection.connect();
    const lost = new Error("lost");
    const answers = () => strategies.map((reconnect) => typeof reconnect(0, lost));
    assert.deepEqual(answers(), ["number"]);
    connection.close();
    assert.deepEqual(answers(), ["object"]);
  });

  it("leave a client that was handed in open and untouched", async () => {
    await using server = await startRedis({ unixSocket: true });
    await using admin = await openRawRedis(server.url);
    const client = createClient({ socket: { path: server.socketPath ?? "", tls: false } });
    client.on("error", () => {});
    await client.connect();
    try {
      const listeners = client.listenerCount("error");
      const arq = await createPool(client, { prefix: "mine:" });
      assert.equal(arq.redis, client);
      const job = await arq.enqueueJob("f");
      const aborted = assert.rejects(job.result(), { name: "JobAborted" });
      await eventually(async () => await countOthers(admin) === 3, "its own connections");
      assert.equal(await arq.job(job.jobId).abort(), true);
      await aborted;
      assert.equal((await arq.allJobResults()).length, 1);
      await arq.close();
      await eventually(async () => await countOthers(admin) === 1, "only the given one is left");
      assert.equal(client.isOpen, true);
      assert.equal(client.listenerCount("error"), listeners);
      assert.equal(await client.ping(), "PONG");
    } finally {
      client.destroy();
    }
  });

  it("work through a Unix socket by connection string", async () => {
    await using server = await startRedis({ unixSocket: true });
    await using arq = await createPool(server.url);
    assert.equal(arq.store.address, server.socketPath);
    assert.equal(await (await arq.enqueueJob("f")).status(), "queued");
  });

  it("keep pools with different prefixes apart on one server", async () => {
    const url = await testRedisUrl();
    const [one, two] = [randomPrefix(), randomPrefix()];
    await using first = await createPool(url, { prefix: one });
    await using second = await createPool(url, { prefix: two });
    await using redis = await openRawRedis();
    await first.enqueueJob("f", [], { jobId: "a" });
    assert.ok(await second.enqueueJob("f", [], { jobId: "a", deferBy: 60_000 }));
    await second.job("a").abort();
    assert.equal(await first.job("a").status(), "queued");
    assert.equal((await first.allJobResults()).length, 0);
    assert.equal(only(await first.queuedJobs()).jobId, "a");
    const keys = await redis.call("KEYS", `${two}*`) as string[];
    assert.ok(
      keys.every((key) =>
        /:(result:a|nonce:\S+|queue:wake|queue:ops:failed|ops:queues)$/.test(key)
      ),
      keys.join(),
    );
  });

  it("select the database of the connection string", async () => {
    await using server = await startRedis();
    await using store = await openTestStore({ url: `${server.url}/5` });
    assert.equal(store.address, `127.0.0.1:${server.port}?db=5`); // another than that of database 0
    await store.writeHealth("h", "alive", 60_000);
    await using redis = await openRawRedis(server.url);
    assert.match(String(await redis.call("INFO", "keyspace")), /db5:keys=1/);
  });
});
