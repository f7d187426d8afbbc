/** With a backlog of short jobs a worker takes some before it has slots for them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ClaimPace } from "../claim_pace.ts";
import { JobAborted } from "../errors.ts";
import type { JobContext } from "../functions.ts";
import type { Job } from "../jobs.ts";
import { Gate, pause, scenarios, type Scene, until } from "./_worker.ts";

/** Enqueues jobs by name, in this order. */
async function enqueue(scene: Scene, ...names: string[]): Promise<Job[]> {
  return await scene.arq.enqueueJobs(names.map((name) => ({ name })));
}

function times(count: number, name: string): string[] {
  return Array.from({ length: count }, () => name);
}

/** How many jobs the workers on the scene's own pool ask for, each time. */
function watchClaims(scene: Scene): number[] {
  const { store } = scene.arq;
  const claim = store.claim.bind(store);
  const limits: number[] = [];
  store.claim = (queueName, holder, limit, ...rest) => {
    limits.push(limit);
    return claim(queueName, holder, limit, ...rest);
  };
  return limits;
}

describe("The pace of claims", () => {
  it("takes nothing ahead until jobs have ended", () => {
    assert.equal(new ClaimPace(10).ahead, 0);
  });

  it("takes more ahead the shorter jobs are, up to a hundred", () => {
    const afterJobsOf = (ms: number) => {
      const pace = new ClaimPace(10);
      for (let i = 0; i < 200; i++) pace.noteJob(ms);
      return pace.ahead;
    };
    assert.deepEqual([0, 1, 5, 50, 60, 1_000].map(afterJobsOf), [100, 50, 10, 1, 0, 0].map(near));
    function near(value: number): number {
      return value === 0 || value === 100 ? value : value - 1; // the average never quite arrives
    }
  });

  it("takes no more ahead than it is allowed to", () => {
    const pace = new ClaimPace(10, 7);
    for (let i = 0; i < 200; i++) pace.noteJob(0);
    assert.equal(pace.ahead, 7);
  });

  it("begins anew when jobs have waited in vain", () => {
    const pace = new ClaimPace(1_000);
    for (let i = 0; i < 200; i++) pace.noteJob(0);
    assert.equal(pace.ahead, 100);
    pace.noteBlocked();
    assert.equal(pace.ahead, 5);
  });
});

scenarios("Taking jobs ahead", (scenario) => {
  scenario("asks for more than there are slots, and never runs more than these", async (scene) => {
    const limits = watchClaims(scene);
    let running = 0;
    let most = 0;
    const quick = async () => {
      most = Math.max(most, ++running);
      await null;
      running--;
    };
    await enqueue(scene, ...times(500, "quick"));
    const { jobsComplete } = await scene.burst({
      functions: { quick },
      connection: scene.arq,
      maxJobs: 2,
    });
    assert.deepEqual([jobsComplete, most], [500, 2]);
    assert.ok(Math.max(...limits) > 10, `it asked for ${limits}`);
  });

  scenario("asks for no more than there are slots where jobs are long", async (scene) => {
    const limits = watchClaims(scene);
    await enqueue(scene, ...times(12, "long"));
    const functions = { long: (ctx: JobContext) => pause(20, ctx.signal) };
    await scene.burst({ functions, connection: scene.arq, maxJobs: 2 });
    assert.ok(Math.max(...limits) <= 2, `it asked for ${limits}`);
  });

  scenario("begins no more than maxBurstJobs", async (scene) => {
    await enqueue(scene, ...times(400, "quick"));
    const functions = { quick: () => {} };
    const { jobsComplete } = await scene.burst({ functions, maxJobs: 2, maxBurstJobs: 301 });
    assert.equal(jobsComplete, 301);
    assert.equal((await scene.arq.queuedJobs()).length, 99);
    await scene.burst({ functions });
  });

  scenario("gives back what waits once the slots are blocked", async (scene) => {
    const gate = new Gate();
    const functions = { quick: () => {}, wait: (ctx: JobContext) => gate.pass(ctx.signal) };
    const jobs = await enqueue(scene, ...times(200, "quick"), "wait", ...times(100, "quick"));
    scene.start({ functions, maxJobs: 1 });
    await gate.reached();
    scene.start({ functions, maxJobs: 1 });
    const later = jobs.slice(201);
    await Promise.all(later.map((job) => job.result({ timeout: 10_000 })));
    const ends = await Promise.all(later.map((job) => job.resultInfo()));
    assert.ok(ends.some((end) => end?.jobTry === 2), "the first worker had taken some");
    assert.ok(ends.every((end) => (end?.jobTry ?? 0) <= 2));
    gate.open();
    await jobs[200]?.result({ timeout: 10_000 });
    assert.equal(gate.arrived, 1);
  });

  scenario("gives back what waits when the worker is told to stop", async (scene) => {
    const gate = new Gate();
    const functions = { quick: () => {}, wait: (ctx: JobContext) => gate.pass(ctx.signal) };
    const jobs = await enqueue(scene, ...times(200, "quick"), "wait", ...times(60, "quick"));
    const { worker, ended } = scene.start({ functions, maxJobs: 1, jobCompletionWait: 0 });
    await gate.reached();
    await worker.close();
    await ended;
    const states = await Promise.all(jobs.slice(200).map((job) => job.status()));
    assert.deepEqual([...new Set(states)], ["queued"]);
    gate.open();
    await scene.burst({ functions });
  });

  scenario("aborts a job that waits", async (scene) => {
    const gate = new Gate();
    let runs = 0;
    const functions = {
      quick: () => {},
      wait: (ctx: JobContext) => gate.pass(ctx.signal),
      target: () => ++runs,
    };
    const { store } = scene.arq;
    const findAborts = store.findAborts.bind(store);
    const noticed = new Set<string>();
    store.findAborts = async (jobIds) => {
      const asked = await findAborts(jobIds);
      for (const jobId of asked) noticed.add(jobId);
      return asked;
    };
    const jobs = await enqueue(scene, ...times(200, "quick"), "wait", "target");
    const target = jobs[201] as Job;
    const settings = { maxJobs: 1, pollDelay: 5, allowAbortJobs: true };
    scene.start({ functions, connection: scene.arq, ...settings });
    await gate.reached();
    const aborted = target.abort({ timeout: 10_000 });
    await until("the worker knows, or has given the job back", async () => {
      return noticed.has(target.jobId) || await target.status() !== "in_progress";
    });
    gate.open();
    assert.equal(await aborted, true);
    await assert.rejects(target.result(), JobAborted);
    assert.equal(runs, 0);
  });
});
