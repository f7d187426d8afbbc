import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  type ArqClient,
  createPool,
  type EnqueueOptions,
  type JobRequest,
  QueueConnectionError,
  SerializationError,
  type UntypedFunctions,
} from "../mod.ts";
import { type RedisServer, startRedis } from "./_redis.ts";
import { scenarios } from "./_worker.ts";

const HOUR_MS = 3_600_000;
const many = (count: number, name = "x"): { name: string }[] =>
  Array.from({ length: count }, () => ({ name }));

/** How often Redis ran one of the library's scripts since the last time. */
async function scriptCalls(arq: ArqClient): Promise<number> {
  const stats = String(await arq.redis.sendCommand(["INFO", "commandstats"]));
  await arq.redis.sendCommand(["CONFIG", "RESETSTAT"]);
  const counts = [...stats.matchAll(/^cmdstat_evalsha?:calls=(\d+)/gm)];
  return counts.reduce((sum, [, count]) => sum + Number(count), 0);
}

scenarios("enqueueJob", (scenario) => {
  scenario("accepts a job under a random id, due now, for a day", async (scene) => {
    const before = Date.now();
    const job = await scene.arq.enqueueJob("x", [1, "two"]);
    assert.match(job.jobId, /^[0-9a-f]{32}$/);
    assert.deepEqual(await scene.keys(), [`job:${job.jobId}`, "queue"]);
    const [entry] = await scene.arq.queuedJobs();
    const { score, enqueueTime, ...rest } = entry ?? {};
    assert.deepEqual(rest, {
      jobId: job.jobId,
      functionName: "x",
      args: [1, "two"],
      kwargs: {},
      jobTry: null,
    });
    assert.ok(Math.abs(Number(score) - before) < 5_000);
    assert.ok(Math.abs(Number(enqueueTime) - before) < 5_000);
    await job.abort();
  });

  scenario("takes an id, a queue, a try and keyword arguments", async (scene) => {
    const queueName = `${scene.prefix}q2`;
    const options = { jobId: "mine", queueName, jobTry: 3, kwargs: { a: [1] } };
    const job = await scene.arq.enqueueJob("x", [], options);
    assert.equal(job?.queueName, queueName);
    assert.deepEqual(await scene.arq.queuedJobs(), []);
    const [entry] = await scene.arq.queuedJobs({ queueName });
    assert.deepEqual([entry?.jobId, entry?.jobTry, entry?.kwargs], ["mine", 3, { a: [1] }]);
    await job?.abort();
  });

  scenario("defers by a duration or until an instant", async (scene) => {
    const until = Temporal.Now.instant().add({ hours: 2 });
    const due = [
      await scene.arq.enqueueJob("x", [], { deferBy: HOUR_MS }),
      await scene.arq.enqueueJob("x", [], { deferBy: { hours: 1 } }),
      await scene.arq.enqueueJob("x", [], { deferBy: Temporal.Duration.from("PT1H") }),
      await scene.arq.enqueueJob("x", [], { deferUntil: until }),
      await scene.arq.enqueueJob("x", [], { deferUntil: until.toZonedDateTimeISO("UTC") }),
      await scene.arq.enqueueJob("x", [], { deferUntil: new Date(until.epochMilliseconds) }),
      await scene.arq.enqueueJob("x", [], { deferUntil: until.epochMilliseconds }),
    ];
    const scores = await Promise.all(due.map(async (job) => (await job.info())?.score ?? 0));
    for (const score of scores.slice(0, 3)) {
      assert.ok(Math.abs(score - Date.now() - HOUR_MS) < 5_000);
    }
    assert.deepEqual(new Set(scores.slice(3)), new Set([until.epochMilliseconds]));
    await Promise.all(due.map((job) => job.abort()));
  });

  scenario("is null for an id that a job or a result has, and changes nothing", async (scene) => {
    const first = await scene.arq.enqueueJob("x", [1], { jobId: "taken" });
    assert.ok(first);
    assert.equal(await scene.arq.enqueueJob("x", [2], { jobId: "taken", deferBy: 5 }), null);
    assert.deepEqual((await first.info())?.args, [1]);
    await scene.burst({ functions: { x: (_ctx, n: number) => n } });
    assert.equal(await scene.arq.enqueueJob("x", [3], { jobId: "taken" }), null);
    assert.equal(await first.result(), 1);
  });

  scenario("has one winner among 200 racing clients", async (scene) => {
    const pools = await Promise.all(Array.from({ length: 20 }, () => scene.pool()));
    const races = Array.from({ length: 200 }, async (_, i) => {
      const pool = pools[i % pools.length];
      return await pool?.enqueueJob("x", [i], { jobId: "one" });
    });
    const winners = (await Promise.all(races)).filter((job) => job !== null);
    assert.equal(winners.length, 1);
    assert.equal((await scene.arq.queuedJobs()).length, 1);
    await winners[0]?.abort();
  });

  for (
    const [what, args, options, name, message] of [
      [
        "deferBy with deferUntil",
        [],
        { deferBy: 1, deferUntil: 1 },
        "TypeError",
        "deferUntil and deferBy exclude each other; give one of them",
      ],
      ["a negative delay", [], { deferBy: -5 }, "RangeError", "deferBy must be 0 or more, got -5"],
      [
        "a delay that is no number",
        [],
        { deferBy: NaN },
        "RangeError",
        "deferBy must be a finite duration, got NaN",
      ],
      [
        "a delay as text",
        [],
        { deferBy: "5s" },
        "TypeError",
        'deferBy must be milliseconds or an object such as { seconds: 5 }, got "5s"',
      ],
      [
        "an invalid date",
        [],
        { deferUntil: new Date("no") },
        "RangeError",
        "deferUntil must be a valid point in time, got Invalid Date",
      ],
      [
        "no time to live",
        [],
        { expires: 0 },
        "RangeError",
        "expires must be 1 ms or more, got 0 (milliseconds)",
      ],
      [
        "seconds for milliseconds",
        [],
        { deferUntil: 1_795_440_000 },
        "RangeError",
        "deferUntil is in milliseconds; 1795440000 looks like seconds",
      ],
      [
        "null for options",
        [],
        null,
        "TypeError",
        "enqueueJob takes an object such as { deferBy: { seconds: 5 } }, got null",
      ],
      [
        "a duration in place of options",
        [],
        Temporal.Duration.from({ minutes: 5 }),
        "TypeError",
        'enqueueJob takes an object such as { deferBy: { seconds: 5 } }, got "PT5M"',
      ],
      [
        "a list of keyword arguments",
        [],
        { kwargs: [1] },
        "TypeError",
        "kwargs must be a plain object, got [1]",
      ],
      [
        "a Map of keyword arguments",
        [],
        { kwargs: new Map([["a", 1]]) },
        "TypeError",
        "kwargs must be a plain object, got an object of Map",
      ],
      [
        "a try of 0",
        [],
        { jobTry: 0 },
        "RangeError",
        "jobTry must be a whole number of 1 or more, got 0",
      ],
      [
        "an empty id",
        [],
        { jobId: "" },
        "TypeError",
        'jobId must be a text that is not empty, got ""',
      ],
      [
        "a number as id",
        [],
        { jobId: 7 },
        "TypeError",
        "jobId must be a text that is not empty, got 7",
      ],
      [
        "an id that no store can tell from others",
        [],
        { jobId: "a\ud800" },
        "TypeError",
        'jobId must not have a lone surrogate, got "a\\ud800"',
      ],
      [
        "a queue that is no text",
        [],
        { queueName: [] },
        "TypeError",
        "queueName must be a text that is not empty, got []",
      ],
      [
        "arq's name of an option",
        [],
        { deferby: 1 },
        "TypeError",
        'unknown option "deferby"; did you mean "deferBy"?',
      ],
      [
        "an option of call",
        [],
        { timeout: 1 },
        "TypeError",
        'unknown option "timeout"; known: jobId, queueName, deferUntil, deferBy, expires, jobTry, kwargs',
      ],
      [
        "a job that expires before it is due",
        [],
        { deferBy: { hours: 2 }, expires: { hours: 2 } },
        "RangeError",
        "expires counts from now and must be longer than deferBy, or the job never starts; " +
        'got {"hours":2} and {"hours":2}',
      ],
      [
        "keyword arguments as text",
        [],
        { kwargs: "a=1" },
        "TypeError",
        'kwargs must be a plain object, got "a=1"',
      ],
      ["arguments that are no list", "url", {}, "TypeError", 'arguments must be a list, got "url"'],
      [
        "a function as argument",
        [{ onDone: () => {} }],
        {},
        "SerializationError",
        /args\[0\]\.onDone/,
      ],
      [
        "a symbol as keyword argument",
        [],
        { kwargs: { a: Symbol("s") } },
        "SerializationError",
        /kwargs\.a/,
      ],
    ] as const
  ) {
    scenario(`refuses ${what} in one clear line, and sends nothing`, async (scene) => {
      const enqueue = (name: string) =>
        scene.arq.enqueueJob(
          name,
          args as unknown as unknown[],
          options as unknown as EnqueueOptions,
        );
      const error = await enqueue("resize").then(() => null, (error) => error);
      assert.equal(error?.name, name);
      if (typeof message === "string") {
        assert.equal(error.message, `Cannot enqueue "resize": ${message}`);
      } else {
        assert.match(error.message, /^Cannot enqueue "resize": /);
        assert.match(error.message, message);
        assert.ok(error instanceof SerializationError);
      }
      assert.deepEqual(await scene.keys(), []);
    });
  }

  scenario("refuses a name that is none", async (scene) => {
    for (const name of ["", 5, undefined]) {
      await assert.rejects(
        scene.arq.enqueueJob(name as string),
        /^TypeError: Cannot enqueue a job: its function's name must be a text, got /,
      );
    }
  });

  scenario("does not look at the caller's objects once it was called", async (scene) => {
    const list = [1];
    const job = scene.arq.enqueueJob("x", [list]);
    list.push(2);
    assert.deepEqual((await (await job).info())?.args, [[1]]);
    await (await job).abort();
  });
});

scenarios("enqueueJobs", (scenario) => {
  scenario("accepts many, in order, with their options", async (scene) => {
    const jobs = await scene.arq.enqueueJobs([
      { name: "x", args: [1] },
      { name: "y", options: { jobId: "mine" } },
      { name: "z", options: { jobId: "mine" } },
      { name: "x", args: [2], options: { queueName: `${scene.prefix}other` } },
    ]);
    assert.deepEqual(jobs.map((job) => job?.queueName.slice(scene.prefix.length)), [
      "queue",
      "queue",
      undefined,
      "other",
    ]);
    assert.equal(jobs[1]?.jobId, "mine");
    assert.equal((await jobs[1]?.info())?.functionName, "y");
    await Promise.all(jobs.map((job) => job?.abort()));
  });

  scenario("checks all before it sends any", async (scene) => {
    const requests = [
      { name: "x" },
      { name: "x", args: [() => {}] },
    ] as JobRequest<UntypedFunctions>[];
    await assert.rejects(scene.arq.enqueueJobs(requests), SerializationError);
    await assert.rejects(
      scene.arq.enqueueJobs([{ name: "x" }, { name: "y", arg: [1] } as never]),
      /Cannot enqueue "y": unknown option "arg"; did you mean "args"\?/,
    );
    await assert.rejects(
      scene.arq.enqueueJobs([null as never]),
      /is \{ name, args, options \}, got null/,
    );
    assert.deepEqual(await scene.keys(), []);
  });

  scenario("takes an empty list", async (scene) => {
    assert.deepEqual(await scene.arq.enqueueJobs([]), []);
  });

  scenario("takes 10,000 jobs, and each runs", async (scene) => {
    const jobs = await scene.arq.enqueueJobs(many(10_000));
    assert.equal(new Set(jobs.map((job) => job?.jobId)).size, 10_000);
    const settings = { functions: { x: () => {} }, maxJobs: 1_000, keepResult: 0 };
    assert.equal((await scene.burst(settings)).jobsComplete, 10_000);
    assert.deepEqual(await scene.keys(), []);
  });
});

describe("Round trips", () => {
  let server: RedisServer;
  let arq: ArqClient;
  before(async () => {
    server = await startRedis();
    arq = await createPool(server.url);
    await arq.enqueueJob("x"); // Redis knows the script from now on
  });
  after(async () => {
    await arq.close();
    await server.stop();
  });

  it("are shared by the calls of one tick", async () => {
    await scriptCalls(arq);
    await Promise.all(Array.from({ length: 40 }, () => arq.enqueueJob("x")));
    assert.equal(await scriptCalls(arq), 1);
    await Promise.all(Array.from({ length: 500 }, () => arq.enqueueJob("x")));
    const calls = await scriptCalls(arq);
    assert.ok(calls <= 20, `${calls} calls`);
    await arq.enqueueJob("x");
    await arq.enqueueJob("x");
    assert.equal(await scriptCalls(arq), 2);
  });

  it("take a few hundred jobs each", async () => {
    await scriptCalls(arq);
    await arq.enqueueJobs(many(1_000));
    const calls = await scriptCalls(arq);
    assert.ok(calls >= 2 && calls <= 5, `${calls} calls`);
  });

  it("are not too large to be answered in time", async () => {
    await scriptCalls(arq);
    const text = "x".repeat(400_000);
    await arq.enqueueJobs(Array.from({ length: 10 }, () => ({ name: "x", args: [text] })));
    const calls = await scriptCalls(arq);
    assert.ok(calls >= 4, `${calls} calls for 4 MB`);
  });

  it("that fail leave the jobs of others accepted, and say which", async () => {
    await using full = await startRedis({ args: ["--maxmemory", "6mb"] });
    await using client = await createPool(full.url);
    const text = "x".repeat(20_000);
    const requests = Array.from({ length: 1_000 }, () => ({ name: "x", args: [text] }));
    const error = await client.enqueueJobs(requests).then(() => null, (error) => error);
    assert.ok(error instanceof QueueConnectionError);
    assert.match(error.message, /^\d+ of 1000 jobs are known to be accepted: .*out of memory/);
    const queued = await client.store.queueEntries(client.defaultQueueName);
    assert.ok(error.accepted && error.accepted.length > 0 && error.accepted.length < 1_000);
    assert.deepEqual(queued.map(({ jobId }) => jobId).sort(), [...error.accepted].sort());
  });

  it("reach Redis itself through the client's own client", async () => {
    assert.equal(String(await arq.redis.sendCommand(["PING"])), "PONG");
    assert.equal(arq.redis.isReady, true);
  });
});
