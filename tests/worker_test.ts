import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FailedJobs, func, type JobContext, runWorker, Worker } from "../mod.ts";
import { createWorker } from "../worker.ts";
import { Gate, pause, scenarios, until } from "./_worker.ts";

const double = (_ctx: JobContext, n: number): number => 2 * n;
const fail = (_ctx: JobContext, text: string): never => {
  throw new RangeError(text);
};

scenarios("A worker", (scenario) => {
  scenario("runs a job that was enqueued before it started", async (scene) => {
    const job = await scene.arq.enqueueJob("double", [21]);
    await scene.burst({ functions: { double } });
    assert.equal(await job.result(), 42);
    assert.deepEqual(await scene.keys(), [`result:${job.jobId}`]);
  });

  scenario("runs a job that comes while it is idle", async (scene) => {
    const { worker } = scene.start({ functions: { double } });
    assert.equal(await scene.arq.call("double", [21]), 42);
    await until("the count", () => worker.jobsComplete === 1);
  });

  scenario("gives each function its job's context and arguments", async (scene) => {
    const seen: unknown[] = [];
    const look = (ctx: JobContext, ...args: unknown[]) => {
      const { jobId, jobTry, functionName, queueName, kwargs, score } = ctx;
      const { aborted } = ctx.signal;
      seen.push({ jobId, jobTry, functionName, queueName, kwargs, score, aborted, args });
      assert.ok(Math.abs(ctx.enqueueTime.getTime() - Date.now()) < 10_000);
      ctx.logger.debug("looking");
    };
    const dueAt = Date.now() - 5_000;
    await scene.arq.enqueueJob("look", [1, "two"], {
      jobId: "a",
      deferUntil: dueAt,
      kwargs: { three: 3 },
    });
    await scene.burst({ functions: { look } });
    assert.deepEqual(seen, [{
      jobId: "a",
      jobTry: 1,
      functionName: "look",
      queueName: scene.queueName,
      kwargs: { three: 3 },
      score: dueAt,
      aborted: false,
      args: [1, "two"],
    }]);
  });

  scenario("lets a function enqueue further jobs", async (scene) => {
    const parent = async (ctx: JobContext) => {
      await ctx.arq.enqueueJob("double", [4], { jobId: "child" });
    };
    await scene.arq.enqueueJob("parent");
    const worker = await scene.burst({ functions: { parent, double } });
    assert.equal(worker.jobsComplete, 2);
    assert.equal(await scene.arq.job("child").result(), 8);
  });

  scenario("takes functions as a list, under their own names", async (scene) => {
    await scene.arq.enqueueJob("double", [2], { jobId: "d" });
    await scene.burst({ functions: [double] });
    assert.equal(await scene.arq.job("d").result(), 4);
  });

  scenario("takes jobs from its own queue only", async (scene) => {
    const other = `${scene.prefix}other`;
    await scene.arq.enqueueJob("double", [1], { jobId: "here" });
    await scene.arq.enqueueJob("double", [2], { jobId: "there", queueName: other });
    const worker = await scene.burst({ functions: { double }, queueName: other });
    assert.equal(worker.jobsComplete, 1);
    assert.equal(await scene.arq.job("there", { queueName: other }).result(), 4);
    assert.equal(await scene.arq.job("here").status(), "queued");
    await scene.burst({ functions: { double } });
  });

  scenario("ends in burst mode when the queue is empty, deferred jobs included", async (scene) => {
    await scene.arq.enqueueJob("double", [1]);
    await scene.arq.enqueueJob("double", [2], { deferBy: 150 });
    const worker = await scene.burst({ functions: { double }, pollDelay: 1_000 });
    assert.equal(worker.jobsComplete, 2);
  });

  scenario("ends in burst mode at once on an empty queue", async (scene) => {
    const worker = await scene.burst({ functions: { double }, pollDelay: 60_000 });
    assert.equal(String(worker), "<Worker j_complete=0 j_failed=0 j_retried=0 j_ongoing=0>");
  });

  scenario("runs maxBurstJobs jobs and leaves the rest in the queue", async (scene) => {
    for (const n of [1, 2, 3, 4, 5]) {
      await scene.arq.enqueueJob("double", [n], { deferUntil: Date.now() - 1_000 + n });
    }
    const worker = await scene.burst({ functions: { double }, maxBurstJobs: 3 });
    assert.equal(worker.jobsComplete, 3);
    const left = await scene.arq.queuedJobs();
    assert.deepEqual(left.map(({ args }) => args), [[4], [5]]);
    await scene.burst({ functions: { double } });
  });

  scenario("runs at most maxJobs jobs at a time", async (scene) => {
    let now = 0;
    let most = 0;
    const busy = async () => {
      most = Math.max(most, ++now);
      await pause(5);
      now--;
    };
    await scene.arq.enqueueJobs(Array.from({ length: 40 }, () => ({ name: "busy" })));
    const worker = await scene.burst({ functions: { busy }, maxJobs: 3 });
    assert.equal(worker.jobsComplete, 40);
    assert.equal(most, 3);
  });

  scenario("runs ten jobs at a time by default", async (scene) => {
    const gate = new Gate();
    const wait = () => gate.pass();
    await scene.arq.enqueueJobs(Array.from({ length: 12 }, () => ({ name: "wait" })));
    const { worker } = scene.start({ functions: { wait } });
    await gate.reached(10);
    await pause(50); // an eleventh would come by now
    assert.equal(gate.arrived, 10);
    assert.equal(worker.jobsOngoing, 10);
    assert.equal(String(worker), "<Worker j_complete=0 j_failed=0 j_retried=0 j_ongoing=10>");
    gate.open();
    await until("all jobs", () => worker.jobsComplete === 12);
  });

  scenario("runs 100 jobs at a time with maxJobs 100", async (scene) => {
    const gate = new Gate();
    const wait = () => gate.pass();
    await scene.arq.enqueueJobs(Array.from({ length: 100 }, () => ({ name: "wait" })));
    const { worker } = scene.start({ functions: { wait }, maxJobs: 100 });
    await gate.reached(100);
    gate.open();
    await until("all jobs", () => worker.jobsComplete === 100);
  });

  scenario("starts a job within milliseconds when idle, whatever pollDelay is", async (scene) => {
    let startedAt = 0;
    const note = () => void (startedAt = performance.now());
    scene.start({ functions: { note }, pollDelay: 30_000 });
    const delays: number[] = [];
    for (let i = 0; i < 15; i++) {
      const enqueuedAt = performance.now();
      await scene.arq.call("note", [], { timeout: 5_000 });
      delays.push(startedAt - enqueuedAt);
    }
    const median = delays.sort((a, b) => a - b)[7] ?? Infinity;
    assert.ok(median < 50, `median of ${delays.map((ms) => ms.toFixed(1))} ms`);
  });

  scenario("is not delayed by a thousand jobs that others are running", async (scene) => {
    await scene.arq.enqueueJobs(Array.from({ length: 1_000 }, () => ({ name: "theirs" })));
    const { store } = scene.arq;
    for (let taken = 0; taken < 1_000;) {
      taken +=
        (await store.claim(scene.queueName, { holder: "other", limit: 500, leaseMs: 60_000 }))
          .claims.length;
    }
    scene.start({ functions: { double } });
    await scene.arq.call("double", [1], { timeout: 5_000 }); // it is up
    const times: number[] = [];
    for (let i = 0; i < 5; i++) {
      const startedAt = performance.now();
      await scene.arq.call("double", [1], { timeout: 5_000 });
      times.push(performance.now() - startedAt);
    }
    assert.ok(Math.min(...times) < 100, `took ${times} ms`); // the others waited for the machine
    assert.equal((await scene.arq.queuedJobs()).length, 1_000);
    const leftovers = (await scene.keys()).filter((name) => !name.startsWith("result:"));
    scene.leaves(...leftovers);
  });

  scenario("runs due jobs in the order of their times", async (scene) => {
    const order: number[] = [];
    const note = (_ctx: JobContext, n: number) => void order.push(n);
    const base = Date.now() - 10_000;
    for (const n of [3, 1, 4, 2]) {
      await scene.arq.enqueueJob("note", [n], { deferUntil: base + n });
    }
    // With a single try nothing is taken ahead, which a busy machine could have given back.
    await scene.burst({ functions: { note: func(note, { maxTries: 1 }) }, maxJobs: 1 });
    assert.deepEqual(order, [1, 2, 3, 4]);
  });

  scenario("shares a queue with another one, and every job runs once", async (scene) => {
    const runs = new Map<string, number>();
    const shares = [0, 0];
    const both = new Gate(); // one may be up long before the other
    const take = (worker: number) => async ({ jobId }: JobContext) => {
      runs.set(jobId, (runs.get(jobId) ?? 0) + 1);
      shares[worker] = (shares[worker] ?? 0) + 1;
      if (shares.every((share) => share > 0)) both.open();
      await both.pass();
      await pause(1);
    };
    const jobs = await scene.arq.enqueueJobs(
      Array.from({ length: 1_000 }, () => ({ name: "take" })),
    );
    await Promise.all([0, 1].map((n) => scene.burst({ functions: { take: take(n) } })));
    assert.deepEqual([...runs.keys()].sort(), jobs.map((job) => job?.jobId).sort());
    assert.deepEqual(new Set(runs.values()), new Set([1]));
    assert.ok(shares.every((share) => share > 50), `shares ${shares}`);
  });

  scenario("can run again after its end, and goes on counting", async (scene) => {
    const worker = scene.worker({ functions: { double }, burst: true });
    for (const total of [1, 2]) {
      await scene.arq.enqueueJob("double", [1]);
      await worker.run();
      assert.equal(worker.jobsComplete, total);
    }
  });

  scenario("refuses to run twice at a time", async (scene) => {
    const { worker } = scene.start({ functions: { double } });
    await assert.rejects(worker.run(), /running already/);
  });

  scenario("leaves a pool open that was handed in", async (scene) => {
    const pool = await scene.pool({ defaultQueueName: `${scene.prefix}special` });
    await pool.enqueueJob("double", [1]);
    const worker = await scene.burst({ functions: { double }, connection: pool });
    assert.equal(worker.jobsComplete, 1, "it takes its queue from the pool");
    assert.equal(worker.arq, pool);
    const job = await pool.enqueueJob("double", [1]);
    assert.equal(await job.status(), "queued");
    await scene.burst({ functions: { double }, connection: pool });
  });

  scenario("is made and run to its end by runWorker, and made by createWorker", async (scene) => {
    const { connection, prefix } = scene;
    await scene.arq.enqueueJob("double", [1]);
    const settings = { functions: { double }, connection, prefix, burst: true };
    const worker = await runWorker(settings);
    assert.equal(worker.jobsComplete, 1);
    assert.ok(createWorker(settings) instanceof Worker);
  });

  scenario("is closed by await using", async (scene) => {
    let ended: Promise<void>;
    {
      await using worker = scene.worker({ functions: { double } });
      ended = worker.run();
      assert.equal(await scene.arq.call("double", [3]), 6);
    }
    await ended;
  });
});

scenarios("runCheck", (scenario) => {
  scenario("returns how many jobs completed", async (scene) => {
    const worker = scene.worker({ functions: { double } });
    await scene.arq.enqueueJobs([{ name: "double", args: [1] }, { name: "double", args: [2] }]);
    assert.equal(await worker.runCheck(), 2);
    assert.equal(await worker.runCheck(), 0);
    await scene.arq.enqueueJob("double", [3]);
    assert.equal(await worker.runCheck(), 1);
  });

  scenario("throws FailedJobs with what the failed jobs threw", async (scene) => {
    await scene.arq.enqueueJob("fail", ["too much"], { jobId: "a" });
    await scene.arq.enqueueJob("double", [1]);
    await scene.arq.enqueueJob("missing", [], { jobId: "b" });
    const worker = scene.worker({ functions: { double, fail } });
    const error = await worker.runCheck().then(() => undefined, (error) => error);
    assert.ok(error instanceof FailedJobs);
    assert.equal(error.count, 2);
    const results = new Map(error.jobResults.map(({ jobId, result }) => [jobId, String(result)]));
    assert.equal(results.get("a"), "RangeError: too much");
    assert.match(results.get("b") ?? "", /"missing" is not registered/);
    assert.match(error.message, /^2 jobs failed:\n {2}.*RangeError: too much/s);
  });

  scenario("stops after maxBurstJobs", async (scene) => {
    await scene.arq.enqueueJobs([1, 2, 3].map((n) => ({ name: "double", args: [n] })));
    const worker = scene.worker({ functions: { double } });
    assert.equal(await worker.runCheck({ maxBurstJobs: 2 }), 2);
    assert.equal(await worker.runCheck(), 1);
  });

  scenario("stops when its signal aborts", async (scene) => {
    const gate = new Gate();
    await scene.arq.enqueueJob("wait");
    const worker = scene.worker({ functions: { wait: (ctx) => gate.pass(ctx.signal) } });
    const stop = new AbortController();
    const running = worker.runCheck({ signal: stop.signal });
    await gate.reached();
    stop.abort();
    assert.equal(await running, 0);
    assert.equal((await scene.arq.queuedJobs()).length, 1);
    gate.open();
    assert.equal(await worker.runCheck(), 1);
  });
});

describe("The constructor of Worker", () => {
  it("does no I/O", () => {
    const worker = new Worker({ functions: { double }, connection: "redis://127.0.0.1:1" });
    assert.equal(worker.jobsComplete, 0);
  });
});
