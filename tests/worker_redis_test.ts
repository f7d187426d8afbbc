/** What only Redis can do to a worker: keys of wrong types, connections that break. */
import assert from "node:assert/strict";
import { createClient } from "@redis/client";
import { connect, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import {
  type ArqClient,
  checkHealth,
  createPool,
  DeserializationError,
  type JobContext,
  Worker,
} from "../mod.ts";
import { scripts } from "../redis_scripts.ts";
import { FakeServer, startLossyRelay } from "./_fake_server.ts";
import { openRawRedis } from "./_helpers.ts";
import { randomPrefix, type RedisServer, startRedis } from "./_redis.ts";
import { Gate, pause, start, until } from "./_worker.ts";

const hello = () => "hello";

async function clientIds(arq: ArqClient): Promise<string[]> {
  const list = String(await arq.redis.sendCommand(["CLIENT", "LIST"]));
  return list.trim().split("\n").map((line) => /^id=(\d+)/.exec(line)?.[1] ?? "");
}

describe("A worker on Redis", () => {
  let server: RedisServer;
  before(async () => {
    server = await startRedis();
  });
  after(() => server.stop());

  it("fails a job whose key is of a wrong type, and runs the others of its batch", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    const first = await arq.enqueueJob("hello", [], { deferUntil: 1 });
    const bad = await arq.enqueueJob("hello", [], { jobId: "bad", deferUntil: 2 });
    const last = await arq.enqueueJob("hello", [], { deferUntil: 3 });
    await arq.redis.sendCommand(["DEL", `${prefix}job:bad`]);
    await arq.redis.sendCommand(["HSET", `${prefix}job:bad`, "a", "b"]);
    const worker = new Worker({ functions: { hello }, connection: arq, burst: true });
    await worker.run();
    assert.equal(String(worker), "<Worker j_complete=2 j_failed=1 j_retried=0 j_ongoing=0>");
    assert.equal(await first.result(), "hello");
    assert.equal(await last.result(), "hello");
    assert.ok(bad);
    await assert.rejects(bad.result(), DeserializationError);
    assert.equal(await arq.redis.sendCommand(["EXISTS", `${prefix}job:bad`]), 0);
  });

  for (const key of ["in-progress", "retry", "result"]) {
    it(`goes on when the ${key} key of a job is of a wrong type`, async () => {
      const prefix = randomPrefix();
      await using arq = await createPool(server.url, { prefix });
      await arq.enqueueJob("hello", [], { jobId: "odd", deferUntil: 1 });
      await arq.redis.sendCommand(["HSET", `${prefix}${key}:odd`, "a", "b"]);
      await arq.redis.sendCommand(["PEXPIRE", `${prefix}${key}:odd`, "60000"]);
      await using _worker = start(new Worker({ functions: { hello }, connection: arq }));
      assert.equal(await arq.call("hello", [], { timeout: 5_000 }), "hello");
    });
  }

  it("says in one line what is wrong when it cannot connect", async () => {
    const settings = { host: "127.0.0.1", port: 1, connRetries: 0 };
    const worker = new Worker({ functions: { hello }, connection: settings });
    const refused = {
      name: "QueueConnectionError",
      message: "Redis at 127.0.0.1:1: connection refused; is the server running there?",
    };
    await assert.rejects(worker.run(), refused);
    await assert.rejects(checkHealth({ functions: { hello }, connection: settings }), refused);
  });

  it("stops trying to connect when it is told to stop", async () => {
    const settings = { host: "127.0.0.1", port: 1, connRetries: Infinity, connRetryDelay: 60_000 };
    const worker = new Worker({ functions: { hello }, connection: settings });
    const running = worker.run();
    await pause(20);
    await worker.close();
    await running;
  });

  it("closes its own connections and leaves those of a client that was given", async () => {
    const client = createClient({ url: server.url, RESP: 2 });
    client.on("error", () => {});
    await client.connect();
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    const before = await clientIds(arq);
    for (const connection of [server.url, client]) {
      const worker = new Worker({ functions: { hello }, connection, prefix });
      {
        await using _running = start(worker);
        assert.equal(await arq.call("hello", [], { timeout: 5_000 }), "hello");
        const during = await clientIds(arq);
        assert.ok(during.length > before.length + 1, "its own, and one to wait for results");
      }
      // The client's own connection to wait for results stays.
      await until(
        "they are closed",
        async () => (await clientIds(arq)).length <= before.length + 1,
      );
    }
    assert.equal(await client.ping(), "PONG");
    client.destroy();
  });

  it("goes on when its connections are killed", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    const worker = new Worker({ functions: { hello }, connection: server.url, prefix });
    await using _running = start(worker);
    assert.equal(await arq.call("hello", [], { timeout: 5_000 }), "hello");
    await arq.redis.sendCommand(["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    for (let i = 0; i < 5; i++) {
      assert.equal(await arq.call("hello", [], { timeout: 10_000 }), "hello");
    }
  });

  it("holds no job after its end, even if one was enqueued in that very moment", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    const locks = async () => await arq.redis.sendCommand(["KEYS", `${prefix}in-progress:*`]);
    for (let i = 0; i < 8; i++) {
      const worker = new Worker({ functions: { hello }, connection: server.url, prefix });
      const running = worker.run();
      await arq.call("hello", [], { timeout: 5_000 });
      const [job] = await Promise.all([arq.enqueueJob("hello"), worker.close()]);
      await running;
      assert.deepEqual(await locks(), []);
      const status = await job.status();
      assert.ok(status === "queued" || status === "complete", status);
    }
  });

  it("fills all its slots with jobs that wake nobody, while a wake-up would claim, too", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    await using other = await createPool(server.url, {
      prefix,
      defaultQueueName: `${prefix}other`,
    });
    const gate = new Gate();
    const wait = () => gate.pass();
    const worker = new Worker({ functions: { hello, wait }, connection: arq, maxJobs: 2 });
    await using _running = start(worker);
    await arq.call("hello", [], { timeout: 5_000 });
    const jobs = [await other.enqueueJob("wait"), await other.enqueueJob("wait")];
    const entries = jobs.flatMap(({ jobId }) => ["1", jobId]);
    await arq.redis.sendCommand(["ZADD", `${prefix}queue`, ...entries]); // as Python's arq does
    await gate.reached(2);
    gate.open();
    for (const { jobId } of jobs) await arq.job(jobId).result({ timeout: 5_000 });
  });

  it("runs a job whose wake-up a dying worker took, after a poll (rule 13)", async () => {
    await using arq = await createPool(server.url, { prefix: randomPrefix() });
    await using dying = await openRawRedis(server.url);
    const popped = dying.call("BLPOP", `${arq.defaultQueueName}:wake`, 10);
    const connection = arq; // whose first job comes when both are waiting
    await using _running = start(new Worker({ functions: { hello }, connection, pollDelay: 300 }));
    const blocked = async () => {
      const list = String(await arq.redis.sendCommand(["CLIENT", "LIST"]));
      return list.split("\n").filter((line) => line.includes("cmd=blpop")).length;
    };
    await until("both wait", async () => await blocked() >= 2);
    const job = await arq.enqueueJob("hello");
    assert.ok(await popped, "it was not the first in line");
    assert.equal(await job.result({ timeout: 5_000 }), "hello");
  });

  it("burns no try of a job whose claim's reply was lost (rule 14)", async () => {
    await using own = await startRedis();
    await using relay = await startLossyRelay(own.port);
    const prefix = randomPrefix();
    await using arq = await createPool(own.url, { prefix });
    const settings = { functions: { hello }, prefix, maxTries: 1, pollDelay: 100 };
    const connection = { host: "127.0.0.1", port: relay.port };
    await using _running = start(new Worker({ ...settings, connection }));
    for (let round = 1; round <= 3; round++) {
      relay.loseReplyTo(scripts.claim.sha);
      assert.equal(await arq.call("hello", [], { timeout: 10_000 }), "hello");
      await until("a lost reply", () => relay.lost === round);
    }
  });

  it("starts a deferred job in time when its last free slot waits for a wake-up", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    const gate = new Gate();
    const wait = () => gate.pass();
    const worker = new Worker({ functions: { hello, wait }, connection: arq, maxJobs: 2 });
    await using _running = start(worker);
    await arq.call("hello", [], { timeout: 5_000 });
    const first = await arq.enqueueJob("wait", [], { deferBy: 300 });
    const second = await arq.enqueueJob("wait", [], { deferBy: 600 });
    const startedAt = performance.now();
    await gate.reached(2);
    const tookMs = performance.now() - startedAt;
    gate.open();
    await Promise.all([first, second].map((job) => job.result({ timeout: 5_000 })));
    assert.ok(tookMs < 4_500, `it took ${tookMs} ms`); // a wake-up is waited for five seconds
  });

  it("takes no second job that may have killed its workers by a wake-up", async () => {
    const prefix = randomPrefix();
    const queue = `${prefix}queue`;
    await using arq = await createPool(server.url, { prefix });
    await using other = await createPool(server.url, {
      prefix,
      defaultQueueName: `${prefix}other`,
    });
    const gate = new Gate();
    const functions = { hello, wait: () => gate.pass() };
    await using _running = start(new Worker({ functions, connection: arq, maxTries: 2 }));
    await arq.call("hello", [], { timeout: 5_000 });
    const jobs = [await other.enqueueJob("wait"), await other.enqueueJob("wait")];
    const [a, b] = jobs.map(({ jobId }) => jobId) as [string, string];
    await arq.redis.sendCommand(["MSET", `${prefix}retry:${a}`, "1", `${prefix}retry:${b}`, "1"]);
    const orphaning = "redis.call('ZADD', KEYS[1], 1, ARGV[1], 1, ARGV[2]) " +
      "redis.call('ZADD', KEYS[2], 1, '1:' .. ARGV[1], 1, '1:' .. ARGV[2])";
    await arq.redis.sendCommand(["EVAL", orphaning, "2", queue, `${queue}:leases`, a, b]);
    await gate.reached();
    assert.equal(await arq.call("hello", [], { timeout: 5_000 }), "hello");
    assert.equal(gate.arrived, 1);
    gate.open();
    await Promise.all(jobs.map(({ jobId }) => arq.job(jobId).result({ timeout: 5_000 })));
  });

  it("keeps a job that a wake-up brings while it looks for claims that were lost", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    await arq.redis.sendCommand(["SCRIPT", "LOAD", scripts.releaseUnknown.source]);
    const held: (() => void)[] = [];
    const commands = new Set<Socket>();
    let isHolding = false;
    let looks = 0;
    await using relay = await FakeServer.start((near) => {
      const far = connect({ port: server.port, host: "127.0.0.1" });
      relay.keep(far);
      let isLooking = false;
      commands.add(near);
      near.on("data", (request) => {
        const words = String(request);
        if (words.includes("BLPOP")) commands.delete(near);
        if (words.includes(scripts.releaseUnknown.sha)) isLooking = true;
        far.write(request);
      });
      far.on("data", (reply) => {
        const pass = () => void near.write(reply);
        if (isHolding && !commands.has(near)) return void held.push(pass);
        pass();
        if (isLooking) looks++;
        isLooking = false;
      });
      near.on("close", () => {
        commands.delete(near);
        far.destroy();
      });
      far.on("close", () => near.destroy());
    });
    let starts = 0;
    const functions = { hello, count: () => ++starts };
    const connection = `redis://127.0.0.1:${relay.port}`;
    const settings = { functions, connection, prefix, pollDelay: 60_000 }; // a poll would claim it
    await using _running = start(new Worker(settings));
    await arq.call("hello", [], { timeout: 5_000 });
    isHolding = true;
    const job = await arq.enqueueJob("count");
    const isLocked = async () =>
      await arq.redis.sendCommand(["EXISTS", `${prefix}in-progress:${job.jobId}`]) === 1;
    await until("the claim behind the wake-up", isLocked);
    looks = 0;
    for (const socket of commands) socket.destroy();
    await until("the look for lost claims", () => looks > 0);
    assert.ok(await isLocked(), "it was given back");
    isHolding = false;
    for (const pass of held.splice(0)) pass();
    assert.equal(await job.result({ timeout: 5_000 }), 1);
  });

  it("leaves no job to a claim that still waits behind a lost connection", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    let wake: Socket | undefined;
    let waits = 0;
    await using relay = await FakeServer.start((near) => {
      const far = connect({ port: server.port, host: "127.0.0.1" });
      relay.keep(far);
      near.on("data", (request) => {
        if (String(request).includes("BLPOP")) {
          wake = near;
          waits++;
        }
        far.write(request);
      });
      far.on("data", (reply) => void near.write(reply));
      far.on("close", () => near.destroy());
    });
    const connection = `redis://127.0.0.1:${relay.port}`;
    const settings = { functions: { hello }, connection, prefix, pollDelay: 60_000 };
    await using _running = start(new Worker(settings));
    await arq.call("hello", [], { timeout: 5_000 });
    await until(
      "the worker waits",
      async () => String(await arq.redis.sendCommand(["CLIENT", "LIST"])).includes("cmd=blpop"),
    );
    const before = waits;
    wake?.destroy(); // the server is not told
    await until("the worker waits again", () => waits > before);
    assert.equal(await arq.call("hello", [], { timeout: 5_000 }), "hello");
  });

  it("looks for jobs after its line was cut, since a wake-up does not wait for ever", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    const settings = { functions: { hello }, connection: server.url, prefix, pollDelay: 60_000 };
    await using _running = start(new Worker(settings));
    await arq.call("hello", [], { timeout: 5_000 });
    const waiting = async () => {
      const list = String(await arq.redis.sendCommand(["CLIENT", "LIST"]));
      return /^id=(\d+) .*cmd=blpop/m.exec(list)?.[1];
    };
    await until("the worker waits", async () => await waiting() !== undefined);
    await arq.redis.sendCommand(["CLIENT", "KILL", "ID", String(await waiting())]);
    const job = await arq.enqueueJob("hello");
    await arq.redis.sendCommand(["DEL", `${prefix}queue:wake`]); // as if some seconds had passed
    assert.equal(await job.result({ timeout: 5_000 }), "hello");
  });

  it("passes on a wake-up for a job to come that it gets while it ends", async () => {
    await using own = await startRedis();
    const prefix = randomPrefix();
    await using arq = await createPool(own.url, { prefix });
    const waiting = async () => {
      const list = String(await arq.redis.sendCommand(["CLIENT", "LIST"]));
      return list.split("\n").filter((line) => line.includes("cmd=blpop")).length;
    };
    const gate = new Gate();
    const functions = { hello, wait: () => gate.pass() };
    const settings = { functions, connection: own.url, prefix, pollDelay: 60_000 };
    const leaving = new Worker({ ...settings, jobCompletionWait: 60_000 });
    const ended = leaving.run();
    await arq.enqueueJob("wait");
    await gate.reached(1);
    await until("it waits", async () => await waiting() === 1);
    const closed = leaving.close();
    const marks = async () => await arq.redis.sendCommand(["KEYS", `${prefix}queue:ops:left:*`]);
    await until("it has left", async () => String(await marks()) !== "");
    await using _other = start(new Worker(settings));
    await until("another waits, too", async () => await waiting() === 2);
    const job = await arq.enqueueJob("hello", [], { deferBy: 200 });
    assert.equal(await job.result({ timeout: 5_000 }), "hello");
    gate.open();
    await Promise.all([closed, ended]);
  });

  it("wakes nobody while a claim for all its slots is under way", async () => {
    await using own = await startRedis();
    await using arq = await createPool(own.url, { prefix: randomPrefix() });
    const settings = { functions: { hello }, connection: own.url, prefix: arq.store.prefix };
    await using _running = start(new Worker({ ...settings, pollDelay: 10 }));
    await arq.call("hello", [], { timeout: 5_000 });
    await arq.redis.sendCommand(["CONFIG", "RESETSTAT"]);
    for (let i = 0; i < 5; i++) {
      own.kill("SIGSTOP");
      await pause(100); // several looks come while one waits for its reply
      own.kill("SIGCONT");
      await arq.redis.sendCommand(["PING"]);
    }
    const stats = String(await arq.redis.sendCommand(["INFO", "commandstats"]));
    assert.doesNotMatch(stats, /cmdstat_rpush/);
  });

  it("goes on with a job whose old lease comes back after a wake-up has claimed it anew", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    await using raw = await openRawRedis(server.url);
    await using beside = await openRawRedis(server.url);
    const gate = new Gate();
    const signals: AbortSignal[] = [];
    const isSent = async (name: string) =>
      String(await beside.call("CLIENT", "LIST")).includes(`cmd=${name}`);
    const stall = async (ctx: JobContext) => {
      signals.push(ctx.signal);
      await until("the lease is renewed, and the worker waits to be woken", async () => {
        const known = await raw.call("SCRIPT", "EXISTS", scripts.renew.sha) as number[];
        return known[0] === 1 && await isSent("blpop");
      });
      await raw.call("CLIENT", "PAUSE", 600, "WRITE");
      const woken = raw.call("RPUSH", `${prefix}queue:wake`, 1); // done when the pause is over
      await until("the wake-up is there, and held up", () => isSent("rpush"));
      // Meanwhile the lease ends, the wake-up claims the job, and that lease ends as well.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500);
      await woken;
      await gate.pass();
      return `try ${ctx.jobTry}`;
    };
    const worker = new Worker({ functions: { hello, stall }, connection: arq, lease: 300 });
    await using _running = start(worker);
    await arq.call("hello"); // the server knows the scripts from now on
    const job = await arq.enqueueJob("stall");
    await gate.reached();
    const leaseEnd = async () => String(await raw.call("ZSCORE", `${prefix}queue`, job.jobId));
    for (let renewals = 0; renewals < 2; renewals++) {
      const before = await leaseEnd();
      await until("the lease is renewed", async () => await leaseEnd() !== before);
    }
    gate.open();
    assert.equal(await job.result({ timeout: 10_000 }), "try 1");
    assert.deepEqual(signals.map(({ aborted }) => aborted), [false]);
    assert.equal(await raw.call("EXISTS", `${prefix}retry:${job.jobId}`), 0);
  });

  it("goes on after SCRIPT FLUSH", async () => {
    await using arq = await createPool(server.url, { prefix: randomPrefix() });
    await using _running = start(new Worker({ functions: { hello }, connection: arq }));
    assert.equal(await arq.call("hello", [], { timeout: 5_000 }), "hello");
    await arq.redis.sendCommand(["SCRIPT", "FLUSH"]);
    assert.equal(await arq.call("hello", [], { timeout: 5_000 }), "hello");
  });

  it("takes ten of a hundred thousand jobs about as fast as ten of a thousand", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    const fill = async (count: number) => {
      for (let i = 0; i < count; i += 20_000) {
        await arq.enqueueJobs(
          Array.from({ length: Math.min(20_000, count - i) }, () => ({ name: "hello" })),
        );
      }
    };
    const claimMs = async () => {
      const times: number[] = [];
      for (let i = 0; i < 15; i++) {
        const startedAt = performance.now();
        await arq.store.claim(arq.defaultQueueName, { holder: "me", limit: 10, leaseMs: 60_000 });
        times.push(performance.now() - startedAt);
      }
      return Math.min(...times); // the others were waiting for the machine
    };
    await fill(1_000);
    const few = await claimMs();
    await fill(100_000);
    const many = await claimMs();
    assert.ok(many < 3 * few + 2, `${few} ms of a thousand, ${many} ms of a hundred thousand`);
    await arq.redis.sendCommand(["FLUSHDB"]); // the server is this file's own
  });
});
