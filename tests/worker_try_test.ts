import assert from "node:assert/strict";
import {
  func,
  type Job,
  type JobContext,
  JobExecutionFailed,
  type JobOutcome,
  type JobResult,
  JobTimeoutError,
  Retry,
  SerializationError,
} from "../mod.ts";
import { Gate, pause, scenarios, until } from "./_worker.ts";

const hello = () => "hello";

/** What a job failed with. */
async function failureOf(job: Job): Promise<Error> {
  const result = await resultOf(job);
  assert.equal(result.success, false);
  assert.ok(result.result instanceof Error);
  return result.result;
}

async function resultOf(job: Job): Promise<JobResult> {
  const result = await job.resultInfo();
  assert.ok(result, `${job} has a result`);
  return result;
}

scenarios("A deferred job", (scenario) => {
  for (
    const [way, options] of [
      ["deferBy", () => ({ deferBy: { milliseconds: 200 } })],
      ["deferUntil", () => ({ deferUntil: new Date(Date.now() + 200) })],
    ] as const
  ) {
    scenario(`starts when its time has come and no poll later: ${way}`, async (scene) => {
      let startedAt = 0;
      scene.start({ functions: { note: () => void (startedAt = Date.now()) }, pollDelay: 30_000 });
      const calledAt = Date.now();
      const job = await scene.arq.enqueueJob("note", [], options());
      await job.result({ timeout: 5_000 });
      const waited = startedAt - calledAt;
      assert.ok(waited >= 199, `waited ${waited} ms`);
    });
  }

  scenario("does not hold up one that is due before it", async (scene) => {
    scene.start({ functions: { hello }, pollDelay: { minutes: 2 } });
    const later = await scene.arq.enqueueJob("hello", [], { deferBy: { minutes: 1 } });
    await scene.arq.call("hello"); // the worker waits for the later one
    const sooner = await scene.arq.enqueueJob("hello", [], { deferBy: 100 });
    assert.equal(await sooner.result({ timeout: 4_000 }), "hello");
    assert.equal(await later.status(), "deferred");
    await later.abort();
  });
});

scenarios("A job that expires", (scenario) => {
  scenario("is never started, and recorded as expired", async (scene) => {
    let runs = 0;
    const job = await scene.arq.enqueueJob("count", [1], { jobId: "late", expires: 20 });
    assert.ok(job);
    await until("its expiry", async () => !(await scene.keys()).includes("job:late"));
    const worker = await scene.burst({ functions: { count: () => ++runs } });
    assert.equal(runs, 0);
    assert.equal(worker.jobsFailed, 1);
    const error = await failureOf(job);
    assert.ok(error instanceof JobExecutionFailed);
    assert.equal(error.message, "Job late expired");
    await assert.rejects(job.result(), JobExecutionFailed);
    assert.deepEqual(await scene.keys(), ["result:late"]);
  });

  scenario("runs to its end if it was started in time", async (scene) => {
    const gate = new Gate();
    scene.start({ functions: { hello, wait: () => gate.pass() } });
    await scene.arq.call("hello"); // it is up
    const job = await scene.arq.enqueueJob("wait", [], { jobId: "started", expires: 1_500 });
    await gate.reached();
    await until("its expiry", async () => !(await scene.keys()).includes("job:started"));
    gate.open();
    await job?.result({ timeout: 5_000 });
  });

  scenario("is not tried again after its time", async (scene) => {
    let runs = 0;
    const again = () => {
      runs++;
      throw new Retry({ defer: 2_000 });
    };
    const job = await scene.arq.enqueueJob("again", [], { expires: 1_500 });
    await scene.burst({ functions: { again } });
    assert.equal(runs, 1);
    const { message } = await failureOf(job);
    const log = "its worker's log tells how try 1 ended";
    assert.equal(message, `Job ${job.jobId} expired before try 2; ${log}`);
  });

  scenario("has a day beyond its due time by default, or expiresExtra", async (scene) => {
    const day = 86_400_000;
    const brief = await scene.pool({ expiresExtra: { minutes: 1 } });
    await scene.arq.enqueueJob("hello", [], { jobId: "default" });
    await scene.arq.enqueueJob("hello", [], { jobId: "deferred", deferBy: day });
    await brief.enqueueJob("hello", [], { jobId: "brief" });
    const lives = await Promise.all(
      ["default", "deferred", "brief"].map((id) => scene.timeToLive(`job:${id}`)),
    );
    for (const [i, expected] of [day, 2 * day, 60_000].entries()) {
      const life = lives[i] ?? 0;
      assert.ok(life > expected - 5_000 && life <= expected, `${life} of ${expected}`);
    }
    scene.leaves("queue", "job:default", "job:deferred", "job:brief");
  });
});

scenarios("A job that throws Retry", (scenario) => {
  scenario("runs again, with a back-off by jobTry", async (scene) => {
    const starts: number[] = [];
    const tries: number[] = [];
    const flaky = ({ jobTry }: JobContext) => {
      starts.push(performance.now());
      tries.push(jobTry);
      if (jobTry < 3) throw new Retry({ defer: { milliseconds: 60 * jobTry } });
      return "at last";
    };
    const job = await scene.arq.enqueueJob("flaky");
    const worker = await scene.burst({ functions: { flaky } });
    assert.deepEqual(tries, [1, 2, 3]);
    const pauses = starts.slice(1).map((start, i) => start - (starts[i] ?? 0));
    assert.ok((pauses[0] ?? 0) >= 58 && (pauses[1] ?? 0) >= 118, `paused ${pauses}`);
    assert.equal(await job.result(), "at last");
    assert.equal((await resultOf(job)).jobTry, 3);
    assert.equal(String(worker), "<Worker j_complete=1 j_failed=0 j_retried=2 j_ongoing=0>");
    assert.deepEqual(await scene.keys(), [`result:${job.jobId}`]);
  });

  scenario("keeps its place in the queue without defer", async (scene) => {
    const order: string[] = [];
    const once = ({ jobTry, jobId }: JobContext) => {
      order.push(jobId);
      if (jobId === "first" && jobTry === 1) throw new Retry();
    };
    const base = Date.now() - 1_000;
    await scene.arq.enqueueJob("once", [], { jobId: "first", deferUntil: base });
    await scene.arq.enqueueJob("once", [], { jobId: "second", deferUntil: base + 1 });
    await scene.arq.enqueueJob("once", [], { jobId: "third", deferUntil: base + 2 });
    await scene.burst({ functions: { once }, maxJobs: 1 });
    assert.deepEqual(order.filter((id) => id === "first").length, 2);
    assert.ok(order.lastIndexOf("first") < order.indexOf("third"), String(order));
  });

  scenario("is deferred while it waits for its next try", async (scene) => {
    const again = () => {
      throw new Retry({ defer: { minutes: 1 } });
    };
    const { worker } = scene.start({ functions: { again } });
    const job = await scene.arq.enqueueJob("again");
    await until("the retry", () => worker.jobsRetried === 1);
    await until("its place", async () => await job.status() === "deferred");
    await job.abort();
  });

  scenario("fails for good after maxTries, five by default", async (scene) => {
    let runs = 0;
    const never = () => {
      runs++;
      throw new Retry({ cause: new Error("not today") });
    };
    const job = await scene.arq.enqueueJob("never");
    const worker = await scene.burst({ functions: { never } });
    assert.equal(runs, 5);
    const error = await failureOf(job);
    assert.ok(error instanceof JobExecutionFailed);
    assert.equal(error.message, "max 5 tries exceeded");
    assert.equal(String(worker), "<Worker j_complete=0 j_failed=1 j_retried=4 j_ongoing=0>");
    assert.deepEqual(await scene.keys(), [`result:${job.jobId}`]);
  });

  scenario("has the tries of its function or else of its worker", async (scene) => {
    const runs = { once: 0, twice: 0 };
    const retry = (name: "once" | "twice") => () => {
      runs[name]++;
      throw new Retry();
    };
    await scene.arq.enqueueJobs([{ name: "once" }, { name: "twice" }]);
    const once = func(retry("once"), { maxTries: 1 });
    await scene.burst({ functions: { once, twice: retry("twice") }, maxTries: 2 });
    assert.deepEqual(runs, { once: 1, twice: 2 });
  });

  scenario("fails at once where the worker retries no jobs", async (scene) => {
    const again = () => {
      throw new Retry({ defer: { hours: 1 } });
    };
    const job = await scene.arq.enqueueJob("again");
    const worker = await scene.burst({ functions: { again }, retryJobs: false });
    assert.equal(worker.jobsFailed, 1);
    assert.match((await failureOf(job)).message, /retries no jobs/);
  });

  scenario("fails at once in a runCheck that was told not to retry", async (scene) => {
    let runs = 0;
    const again = () => {
      runs++;
      throw new Retry();
    };
    await scene.arq.enqueueJob("again");
    const worker = scene.worker({ functions: { again } });
    await assert.rejects(worker.runCheck({ retryJobs: false }), /1 job failed/);
    assert.equal(runs, 1);
  });

  scenario("counts its tries from the jobTry it was enqueued with", async (scene) => {
    const tries: number[] = [];
    const again = ({ jobTry }: JobContext) => {
      tries.push(jobTry);
      throw new Retry();
    };
    await scene.arq.enqueueJob("again", [], { jobTry: 3 });
    await scene.burst({ functions: { again } });
    assert.deepEqual(tries, [3, 4, 5]);
  });

  scenario("is not started when it was enqueued beyond its tries", async (scene) => {
    let runs = 0;
    const job = await scene.arq.enqueueJob("count", [], { jobTry: 6 });
    await scene.burst({ functions: { count: () => ++runs } });
    assert.equal(runs, 0);
    assert.equal((await failureOf(job)).message, "max 5 tries exceeded");
  });
});

scenarios("A job that throws", (scenario) => {
  scenario("fails without another try, and the worker goes on", async (scene) => {
    let runs = 0;
    const broken = () => {
      runs++;
      throw new TypeError("broken", { cause: new Error("worn") });
    };
    const job = await scene.arq.enqueueJob("broken");
    const worker = await scene.burst({ functions: { broken } });
    assert.equal(runs, 1);
    const error = await failureOf(job);
    assert.ok(error instanceof TypeError);
    assert.equal(error.message, "broken");
    assert.equal((error.cause as Error).message, "worn");
    assert.equal(String(worker), "<Worker j_complete=0 j_failed=1 j_retried=0 j_ongoing=0>");
  });

  scenario("may throw anything", async (scene) => {
    const { proxy: revoked, revoke } = Proxy.revocable({}, {});
    revoke(); // Nobody can look at it any more.
    const functions = {
      text: () => Promise.reject("just a text"),
      nothing: () => Promise.reject(undefined),
      revoked: () => Promise.reject(revoked),
    };
    const jobs = await scene.arq.enqueueJobs(Object.keys(functions).map((name) => ({ name })));
    const worker = await scene.burst({ functions });
    assert.equal(worker.jobsFailed, 3);
    for (const job of jobs) {
      assert.ok(job);
      assert.equal((await resultOf(job)).success, false);
    }
  });

  scenario("fails when nobody knows its function", async (scene) => {
    const job = await scene.arq.enqueueJob("unknown");
    const good = await scene.arq.enqueueJob("hello");
    const worker = await scene.burst({ functions: { hello, other: hello } });
    const error = await failureOf(job);
    assert.ok(error instanceof JobExecutionFailed);
    assert.equal(
      error.message,
      'Function "unknown" is not registered; this worker has hello, other',
    );
    assert.equal(await good.result(), "hello");
    assert.equal(String(worker), "<Worker j_complete=1 j_failed=1 j_retried=0 j_ongoing=0>");
  });

  for (const name of ["toString", "__proto__", "constructor"]) {
    scenario(`fails when its function is called ${name}`, async (scene) => {
      const job = await scene.arq.enqueueJob(name);
      await scene.burst({ functions: { hello } });
      assert.match((await failureOf(job)).message, /is not registered/);
    });
  }

  scenario("fails when its payload cannot be read, and the worker goes on", async (scene) => {
    const garbage = await scene.pool({ jobSerializer: () => new TextEncoder().encode("\xc1{") });
    const job = await garbage.enqueueJob("hello", [], { deferUntil: 1 });
    const good = await scene.arq.enqueueJob("hello");
    const worker = await scene.burst({ functions: { hello } });
    assert.ok(await failureOf(scene.arq.job(job.jobId)) instanceof SerializationError);
    assert.equal(await good.result(), "hello");
    assert.equal(String(worker), "<Worker j_complete=1 j_failed=1 j_retried=0 j_ongoing=0>");
  });

  scenario("fails when its result cannot be serialized, saying so", async (scene) => {
    const job = await scene.arq.enqueueJob("leak");
    const worker = await scene.burst({ functions: { leak: () => ({ on: { done: () => {} } }) } });
    const error = await failureOf(job);
    assert.ok(error instanceof SerializationError);
    assert.match(error.message, /on\.done/);
    await assert.rejects(job.result(), SerializationError);
    assert.equal(String(worker), "<Worker j_complete=0 j_failed=1 j_retried=0 j_ongoing=0>");
  });

  scenario("with an error that cannot be serialized still fails", async (scene) => {
    const strange = () => {
      throw Object.assign(new Error("strange"), { handler: () => {} });
    };
    const job = await scene.arq.enqueueJob("strange");
    await scene.burst({ functions: { strange } });
    assert.match((await failureOf(job)).message, /strange|serial|handler/i);
  });
});

scenarios("A job that takes too long", (scenario) => {
  scenario("gets its signal aborted and fails with JobTimeoutError", async (scene) => {
    let reason: unknown;
    const slow = async (ctx: JobContext) => {
      await pause(10_000, ctx.signal).catch((error) => {
        reason = error;
        throw error;
      });
    };
    const job = await scene.arq.enqueueJob("slow", [], { jobId: "slow" });
    assert.ok(job);
    const worker = await scene.burst({ functions: { slow }, jobTimeout: 50 });
    assert.ok(reason instanceof JobTimeoutError);
    const error = await failureOf(job);
    assert.ok(error instanceof JobTimeoutError);
    assert.equal(error.message, "Job slow did not end within 0.05 s");
    await assert.rejects(job.result(), JobTimeoutError);
    assert.equal(worker.jobsFailed, 1);
  });

  scenario("has the timeout of its function", async (scene) => {
    const slow = (ctx: JobContext) => pause(10_000, ctx.signal);
    const job = await scene.arq.enqueueJob("slow");
    await scene.burst({ functions: { slow: func(slow, { timeout: { milliseconds: 30 } }) } });
    assert.ok(await failureOf(job) instanceof JobTimeoutError);
  });

  scenario("is a failure even if it returns after its time", async (scene) => {
    const slow = async (ctx: JobContext) => {
      await pause(10_000, ctx.signal).catch(() => {});
      return "in spite of it";
    };
    const job = await scene.arq.enqueueJob("slow");
    await scene.burst({ functions: { slow }, jobTimeout: 30 });
    assert.ok(await failureOf(job) instanceof JobTimeoutError);
  });

  scenario("is abandoned after the grace if it ignores its signal", async (scene) => {
    const gate = new Gate();
    const outcomes: JobOutcome[] = [];
    const deaf = () => gate.pass();
    const job = await scene.arq.enqueueJob("deaf", [], { deferUntil: 1 });
    const next = await scene.arq.enqueueJob("hello");
    const worker = await scene.burst({
      functions: { deaf, hello },
      maxJobs: 1,
      jobTimeout: 30,
      abortGrace: 50,
      onJobEnd: (_ctx, outcome) => void outcomes.push(outcome),
    });
    assert.ok(await failureOf(job) instanceof JobTimeoutError);
    assert.equal(await next.result(), "hello", "its slot is free");
    assert.equal(worker.jobsOngoing, 0);
    assert.deepEqual(outcomes.map(({ kind }) => kind), ["failure", "success"]);
    gate.open();
  });
});
