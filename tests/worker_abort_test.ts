import assert from "node:assert/strict";
import { type Job, JobAborted, type JobContext, Retry } from "../mod.ts";
import { Gate, pause, scenarios, type Scene, until } from "./_worker.ts";

const POLL = { pollDelay: 20 };

/** Resolves once the store knows that a running job is to be aborted. */
async function requested(scene: Scene, { jobId }: Job): Promise<void> {
  await until("the request", async () => (await scene.arq.store.findAborts([jobId])).size === 1);
}

scenarios("Job.abort", (scenario) => {
  scenario("ends a job that runs: its signal aborts, its result says so", async (scene) => {
    const gate = new Gate();
    let reason: unknown;
    const wait = async (ctx: JobContext) => {
      await gate.pass(ctx.signal).catch((error) => {
        reason = error;
        throw error;
      });
    };
    const { worker } = scene.start({ functions: { wait }, ...POLL });
    const job = await scene.arq.enqueueJob("wait", [], { jobId: "run" });
    assert.ok(job);
    await gate.reached();
    assert.equal(await job.abort({ timeout: 5_000 }), true);
    assert.ok(reason instanceof JobAborted);
    await assert.rejects(job.result(), JobAborted);
    assert.equal(await job.status(), "complete");
    const info = await job.resultInfo();
    assert.equal(info?.success, false);
    assert.equal(String(info?.result), "JobAborted: Job run was aborted");
    assert.equal(String(worker), "<Worker j_complete=0 j_failed=1 j_retried=0 j_ongoing=0>");
    assert.deepEqual(await scene.keys(), ["queue:health-check", "result:run"]);
  });

  scenario("ends a job that looks at no signal, after the grace", async (scene) => {
    const gate = new Gate();
    scene.start({ functions: { deaf: () => gate.pass() }, abortGrace: 30, ...POLL });
    const job = await scene.arq.enqueueJob("deaf");
    await gate.reached();
    assert.equal(await job.abort({ timeout: 5_000 }), true);
    gate.open();
  });

  scenario("is false for a job that succeeds in spite of it", async (scene) => {
    const gate = new Gate();
    const stubborn = async (ctx: JobContext) => {
      await gate.pass(ctx.signal).catch(() => {});
      return "done";
    };
    scene.start({ functions: { stubborn }, ...POLL });
    const job = await scene.arq.enqueueJob("stubborn");
    await gate.reached();
    assert.equal(await job.abort({ timeout: 5_000 }), false);
    assert.equal(await job.result(), "done");
  });

  scenario("keeps a job in the queue from being started", async (scene) => {
    let runs = 0;
    const job = await scene.arq.enqueueJob("count", [], { jobId: "q" });
    assert.equal(await job?.abort({ timeout: 5_000 }), true);
    await scene.burst({ functions: { count: () => ++runs } });
    assert.equal(runs, 0);
    assert.ok(job);
    await assert.rejects(job.result(), {
      name: "JobAborted",
      message: "Job q was aborted before it started",
    });
    assert.deepEqual(await scene.keys(), ["result:q"]);
  });

  scenario("ends a deferred job", async (scene) => {
    const job = await scene.arq.enqueueJob("count", [1], { deferBy: { hours: 1 } });
    assert.equal(await job.abort(), true);
    assert.equal(await job.status(), "complete");
    const info = await job.resultInfo();
    assert.deepEqual([info?.functionName, info?.args], ["count", [1]]);
  });

  scenario("ends a job that waits for another try", async (scene) => {
    const again = () => {
      throw new Retry({ defer: { hours: 1 } });
    };
    const { worker } = scene.start({ functions: { again }, ...POLL });
    const job = await scene.arq.enqueueJob("again");
    await until(
      "its retry",
      async () => worker.jobsRetried === 1 && await job.status() === "deferred",
    );
    assert.equal(await job.abort({ timeout: 5_000 }), true);
    assert.equal(worker.jobsRetried, 1);
  });

  scenario("ends a job that is to be retried later before the request is seen", async (scene) => {
    const gate = new Gate();
    const again = async () => {
      await gate.pass();
      throw new Retry({ defer: { hours: 1 } });
    };
    const { worker } = scene.start({ functions: { again }, pollDelay: 60_000 });
    const job = await scene.arq.enqueueJob("again");
    await gate.reached();
    const aborting = job.abort({ timeout: 5_000 });
    await requested(scene, job);
    gate.open();
    assert.equal(await aborting, true);
    assert.deepEqual([gate.arrived, worker.jobsRetried], [1, 1]);
    await assert.rejects(job.result(), JobAborted);
  });

  scenario("ends a job that its worker has given back at its own end", async (scene) => {
    const gate = new Gate();
    const wait = (ctx: JobContext) => gate.pass(ctx.signal);
    scene.start({ functions: { wait }, pollDelay: 60_000 });
    const job = await scene.arq.enqueueJob("wait");
    await gate.reached();
    const aborting = job.abort({ timeout: 5_000 });
    await requested(scene, job);
    await scene.stop();
    assert.equal(await aborting, true);
  });

  scenario("is false for a job that is complete, and leaves its result", async (scene) => {
    const job = await scene.arq.enqueueJob("one");
    await scene.burst({ functions: { one: () => 1 } });
    assert.equal(await job.abort({ timeout: 5_000 }), false);
    assert.equal(await job.result(), 1);
  });

  scenario("is false for a job that nobody knows, at once", async (scene) => {
    assert.equal(await scene.arq.job("missing").abort(), false);
    assert.deepEqual(await scene.keys(), []);
  });

  scenario("wakes whoever waits for the result", async (scene) => {
    const job = await scene.arq.enqueueJob("count", [], { deferBy: { hours: 1 } });
    const waiting = assert.rejects(
      job.result({ pollDelay: 30_000, timeout: 10_000 }),
      JobAborted,
    );
    await job.abort();
    await waiting;
  });

  scenario("waits no longer than its timeout; the request stands", async (scene) => {
    const gate = new Gate();
    const wait = (ctx: JobContext) => gate.pass(ctx.signal);
    const { worker } = scene.start({ functions: { wait }, ...POLL });
    const { store } = worker.arq;
    const findAborts = store.findAborts.bind(store);
    const look = new Gate();
    store.findAborts = (ids) => look.pass().then(() => findAborts(ids)); // not before the timeout
    const job = await scene.arq.enqueueJob("wait");
    await gate.reached();
    await assert.rejects(job.abort({ timeout: 1 }), { name: "TimeoutError" });
    look.open();
    await assert.rejects(job.result({ timeout: 5_000 }), JobAborted);
  });

  scenario("frees the id only when the result is gone, for a clean new job", async (scene) => {
    const job = await scene.arq.enqueueJob("one", [], { jobId: "x", deferBy: { hours: 1 } });
    await job?.abort();
    assert.equal(await scene.arq.enqueueJob("one", [], { jobId: "x" }), null);
  });

  scenario("of an earlier job does not reach a later one with its id", async (scene) => {
    const gate = new Gate();
    const functions = { wait: (ctx: JobContext) => gate.pass(ctx.signal), one: () => 1 };
    scene.start({ functions, keepResult: 0, ...POLL });
    const first = await scene.arq.enqueueJob("wait", [], { jobId: "x" });
    await gate.reached();
    await first?.abort({ timeout: 5_000 });
    await until("its end", async () => await first?.status() === "not_found");
    assert.equal(await scene.arq.call("one", [], { jobId: "x", timeout: 5_000 }), 1);
  });

  scenario("has no effect on a running job where allowAbortJobs is false", async (scene) => {
    const gate = new Gate();
    const wait = async (ctx: JobContext) => {
      await gate.pass(ctx.signal);
      return "ran";
    };
    scene.start({ functions: { wait }, allowAbortJobs: false, ...POLL });
    const job = await scene.arq.enqueueJob("wait");
    await gate.reached();
    const aborting = job.abort({ timeout: 5_000 });
    await pause(80); // four polls that could have seen it
    gate.open();
    assert.equal(await aborting, false);
    assert.equal(await job.result(), "ran");
  });

  scenario("has no effect on a retry either where allowAbortJobs is false", async (scene) => {
    const gate = new Gate();
    const again = async ({ jobTry }: JobContext) => {
      if (jobTry > 1) return "ran";
      await gate.pass();
      throw new Retry();
    };
    scene.start({ functions: { again }, allowAbortJobs: false, ...POLL });
    const job = await scene.arq.enqueueJob("again");
    await gate.reached();
    const aborting = job.abort({ timeout: 5_000 });
    await until("the request", async () => (await scene.keys()).includes("abort"));
    gate.open();
    assert.equal(await aborting, false);
    assert.equal(await job.result(), "ran");
  });
});
