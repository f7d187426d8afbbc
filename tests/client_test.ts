import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { inspect } from "node:util";
import {
  ArqClient,
  createPool,
  type PoolOptions,
  QueueConnectionError,
  SettingsError,
} from "../mod.ts";
import { randomPrefix, type RedisServer, startRedis } from "./_redis.ts";
import { pause, scenarios, until } from "./_worker.ts";

const HOUR_MS = 3_600_000;

/** A client as programs without a compiler use it. */
type Loose = Record<
  "job" | "queuedJobs" | "enqueueJobs" | "call" | "removeJob" | "pause",
  (...args: readonly unknown[]) => unknown
>;

describe("createPool", () => {
  let server: RedisServer;
  before(async () => {
    server = await startRedis({ args: ["--requirepass", "s3cret"] });
  });
  after(() => server.stop());

  it("takes settings, a connection string or a client", async () => {
    const { port } = server;
    const settings = { host: "127.0.0.1", port, password: "s3cret" };
    const prefix = randomPrefix();
    await using bySettings = await createPool(settings, { prefix });
    await using byText = await createPool(`redis://:s3cret@127.0.0.1:${port}?prefix=${prefix}`);
    const job = await bySettings.enqueueJob("x");
    assert.equal(await byText.job(job.jobId).status(), "queued");
    assert.ok(bySettings instanceof ArqClient);
    assert.equal(bySettings.defaultQueueName, `${prefix}queue`);
  });

  it("refuses a wrong password, or none, in one line that does not show it", async () => {
    const settings = { host: "127.0.0.1", port: server.port };
    const address = `Redis at 127.0.0.1:${server.port}`;
    for (
      const [password, message] of [
        [undefined, `${address}: it wants a password`],
        ["wr0ng", `${address}: it refuses this user name and password`],
      ] as const
    ) {
      const error = await createPool({ ...settings, password }).then(() => null, (error) => error);
      assert.ok(error instanceof QueueConnectionError);
      assert.ok(error.message.startsWith(message), error.message);
      assert.ok(!error.message.includes("\n"));
      assert.ok(!inspect(error, { depth: 9 }).includes("wr0ng"));
    }
  });

  for (
    const [what, connection, message] of [
      ["no scheme", "localhost:6379", /a connection string starts with redis:\/\//],
      ["another scheme", "amqp://localhost", /got "amqp:"$/],
      [
        "a port that is none",
        "redis://localhost:99999",
        /the port of localhost must be from 1 to 65535/,
      ],
      [
        "a number",
        6379,
        /A connection is a connection string, an object of settings or a client of .*, got 6379/,
      ],
      ["null", null, /got null/],
      ["an empty prefix", "redis://localhost?prefix=", /prefix must not be empty: write \?prefix=/],
      ["an empty prefix of a file", "sqlite::memory:?prefix=", /prefix must not be empty/],
      ["an unknown setting", { hots: "localhost" }, /unknown option "hots"; did you mean "host"\?/],
      ["a negative duration", { connTimeout: -1 }, /connTimeout must be 1 ms or more, got -1/],
    ] as const
  ) {
    it(`refuses ${what} in one clear line`, async () => {
      await assert.rejects(createPool(connection as string), (error: Error) => {
        assert.ok(error instanceof SettingsError || error instanceof TypeError);
        assert.match(error.message, message);
        return true;
      });
    });
  }

  for (
    const [what, options, message] of [
      [
        "an unknown option",
        { prefx: "a" },
        'createPool: unknown option "prefx"; did you mean "prefix"?',
      ],
      [
        "null for options",
        null,
        'createPool takes an object such as { prefix: "app:" }, got null',
      ],
      [
        "a prefix that is no text",
        { prefix: 5 },
        "createPool: prefix must be a text that is not empty, got 5",
      ],
      [
        "a queue name with half a character",
        { defaultQueueName: "\ud800" },
        'createPool: defaultQueueName must not have a lone surrogate, got "\\ud800"',
      ],
      [
        "an empty queue name",
        { defaultQueueName: "" },
        'createPool: defaultQueueName must be a text that is not empty, got ""',
      ],
      [
        "a serializer that is none",
        { jobSerializer: "json" },
        'createPool: jobSerializer must be a function, got "json"',
      ],
      [
        "a negative expiresExtra",
        { expiresExtra: -1 },
        "expiresExtra must be 1 ms or more, got -1 (milliseconds)",
      ],
    ] as const
  ) {
    it(`refuses ${what} in one clear line`, async () => {
      const pool = createPool("redis://localhost", options as unknown as PoolOptions);
      await assert.rejects(pool, { message });
    });
  }

  it("stops connecting when its signal aborts", async () => {
    const connection = {
      host: "127.0.0.1",
      port: 1,
      connRetries: Infinity,
      connRetryDelay: 60_000,
    };
    const stop = new AbortController();
    const pool = createPool(connection, { signal: stop.signal });
    stop.abort(new Error("enough"));
    await assert.rejects(pool, /enough/);
  });
});

scenarios("A client", (scenario) => {
  for (
    const [what, use, message] of [
      [
        "job() without an id",
        (arq: Loose) => arq.job(),
        "job takes an id, which must be a text that is not empty, got undefined",
      ],
      [
        "an id for removeJob() that would be stored as another one",
        (arq: Loose) => arq.removeJob("\ud800"),
        'removeJob takes an id, which must not have a lone surrogate, got "\\ud800"',
      ],
      [
        "a queue of pause() that would be stored as another one",
        (arq: Loose) => arq.pause("\ud800"),
        'pause: queueName must not have a lone surrogate, got "\\ud800"',
      ],
      [
        "an unknown option of job()",
        (arq: Loose) => arq.job("a", { queue: "b" }),
        'job: unknown option "queue"; did you mean "queueName"?',
      ],
      [
        "a number as queue of job()",
        (arq: Loose) => arq.job("a", { queueName: 5 }),
        "job: queueName must be a text that is not empty, got 5",
      ],
      [
        "an unknown option of queuedJobs()",
        (arq: Loose) => arq.queuedJobs({ queuName: "b" }),
        'queuedJobs: unknown option "queuName"; did you mean "queueName"?',
      ],
      [
        "a queue in place of queuedJobs()'s options",
        (arq: Loose) => arq.queuedJobs("mail"),
        'queuedJobs takes an object such as { queueName: "mail" }, got "mail"',
      ],
      [
        "a record in place of a list of jobs",
        (arq: Loose) => arq.enqueueJobs({}),
        "enqueueJobs takes a list of jobs, got {}",
      ],
      [
        "a job of a list as a list",
        (arq: Loose) => arq.enqueueJobs([["greet", ["x"]]]),
        'Each job to enqueue is { name, args, options }, got ["greet",["x"]]',
      ],
      [
        "a list with a hole",
        (arq: Loose) => arq.enqueueJobs(new Array(1)),
        "Each job to enqueue is { name, args, options }, got undefined",
      ],
      [
        "a job of a list without a name",
        (arq: Loose) => arq.enqueueJobs([{ args: [1] }]),
        'Each job to enqueue is { name, args, options }, got {"args":[1]}',
      ],
      [
        "a number as call()'s options",
        (arq: Loose) => arq.call("x", [], 5),
        'Cannot enqueue "x": call takes an object such as { timeout: { seconds: 5 } }, got 5',
      ],
      [
        "another queue's name of an option of call()",
        (arq: Loose) => arq.call("x", [], { delay: 5_000 }),
        'Cannot enqueue "x": unknown option "delay"; did you mean "deferBy"?',
      ],
      [
        "an option of functions for call()",
        (arq: Loose) => arq.call("x", [], { attempts: 3 }),
        'Cannot enqueue "x": unknown option "attempts"; known: jobId, queueName, deferUntil, ' +
        "deferBy, expires, jobTry, kwargs, timeout, pollDelay, signal",
      ],
    ] as const
  ) {
    scenario(`refuses ${what} in one clear line`, async (scene) => {
      const arq = scene.arq as unknown as Loose;
      await assert.rejects(async () => await use(arq), { name: "TypeError", message });
      assert.deepEqual(await scene.keys(), []);
    });
  }

  scenario("lists kept results in the order in which their jobs were enqueued", async (scene) => {
    const ids = ["c", "a", "b"];
    for (const jobId of ids) {
      await scene.arq.enqueueJob("x", [jobId], { jobId });
      const enqueuedAt = Date.now();
      await until("the next millisecond", () => Date.now() > enqueuedAt);
    }
    await scene.arq.enqueueJob("fail", [], { jobId: "z" });
    const x = (_ctx: unknown, text: string) => text;
    await scene.burst({ functions: { x, fail: () => Promise.reject(new Error("no")) } });
    const results = await scene.arq.allJobResults();
    assert.deepEqual(results.map(({ jobId }) => jobId), ["c", "a", "b", "z"]);
    const [first, , , last] = results;
    assert.deepEqual(
      [first?.success, first?.result, first?.args, first?.functionName, first?.queueName],
      [true, "c", ["c"], "x", scene.queueName],
    );
    assert.deepEqual([last?.success, String(last?.result)], [false, "Error: no"]);
    assert.ok(first && first.startTime <= first.finishTime && first.enqueueTime <= first.startTime);
  });

  scenario("lists more results than one scan gives, each once", async (scene) => {
    await scene.arq.enqueueJobs(Array.from({ length: 2_500 }, () => ({ name: "x" })));
    await scene.burst({ functions: { x: () => {} }, maxJobs: 500 });
    const results = await scene.arq.allJobResults();
    assert.equal(new Set(results.map(({ jobId }) => jobId)).size, 2_500);
    assert.equal(results.length, 2_500);
  });

  scenario("lists queued jobs by their time, and skips an expired one", async (scene) => {
    await scene.arq.enqueueJob("later", [], { jobId: "l", deferBy: HOUR_MS });
    await scene.arq.enqueueJob("now", [], { jobId: "n" });
    await scene.arq.enqueueJob("gone", [], { jobId: "g", expires: 1 });
    await until("its expiry", async () => !(await scene.keys()).includes("job:g"));
    const jobs = await scene.arq.queuedJobs();
    assert.deepEqual(jobs.map(({ jobId, functionName }) => [jobId, functionName]), [
      ["n", "now"],
      ["l", "later"],
    ]);
    scene.leaves("queue", "job:n", "job:l");
  });

  scenario("leaves out of its lists what nobody can read", async (scene) => {
    const garbage = await scene.pool({ jobSerializer: () => new Uint8Array([0xc1]) });
    await garbage.enqueueJob("x", [], { jobId: "bad" });
    await scene.arq.enqueueJob("x", [], { jobId: "good" });
    const jobs = await scene.arq.queuedJobs();
    assert.deepEqual(jobs.map(({ jobId }) => jobId), ["good"]);
    scene.leaves("queue", "job:bad", "job:good");
  });

  scenario("uses its default queue where none is named", async (scene) => {
    const defaultQueueName = `${scene.prefix}special`;
    const pool = await scene.pool({ defaultQueueName });
    const job = await pool.enqueueJob("x");
    assert.equal(job.queueName, defaultQueueName);
    assert.equal(pool.job(job.jobId).queueName, defaultQueueName);
    assert.equal((await pool.queuedJobs()).length, 1);
    assert.equal((await scene.arq.queuedJobs()).length, 0);
    await job.abort();
  });

  scenario("sends what is under way when it is closed, and nothing after", async (scene) => {
    const pool = await createPool(scene.connection, { prefix: scene.prefix });
    const sent = pool.enqueueJob("x");
    await pool.close();
    await sent;
    assert.equal((await scene.arq.queuedJobs()).length, 1);
    await assert.rejects(pool.enqueueJob("x"), QueueConnectionError);
    await pool.close();
    await (await sent).abort().then(() => assert.fail(), () => {});
    await scene.arq.job((await sent).jobId).abort();
  });

  scenario("is closed though somebody goes on enqueueing", async (scene) => {
    const pool = await scene.pool();
    const { store } = pool;
    const enqueue = store.enqueue.bind(store);
    let next = Promise.withResolvers<void>();
    store.enqueue = async (...args) => {
      next.resolve();
      next = Promise.withResolvers();
      await next.promise; // one is always under way
      return await enqueue(...args);
    };
    let isClosed = false;
    const goOn = async () => {
      while (!isClosed) await pool.enqueueJob("f").catch(() => {}); // refused in the end
    };
    const first = goOn();
    await pause(0); // what is enqueued in one tick travels together
    const producers = [first, goOn()];
    await until("all produce", async () => (await scene.arq.queuedJobs()).length > 9);
    await pool.close();
    isClosed = true;
    next.resolve();
    await Promise.all(producers);
    await scene.burst({ functions: { f: () => {} } });
  });

  scenario("is closed by await using", async (scene) => {
    let pool: ArqClient;
    {
      await using inner = await createPool(scene.connection, { prefix: scene.prefix });
      pool = inner;
      assert.deepEqual(await pool.queuedJobs(), []);
    }
    await assert.rejects(pool.queuedJobs(), {
      name: "QueueConnectionError",
      message: /closed/,
    });
  });
});
