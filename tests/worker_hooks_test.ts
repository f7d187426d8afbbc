import assert from "node:assert/strict";
import {
  type ArqClient,
  type JobContext,
  JobExecutionFailed,
  type JobOutcome,
  Retry,
  SettingsError,
  type WorkerContext,
} from "../mod.ts";
import { Gate, pause, scenarios, until } from "./_worker.ts";

interface State {
  greeting: string;
  log: string[];
}
type Ctx = JobContext<State>;

const greet = (ctx: Ctx, name: string) => `${ctx.greeting}, ${name}`;
const nothing = () => {};

scenarios("onStartup", (scenario) => {
  scenario("puts state on the context of every job, and onShutdown gets it", async (scene) => {
    const calls: string[] = [];
    const job = await scene.arq.enqueueJob("greet", ["Ada"]);
    await scene.burst<State>({
      functions: { greet },
      async onStartup(ctx) {
        await pause(5);
        calls.push("startup");
        ctx.greeting = "Hello";
      },
      async onShutdown(ctx) {
        await pause(5);
        calls.push(`shutdown ${ctx.greeting}`);
      },
    });
    assert.equal(await job.result(), "Hello, Ada");
    assert.deepEqual(calls, ["startup", "shutdown Hello"]);
  });

  scenario("finds the client on its context, and can enqueue", async (scene) => {
    let startup: ArqClient | undefined;
    let inJob: ArqClient | undefined;
    const worker = await scene.burst({
      functions: { note: (ctx: JobContext) => void (inJob = ctx.arq) },
      async onStartup(ctx: WorkerContext) {
        startup = ctx.arq;
        await ctx.arq.enqueueJob("note");
      },
    });
    assert.equal(worker.jobsComplete, 1);
    assert.ok(startup);
    assert.equal(startup, inJob);
    assert.equal(startup, worker.arq);
  });

  scenario("starts from the state in the setting ctx, anew for each run", async (scene) => {
    const ctx: Partial<State> = { greeting: "Salut" };
    const seen: unknown[] = [];
    const worker = scene.worker<State>({
      functions: { greet },
      ctx,
      burst: true,
      onStartup(ctx) {
        seen.push(ctx.log);
        ctx.log = [];
      },
    });
    const job = await scene.arq.enqueueJob("greet", ["Ada"]);
    await worker.run();
    assert.equal(await job.result(), "Salut, Ada");
    await worker.run();
    assert.deepEqual(seen, [undefined, undefined]);
    assert.deepEqual(ctx, { greeting: "Salut" });
  });

  scenario("that throws ends the start: no job is taken", async (scene) => {
    const job = await scene.arq.enqueueJob("nothing");
    let isShutDown = false;
    const worker = scene.worker({
      functions: { nothing },
      onStartup: () => Promise.reject(new RangeError("no database")),
      onShutdown: () => void (isShutDown = true),
    });
    await assert.rejects(worker.run(), { name: "RangeError", message: "no database" });
    assert.equal(await job.status(), "queued");
    assert.equal(isShutDown, false);
    await scene.burst({ functions: { nothing } });
  });

  scenario("is not called by a worker that was told to stop before", async (scene) => {
    const calls: string[] = [];
    for (const connection of [scene.arq, scene.connection]) {
      const worker = scene.worker({
        functions: { nothing },
        connection,
        onStartup: () => void calls.push("startup"),
        onShutdown: () => void calls.push("shutdown"),
      });
      await worker.run({ signal: AbortSignal.abort("stop") });
    }
    assert.deepEqual(calls, []);
  });

  scenario(
    "that fails once a stop has ended the wait for it is nobody's concern",
    async (scene) => {
      const { promise: opened, reject } = Promise.withResolvers<never>();
      const stop = new AbortController();
      let isShutDown = false;
      const worker = scene.worker({
        functions: { nothing },
        onStartup() {
          stop.abort();
          return opened;
        },
        onShutdown: () => void (isShutDown = true),
      });
      await worker.run({ signal: stop.signal });
      assert.equal(isShutDown, false);
      reject(new Error("no database"));
      await pause(10); // an error that nobody handles fails the test, once the event loop has turned
    },
  );

  scenario("that has ended by the time of a stop is followed by onShutdown", async (scene) => {
    const stop = new AbortController();
    let isShutDown = false;
    const worker = scene.worker({
      functions: { nothing },
      onStartup: () => stop.abort(),
      onShutdown: () => void (isShutDown = true),
    });
    await worker.run({ signal: stop.signal });
    assert.equal(isShutDown, true);
  });

  for (const key of ["jobId", "signal", "logger", "arq", "kwargs"]) {
    scenario(`must not put ${key} on the context, which every job's has`, async (scene) => {
      const job = await scene.arq.enqueueJob("nothing");
      const worker = scene.worker({
        functions: { nothing },
        onStartup: (ctx) => void Object.assign(ctx as object, { [key]: "mine" }),
      });
      const error = await worker.run().then(() => undefined, (error) => error);
      assert.ok(error instanceof SettingsError);
      assert.match(error.message, new RegExp(`ctx: the state must not have ${key}`));
      assert.equal(await job.status(), "queued");
      await scene.burst({ functions: { nothing } });
    });
  }
});

scenarios("The hooks around a job", (scenario) => {
  scenario("are called in order, with the job's context and its outcome", async (scene) => {
    const calls: unknown[] = [];
    const order = (ctx: Ctx) => void ctx.log.push("function");
    const hook = (name: string) => async (ctx: Ctx, outcome?: JobOutcome) => {
      await pause(2);
      ctx.log.push(name);
      calls.push([name, ctx.jobId, ctx.jobTry, outcome?.kind]);
    };
    const log: string[] = [];
    await scene.arq.enqueueJob("order", [], { jobId: "a" });
    await scene.burst<State>({
      functions: { order },
      ctx: { log },
      onJobStart: hook("onJobStart"),
      onJobEnd: hook("onJobEnd"),
      afterJobEnd: hook("afterJobEnd"),
    });
    await until("afterJobEnd", () => log.length === 4);
    assert.deepEqual(log, ["onJobStart", "function", "onJobEnd", "afterJobEnd"]);
    assert.deepEqual(calls, [
      ["onJobStart", "a", 1, undefined],
      ["onJobEnd", "a", 1, "success"],
      ["afterJobEnd", "a", 1, "success"],
    ]);
  });

  scenario("learn what happened: value, error, retry", async (scene) => {
    const outcomes = new Map<string, JobOutcome>();
    const cause = new Error("busy");
    const functions = {
      good: () => 7,
      bad: () => Promise.reject(new RangeError("bad")),
      again: ({ jobTry }: JobContext) => {
        if (jobTry === 1) throw new Retry({ defer: 10, cause });
      },
      leak: () => () => {},
    };
    await scene.arq.enqueueJobs(Object.keys(functions).map((name) => ({ name })));
    await scene.burst({
      functions,
      onJobEnd: (ctx, outcome) => void outcomes.set(`${ctx.functionName} ${ctx.jobTry}`, outcome),
    });
    assert.deepEqual(outcomes.get("good 1"), { kind: "success", value: 7 });
    assert.deepEqual(outcomes.get("bad 1"), { kind: "failure", error: new RangeError("bad") });
    assert.deepEqual(outcomes.get("again 1"), { kind: "retry", delayMs: 10, cause });
    assert.deepEqual(outcomes.get("again 2"), { kind: "success", value: undefined });
    assert.equal(outcomes.get("leak 1")?.kind, "failure", "nobody can read its result");
  });

  scenario("cannot change how a job has ended", async (scene) => {
    const job = await scene.arq.enqueueJob("once");
    let runs = 0;
    const errors: unknown[] = [];
    await scene.burst({
      functions: { once: () => ++runs },
      onJobEnd(_ctx, outcome) {
        try {
          Object.assign(outcome, { kind: runs === 1 ? "retry" : "success" });
        } catch (error) {
          errors.push(error);
        }
      },
    });
    assert.equal(await job.result(), 1);
    assert.equal(runs, 1);
    assert.ok(errors[0] instanceof TypeError);
  });

  scenario("see the result recorded in afterJobEnd, and not yet in onJobEnd", async (scene) => {
    const seen: unknown[] = [];
    const look = async (ctx: JobContext) => {
      seen.push(await ctx.arq.job(ctx.jobId).status());
    };
    await scene.arq.enqueueJob("nothing");
    scene.start({ functions: { nothing }, onJobEnd: look, afterJobEnd: look });
    await until("both", () => seen.length === 2);
    assert.deepEqual(seen, ["in_progress", "complete"]);
  });

  for (const hook of ["onJobStart", "onJobEnd", "afterJobEnd", "onShutdown"] as const) {
    for (const way of ["throws", "rejects"] as const) {
      scenario(`harm nothing when ${hook} ${way}`, async (scene) => {
        const broken = () => {
          if (way === "rejects") return Promise.reject(new Error("broken hook"));
          throw new Error("broken hook");
        };
        const job = await scene.arq.enqueueJob("seven");
        await scene.arq.enqueueJob("seven");
        const worker = await scene.burst({ functions: { seven: () => 7 }, [hook]: broken });
        assert.equal(await job.result(), 7);
        assert.equal(worker.jobsComplete, 2);
      });
    }
  }

  scenario("are awaited before the worker ends", async (scene) => {
    const seen: string[] = [];
    await scene.arq.enqueueJob("nothing");
    await scene.burst({
      functions: { nothing },
      async afterJobEnd(ctx) {
        await pause(30);
        await ctx.arq.job(ctx.jobId).status();
        seen.push("afterJobEnd");
      },
      onShutdown: () => void seen.push("onShutdown"),
    });
    assert.deepEqual(seen, ["afterJobEnd", "onShutdown"]);
  });

  scenario("that hang are given up after the job's time", async (scene) => {
    const gate = new Gate();
    await scene.arq.enqueueJob("nothing");
    const { worker, ended } = scene.start({
      functions: { nothing },
      onJobStart: () => gate.pass(),
      abortGrace: 20,
    });
    await gate.reached();
    await worker.close();
    await ended;
    assert.equal((await scene.arq.queuedJobs()).length, 1);
    gate.open();
    await scene.burst({ functions: { nothing } });
  });

  scenario("are not called for a job that never starts", async (scene) => {
    const calls: string[] = [];
    const job = await scene.arq.enqueueJob("unknown");
    await scene.burst({
      functions: { nothing },
      onJobStart: () => void calls.push("onJobStart"),
      onJobEnd: () => void calls.push("onJobEnd"),
      afterJobEnd: () => void calls.push("afterJobEnd"),
    });
    await assert.rejects(job.result(), JobExecutionFailed);
    assert.deepEqual(calls, []);
  });
});
