import { configure, type LogRecord, reset } from "@logtape/logtape";
import assert from "node:assert/strict";
import type { ArqClient } from "../client.ts";
import { JobNotFound, JobStateError, ResultNotFound, SerializationError } from "../errors.ts";
import { type JobContext, Retry } from "../functions.ts";
import type { JobFilter, JobView } from "../inspection.ts";
import { Gate, pause, scenarios, until } from "./_worker.ts";

const echo = (_ctx: JobContext, value?: unknown) => value;
const fail = (_ctx: JobContext, text: string) => {
  throw new RangeError(text);
};

/** All that a filter lists, and on how many pages. */
async function listAll(
  arq: ArqClient,
  filter: JobFilter = {},
): Promise<{ readonly jobs: readonly JobView[]; readonly pages: number }> {
  const jobs: JobView[] = [];
  let cursor: string | undefined;
  let pages = 0;
  do {
    const page = await arq.jobs({ ...filter, cursor });
    jobs.push(...page.jobs);
    cursor = page.cursor;
    pages++;
  } while (cursor !== undefined);
  return { jobs, pages };
}

/** Collects what the client logs as warnings, until disposed of. */
async function captureWarnings(): Promise<AsyncDisposable & { readonly lines: string[] }> {
  const lines: string[] = [];
  const memory = ({ message }: LogRecord) => void lines.push(message.join(""));
  await configure({
    sinks: { memory },
    loggers: [
      { category: ["arq", "client"], lowestLevel: "warning", sinks: ["memory"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: [] },
    ],
    reset: true,
  });
  return { lines, [Symbol.asyncDispose]: () => reset() };
}

const idsOf = (jobs: readonly JobView[]) => jobs.map(({ jobId }) => jobId);

scenarios("ArqClient.jobs", (scenario) => {
  scenario("lists jobs of every status in pages, with all that is known", async (scene) => {
    const { arq } = scene;
    await arq.enqueueJob("echo", [1], { jobId: "good", kwargs: { by: "hand" } });
    await arq.enqueueJob("fail", ["no"], { jobId: "bad" });
    await scene.burst({ functions: { echo, fail } });
    const gate = new Gate();
    scene.start({ functions: { wait: (ctx: JobContext) => gate.pass(ctx.signal) }, maxJobs: 1 });
    await arq.enqueueJob("wait", [], { jobId: "running" });
    await gate.reached();
    await arq.enqueueJob("echo", [], { jobId: "due" });
    await arq.enqueueJob("echo", [], { jobId: "later", deferBy: 60_000 });

    const { jobs, pages } = await listAll(arq, { limit: 2 });
    assert.deepEqual(jobs.map(({ jobId, status }) => [jobId, status]), [
      ["running", "in_progress"],
      ["due", "queued"],
      ["later", "deferred"],
      ["bad", "failed"],
      ["good", "complete"],
    ]);
    assert.equal(pages, 3);
    const [running, due, later, bad, good] = jobs as [JobView, ...JobView[]];
    assert.ok(good && bad && later && due);
    const { enqueueTime, startTime, finishTime, ...rest } = good;
    assert.deepEqual(rest, {
      jobId: "good",
      status: "complete",
      queueName: scene.queueName,
      functionName: "echo",
      args: [1],
      kwargs: { by: "hand" },
      jobTry: 1,
      dueAt: null,
      success: true,
      result: 1,
      problem: null,
    });
    assert.ok(enqueueTime && startTime && finishTime && enqueueTime <= startTime);
    assert.ok(bad.result instanceof RangeError && bad.success === false);
    assert.deepEqual([running.jobTry, running.dueAt, due.jobTry], [1, null, 0]);
    assert.ok(due.dueAt && later.dueAt && later.dueAt.getTime() > due.dueAt.getTime() + 50_000);
    for (const job of jobs) {
      const view = await arq.jobView(job.jobId);
      assert.deepEqual({ ...view, result: null }, { ...job, result: null });
    }
    assert.equal(await arq.jobView("nobody"), null);
    await arq.removeJob("due");
    await arq.removeJob("later");
    gate.open();
  });

  scenario("filters by status, function, time and queue", async (scene) => {
    const { arq } = scene;
    const queueName = `${scene.prefix}other`;
    for (const jobId of ["a", "b", "c"]) await arq.enqueueJob("fail", ["x"], { jobId });
    await arq.enqueueJob("echo", [], { jobId: "d" });
    await scene.burst({ functions: { echo, fail } });
    await arq.enqueueJob("echo", [], { jobId: "e", queueName });
    const list = async (filter: JobFilter) => idsOf((await listAll(arq, filter)).jobs).sort();
    assert.deepEqual(await list({ status: "failed" }), ["a", "b", "c"]);
    assert.deepEqual(await list({ functionName: "echo" }), ["d"]);
    assert.deepEqual(await list({ functionName: "fail", limit: 2 }), ["a", "b", "c"]);
    assert.equal((await arq.jobs({ functionName: "fail", limit: 2 })).jobs.length, 2);
    assert.deepEqual(await list({ queueName }), ["e"]);
    assert.deepEqual(await list({ queueName, status: "deferred" }), []);
    const finishTime = (await arq.jobView("b"))?.finishTime?.getTime() ?? NaN;
    assert.deepEqual(await list({ since: finishTime + 60_000 }), []);
    assert.deepEqual(await list({ since: finishTime - 60_000 }), ["a", "b", "c", "d"]);
    assert.deepEqual(await list({ queueName, since: Date.now() + 60_000 }), []);
    await arq.removeJob("e", { queueName });
  });

  scenario("looks at a bounded number of jobs for a page, and goes on", async (scene) => {
    const { arq } = scene;
    const rows = Array.from({ length: 1_300 }, (_, i) => ({
      name: i === 1_250 ? "rare" : "echo",
      options: { deferBy: 3_600_000 },
    }));
    await arq.enqueueJobs(rows);
    const first = await arq.jobs({ status: "deferred", functionName: "rare" });
    assert.deepEqual(first.jobs, []);
    const { jobs, pages } = await listAll(arq, { status: "deferred", functionName: "rare" });
    assert.deepEqual([jobs.length, pages], [1, 2]);
    const all = await listAll(arq, { status: "deferred", limit: 999 });
    assert.deepEqual([all.jobs.length, all.pages], [1_300, 2]);
    assert.equal(new Set(idsOf(all.jobs)).size, 1_300);
    await scene.clear();
  });

  scenario("names what is wrong with a filter", async (scene) => {
    const wrong: [JobFilter, RegExp][] = [
      [{ stauts: "failed" } as JobFilter, /unknown option "stauts"; did you mean "status"\?/],
      [{ status: "done" } as unknown as JobFilter, /status must be one of .*complete, got "done"/],
      [{ limit: 0 }, /limit must be a whole number from 1 to 1000, got 0/],
      [{ limit: 1_001 }, /got 1001/],
      [{ cursor: "x" }, /cursor must be that of a page with the same filter, got "x"/],
      [{ cursor: "queued.", status: "failed" }, /same filter/],
      [{ cursor: "queued.x" }, /cursor must be that of a page, got "x"/],
      [{ since: NaN }, /since must be a valid point in time/],
      [{ queueName: "" }, /queueName must be a text/],
      [{ functionName: 5 } as unknown as JobFilter, /functionName must be a text, got 5/],
    ];
    for (const [filter, message] of wrong) {
      await assert.rejects(scene.arq.jobs(filter), { message }, String(message));
    }
  });
});

scenarios("ArqClient.retryJob", (scenario) => {
  scenario("runs a failed job again under its id, from its record", async (scene) => {
    const { arq } = scene;
    let works = false;
    const moody = (ctx: JobContext, a: number) => {
      if (!works && ctx.jobTry === 1) throw new Retry();
      if (!works) throw new Error("not yet");
      return [ctx.jobTry, a, ctx.kwargs];
    };
    const job = await arq.enqueueJob("moody", [7], { jobId: "mine", kwargs: { k: 1 } });
    await scene.burst({ functions: { moody } });
    assert.equal((await job?.resultInfo())?.success, false);
    works = true;
    const again = await arq.retryJob("mine");
    assert.deepEqual([again.jobId, await again.status()], ["mine", "queued"]);
    await assert.rejects(arq.retryJob("mine"), {
      name: "JobStateError",
      message: "Cannot retry job mine: it has not ended yet",
    });
    await scene.burst({ functions: { moody } });
    assert.deepEqual(await again.result(), [1, 7, { k: 1 }]);
    assert.deepEqual(idsOf((await listAll(arq)).jobs), ["mine"]);
    await assert.rejects(arq.retryJob("mine"), {
      name: "JobStateError",
      message: "Cannot retry job mine: it has succeeded",
    });
  });

  scenario("puts it into the queue it ran on, or the one that is named", async (scene) => {
    const queueName = `${scene.prefix}other`;
    await scene.arq.enqueueJob("fail", ["x"], { jobId: "mine", queueName });
    await scene.burst({ functions: { fail }, queueName });
    assert.equal((await scene.arq.retryJob("mine")).queueName, queueName);
    await scene.burst({ functions: { fail }, queueName });
    const { queueName: named } = scene;
    assert.equal((await scene.arq.retryJob("mine", { queueName: named })).queueName, named);
    await scene.burst({ functions: { fail } });
  });

  scenario(
    "says so where there is nothing, or where the arguments were not kept",
    async (scene) => {
      const { arq } = scene;
      await assert.rejects(arq.retryJob("nobody"), (error) => {
        assert.ok(error instanceof JobNotFound);
        assert.equal(
          error.message,
          "Cannot retry job nobody: there is neither a job nor a result",
        );
        return true;
      });
      const spoil = (_ctx: JobContext, box: { x?: unknown }) => {
        box.x = () => {};
        throw new Error("spoilt");
      };
      await arq.enqueueJob("spoil", [{}], { jobId: "spoilt" });
      const odd = () => () => {};
      await arq.enqueueJob("odd", [1], { jobId: "odd" });
      await scene.burst({ functions: { spoil, odd } });
      await assert.rejects(arq.retryJob("spoilt"), {
        name: "JobStateError",
        message: "Cannot retry job spoilt: its arguments were not kept",
      });
      assert.ok((await arq.job("odd").resultInfo())?.result instanceof SerializationError);
      await arq.retryJob("odd");
      assert.deepEqual(
        (await arq.jobView("odd"))?.args,
        [1],
        "they are kept though the result is not",
      );
      await arq.removeJob("odd");
    },
  );
});

scenarios("ArqClient.retryJobs", (scenario) => {
  scenario(
    "enqueues all failures again, the oldest first, and tells how far it is",
    async (scene) => {
      const { arq } = scene;
      const jobs = Array.from({ length: 250 }, (_, i) => ({
        name: i % 50 === 0 ? "other" : "fail",
        args: ["x"],
        options: { jobId: `j${String(i).padStart(3, "0")}` },
      }));
      await arq.enqueueJobs(jobs);
      await scene.burst({ functions: { fail, other: fail }, maxJobs: 50 });
      const progress: (readonly number[])[] = [];
      const onProgress = (at: { retried: number; looked: number; total: number }) =>
        progress.push([at.retried, at.looked, at.total]);
      assert.equal(await arq.retryJobs({ functionName: "other", onProgress }), 5);
      assert.deepEqual(progress.at(-1), [5, 250, 250]);
      assert.equal(await arq.retryJobs(), 245);
      assert.equal(await arq.retryJobs(), 0);
      assert.equal((await listAll(arq, { status: "queued", limit: 1_000 })).jobs.length, 250);
      const ran: string[] = [];
      const note = (ctx: JobContext) => void ran.push(ctx.jobId);
      await scene.burst({ functions: { fail: note, other: note }, maxJobs: 1 });
      assert.equal(ran.length, 250);
    },
  );

  scenario("heeds since and its signal, and leaves out what cannot be run again", async (scene) => {
    const { arq } = scene;
    await arq.enqueueJob("fail", ["x"], { jobId: "a" });
    await arq.enqueueJob("gone", [], { jobId: "b", expires: 1 });
    await pause(5);
    await scene.burst({ functions: { fail } });
    assert.equal(await arq.retryJobs({ since: Date.now() + 60_000 }), 0);
    await assert.rejects(arq.retryJobs({ signal: AbortSignal.abort(new Error("no")) }), {
      message: "no",
    });
    await assert.rejects(arq.retryJobs({ queue: "x" } as object), { name: "TypeError" });
    await using log = await captureWarnings();
    assert.equal(await arq.retryJobs({ since: Date.now() - 60_000 }), 1);
    assert.deepEqual(log.lines, [
      "1 failed jobs cannot be retried: their arguments were not kept",
    ]);
    await arq.removeJob("a");
  });
});

scenarios("ArqClient.pause", (scenario) => {
  scenario(
    "stops the claiming within a second while running jobs finish, until resume",
    async (scene) => {
      const gate = new Gate();
      const wait = async (ctx: JobContext) => {
        await gate.pass(ctx.signal);
        return "finished";
      };
      scene.start({ functions: { wait, echo }, maxJobs: 2 });
      const running = await scene.arq.enqueueJob("wait");
      await gate.reached();
      await scene.arq.pause();
      const job = await scene.arq.enqueueJob("echo", [1]);
      await pause(200); // the worker was woken and has looked, and nothing tells that it has
      assert.equal(await job.status(), "queued");
      gate.open();
      assert.equal(await running.result(), "finished");
      assert.equal(await job.status(), "queued");
      const result = job.result({ pollDelay: 5_000 });
      await scene.arq.resume();
      assert.equal(await result, 1);
    },
  );

  scenario("is heeded by workers that come later", async (scene) => {
    await scene.arq.pause(scene.queueName);
    const job = await scene.arq.enqueueJob("echo", [2]);
    const { worker } = scene.start({ functions: { echo }, burst: true, pollDelay: 20 });
    await pause(200);
    assert.deepEqual([await job.status(), worker.jobsComplete], ["queued", 0]);
    await scene.arq.resume(scene.queueName);
    await until("the burst is over", () => worker.jobsComplete === 1);
  });

  scenario("names what is wrong with a queue's name", async (scene) => {
    await assert.rejects(scene.arq.pause(""), {
      name: "TypeError",
      message: 'pause: queueName must be a text that is not empty, got ""',
    });
  });
});

scenarios("ArqClient.removeJob", (scenario) => {
  scenario("removes a job that waits; whoever waits for it gets ResultNotFound", async (scene) => {
    const job = await scene.arq.enqueueJob("echo", [], { deferBy: 60_000 });
    const waiting = assert.rejects(job.result({ pollDelay: 20 }), ResultNotFound);
    assert.equal(await scene.arq.removeJob(job.jobId), true);
    assert.equal(await scene.arq.removeJob(job.jobId), false);
    assert.equal(await job.status(), "not_found");
    await waiting;
  });

  scenario(
    "removes a result, and refuses a running job in words that say the way out",
    async (scene) => {
      const gate = new Gate();
      const wait = (ctx: JobContext) => gate.pass(ctx.signal);
      scene.start({ functions: { wait } });
      const job = await scene.arq.enqueueJob("wait", [], { jobId: "mine" });
      await gate.reached();
      await assert.rejects(scene.arq.removeJob("mine"), (error) => {
        assert.ok(error instanceof JobStateError);
        assert.equal(error.message, "Cannot remove job mine: it is running; abort it first");
        return true;
      });
      gate.open();
      await job?.result();
      assert.equal(await scene.arq.removeJob("mine"), true);
      assert.equal(await job?.resultInfo(), null);
    },
  );

  scenario("takes an id and a queue", async (scene) => {
    const queueName = `${scene.prefix}other`;
    const job = await scene.arq.enqueueJob("echo", [], { queueName });
    assert.equal(await scene.arq.removeJob(job.jobId), false);
    assert.equal(await scene.arq.removeJob(job.jobId, { queueName }), true);
    await assert.rejects(scene.arq.removeJob(""), { name: "TypeError" });
  });
});
