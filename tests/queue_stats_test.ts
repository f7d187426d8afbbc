import assert from "node:assert/strict";
import process from "node:process";
import { cron } from "../cron.ts";
import { type JobContext, Retry } from "../functions.ts";
import type { QueueStats, WorkerView } from "../inspection.ts";
import { Gate, scenarios, type Scene, until } from "./_worker.ts";

const echo = (_ctx: JobContext, value?: unknown) => value;
const fail = () => {
  throw new Error("no");
};

/** Waits until the one worker's report satisfies a condition. */
async function untilWorker(
  scene: Scene,
  what: string,
  condition: (worker: WorkerView) => boolean,
): Promise<WorkerView> {
  let found: WorkerView | undefined;
  await until(what, async () => {
    const workers = await scene.arq.workers();
    found = workers.length === 1 ? workers[0] : undefined;
    return found !== undefined && condition(found);
  });
  return found as WorkerView;
}

function sumOf(stats: QueueStats, outcome: "complete" | "failed" | "aborted" | "retried"): number {
  return stats.minutes.reduce((sum, minute) => sum + minute[outcome], 0);
}

scenarios("ArqClient.stats", (scenario) => {
  scenario("tells what waits, runs and ended, in all and by function", async (scene) => {
    const { arq } = scene;
    const moody = ({ jobTry }: JobContext) => {
      if (jobTry === 1) throw new Retry();
    };
    for (const name of ["echo", "echo", "fail", "moody", "nobody knows"]) {
      await arq.enqueueJob(name);
    }
    await scene.burst({ functions: { echo, fail, moody } });
    await arq.enqueueJob("echo");
    await arq.enqueueJob("echo", [], { deferBy: 60_000 });
    const stats = await arq.stats({ history: { minutes: 2 } });
    assert.equal(stats.queueName, scene.queueName);
    assert.deepEqual([stats.due, stats.deferred, stats.inProgress, stats.paused], [1, 1, 0, false]);
    assert.ok(stats.oldestDueMs !== null && stats.oldestDueMs < 10_000);
    assert.deepEqual(
      (["complete", "failed", "aborted", "retried"] as const).map((each) => sumOf(stats, each)),
      [3, 2, 0, 1],
    );
    assert.ok(stats.runTime && stats.waitTime && stats.waitTime.p50Ms <= stats.waitTime.p99Ms);
    assert.deepEqual(
      stats.functions.map((each) => [each.functionName, each.complete, each.failed]),
      [
        ["<unknown>", 0, 1],
        ["echo", 2, 0],
        ["fail", 0, 1],
        ["moody", 1, 0],
      ],
    );
    assert.equal(stats.functions[3]?.runTime.count, 2);
    assert.equal(stats.functions[3]?.waitTime.count, 1); // its second try was due while the first ran
    await scene.clear();
  });

  scenario("measures how long a job took though the clock is set meanwhile", async (scene) => {
    await scene.arq.enqueueJob("setClock");
    const { now } = Date;
    const setClock = () => {
      Date.now = () => now() + 20_000; // less than a lease
    };
    try {
      await scene.burst({ functions: { setClock } });
    } finally {
      Date.now = now;
    }
    const [{ complete, runTime } = assert.fail()] = (await scene.arq.stats()).functions;
    assert.equal(complete, 1);
    assert.ok(runTime.sumMs < 10_000, `${runTime.sumMs} ms`);
    await scene.clear();
  });

  scenario("has each minute of its history, without gaps", async (scene) => {
    const { minutes, at } = await scene.arq.stats();
    assert.equal(minutes.length, 60);
    const starts = minutes.map((minute) => minute.at.getTime());
    assert.deepEqual(starts, starts.map((_, i) => (starts[0] ?? 0) + i * 60_000));
    assert.equal(starts.at(-1), Math.floor(at.getTime() / 60_000) * 60_000);
    assert.ok(minutes.every(({ complete, runTime }) => complete === 0 && runTime === null));
    assert.equal((await scene.arq.stats({ history: { hours: 3 } })).minutes.length, 180);
    await assert.rejects(scene.arq.stats({ history: { hours: 4 } }), {
      name: "RangeError",
      message: 'stats: history must be 3 hours or less, got {"hours":4}',
    });
    await assert.rejects(scene.arq.stats({ history: 5 }), /history must be 60000 ms or more/);
    await assert.rejects(scene.arq.stats({ hist: 5 } as object), /unknown option "hist"/);
  });

  scenario("grows while a worker works, within about a second", async (scene) => {
    scene.start({ functions: { echo } });
    await scene.arq.call("echo");
    await until("the job is counted", async () => sumOf(await scene.arq.stats(), "complete") === 1);
    await scene.arq.call("echo");
    await until("the next one is", async () => sumOf(await scene.arq.stats(), "complete") === 2);
  });

  scenario("counts aborted jobs and what comes back at a stop", async (scene) => {
    const gate = new Gate();
    const wait = (ctx: JobContext) => gate.pass(ctx.signal);
    const { worker } = scene.start({ functions: { wait }, pollDelay: 20 });
    const job = await scene.arq.enqueueJob("wait");
    await gate.reached();
    await job.abort();
    const other = await scene.arq.enqueueJob("wait");
    await gate.reached(2);
    await worker.close();
    const stats = await scene.arq.stats();
    assert.deepEqual([sumOf(stats, "aborted"), sumOf(stats, "retried")], [1, 1]);
    await other.abort();
  });
});

scenarios("ArqClient.workers", (scenario) => {
  scenario("tells what a worker is, has done, and runs now; until it ends", async (scene) => {
    const gate = new Gate();
    const wait = (ctx: JobContext) => gate.pass(ctx.signal);
    const before = (await scene.arq.stats()).at;
    const { worker } = scene.start({ functions: { wait, echo, fail }, maxJobs: 7, pollDelay: 50 });
    await scene.arq.call("echo");
    await scene.arq.call("fail").catch(() => {});
    await scene.arq.enqueueJob("wait", [], { jobId: "held\n" });
    await gate.reached();
    const view = await untilWorker(scene, "the report", ({ running }) => running.length === 1);
    const { startedAt, seenAt, memoryBytes, running: [run], workerId, hostname, ...rest } = view;
    assert.deepEqual(rest, {
      pid: process.pid,
      runtime: "Bun" in globalThis
        ? `bun ${process.versions.bun}`
        : `deno ${(process.versions as Record<string, string>).deno}`,
      queueName: scene.queueName,
      functions: ["wait", "echo", "fail"],
      maxJobs: 7,
      jobsOngoing: 1,
      jobsComplete: 1,
      jobsFailed: 1,
      jobsRetried: 0,
    });
    assert.ok(workerId && hostname && memoryBytes > 1_000_000);
    assert.ok(run && startedAt >= before && seenAt >= startedAt);
    // The run began by the worker's clock, set right by an answer of the store, which may be late.
    assert.ok(Math.abs(run.startedAt.getTime() - startedAt.getTime()) < 10_000);
    assert.deepEqual([run.jobId, run.functionName, run.jobTry], ["held\n", "wait", 1]);
    gate.open();
    await untilWorker(scene, "the job's end", ({ jobsComplete }) => jobsComplete === 2);
    await worker.close();
    assert.deepEqual(await scene.arq.workers(), []);
  });

  scenario("are of one queue or of all, and report as long as they end, too", async (scene) => {
    const queueName = `${scene.prefix}other`;
    const gate = new Gate();
    const wait = (ctx: JobContext) => gate.pass(ctx.signal);
    const { worker } = scene.start({
      functions: { wait },
      jobCompletionWait: 20_000,
      pollDelay: 20,
    });
    scene.start({ functions: { echo }, queueName });
    await until("both workers", async () => (await scene.arq.workers()).length === 2);
    const queues = async (name: string) =>
      (await scene.arq.workers({ queueName: name })).map((worker) => worker.queueName);
    assert.deepEqual(await queues(queueName), [queueName]);
    assert.deepEqual(await queues(scene.queueName), [scene.queueName]);
    assert.deepEqual(await scene.arq.queueNames(), [queueName, scene.queueName].sort());
    await scene.arq.enqueueJob("wait");
    await gate.reached();
    const closing = worker.close();
    await until("it is told of as running", async () => {
      const [view] = await scene.arq.workers({ queueName: scene.queueName });
      return view?.jobsOngoing === 1;
    });
    gate.open();
    await closing;
    assert.deepEqual(await queues(scene.queueName), []);
  });
});

scenarios("ArqClient.cronJobs", (scenario) => {
  scenario(
    "tells the next runs of the cron jobs that live workers have, each once",
    async (scene) => {
      const settings = {
        functions: { echo },
        timezone: "Europe/Paris",
        cronJobs: [
          cron(echo, { name: "yearly", month: 1, day: 1, hour: 0, minute: 0 }),
          cron(fail, "0 12 * * *", { name: "noon", timezone: "UTC", unique: false }),
        ],
      };
      scene.start(settings);
      scene.start(settings);
      await until("both workers", async () => (await scene.arq.workers()).length === 2);
      const jobs = await scene.arq.cronJobs();
      assert.deepEqual(
        jobs.map(({ name, timezone, unique, queueName }) => [name, timezone, unique, queueName]),
        [
          ["noon", "UTC", false, scene.queueName],
          ["yearly", "Europe/Paris", true, scene.queueName],
        ],
      );
      const [noon] = jobs;
      assert.equal(noon?.pattern, "0 12 * * *");
      assert.equal(noon.next.length, 5);
      const { at } = await scene.arq.stats();
      for (const [i, date] of noon.next.entries()) {
        assert.equal(date.getUTCHours(), 12);
        const after = noon.next[i - 1] ?? at;
        assert.ok(date > after && date.getTime() - after.getTime() <= 86_400_123);
      }
      assert.deepEqual(await scene.arq.cronJobs({ queueName: `${scene.prefix}other` }), []);
      await scene.stop();
      assert.deepEqual(await scene.arq.cronJobs(), []);
    },
  );
});

scenarios("What a worker reports", (scenario) => {
  scenario("is sent again where the store did not take it, and counted once", async (scene) => {
    const worker = scene.worker({ functions: { echo }, pollDelay: 20 });
    const { inspection } = worker.arq.store;
    const report = inspection.report.bind(inspection);
    const sent: string[] = [];
    inspection.report = (queueName, counts) => {
      if (counts.minute.size > 0) sent.push(counts.reportId);
      const isLost = counts.minute.size > 0 && sent.length <= 2;
      return isLost ? Promise.reject(new Error("a moment")) : report(queueName, counts);
    };
    const running = worker.run();
    await scene.arq.call("echo");
    await until("a report is lost", () => sent.length > 0);
    await scene.arq.call("echo"); // is counted with the next one
    await worker.close();
    await running;
    const [first, second, third, last] = sent;
    assert.deepEqual([second, third, sent.length], [first, first, 4]);
    assert.notEqual(last, first);
    const stats = await scene.arq.stats();
    assert.deepEqual([sumOf(stats, "complete"), stats.functions[0]?.complete], [2, 2]);
    assert.deepEqual(await scene.arq.workers(), []);
  });
});
