/** The rules of the Redis protocol that the conformance suite cannot see, on a real server. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { QueueConnectionError } from "../errors.ts";
import { openStore } from "../open_store.ts";
import { RedisConnection } from "../redis_connection.ts";
import { scriptKeys } from "../redis_keys.ts";
import type { Script } from "../redis_prelude.ts";
import { scripts } from "../redis_scripts.ts";
import { parseDsn } from "../redis_dsn.ts";
import { makeRawClient } from "../redis_clients.ts";
import { resolveRedisSettings } from "../redis_settings.ts";
import {
  bytes,
  endOf,
  eventually,
  newJob,
  only,
  openRawRedis,
  openTestStore,
  rejection,
} from "./_helpers.ts";
import { startRedis, testRedisUrl } from "./_redis.ts";
import { DAY_MS, LEASE_MS, Scene } from "./_redis_scene.ts";

const STARTS_TTL_MS = 88_400_000;

async function openConnection(): Promise<RedisConnection> {
  const target = resolveRedisSettings(parseDsn(await testRedisUrl()).settings);
  const connection = new RedisConnection((reconnect) => makeRawClient(target, reconnect), target);
  await connection.connect();
  return connection;
}

describe("Redis protocol, enqueue", () => {
  it("takes an id as free while a lock alone is left of it (rule 1)", async () => {
    await using s = await Scene.open();
    await s.call("SET", s.key("in-progress:a"), "1", "PX", 60_000);
    assert.deepEqual(await s.enqueue(newJob("a", { idKind: "given" })), [true]);
    await s.call("DEL", s.key("job:a"));
    assert.deepEqual(await s.enqueue(newJob("a", { idKind: "given" })), [false]);
  });

  it("lets the data live until the due time plus the extra, and never less (rule 2)", async () => {
    await using s = await Scene.open();
    await s.enqueue(
      newJob("past", { dueAt: 1 }),
      newJob("deferred", { deferMs: 60_000 }),
      newJob("own", { deferMs: 60_000, expiresMs: 9_000 }),
    );
    await s.expiresIn(s.key("job:past"), DAY_MS);
    await s.expiresIn(s.key("job:deferred"), DAY_MS + 60_000);
    await s.expiresIn(s.key("job:own"), 9_000);
    assert.equal(await s.score("past"), "1");
  });

  it("starts a fresh incarnation clean of what an earlier one left (rule 3)", async () => {
    await using s = await Scene.open();
    await s.call("ZADD", s.key("abort"), 1, "a");
    await s.call("SET", s.key("retry:a"), 4);
    await s.call("SET", s.key("handbacks:a"), 2);
    await s.enqueue(newJob("a", { idKind: "given" }));
    const { starts, handbacks, abortAsked } = only(await s.claim());
    assert.deepEqual([starts, handbacks, abortAsked], [1, 0, false]);
  });

  it("answers the repetition of a lost call as it answered the call (rule 4)", async () => {
    await using s = await Scene.open();
    const connection = await openConnection();
    const enqueue = (again: string, nonce: string, id: string, kind: string) => {
      const job = ["payload", ...(kind === "random" ? ["7,", id] : ["7+,", id, `${kind},,,,`])];
      const args = [String(DAY_MS), again, nonce, ...job];
      const { prefix } = s.store;
      const keys = scriptKeys(prefix, s.queue);
      return connection.script({ script: scripts.enqueue, keys, prefix, args: () => args });
    };
    const reply = async (...args: Parameters<typeof enqueue>) => String(await enqueue(...args));
    try {
      assert.equal(await reply("0", "n1", "a", "given"), "");
      assert.equal(await reply("1", "n1", "a", "given"), "");
      assert.equal(await reply("1", "n2", "a", "given"), "1");
      assert.equal(await reply("1", "n2", "a", "given"), "1");
      // Bytes of a lost connection may come late.
      assert.equal(await reply("0", "n1", "a", "given"), "");
      await s.expiresIn(s.key("nonce:n1"), 60_000);
      assert.equal(await reply("0", "", "r", "random"), "");
      assert.equal(await reply("1", "", "r", "random"), "");
      assert.equal(await s.call("ZCARD", s.queue), 2);
    } finally {
      connection.close();
    }
  });

  it("writes nothing where the queue's name is taken by something else", async () => {
    await using s = await Scene.open();
    await s.call("SET", s.queue, "not a queue");
    const error = await rejection(s.enqueue(newJob("a"), newJob("b", { idKind: "given" })));
    assert.ok(error instanceof QueueConnectionError);
    assert.match(error.message, /^Redis at \S+: .*choose another prefix.*$/);
    assert.deepEqual(await s.call("KEYS", `${s.store.prefix}*`), [s.queue]);
  });

  it("keeps at most one wake-up, which expires (rules 5, 12)", async () => {
    await using s = await Scene.open();
    const wakeList = `${s.queue}:wake`;
    await s.enqueue(newJob("a"));
    await s.enqueue(newJob("b"));
    await s.store.wake(s.queue);
    assert.equal(await s.call("LLEN", wakeList), 1);
    await s.expiresIn(wakeList, 5_000);
    await s.claim();
    assert.equal(await s.call("EXISTS", wakeList), 0);
  });
});

describe("Redis protocol, claim", () => {
  it("scans past entries that others hold, and leaves their score (rule 8)", async () => {
    await using s = await Scene.open();
    for (let i = 0; i < 150; i++) {
      await s.call("ZADD", s.queue, i + 1, `python${i}`);
      await s.call("SET", s.key(`job:python${i}`), "payload");
      await s.call("SET", s.key(`in-progress:python${i}`), "1", "PX", 60_000);
    }
    await s.enqueue(newJob("ours", { dueAt: 1_000 }), newJob("next", { dueAt: 2_000 }));
    assert.equal(only(await s.claim(1)).jobId, "ours");
    assert.equal(only(await s.claim(1)).jobId, "next");
    assert.deepEqual(await s.claim(), []);
    assert.equal(await s.score("python149"), "150");
    await s.call("DEL", s.key("in-progress:python7"));
    assert.equal(only(await s.claim()).jobId, "python7");
  });

  it("sets lock, count, queue score and lease as documented (rule 9)", async () => {
    await using s = await Scene.open();
    await s.enqueue(newJob("a", { dueAt: 5_000 }));
    const claim = only(await s.claim());
    const now = await s.now();
    assert.equal(await s.call("GET", s.key("in-progress:a")), claim.token);
    await s.expiresIn(s.key("in-progress:a"), LEASE_MS);
    assert.equal(await s.call("GET", s.key("retry:a")), "1");
    await s.expiresIn(s.key("retry:a"), STARTS_TTL_MS);
    const score = Number(await s.score("a"));
    assert.ok(Math.abs(score - (now + LEASE_MS + 5)) < 5_000);
    assert.deepEqual(await s.call("ZRANGE", s.leases, 0, -1, "WITHSCORES"), [
      "5000:a",
      String(score),
    ]);
    assert.equal(await s.call("EXISTS", s.key("handbacks:a")), 0);
    await s.store.giveBack(s.queue, [{ lease: claim, kind: "release", starts: 1 }]);
    assert.equal(await s.call("GET", s.key("handbacks:a")), "1");
    await s.expiresIn(s.key("handbacks:a"), STARTS_TTL_MS);
    assert.equal(await s.score("a"), "5000");
  });

  it("forgets hand-backs with the end, also those that the one who ends it was not told of", async () => {
    await using s = await Scene.open();
    const early = await s.start("a");
    await s.store.giveBack(s.queue, [{ lease: early, kind: "release", starts: 1 }]);
    const told = only(await s.claim());
    assert.equal(told.handbacks, 1);
    await s.finish(told);
    assert.equal(await s.call("EXISTS", s.key("handbacks:a")), 0);

    const first = await s.start("c");
    await s.store.giveBack(s.queue, [{ lease: first, kind: "release", starts: 1 }]);
    const second = only(await s.claim());
    await s.store.giveBack(s.queue, [{ lease: second, kind: "retry", starts: 0 }]);
    assert.equal(await s.call("EXISTS", s.key("retry:c"), s.key("handbacks:c")), 0);
    await s.finish(only(await s.claim()));

    const late = await s.start("b");
    await s.call("DEL", s.key("in-progress:b"));
    await s.call("ZADD", s.queue, 5, "b");
    await s.call("ZADD", s.leases, 5, `${late.score}:b`);
    await s.store.giveBack(s.queue, [{ lease: only(await s.claim()), kind: "release", starts: 2 }]);
    assert.equal(await s.call("GET", s.key("handbacks:b")), "1");
    await s.claim();
    assert.deepEqual(await s.finish(late), ["done"]);
    assert.equal(await s.call("EXISTS", s.key("handbacks:b")), 0);

    const former = await s.start("d");
    await s.call("DEL", s.key("in-progress:d"));
    await s.call("ZADD", s.queue, 5, "d");
    await s.call("ZADD", s.leases, 5, `${former.score}:d`);
    await s.store.giveBack(s.queue, [{ lease: only(await s.claim()), kind: "release", starts: 2 }]);
    await s.claim();
    await s.call("DEL", s.key("in-progress:d")); // the server stood still until it had run out
    assert.deepEqual(await s.store.renew(s.queue, [former], LEASE_MS), [true]);
    assert.equal(await s.call("GET", s.key("handbacks:d")), "1");
    assert.deepEqual(await s.finish(former), ["done"]);
    assert.equal(await s.call("EXISTS", s.key("handbacks:d")), 0);
  });

  it("heals leases that a clock set back left far in the future (rule 9)", async () => {
    await using s = await Scene.open();
    const claim = await s.start("a");
    const hour = await s.now() + 3_600_000;
    await s.call("ZADD", s.queue, hour, "a");
    await s.call("ZADD", s.leases, hour, `${claim.score}:a`);
    await s.store.renew(s.queue, [claim], LEASE_MS);
    assert.ok(Number(await s.score("a")) < hour - 3_000_000);
    assert.equal(await s.call("ZSCORE", s.leases, `${claim.score}:a`), await s.score("a"));
  });

  it("gives back its place to a job whose lease is over before its lock", async () => {
    await using s = await Scene.open();
    await s.enqueue(newJob("a", { dueAt: 5 }), newJob("b"));
    only((await s.store.claim(s.queue, { holder: "holder", limit: 1, leaseMs: 1 })).claims);
    // As when the server stands still for that long between setting the lease and the lock.
    await s.call("SET", s.key("in-progress:a"), "holder:token:a", "PX", LEASE_MS);
    await eventually(async () => Number(await s.score("a")) < await s.now(), "the lease is over");
    const { jobId, score } = only(await s.claim(1));
    assert.deepEqual([jobId, score], ["a", "5"]);
  });

  it("fails the one job whose keys hold other types, not the batch (rule 10)", async () => {
    await using s = await Scene.open();
    await s.enqueue(...["a", "b", "c", "d", "e"].map((id, i) => newJob(id, { dueAt: i + 1 })));
    await s.call("DEL", s.key("job:a"));
    for (const name of ["job:a", "in-progress:b", "retry:c", "handbacks:d"]) {
      await s.call("RPUSH", s.key(name), "wrong type");
    }
    const claims = await s.claim();
    const seen = claims.map(({ jobId, payload, starts }) => [jobId, payload !== undefined, starts]);
    assert.deepEqual(seen, [
      ["a", false, 1],
      ["b", true, 1],
      ["c", true, 1],
      ["d", true, 1],
      ["e", true, 1],
    ]);
    const [a, , , d] = claims;
    assert.ok(a && d);
    const back = { lease: d, kind: "release" as const, starts: 1 };
    assert.deepEqual(await s.store.giveBack(s.queue, [back]), ["done"]);
    assert.deepEqual(await s.finish(a, { success: false }), ["done"]);
    assert.equal(await s.call("EXISTS", s.key("job:a")), 0);
  });

  it("takes a lock without an end for none (rule 10)", async () => {
    await using s = await Scene.open();
    await s.enqueue(newJob("a"), newJob("b"));
    await s.call("SET", s.key("in-progress:a"), "1");
    assert.equal((await s.claim()).length, 2);
    await s.expiresIn(s.key("in-progress:a"), LEASE_MS);
  });

  it("removes an entry with a result but without a job, and keeps the result (rule 11)", async () => {
    await using s = await Scene.open();
    await s.enqueue(newJob("ghost", { dueAt: 1 }), newJob("real", { dueAt: 2 }));
    await s.call("DEL", s.key("job:ghost"));
    await s.call("SET", s.key("result:ghost"), "kept");
    await s.call("SET", s.key("retry:ghost"), 1);
    await s.call("ZADD", s.key("abort"), 1, "ghost");
    assert.equal(only(await s.claim(1)).jobId, "real");
    assert.equal(await s.score("ghost"), null);
    assert.equal(await s.call("GET", s.key("result:ghost")), "kept");
    assert.equal(await s.call("EXISTS", s.key("retry:ghost"), s.key("abort")), 0);
  });
});

describe("Redis protocol, leases and ends", () => {
  it("keeps a lease whose lock has expired while nobody took the job (rule 15)", async () => {
    await using s = await Scene.open();
    const lapsed = async (id: string) => {
      const claim = await s.start(id);
      await s.call("DEL", s.key(`in-progress:${id}`));
      return claim;
    };
    const renewed = await lapsed("renewed");
    assert.deepEqual(await s.store.renew(s.queue, [renewed], LEASE_MS), [true]);
    assert.equal(await s.call("GET", s.key("in-progress:renewed")), renewed.token);
    assert.deepEqual(await s.finish(await lapsed("failed"), { success: false }), ["done"]);
    const lease = await lapsed("retried");
    const back = { lease, kind: "retry" as const, starts: 1, deferMs: 60_000 };
    assert.deepEqual(await s.store.giveBack(s.queue, [back]), ["done"]);
    const gone = await lapsed("gone");
    await s.call("ZREM", s.leases, `${gone.score}:gone`);
    assert.deepEqual(await s.store.renew(s.queue, [gone], LEASE_MS), [false]);
  });

  it("tells whoever waits, whatever the id looks like", async () => {
    await using s = await Scene.open();
    const ids = [
      "a",
      "@",
      "@a",
      "a@b",
      "@a@b",
      "@@x",
      "@types/node@20",
      "a:b:@c",
      "\uFEFFa",
      "é@é",
    ];
    const told: string[] = [];
    for (const id of ids) await s.store.onFinished(id, () => void told.push(id));
    for (const id of ids) await s.finish(await s.start(id));
    await eventually(() => Promise.resolve(told.length === ids.length), "news of all");
    assert.deepEqual(told, ids);
  });

  it("tells whoever waits for some of many jobs that end together", async () => {
    await using s = await Scene.open();
    const ids = Array.from({ length: 40 }, (_, i) => i % 2 === 0 ? `call@${i}` : `job${i}`);
    await s.enqueue(...ids.map((id) => newJob(id)));
    const claims = await s.claim(40);
    assert.equal(claims.length, 40);
    const told = new Set<string>();
    const awaited = ["call@0", "call@38", "job1", "job39"];
    for (const id of awaited) await s.store.onFinished(id, () => void told.add(id));
    await s.store.finish(s.queue, claims.map((claim) => endOf(claim)));
    await eventually(() => Promise.resolve(told.size === awaited.length), "news of all");
  });

  it("accepts a late success over Python's lock, and refuses a late failure (rule 16)", async () => {
    await using s = await Scene.open();
    for (const success of [false, true]) {
      const claim = await s.start(String(success));
      await s.call("SET", s.key(`in-progress:${success}`), "1", "PX", 60_000);
      assert.deepEqual(await s.store.renew(s.queue, [claim], LEASE_MS), [false]);
      assert.deepEqual(await s.finish(claim, { success }), [success ? "done" : "refused"]);
      const left = await s.call("EXISTS", s.key(`in-progress:${success}`), s.key(`job:${success}`));
      assert.equal(left, success ? 0 : 2);
    }
  });

  it("keeps a job that was enqueued anew under the id while the old one ran (rule 17)", async () => {
    await using s = await Scene.open();
    const old = await s.start("a");
    await s.call("DEL", s.key("job:a"), s.key("in-progress:a")); // expired, both
    const anew = newJob("a", { idKind: "given", dueAt: 4_000, payload: bytes("new") });
    assert.deepEqual(await s.enqueue(anew), [true]);
    assert.deepEqual(await s.finish(old, { keepMs: 0 }), ["done"]);
    assert.equal(await s.score("a"), "4000");
    const claim = only(await s.claim());
    assert.equal(new TextDecoder().decode(claim.payload ?? undefined), "new");
    assert.equal(claim.starts, 1);
  });

  it("takes score 1 on a running job for Python's abort (rule 17)", async () => {
    await using s = await Scene.open();
    const renewed = await s.start("a");
    await s.call("ZADD", s.queue, 1, "a");
    assert.deepEqual(await s.claim(), []);
    await s.store.renew(s.queue, [renewed], LEASE_MS);
    assert.ok(Number(await s.score("a")) > 1_000);
    await s.call("ZADD", s.queue, 1, "a");
    assert.deepEqual(await s.finish(renewed), ["done"]);
    assert.equal(await s.call("EXISTS", s.key("job:a"), s.queue), 0);
  });

  it("records an end although the user may not publish, and says what is missing (rule 18)", async () => {
    await using server = await startRedis();
    await using admin = await openRawRedis(server.url);
    await admin.call("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "resetchannels");
    await using s = await Scene.open(`redis://app:secret@127.0.0.1:${server.port}`);
    assert.deepEqual(await s.finish(await s.start("a")), ["done"]);
    assert.equal(await s.call("GET", s.key("result:a")), "result of a");
    await s.enqueue(newJob("b"));
    assert.equal(await s.store.abort(s.queue, "b", bytes("x"), 1_000), "aborted");
    const error = await rejection(s.store.onFinished("a", () => {}));
    assert.ok(error instanceof QueueConnectionError);
    assert.match(error.message, /lacks a permission; compare its ACL/);
  });

  it("listens to no channel any more once nobody waits, whatever the ids are", async () => {
    await using s = await Scene.open();
    const channels = () => s.call("PUBSUB", "CHANNELS", `${s.store.prefix}*`) as Promise<string[]>;
    const call = `0123456789ab@${"0".repeat(32)}`; // of another client
    const ids = ["a", "a@1", "a@2", "user@example.org", "@b", call];
    const lines = await Promise.all(ids.map((id) => s.store.onFinished(id, () => {})));
    assert.ok((await channels()).length > 0);
    for (const line of lines) await line[Symbol.asyncDispose]();
    await eventually(async () => (await channels()).length === 0, "every channel is left");
  });

  it("answers a repeated finish as it answered the first", async () => {
    await using s = await Scene.open();
    const claim = await s.start("a");
    assert.deepEqual(await s.finish(claim), ["done"]);
    assert.deepEqual(await s.finish(claim), ["done"]);
    assert.deepEqual(await s.finish(claim, { record: bytes("another") }), ["refused"]);
  });

  it("leaves nothing behind without an expiry", async () => {
    await using s = await Scene.open();
    await s.finish(await s.start("done"), { lockTailMs: 60_000 });
    const back = { lease: await s.start("retried"), kind: "release" as const, starts: 1 };
    await s.store.giveBack(s.queue, [back]);
    await s.store.abort(s.queue, "retried", bytes("aborted"), 60_000);
    const running = await s.start("running");
    await s.store.abort(s.queue, "running", bytes("aborted"), 60_000);
    await s.finish(running);
    const slot = newJob("slot", { idKind: "slot", dueAt: await s.now() });
    await s.enqueue(slot, newJob("given", { idKind: "given" }));
    for (const claim of await s.claim()) await s.finish(claim);
    await s.claim(); // drops what is left of leases that have ended
    for (const key of await s.call("KEYS", `${s.store.prefix}*`) as string[]) {
      assert.notEqual(await s.call("PTTL", key), -1, `${key} has no expiry`);
    }
  });
});

describe("Redis protocol, aborts and slots", () => {
  it("dates an abort request a minute back, so that Python keeps it (rule 22)", async () => {
    await using s = await Scene.open();
    await s.start("a");
    const now = await s.now();
    await s.store.abort(s.queue, "a", bytes("x"), 1_000);
    const score = Number(await s.call("ZSCORE", s.key("abort"), "a"));
    assert.ok(Math.abs(score - (now - 60_000)) < 5_000);
  });

  it("finishes a job that nobody runs instead of setting score 1 (rule 23)", async () => {
    await using s = await Scene.open();
    await s.enqueue(newJob("a", { deferMs: 60_000 }));
    await s.store.abort(s.queue, "a", bytes("x"), 5_000);
    assert.equal(await s.call("EXISTS", s.queue, s.key("abort"), s.key("job:a")), 0);
    await s.expiresIn(s.key("result:a"), 5_000);
  });

  it("refuses a slot that Python has locked (rule 26)", async () => {
    await using s = await Scene.open();
    const slot = newJob("slot", { idKind: "slot", dueAt: await s.now() });
    await s.call("SET", s.key("in-progress:slot"), "1", "PX", 60_000);
    assert.deepEqual(await s.enqueue(slot), [false]);
    await s.call("PEXPIRE", s.key("in-progress:slot"), 50);
    await eventually(async () => (await s.enqueue(slot))[0], "the slot is free again");
  });

  it("leaves Python's lock on a finished slot (rule 27)", async () => {
    await using s = await Scene.open();
    await s.finish(await s.start("slot"), { lockTailMs: 60_000 });
    assert.equal(await s.call("GET", s.key("in-progress:slot")), "1");
    await s.expiresIn(s.key("in-progress:slot"), 60_000);
  });
});

describe("Redis protocol, servers", () => {
  it("drains a server that is out of memory, and accepts nothing new on it (rule 6)", async () => {
    await using server = await startRedis();
    await using s = await Scene.open(server.url);
    const [kept, orphan] = ["kept", "orphan"].map((id) => newJob(id));
    assert.ok(kept && orphan);
    await s.enqueue(kept, orphan, newJob("failed"), newJob("returned"));
    await s.call("SCRIPT", "FLUSH"); // a script that a full server has not seen yet
    await s.call("CONFIG", "SET", "maxmemory", 1);
    const error = await rejection(s.enqueue(newJob("new")));
    assert.ok(error instanceof QueueConnectionError);
    assert.match(error.message, /^Redis at \S+: it is out of memory and accepts nothing new.*$/);
    const claims = await s.claim();
    assert.equal(claims.length, 4);
    const [first, second, third, fourth] = claims;
    assert.ok(first && second && third && fourth);
    assert.deepEqual(await s.store.renew(s.queue, claims, LEASE_MS), [true, true, true, true]);
    const back = { lease: fourth, kind: "release" as const, starts: 1 };
    assert.deepEqual(await s.store.giveBack(s.queue, [back]), ["done"]);
    const ends = [endOf(first), endOf(second), endOf(third, { success: false })];
    assert.deepEqual(await s.store.finish(s.queue, ends), ["done", "done", "done"]);
    assert.equal(await s.call("GET", s.key(`result:${first.jobId}`)), `result of ${first.jobId}`);
    await s.call("CONFIG", "SET", "maxmemory", 0);
    assert.deepEqual(await s.enqueue(newJob("new")), [true]);
  });

  it("does not mind that the server forgets its scripts", async () => {
    await using server = await startRedis();
    await using s = await Scene.open(server.url);
    const flush = () => s.call("SCRIPT", "FLUSH");
    await s.enqueue(newJob("a"));
    await flush();
    const claim = only(await s.claim());
    await flush();
    assert.deepEqual(await s.store.renew(s.queue, [claim], LEASE_MS), [true]);
    await flush();
    assert.deepEqual(await s.finish(claim), ["done"]);
    await flush();
    assert.deepEqual(await s.enqueue(newJob("a", { idKind: "given" })), [false]);
  });

  it("warns in one line of a policy that evicts jobs (rule 29)", async () => {
    await using server = await startRedis({ args: ["--maxmemory-policy", "allkeys-lru"] });
    await using store = await openTestStore({ url: server.url });
    const { info, warning } = await store.describe();
    assert.equal(
      warning,
      "Redis may evict jobs: maxmemory-policy is allkeys-lru, set it to noeviction",
    );
    assert.match(info, /^redis_version=\S+ mem_usage=\S+ clients_connected=\d+ db_keys=0$/);
  });

  it("demands one hash tag of prefix and queues on a Cluster (rule 30)", () => {
    const store = (prefix: string) => openStore("redis+cluster://node:7000,other:7001", prefix);
    store("{arq}:").checkQueueName("{arq}:queue");
    store("my{arq}:").checkQueueName("{arq}");
    assert.throws(() => store("arq:").checkQueueName("arq:queue"), /prefix needs a hash tag/);
    assert.throws(() => store("{}{arq}:").checkQueueName("{}{arq}:queue"), /needs a hash tag/);
    assert.throws(
      () => store("{arq}:").checkQueueName("{other}:queue"),
      /the queue's name needs the prefix's tag \{arq\}, got "\{other\}:queue"/,
    );
    openStore("redis://host", "arq:").checkQueueName("anything");
  });

  it("uses nothing that Redis 6.2 lacks (rule 31)", () => {
    const newer = /#!lua|PEXPIRETIME|EXPIRETIME|ZMPOP|LMPOP|SPUBLISH|'EXPIRE'[^\n]*'(GT|LT|NX)'/;
    for (const [name, { source }] of Object.entries(scripts) as [string, Script][]) {
      assert.doesNotMatch(source, newer, name);
    }
  });
});
