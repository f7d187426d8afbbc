/** What a worker does while its Redis is away, and when it is back. */
import assert from "node:assert/strict";
import { mkdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import {
  type ArqClient,
  createPool,
  type JobContext,
  QueueConnectionError,
  Worker,
} from "../mod.ts";
import { openRawRedis, type RawRedis } from "./_helpers.ts";
import { randomPrefix, type RedisServer, startRedis } from "./_redis.ts";
import { Gate, start, until } from "./_worker.ts";

const hello = () => "hello";
const DURABLE = ["--appendonly", "yes", "--appendfsync", "always"];

describe("A worker whose Redis falls silent while it starts", () => {
  /** A worker that has connected and run its `onStartup`, and a server that answers no more. */
  async function begin(arq: ArqClient, server: RedisServer) {
    const silent = Promise.withResolvers<void>();
    const onStartup = () => {
      server.kill("SIGSTOP");
      silent.resolve();
    };
    const worker = new Worker({ functions: { hello }, connection: arq, onStartup });
    const running = start(worker);
    await silent.promise;
    return running;
  }

  it("waits for it, and runs jobs when it is back", async () => {
    await using server = await startRedis();
    await using arq = await createPool(`${server.url}?timeout=200`);
    await using patient = await createPool(server.url);
    const job = await patient.enqueueJob("hello");
    await using _running = await begin(arq, server);
    for (let call = 0; call < 3; call++) { // the worker's own calls meanwhile are as much in vain
      await assert.rejects(arq.job("any").status(), QueueConnectionError);
    }
    server.kill("SIGCONT");
    assert.equal(await job.result({ timeout: 10_000 }), "hello");
  });

  it("may be told to stop meanwhile", async () => {
    await using server = await startRedis();
    await using arq = await createPool(`${server.url}?timeout=200`);
    const running = await begin(arq, server);
    await running[Symbol.asyncDispose]();
    server.kill("SIGCONT");
  });
});

describe("A worker whose Redis restarts", () => {
  it("is woken again by the next job, though its look in between was in vain", async () => {
    await using server = await startRedis();
    const url = `${server.url}?timeout=200`;
    await using arq = await createPool(url);
    await using patient = await createPool(server.url);
    const settings = { functions: { hello }, connection: url, maxJobs: 1, pollDelay: 60_000 };
    await using _running = start(new Worker(settings));
    assert.equal(await patient.call("hello", [], { timeout: 10_000 }), "hello");
    server.kill("SIGKILL");
    for (let call = 0; call < 8; call++) { // the worker's own calls meanwhile are as much in vain
      await assert.rejects(arq.job("any").status(), QueueConnectionError);
    }
    await server.restart();
    await using fresh = await createPool(server.url);
    assert.equal(await fresh.call("hello", [], { timeout: 10_000 }), "hello");
  });

  it("lets the running job go on and records its result when Redis is back", async () => {
    await using server = await startRedis({ args: DURABLE });
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    const gate = new Gate();
    let signal: AbortSignal | undefined;
    const wait = async (ctx: JobContext) => {
      signal = ctx.signal;
      await gate.pass();
      return `try ${ctx.jobTry}`;
    };
    const worker = new Worker({ functions: { wait, hello }, connection: server.url, prefix });
    await using _running = start(worker);
    const job = await arq.enqueueJob("wait");
    await gate.reached();
    await server.restart();
    gate.open();
    assert.equal(await job.result({ timeout: 20_000 }), "try 1");
    assert.equal(signal?.aborted, false);
    assert.equal(await arq.call("hello", [], { timeout: 10_000 }), "hello");
    assert.equal(worker.jobsComplete, 2);
  });

  it("keeps a result that ended while Redis was away", async () => {
    await using server = await startRedis({ args: DURABLE });
    const prefix = randomPrefix();
    await using arq = await createPool(`${server.url}?timeout=500`, { prefix });
    await using patient = await createPool(server.url, { prefix });
    const gate = new Gate();
    const connection = { host: "127.0.0.1", port: server.port, timeout: 500 };
    const worker = new Worker({
      functions: { wait: () => gate.pass().then(() => "kept") },
      connection,
      prefix,
      pollDelay: 50,
    });
    await using _running = start(worker);
    const job = await patient.enqueueJob("wait");
    await gate.reached();
    server.kill("SIGKILL");
    gate.open();
    await until("its end", () => worker.jobsComplete === 1);
    // It is recorded at the same pace: by then the first attempt has failed.
    await assert.rejects(arq.job("any").status(), QueueConnectionError);
    await server.restart();
    assert.equal(await job.result({ timeout: 20_000 }), "kept");
  });

  it("can be stopped while Redis is away, and loses nothing", async () => {
    await using server = await startRedis({ args: DURABLE });
    const prefix = randomPrefix();
    const gate = new Gate();
    const connection = { host: "127.0.0.1", port: server.port, timeout: 300 };
    const worker = new Worker({
      functions: { wait: (ctx: JobContext) => gate.pass(ctx.signal) },
      connection,
      prefix,
      pollDelay: 50,
      lease: 2_000,
    });
    const running = start(worker);
    {
      await using arq = await createPool(server.url, { prefix });
      await arq.enqueueJob("wait", [], { jobId: "w" });
      await gate.reached();
    }
    server.kill("SIGKILL");
    const startedAt = performance.now();
    await running[Symbol.asyncDispose]();
    assert.ok(performance.now() - startedAt < 10_000);
    await server.restart();
    await using arq = await createPool(server.url, { prefix });
    const tell = (ctx: JobContext) => `try ${ctx.jobTry}`;
    await using _next = start(new Worker({ functions: { wait: tell }, connection: arq }));
    assert.equal(await arq.job("w").result({ timeout: 10_000 }), "try 2");
  });

  it("looks for aborts once at a time while Redis is silent, and heeds them after that", async () => {
    await using server = await startRedis();
    await using arq = await createPool(`${server.url}?timeout=300`);
    await using patient = await createPool(server.url);
    const gate = new Gate();
    const worker = new Worker({
      functions: { wait: (ctx: JobContext) => gate.pass(ctx.signal) },
      connection: arq,
      pollDelay: 20,
    });
    const findAborts = arq.store.findAborts.bind(arq.store);
    let underWay = 0;
    let mostAtOnce = 0;
    let failed = 0;
    arq.store.findAborts = (jobIds) => {
      mostAtOnce = Math.max(mostAtOnce, ++underWay);
      const found = findAborts(jobIds);
      void found.catch(() => failed++).finally(() => underWay--);
      return found;
    };
    await using _running = start(worker);
    const job = await patient.enqueueJob("wait");
    await gate.reached();
    server.kill("SIGSTOP");
    await until("looks that were in vain", () => failed >= 2);
    server.kill("SIGCONT");
    assert.equal(mostAtOnce, 1);
    assert.equal(await job.abort({ timeout: 10_000 }), true);
  });

  it("rejects a client's call in time while Redis is away", async () => {
    await using server = await startRedis();
    const settings = { host: "127.0.0.1", port: server.port, timeout: 300 };
    await using arq = await createPool(settings, { prefix: randomPrefix() });
    server.kill("SIGKILL");
    const startedAt = performance.now();
    await assert.rejects(arq.enqueueJob("hello"), QueueConnectionError);
    await assert.rejects(arq.call("hello", [], { timeout: 2_000 }));
    assert.ok(performance.now() - startedAt < 5_000);
  });
});

/** What makes a server refuse the ends of jobs for a while, and what ends that. */
interface Refusal {
  begin(admin: RawRedis, server: RedisServer): Promise<unknown>;
  end(admin: RawRedis, server: RedisServer): Promise<unknown>;
}

/** Saves, and waits until the server has noted how that ended. */
async function save(admin: RawRedis, status: "ok" | "err"): Promise<void> {
  await admin.call("BGSAVE");
  await until(`a save that ends ${status}`, async () => {
    const info = String(await admin.call("INFO", "persistence"));
    return info.includes(`rdb_last_bgsave_status:${status}`);
  });
}

const setUser = (...rules: string[]) => (admin: RawRedis) =>
  admin.call("ACL", "SETUSER", "arq", ...rules);

const refusals: Readonly<Record<string, Refusal>> = {
  "a right that is missing": { begin: setUser("-zrem"), end: setUser("+zrem") },
  "a password that was changed": {
    begin: async (admin) => {
      await admin.call("ACL", "SETUSER", "default", "resetpass"); // it would serve them without
      await setUser("resetpass", ">other")(admin);
      await admin.call("CLIENT", "KILL", "USER", "arq");
    },
    end: setUser(">secret"),
  },
  "a disk that takes nothing": {
    begin: async (admin, { folder }) => {
      mkdirSync(join(folder, "dump.rdb")); // where the file should go
      await save(admin, "err");
    },
    end: async (admin, { folder }) => {
      rmdirSync(join(folder, "dump.rdb"));
      await save(admin, "ok");
    },
  },
};

describe("A success that Redis refuses for a while", () => {
  for (const [reason, { begin, end }] of Object.entries(refusals)) {
    it(`for ${reason} is recorded as a success after that`, async () => {
      await using server = await startRedis({ args: ["--save", "3600 1000000"] });
      await using admin = await openRawRedis(server.url);
      await setUser("on", ">secret", "~*", "&*", "+@all")(admin);
      await using arq = await createPool(server.url);
      const gate = new Gate();
      const worker = new Worker({
        functions: { wait: () => gate.pass().then(() => "done") },
        connection: {
          host: "127.0.0.1",
          port: server.port,
          username: "arq",
          password: "secret",
          timeout: 200,
        },
        pollDelay: 20,
      });
      const { store } = worker.arq;
      const finish = store.finish.bind(store);
      let refused = 0;
      store.finish = (...args) => {
        const done = finish(...args);
        done.catch(() => refused++);
        return done;
      };
      await using _running = start(worker);
      const job = await arq.enqueueJob("wait");
      await gate.reached();
      await begin(admin, server);
      gate.open();
      await until("it was sent again in vain", () => refused >= 3);
      await end(admin, server);
      assert.equal(await job.result({ timeout: 10_000 }), "done");
      assert.equal(gate.arrived, 1);
    });
  }
});
