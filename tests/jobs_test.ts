import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import process from "node:process";
import { describe, it, mock } from "node:test";
import { inspect, promisify } from "node:util";
import {
  createPool,
  type Job,
  type JobContext,
  type JobEvent,
  JobExecutionFailed,
  type JobResult,
  ResultNotFound,
  type ResultOptions,
  Retry,
  Worker,
} from "../mod.ts";
import { LONGEST_TIMER_MS } from "../sleep.ts";
import { rejection } from "./_helpers.ts";
import { Gate, scenarios, type Scene, until } from "./_worker.ts";

const HOUR_MS = 3_600_000;

class QuotaError extends Error {
  override name = "QuotaError";
  readonly limit = 5;
  readonly details = { used: 6, at: new Date(0) };
}

/** Starts a worker whose one function waits at a gate. */
function startGate(scene: Scene): Gate {
  const gate = new Gate();
  const wait = async (ctx: JobContext) => {
    await gate.pass(ctx.signal);
    return "open";
  };
  scene.start({ functions: { wait }, pollDelay: 20 });
  return gate;
}

async function timed(promise: Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await promise.catch(() => {});
  return performance.now() - startedAt;
}

scenarios("Job.result", (scenario) => {
  scenario("waits for the end and returns what the function returned", async (scene) => {
    const gate = startGate(scene);
    const job = await scene.arq.enqueueJob("wait");
    const waiting = job.result({ timeout: 20_000 });
    await gate.reached();
    gate.open();
    assert.equal(await waiting, "open");
    assert.equal(await job.result(), "open", "it stays");
  });

  scenario("is woken at once, however rarely it polls", async (scene) => {
    const gate = startGate(scene);
    const job = await scene.arq.enqueueJob("wait");
    const waiting = job.result({ pollDelay: 10_000, timeout: 9_000 });
    await gate.reached();
    const took = timed(waiting);
    gate.open();
    assert.ok(await took < 5_000);
    assert.equal(await waiting, "open");
  });

  scenario("ends when the client is closed, however rarely it polls", async (scene) => {
    const job = await scene.arq.enqueueJob("wait");
    const pool = await scene.pool();
    const { store } = pool;
    const lookUp = store.lookUp.bind(store);
    const looked = Promise.withResolvers<void>();
    store.lookUp = async (...args) => {
      const seen = await lookUp(...args);
      looked.resolve();
      return seen;
    };
    const closed = { name: "QueueConnectionError", message: /was closed while job \S+ was waited/ };
    const waiting = pool.job(job.jobId).result({ pollDelay: 9_000 });
    const ended = assert.rejects(waiting, closed);
    await looked.promise;
    const took = timed(ended);
    await pool.close();
    assert.ok(await took < 5_000);
    assert.equal(await job.abort(), true);
  });

  scenario("serves many waiters, of one job and of many", async (scene) => {
    const gate = startGate(scene);
    const jobs = await scene.arq.enqueueJobs([{ name: "wait" }, { name: "wait" }, {
      name: "wait",
    }]);
    const waiting = jobs.flatMap((job) => [1, 2, 3].map(() => job?.result({ pollDelay: 8_000 })));
    await gate.reached(3);
    const took = timed(Promise.all(waiting));
    gate.open();
    assert.deepEqual(new Set(await Promise.all(waiting)), new Set(["open"]));
    assert.ok(await took < 5_000);
  });

  scenario("throws TimeoutError when its time is over; the job goes on", async (scene) => {
    const gate = startGate(scene);
    const job = await scene.arq.enqueueJob("wait", [], { jobId: "slow" });
    await gate.reached();
    const error = await job?.result({ timeout: { milliseconds: 30 } }).catch((error) => error);
    assert.ok(error instanceof DOMException);
    assert.equal(error.name, "TimeoutError");
    assert.equal(error.message, "Job slow has no result yet after 0.03 s");
    gate.open();
    assert.equal(await job?.result({ timeout: 20_000 }), "open");
  });

  scenario("may wait for years", async (scene) => {
    const gate = startGate(scene);
    const job = await scene.arq.enqueueJob("wait");
    const years = { days: 3_650 };
    const waiting = job.result({ timeout: years, pollDelay: years });
    await gate.reached();
    gate.open();
    assert.equal(await waiting, "open");
  });

  scenario("ends with the reason of its signal", async (scene) => {
    const job = await scene.arq.enqueueJob("x");
    const stop = new AbortController();
    const waiting = job.result({ signal: stop.signal });
    stop.abort(new RangeError("enough"));
    await assert.rejects(waiting, { name: "RangeError", message: "enough" });
    await assert.rejects(job.result({ signal: AbortSignal.abort("before") }), (reason) => {
      assert.equal(reason, "before");
      return true;
    });
    await job.abort();
  });

  scenario("throws ResultNotFound, with what may have happened, at once", async (scene) => {
    const waiting = scene.arq.job("missing").result({ pollDelay: 10_000 });
    const took = timed(waiting);
    await assert.rejects(waiting, (error) => {
      assert.ok(error instanceof ResultNotFound);
      assert.equal(error.name, "ResultNotFound");
      assert.equal(
        error.message,
        `Job missing is not in queue "${scene.queueName}" and has no result: it was never ` +
          "enqueued, has expired, or its function does not keep results",
      );
      return true;
    });
    assert.ok(await took < 5_000);
  });

  scenario("throws ResultNotFound for a result that was not kept", async (scene) => {
    const job = await scene.arq.enqueueJob("x");
    await scene.burst({ functions: { x: () => 1 }, keepResult: 0 });
    await assert.rejects(job.result(), ResultNotFound);
  });

  for (
    const [options, message] of [
      [{ timeot: 5 }, 'result: unknown option "timeot"; did you mean "timeout"?'],
      [{ timeout: -5 }, "timeout must be 0 or more, got -5"],
      [5, "result takes an object such as { timeout: { seconds: 5 } }, got 5"],
      [null, "result takes an object such as { timeout: { seconds: 5 } }, got null"],
      [{ pollDelay: 0 }, "pollDelay must be 1 ms or more, got 0 (milliseconds)"],
      [
        { timeout: "5s" },
        'timeout must be milliseconds or an object such as { seconds: 5 }, got "5s"',
      ],
    ] as const
  ) {
    scenario(`refuses ${JSON.stringify(options)} in one clear line`, async (scene) => {
      const job = scene.arq.job("x");
      await assert.rejects(job.result(options as unknown as ResultOptions), { message });
    });
  }
});

scenarios("A job's own error", (scenario) => {
  const errorOf = async (scene: Scene, thrown: unknown): Promise<Error> => {
    const job = await scene.arq.enqueueJob("fail");
    await scene.burst({ functions: { fail: () => Promise.reject(thrown) } });
    const error = await job.result().then(() => null, (error) => error);
    assert.ok(error instanceof Error);
    return error;
  };

  scenario("comes with name, message, stack, cause and fields", async (scene) => {
    const thrown = new QuotaError("too much", { cause: new RangeError("of what") });
    const error = await errorOf(scene, thrown) as QuotaError;
    assert.equal(error.name, "QuotaError");
    assert.equal(error.message, "too much");
    assert.match(error.stack ?? "", /too much[^]*jobs_test\.ts/);
    assert.ok(error.cause instanceof RangeError);
    assert.equal(error.cause.message, "of what");
    assert.deepEqual([error.limit, error.details], [5, { used: 6, at: new Date(0) }]);
  });

  for (const Kind of [TypeError, RangeError, SyntaxError, ReferenceError, URIError, EvalError]) {
    scenario(`that is a ${Kind.name} comes back as one`, async (scene) => {
      const error = await errorOf(scene, new Kind("built in"));
      assert.ok(error instanceof Kind);
      assert.equal(error.message, "built in");
    });
  }

  scenario("that is an AggregateError keeps its errors", async (scene) => {
    const error = await errorOf(scene, new AggregateError([new TypeError("a"), 2], "both"));
    assert.ok(error instanceof AggregateError);
    assert.ok(error.errors[0] instanceof TypeError);
    assert.equal(error.errors[1], 2);
  });

  scenario("that is none is shown as what was thrown", async (scene) => {
    const error = await errorOf(scene, "just a text");
    assert.match(error.message, /just a text/);
  });
});

scenarios("arq.call", (scenario) => {
  const double = (_ctx: JobContext, n: number) => 2 * n;

  scenario("enqueues a job and returns its result", async (scene) => {
    scene.start({ functions: { double } });
    assert.equal(await scene.arq.call("double", [4]), 8);
    const calls = Array.from({ length: 200 }, (_, n) => scene.arq.call("double", [n]));
    assert.deepEqual(await Promise.all(calls), Array.from({ length: 200 }, (_, n) => 2 * n));
  });

  scenario("throws what the function threw", async (scene) => {
    scene.start({ functions: { fail: () => Promise.reject(new QuotaError("too much")) } });
    await assert.rejects(scene.arq.call("fail"), { name: "QuotaError", limit: 5 });
  });

  scenario("hears of results that are not kept", async (scene) => {
    scene.start({ functions: { double }, keepResult: 0 });
    const calls = Array.from({ length: 50 }, (_, n) => scene.arq.call("double", [n]));
    assert.equal((await Promise.all(calls)).length, 50);
  });

  scenario("hears of a large result that is not kept, and of its job's events", async (scene) => {
    const repeat = (_ctx: JobContext, n: number) => "x".repeat(n);
    scene.start({ functions: { repeat }, keepResult: 0 });
    assert.equal((await scene.arq.call("repeat", [300_000]) as string).length, 300_000);
    await scene.arq.pause();
    const job = await scene.arq.enqueueJob("repeat", [300_000]);
    let last: JobEvent | undefined;
    for await (const event of job.events()) {
      if (last === undefined) await scene.arq.resume(); // somebody listens from now on
      last = event;
    }
    assert.ok(last?.kind === "finished" && last.success);
    assert.equal((last.result as string).length, 300_000);
  });

  scenario("awaits the job that is there where its id is taken", async (scene) => {
    let runs = 0;
    const gate = new Gate();
    const slow = async (_ctx: JobContext, n: number) => {
      runs++;
      await gate.pass();
      return n;
    };
    scene.start({ functions: { slow } });
    const calls = [1, 2, 3].map((n) => scene.arq.call("slow", [n], { jobId: "same" }));
    await gate.reached();
    gate.open();
    const results = await Promise.all(calls);
    assert.equal(runs, 1);
    assert.equal(new Set(results).size, 1);
    assert.equal(await scene.arq.call("slow", [4], { jobId: "same" }), results[0]);
  });

  scenario("ends by its timeout or its signal, and takes options of both kinds", async (scene) => {
    await assert.rejects(scene.arq.call("double", [1], { timeout: 20, jobId: "a" }), {
      name: "TimeoutError",
    });
    const stop = new AbortController();
    const call = scene.arq.call("double", [1], { jobId: "b", signal: stop.signal });
    await until("its job", async () => (await scene.keys()).includes("job:b"));
    stop.abort(new Error("enough"));
    await assert.rejects(call, /enough/);
    await scene.burst({ functions: { double } });
  });

  scenario("sends nothing when an option is bad, or its signal aborted before", async (scene) => {
    const call = (options: Record<string, unknown>) => scene.arq.call("double", [1], options);
    await assert.rejects(call({ timeout: -1 }), /timeout must be 0 or more, got -1/);
    await assert.rejects(call({ pollDelay: 0 }), /pollDelay must be 1 ms or more, got 0/);
    await assert.rejects(call({ timeot: 1 }), /Cannot enqueue "double": unknown option "timeot"/);
    await assert.rejects(call({ signal: AbortSignal.abort(new Error("no")) }), /no/);
    assert.deepEqual(await scene.keys(), []);
  });
});

scenarios("A signal that is none", (scenario) => {
  scenario("is refused at once, wherever one is taken", async (scene) => {
    const options = { signal: new AbortController() as unknown as AbortSignal };
    const job = await scene.arq.enqueueJob("double", [1]);
    const functions = { double: (_ctx: JobContext, n: number) => 2 * n };
    const refused = (method: string) => ({
      name: "TypeError",
      message: `${method}: signal must be an AbortSignal, got an object of AbortController`,
    });
    await assert.rejects(job.result(options), refused("result"));
    await assert.rejects(job.abort(options), refused("abort"));
    assert.throws(() => job.events(options), refused("events"));
    await assert.rejects(scene.arq.call("double", [1], options), refused("call"));
    await assert.rejects(scene.arq.retryJobs(options), refused("retryJobs"));
    await assert.rejects(createPool("sqlite::memory:", options), refused("createPool"));
    const worker = new Worker({ functions, connection: scene.arq });
    await assert.rejects(worker.run(options), refused("run"));
    assert.equal(await job.status(), "queued");
    await scene.burst({ functions });
  });

  scenario("is refused in place of the options that it belongs to", async (scene) => {
    const signal = AbortSignal.timeout(20_000) as never; // taken for no options, it stopped nothing
    const refused = {
      name: "TypeError",
      message: /takes an object such as .*, got an object of Ab/,
    };
    const job = scene.arq.job("x");
    await assert.rejects(job.result(signal), refused);
    assert.throws(() => job.events(signal), refused);
    await assert.rejects(createPool("sqlite::memory:", signal), refused);
    const functions = { double: (_ctx: JobContext, n: number) => 2 * n };
    await assert.rejects(new Worker({ functions, connection: scene.arq }).run(signal), refused);
  });
});

scenarios("A job handle", (scenario) => {
  scenario("tells the job's status through its whole life", async (scene) => {
    const seen: string[] = [];
    const gate = new Gate();
    const live = async (ctx: JobContext) => {
      if (ctx.jobTry === 1) throw new Retry({ defer: HOUR_MS });
      await gate.pass();
    };
    const job = scene.arq.job("life");
    const note = async () => void seen.push(await job.status());
    await note();
    await scene.arq.enqueueJob("live", [], { jobId: "life", deferBy: HOUR_MS });
    await note();
    await scene.makeDue();
    await note();
    const { worker } = scene.start({ functions: { live }, keepResult: 2_000, pollDelay: 20 });
    await until(
      "its retry",
      async () => worker.jobsRetried === 1 && await job.status() !== "in_progress",
    );
    await note();
    await scene.makeDue();
    await gate.reached();
    await note();
    gate.open();
    await until("its end is recorded", async () => await job.status() !== "in_progress");
    await note();
    await until("the end of its result", async () => await job.status() === "not_found");
    assert.deepEqual(seen, [
      "not_found",
      "deferred",
      "queued",
      "deferred",
      "in_progress",
      "complete",
    ]);
  });

  scenario("tells what was enqueued, and then how it ended", async (scene) => {
    const job = await scene.arq.enqueueJob("add", [1, 2], { jobId: "i", kwargs: { c: 3 } });
    assert.ok(job);
    const def = await job.info();
    assert.ok(def);
    const { enqueueTime, score, ...rest } = def;
    assert.deepEqual(rest, {
      jobId: "i",
      functionName: "add",
      args: [1, 2],
      kwargs: { c: 3 },
      jobTry: null,
    });
    assert.ok(score !== null && Math.abs(score - enqueueTime.getTime()) < 5_000);
    assert.equal(await job.resultInfo(), null);
    await scene.burst({ functions: { add: (_ctx, a: number, b: number) => a + b } });
    const info = await job.info() as JobResult;
    assert.deepEqual(info, await job.resultInfo());
    assert.deepEqual(
      [info.success, info.result, info.jobTry, info.queueName, info.score],
      [true, 3, 1, scene.queueName, null],
    );
    assert.deepEqual(info.enqueueTime, enqueueTime);
    assert.ok(info.startTime <= info.finishTime);
  });

  scenario("does not throw a failed job's error from its looks", async (scene) => {
    const job = await scene.arq.enqueueJob("unknown");
    await scene.burst({ functions: { x: () => {} } });
    const info = await job.resultInfo();
    assert.equal(info?.success, false);
    assert.ok(info?.result instanceof JobExecutionFailed);
  });

  scenario("knows nothing of a job that nobody enqueued", async (scene) => {
    const job = scene.arq.job("missing");
    assert.equal(await job.info(), null);
    assert.equal(await job.resultInfo(), null);
    assert.equal(await job.status(), "not_found");
  });

  scenario("is made for any job and any queue", async (scene) => {
    const queueName = `${scene.prefix}other`;
    await scene.arq.enqueueJob("x", [], { jobId: "j", queueName });
    const job: Job = scene.arq.job("j", { queueName, functionName: "x" });
    assert.equal(await job.status(), "queued");
    assert.equal(job.queueName, queueName);
    await job.abort();
  });

  scenario("prints as <arq job ID>", async (scene) => {
    const job = scene.arq.job("foobar");
    assert.equal(String(job), "<arq job foobar>");
    assert.equal(`${job}`, "<arq job foobar>");
    assert.equal(inspect(job), "<arq job foobar>");
    await job.status();
  });

  scenario(
    "prints as <arq job ID> by console.log, and its worker and client without secrets",
    async (scene) => {
      const script = `
      import { Worker } from ${JSON.stringify(import.meta.resolve("../mod.ts"))};
      const connection = "redis://user:s3cret@127.0.0.1:1?timeout=200";
      const worker = new Worker({ functions: { x() {} }, connection });
      console.log(worker.arq.job("foobar"), worker);
      console.log(worker.arq);
      console.error(await worker.arq.enqueueJob("x").catch((error) => error));
      try {
        new Worker({ functions: {}, connection: connection.replace("?", "/x?") });
      } catch (error) {
        console.error(error);
      }
    `;
      const isDeno = "Deno" in globalThis;
      const args = isDeno ? ["eval", "--ext=ts", script] : ["-e", script];
      const { stdout, stderr } = await promisify(execFile)(process.execPath, args, {
        env: { ...process.env, NO_COLOR: "1" },
      });
      const [first] = stdout.split("\n");
      assert.equal(
        first,
        "<arq job foobar> <Worker j_complete=0 j_failed=0 j_retried=0 j_ongoing=0>",
      );
      assert.match(stderr, /QueueConnectionError/);
      assert.ok(!`${stdout}${stderr}`.includes("s3cret"), `${stdout}${stderr}`);
      assert.deepEqual(await scene.keys(), []);
    },
  );
});

describe("A wait for longer than a timer can be", () => {
  it("goes on when the timer is over", async () => {
    const arq = await createPool("sqlite::memory:");
    const job = await arq.enqueueJob("f", [], { deferBy: { days: 60 } });
    let now = performance.now();
    const clock = mock.method(performance, "now", () => now);
    mock.timers.enable({ apis: ["setTimeout"] });
    try {
      const enough = new AbortController();
      const years = { days: 3_650 };
      const waiting = job.result({ timeout: years, pollDelay: years, signal: enough.signal });
      const failure = rejection(waiting);
      now += LONGEST_TIMER_MS;
      mock.timers.tick(LONGEST_TIMER_MS);
      enough.abort(new Error("enough"));
      assert.equal((await failure).message, "enough");
      await arq.close();
    } finally {
      mock.timers.reset();
      clock.mock.restore();
    }
  });
});
