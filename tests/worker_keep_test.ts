import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  createPool,
  func,
  type FuncOptions,
  type JobContext,
  JobExecutionFailed,
  Retry,
  Worker,
  type WorkerSettings,
} from "../mod.ts";
import { startRedis } from "./_redis.ts";
import { Gate, pause, scenarios, type Scene, start, until } from "./_worker.ts";

const HOUR_MS = 3_600_000;

/** Each way in which a job can end: enqueues one called `x` under the id `x` and sees it end. */
const ENDS: Readonly<
  Record<string, (scene: Scene, settings: WorkerSettings, options: FuncOptions) => Promise<void>>
> = {
  async success(scene, settings, options) {
    await scene.arq.enqueueJob("x", [], { jobId: "x" });
    await scene.burst({ ...settings, functions: { x: func(() => 1, options) } });
  },
  async failure(scene, settings, options) {
    await scene.arq.enqueueJob("x", [], { jobId: "x" });
    const fail = () => Promise.reject(new Error("no"));
    await scene.burst({ ...settings, functions: { x: func(fail, options) } });
  },
  async "a result that cannot travel"(scene, settings, options) {
    await scene.arq.enqueueJob("x", [], { jobId: "x" });
    await scene.burst({ ...settings, functions: { x: func(() => () => {}, options) } });
  },
  async "out of tries"(scene, settings, options) {
    await scene.arq.enqueueJob("x", [], { jobId: "x" });
    const again = () => Promise.reject(new Retry());
    await scene.burst({ ...settings, maxTries: 2, functions: { x: func(again, options) } });
  },
  async "out of tries before it started"(scene, settings, options) {
    await scene.arq.enqueueJob("x", [], { jobId: "x", jobTry: 9 });
    await scene.burst({ ...settings, functions: { x: func(() => 1, options) } });
  },
  async timeout(scene, settings, options) {
    await scene.arq.enqueueJob("x", [], { jobId: "x" });
    const slow = (ctx: JobContext) => pause(10_000, ctx.signal);
    await scene.burst({ ...settings, jobTimeout: 20, functions: { x: func(slow, options) } });
  },
  async abort(scene, settings, options) {
    const gate = new Gate();
    const wait = (ctx: JobContext) => gate.pass(ctx.signal);
    const functions = { x: func(wait, options) };
    const { worker } = scene.start({ ...settings, pollDelay: 20, functions });
    const job = await scene.arq.enqueueJob("x", [], { jobId: "x" });
    await gate.reached();
    await job?.abort({ timeout: 5_000 });
    await worker.close();
  },
};

/** Ends of jobs whose function is not known: the worker's setting holds for them. */
const ANONYMOUS_ENDS: Readonly<
  Record<string, (scene: Scene, settings: WorkerSettings) => Promise<void>>
> = {
  async "an unknown function"(scene, settings) {
    await scene.arq.enqueueJob("x", [], { jobId: "x" });
    await scene.burst({ ...settings, functions: { other: () => {} } });
  },
  async expiry(scene, settings) {
    await scene.arq.enqueueJob("x", [], { jobId: "x", expires: 1 });
    await until("its expiry", async () => !(await scene.keys()).includes("job:x"));
    await scene.burst({ ...settings, functions: { x: () => {} } });
  },
  async "a payload nobody can read"(scene, settings) {
    const garbage = await scene.pool({ jobSerializer: () => new Uint8Array([0xc1]) });
    await garbage.enqueueJob("x", [], { jobId: "x" });
    await scene.burst({ ...settings, functions: { x: () => {} } });
  },
};

async function keptFor(scene: Scene, expectedMs: number): Promise<void> {
  const ms = await scene.timeToLive("result:x");
  assert.ok(ms !== undefined && ms > expectedMs - 5_000 && ms <= expectedMs, `kept ${ms} ms`);
}

scenarios("A result", (scenario) => {
  for (const [end, play] of Object.entries(ENDS)) {
    scenario(`of ${end} is kept as its function says, whatever the worker says`, async (scene) => {
      await play(scene, { keepResult: "forever" }, { keepResult: { minutes: 3 } });
      await keptFor(scene, 180_000);
    });

    scenario(`of ${end} is not kept with keepResult 0`, async (scene) => {
      await play(scene, {}, { keepResult: 0 });
      assert.deepEqual(await scene.keys(), []);
    });

    scenario(`of ${end} is kept for ever if its function says so`, async (scene) => {
      await play(scene, { keepResult: 0 }, { keepResult: "forever" });
      assert.equal(await scene.timeToLive("result:x"), -1);
      scene.leaves("result:x");
    });
  }

  for (const [end, play] of Object.entries({ ...ENDS, ...ANONYMOUS_ENDS })) {
    scenario(`of ${end} is kept for an hour by default`, async (scene) => {
      await play(scene, {}, {});
      await keptFor(scene, HOUR_MS);
      assert.deepEqual(await scene.keys(), ["result:x"]);
    });

    scenario(`of ${end} is kept as the worker says`, async (scene) => {
      await play(scene, { keepResult: { seconds: 40 } }, {});
      await keptFor(scene, 40_000);
    });
  }

  for (const [end, play] of Object.entries(ANONYMOUS_ENDS)) {
    scenario(`of ${end} is not kept, or for ever, as the worker says`, async (scene) => {
      await play(scene, { keepResult: 0 });
      assert.deepEqual(await scene.keys(), []);
      await play(scene, { keepResult: "forever" });
      assert.equal(await scene.timeToLive("result:x"), -1);
      scene.leaves("result:x");
    });
  }

  scenario("that is not kept reaches whoever waits for it all the same", async (scene) => {
    const gate = new Gate();
    const wait = () => gate.pass().then(() => "heard");
    scene.start({ functions: { wait }, keepResult: 0 });
    const job = await scene.arq.enqueueJob("wait", [], { jobId: "w" });
    await gate.reached();
    const { store } = scene.arq;
    const onFinished = store.onFinished.bind(store);
    const listens = Promise.withResolvers<void>();
    store.onFinished = async (...args) => {
      const line = await onFinished(...args);
      listens.resolve();
      return line;
    };
    const waiting = job?.result({ timeout: 5_000, pollDelay: 2_000 });
    await listens.promise;
    gate.open();
    assert.equal(await waiting, "heard");
    assert.equal(await job?.status(), "not_found");
  });

  scenario("bars its id until it is gone", async (scene) => {
    const kept = func(() => 1, { keepResult: { minutes: 1 } });
    const settings = { functions: { kept, brief: func(() => 1, { keepResult: 60 }) } };
    const enqueue = (name: string) => scene.arq.enqueueJob(name, [], { jobId: name });
    await enqueue("kept");
    await enqueue("brief");
    await scene.burst(settings);
    assert.equal(await enqueue("kept"), null);
    await until("its end", async () => !(await scene.keys()).includes("result:brief"));
    assert.ok(await enqueue("brief"));
    await scene.burst(settings);
  });
});

describe("A result that is too large for the server", () => {
  it("becomes a failure that says so; its neighbour in the batch is recorded", async () => {
    await using server = await startRedis({ args: ["--proto-max-bulk-len", "1mb"] });
    await using arq = await createPool(server.url);
    const gate = new Gate();
    const functions = {
      big: () => gate.pass().then(() => "x".repeat(3e6)),
      small: () => gate.pass().then(() => "small"),
    };
    const worker = new Worker({ connection: arq, functions });
    await using running = start(worker);
    const big = await arq.enqueueJob("big");
    const small = await arq.enqueueJob("small");
    await gate.reached(2);
    gate.open(); // both end in one turn
    assert.equal(await small.result({ timeout: 5_000 }), "small");
    await assert.rejects(big.result({ timeout: 5_000 }), (error) => {
      assert.ok(error instanceof JobExecutionFailed);
      assert.match(
        error.message,
        /^The result could not be recorded: Redis at \S+: a value is larger/,
      );
      return true;
    });
    assert.equal((await big.resultInfo())?.success, false);
    assert.equal(await arq.call("small", [], { timeout: 5_000 }), "small");
    await running[Symbol.asyncDispose]();
    assert.equal(worker.jobsOngoing, 0);
  });

  it("becomes one also where it is that of a job which is out of tries", async () => {
    await using server = await startRedis({ args: ["--proto-max-bulk-len", "1mb"] });
    await using arq = await createPool(server.url);
    const big = () => {
      throw new Retry({ cause: new Error("x".repeat(3e6)) });
    };
    await using _worker = start(new Worker({ connection: arq, functions: { big }, maxTries: 1 }));
    await assert.rejects(arq.call("big", [], { timeout: 5_000 }), {
      name: "JobExecutionFailed",
      message: /^The result could not be recorded: Redis at \S+: a value is larger/,
    });
  });
});
