/** With a backlog of short jobs a worker takes some before it has slots for them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ClaimPace } from "../claim_pace.ts";
import { JobAborted } from "../errors.ts";
import { func, type JobContext } from "../functions.ts";
import { HeldJobs } from "../held_jobs.ts";
import { JobRun } from "../job_run.ts";
import type { Job } from "../jobs.ts";
import { resolveSettings } from "../worker_settings.ts";
import { Gate, pause, scenarios, type Scene, until } from "./_worker.ts";

/** Enqueues jobs by name, in this order. */
async function enqueue(scene: Scene, ...names: string[]): Promise<Job[]> {
  return await scene.arq.enqueueJobs(names.map((name) => ({ name })));
}

function times(count: number, name: string): string[] {
  return Array.from({ length: count }, () => name);
}

/** What the workers on the scene's own pool ask the store for. */
interface Calls {
  /** How many jobs at most, each time. */
  readonly limits: number[];
  /** The jobs that were claimed. */
  readonly claimed: string[];
  /** The jobs that were given back. */
  readonly returned: string[];
}

function watchCalls(scene: Scene): Calls {
  const { store } = scene.arq;
  const claim = store.claim.bind(store);
  const giveBack = store.giveBack.bind(store);
  const calls: Calls = { limits: [], claimed: [], returned: [] };
  store.claim = async (queueName, request) => {
    calls.limits.push(request.limit);
    const reply = await claim(queueName, request);
    calls.claimed.push(...reply.claims.map(({ jobId }) => jobId));
    return reply;
  };
  store.giveBack = (queueName, jobs) => {
    calls.returned.push(...jobs.map(({ lease }) => lease.jobId));
    return giveBack(queueName, jobs);
  };
  return calls;
}

/** Keeps the event loop from everything else. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

describe("Jobs that wait", () => {
  const run = (jobId: string, waitedMs: number, isSuspect = false) => {
    const lease = { jobId, token: "", score: "0" };
    const state = { payload: undefined, starts: 1, handbacks: 0, abortAsked: false, isSuspect };
    const run = new JobRun({ ...lease, ...state }, 0);
    run.since -= waitedMs;
    return run;
  };
  const blockedOf = (...runs: JobRun[]) => {
    using jobs = new HeldJobs(resolveSettings({ functions: { quick: () => {} } }), () => {});
    for (const run of runs) jobs.add(run);
    return jobs.takeBlocked().map(({ claim }) => claim.jobId);
  };

  /** It has just come, however long this test takes. */
  const NEW_MS = -60_000;

  it("go back in their order once one has waited for too long", () => {
    assert.deepEqual(blockedOf(run("a", 60), run("b", 60), run("c", NEW_MS)), ["a", "b", "c"]);
    assert.deepEqual(blockedOf(run("a", NEW_MS), run("b", NEW_MS)), []);
  });

  it("go back without a suspect that has just come, which is the next to run", () => {
    assert.deepEqual(blockedOf(run("a", 60), run("b", NEW_MS), run("s", NEW_MS, true)), ["a", "b"]);
    assert.deepEqual(blockedOf(run("s", 60, true)), ["s"]);
  });
});

describe("The pace of claims", () => {
  const paceAfter = (jobs: number, ms: number) => {
    const pace = new ClaimPace(1_000);
    for (let i = 0; i < jobs; i++) pace.noteJob(ms);
    return pace;
  };

  it("takes one more ahead for each short job, up to a hundred", () => {
    assert.deepEqual([0, 1, 50, 500].map((jobs) => paceAfter(jobs, 5).ahead), [0, 1, 50, 100]);
  });

  it("takes nothing ahead where jobs are long, and half as much after one", () => {
    assert.equal(paceAfter(500, 6).ahead, 0);
    const pace = paceAfter(101, 0);
    pace.noteJob(60_000);
    assert.equal(pace.ahead, 50);
  });

  it("takes less ahead where jobs have to wait, and nothing where they wait in vain", () => {
    const pace = paceAfter(500, 0);
    pace.noteWait(10);
    assert.equal(pace.ahead, 100);
    pace.noteWait(11);
    assert.equal(pace.ahead, 50);
    pace.noteBlocked();
    assert.equal(pace.ahead, 0);
  });

  it("takes no more ahead than it is allowed to", () => {
    const pace = new ClaimPace(7);
    for (let i = 0; i < 20; i++) pace.noteJob(0);
    assert.equal(pace.ahead, 7);
  });
});

scenarios("Taking jobs ahead", (scenario) => {
  scenario("asks for more than there are slots, and never runs more than these", async (scene) => {
    const { limits } = watchCalls(scene);
    let running = 0;
    let most = 0;
    const quick = async () => {
      most = Math.max(most, ++running);
      await null;
      running--;
    };
    await enqueue(scene, ...times(500, "quick"));
    const settings = { functions: { quick }, connection: scene.arq, maxJobs: 2 };
    const { jobsComplete } = await scene.burst(settings);
    assert.deepEqual([jobsComplete, most], [500, 2]);
    assert.ok(Math.max(...limits) > 2, `it asked for ${limits}`);
  });

  scenario("asks for no more than there are slots once jobs are long", async (scene) => {
    const { limits } = watchCalls(scene);
    await enqueue(scene, ...times(200, "quick"), ...times(30, "long"));
    let lastLimits: number[] = [];
    const functions = {
      quick: () => {},
      long: async (ctx: JobContext) => {
        await pause(20, ctx.signal);
        if (ctx.jobId === last?.jobId) lastLimits = limits.slice(-5);
      },
    };
    const last = (await enqueue(scene, "long")).at(-1);
    await scene.burst({ functions, connection: scene.arq, maxJobs: 2 });
    assert.ok(Math.max(...limits) > 2, `it asked for ${limits}`);
    assert.equal(lastLimits.length, 5);
    assert.ok(Math.max(...lastLimits) <= 2, `it asked for ${lastLimits} at last`);
  });

  scenario("asks for no more than there are slots where a job has one try", async (scene) => {
    const { limits } = watchCalls(scene);
    await enqueue(scene, ...times(200, "quick"));
    const functions = { quick: () => {}, once: func(() => {}, { maxTries: 1 }) };
    await scene.burst({ functions, connection: scene.arq, maxJobs: 2 });
    assert.ok(Math.max(...limits) <= 2, `it asked for ${limits}`);
  });

  scenario("begins no more than maxBurstJobs", async (scene) => {
    const { limits } = watchCalls(scene);
    await enqueue(scene, ...times(400, "quick"));
    const functions = { quick: () => {} };
    const settings = { functions, connection: scene.arq, maxJobs: 2 };
    const { jobsComplete } = await scene.burst({ ...settings, maxBurstJobs: 301 });
    assert.ok(Math.max(...limits) > 2, `it asked for ${limits}`);
    assert.equal(jobsComplete, 301);
    assert.equal((await scene.arq.queuedJobs()).length, 99);
    await scene.burst({ functions });
  });

  scenario("goes on when the program's clock is set back", async (scene) => {
    await enqueue(scene, ...times(600, "quick"));
    const { now } = Date;
    let begun = 0;
    const quick = () => {
      if (++begun === 300) Date.now = () => now() - 3_600_000;
    };
    try {
      const { jobsComplete } = await scene.burst({ functions: { quick }, maxJobs: 2 });
      assert.equal(jobsComplete, 600);
    } finally {
      Date.now = now;
    }
  });

  scenario("gives back what waits once the slots are blocked", async (scene) => {
    const gate = new Gate();
    const { returned } = watchCalls(scene);
    const functions = { quick: () => {}, wait: (ctx: JobContext) => gate.pass(ctx.signal) };
    const jobs = await enqueue(scene, ...times(200, "quick"), "wait", ...times(100, "quick"));
    scene.start({ functions, connection: scene.arq, maxJobs: 1 });
    await gate.reached();
    await until("some are given back", () => returned.length > 0);
    scene.start({ functions, maxJobs: 1 });
    const later = jobs.slice(201);
    await Promise.all(later.map((job) => job.result({ timeout: 10_000 })));
    const ends = await Promise.all(later.map((job) => job.resultInfo()));
    assert.deepEqual(ends.filter((end) => end?.jobTry !== 1), [], "what never began was no try");
    gate.open();
    await jobs[200]?.result({ timeout: 10_000 });
    assert.equal(gate.arrived, 1);
  });

  scenario("lets the event loop have its turn while jobs that wait block it", async (scene) => {
    const { limits, returned } = watchCalls(scene);
    let turns = 0;
    let blocked = 0;
    // Ten in a row, once so many are taken at a time: a busy machine makes quick jobs slow at first.
    const work = () => {
      if (blocked === 10 || (blocked === 0 && (limits.at(-1) ?? 0) < 20)) return;
      blocked++;
      setImmediate(() => turns++);
      block(60);
    };
    await enqueue(scene, ...times(600, "work"));
    await scene.burst({ functions: { work }, connection: scene.arq, maxJobs: 1 });
    assert.equal(blocked, 10);
    assert.ok(returned.length > 0, "some had waited for too long");
    assert.ok(turns >= 5, `${turns} turns in 10 jobs`);
  });

  scenario("gives back what waits when the worker is told to stop", async (scene) => {
    const { claimed, returned } = watchCalls(scene);
    const gate = new Gate();
    let begun = 0;
    let before = 0;
    const work = (ctx: JobContext) => {
      const waiting = claimed.length - returned.length - ++begun;
      if (waiting < 2 || gate.arrived > 0) return;
      before = returned.length; // on a busy machine some have waited for too long, and run since
      void worker.close(); // at once: what waits is given back after a moment without it, too
      return gate.pass(ctx.signal);
    };
    await enqueue(scene, ...times(300, "work"));
    const settings = { connection: scene.arq, maxJobs: 1, jobCompletionWait: 0 };
    const { worker, ended } = scene.start({ functions: { work }, ...settings });
    await gate.reached();
    await ended;
    const returnedByStop = returned.slice(before);
    assert.ok(returnedByStop.length > 1, "it had taken some ahead");
    const states = await Promise.all(returnedByStop.map((id) => scene.arq.job(id).status()));
    assert.deepEqual([...new Set(states)], ["queued"]);
    await scene.burst({ functions: { work: () => {} } });
  });

  scenario("aborts a job that waits", async (scene) => {
    const gate = new Gate();
    let runs = 0;
    const functions = {
      quick: () => {},
      wait: (ctx: JobContext) => gate.pass(ctx.signal),
      target: () => ++runs,
    };
    const jobs = await enqueue(scene, ...times(200, "quick"), "wait", "target");
    const target = jobs[201] as Job;
    const { store } = scene.arq;
    const answers = { abort: Promise.withResolvers<void>(), isNoticed: false };
    const abort = store.abort.bind(store);
    store.abort = async (...args) => {
      const answer = await abort(...args);
      answers.abort.resolve();
      return answer;
    };
    const findAborts = store.findAborts.bind(store);
    store.findAborts = async (jobIds) => {
      const asked = await findAborts(jobIds);
      answers.isNoticed ||= asked.has(target.jobId);
      return asked;
    };
    const settings = { maxJobs: 1, pollDelay: 5, allowAbortJobs: true };
    scene.start({ functions, connection: scene.arq, ...settings });
    await gate.reached();
    const aborted = target.abort({ timeout: 10_000 });
    await answers.abort.promise;
    await until("the worker knows, or has given the job back", async () => {
      return answers.isNoticed || await target.status() !== "in_progress";
    });
    gate.open();
    assert.equal(await aborted, true);
    await assert.rejects(target.result(), JobAborted);
    assert.equal(runs, 0);
  });
});
