/** Faults that a worker must survive: of functions, hooks, errors, the network and the store. */
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { createClient } from "@redis/client";
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import {
  createPool,
  FailedJobs,
  func,
  type JobContext,
  JobTimeoutError,
  Retry,
  Worker,
} from "../mod.ts";
import { scripts } from "../redis_scripts.ts";
import { startLossyRelay } from "./_fake_server.ts";
import { startRedis } from "./_redis.ts";
import { Gate, pause, type RunningWorker, scenarios, type Scene, start, until } from "./_worker.ts";
import { loading } from "./data/loading.ts";

const one = () => 1;
/** A function or hook that never ends and heeds nothing. */
const hang = () => new Promise<never>(() => {});

interface Line {
  readonly level: string;
  readonly text: string;
}

/** Collects what workers log from now on. */
async function listen(): Promise<Line[]> {
  const lines: Line[] = [];
  const memory = ({ level, message }: LogRecord) =>
    void lines.push({ level, text: message.join("") });
  await configure({
    sinks: { memory },
    loggers: [
      { category: ["arq"], lowestLevel: "info", sinks: ["memory"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: [] },
    ],
    reset: true,
  });
  return lines;
}

/** How long something takes, milliseconds. */
async function timeOf(done: Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await done;
  return performance.now() - startedAt;
}

after(async () => {
  await reset();
  loading.resolve();
  await import("./data/never_loaded.ts");
});

/** Holds the reply to the first claim that takes a job, as a slow network does. */
function holdClaim({ worker }: RunningWorker<object>): Gate {
  const gate = new Gate();
  const { store } = worker.arq;
  const claim = store.claim.bind(store);
  store.claim = async (...args) => {
    const reply = await claim(...args);
    if (reply.claims.length > 0) await gate.pass();
    return reply;
  };
  return gate;
}

scenarios("A worker that is told to stop during a claim", (scenario) => {
  for (const jobCompletionWait of [0, 20_000]) {
    scenario(
      `starts nothing of it and gives it back at once, with ${jobCompletionWait} ms for jobs to end`,
      async (scene) => {
        let starts = 0;
        const count = () => void starts++;
        // Before it starts: an idle worker would take one of them by a wake-up.
        const jobs = await scene.arq.enqueueJobs([{ name: "count" }, { name: "count" }]);
        const running = scene.start({ functions: { count }, jobCompletionWait });
        const claim = holdClaim(running);
        await claim.reached();
        const closed = running.worker.close();
        claim.open();
        const took = await timeOf(closed);
        assert.ok(took < 5_000, `it took ${took} ms`);
        assert.equal(starts, 0);
        for (const job of jobs) assert.equal(await job?.status(), "queued");
        await scene.burst({ functions: { count } });
        assert.equal(starts, 2);
      },
    );
  }

  scenario("starts no job after the stop, in the middle of a backlog", async (scene) => {
    let isStopped = false;
    let lateStarts = 0;
    let starts = 0;
    const quick = async () => {
      starts++;
      if (isStopped) lateStarts++;
      await pause(1);
    };
    const functions = { quick };
    for (let round = 0; round < 20; round++) {
      await scene.arq.enqueueJobs(Array.from({ length: 60 }, () => ({ name: "quick" })));
      isStopped = false;
      const startsBefore = starts;
      const { worker } = scene.start({ functions, keepResult: 0 });
      const wanted = startsBefore + 1 + round % 5 * 5; // stops at one moment or another
      await until("the first jobs", () => starts >= wanted);
      isStopped = true;
      const took = await timeOf(worker.close());
      assert.ok(took < 5_000, `it took ${took} ms`);
    }
    isStopped = false;
    await scene.burst({ functions, keepResult: 0, maxJobs: 100 });
    assert.equal(lateStarts, 0);
  });
});

/** Errors that break whoever looks at them. */
const strangeErrors: Readonly<Record<string, () => unknown>> = {
  "a message that throws": () =>
    Object.defineProperty(new Error("x"), "message", {
      get() {
        throw new Error("gotcha");
      },
    }),
  "a symbol for its name": () => Object.assign(new Error("x"), { name: Symbol("s") }),
  "a symbol for its message": () => Object.assign(new Error("x"), { message: Symbol("s") }),
  "no prototype": () => Object.create(null),
};

scenarios("A job that fails with an error with", (scenario) => {
  for (const [what, makeError] of Object.entries(strangeErrors)) {
    const bad = () => {
      throw makeError();
    };

    scenario(`${what} has a record and a line in the log, and harms no other`, async (scene) => {
      const lines = await listen();
      const { worker } = scene.start({ functions: { bad, one } });
      const job = await scene.arq.enqueueJob("bad");
      await assert.rejects(job.result({ timeout: 5_000 }), () => true);
      const info = await job.resultInfo();
      assert.equal(info?.success, false);
      assert.equal(info?.functionName, "bad");
      assert.equal(await scene.arq.call("one", [], { timeout: 5_000 }), 1);
      await worker.close();
      assert.equal(
        String(worker),
        "<Worker j_complete=1 j_failed=1 j_retried=0 j_ongoing=0>",
      );
      const errors = lines.filter(({ level }) => level === "error");
      assert.equal(errors.length, 1);
      assert.match(errors[0]?.text ?? "", /:bad failed, /);
    });

    scenario(`${what} is told by runCheck`, async (scene) => {
      await scene.arq.enqueueJob("bad");
      const worker = scene.worker({ functions: { bad } });
      await assert.rejects(worker.runCheck(), FailedJobs);
    });
  }
});

/** Makes the first call of `finish` fail; tells the times of all calls. */
function failFirstFinish({ worker }: RunningWorker<object>): number[] {
  const calls: number[] = [];
  const { store } = worker.arq;
  const finish = store.finish.bind(store);
  store.finish = (...args) => {
    calls.push(performance.now());
    return calls.length === 1 ? Promise.reject(new Error("a moment")) : finish(...args);
  };
  return calls;
}

scenarios("An end that the store did not take", (scenario) => {
  scenario("is sent again soon, whatever pollDelay is", async (scene) => {
    const running = scene.start({ functions: { one }, pollDelay: 20_000 });
    const calls = failFirstFinish(running);
    const job = await scene.arq.enqueueJob("one");
    assert.equal(await job.result({ timeout: 10_000 }), 1);
    const [first = 0, second = Infinity] = calls;
    assert.ok(second - first < 5_000, `it took ${second - first} ms`);
    assert.equal(calls.length, 2);
  });

  scenario("is sent again at once by a worker that is told to stop", async (scene) => {
    const lines = await listen();
    const pauses: number[] = [];
    for (let round = 0; round < 5; round++) {
      lines.length = 0;
      const running = scene.start({ functions: { one }, pollDelay: 20_000 });
      const calls = failFirstFinish(running);
      const job = await scene.arq.enqueueJob("one");
      await until("the failure", () => lines.some(({ text }) => /^Cannot record/.test(text)));
      await running.worker.close();
      assert.equal(await job.result(), 1);
      assert.equal(calls.length, 2);
      pauses.push((calls[1] ?? Infinity) - (calls[0] ?? 0));
    }
    // By itself it would be after half a second; all but the shortest waited for the machine.
    assert.ok(Math.min(...pauses) < 400, `it took ${pauses} ms`);
  });
});

/** The worker ends in a moment, though not without its grace. */
async function closesSoon({ worker, ended }: RunningWorker<object>): Promise<void> {
  const took = await timeOf(worker.close());
  assert.ok(took < 8_000, `it took ${took} ms`);
  await ended;
}

scenarios("What never ends", (scenario) => {
  scenario(
    "in onJobEnd, keeps no worker from its end and no result from its job",
    async (scene) => {
      const gate = new Gate();
      const onJobEnd = () => gate.pass();
      const running = scene.start({ functions: { one }, onJobEnd, abortGrace: 50 });
      const job = await scene.arq.enqueueJob("one");
      await gate.reached();
      await closesSoon(running);
      assert.equal(await job.result(), 1);
    },
  );

  scenario("in onJobEnd, after a job ran out of time, is given up as well", async (scene) => {
    const gate = new Gate();
    const running = scene.start({
      functions: { hang },
      onJobEnd: () => gate.pass(),
      jobTimeout: 50,
      abortGrace: 50,
    });
    const job = await scene.arq.enqueueJob("hang");
    await gate.reached();
    await closesSoon(running);
    await assert.rejects(job.result(), JobTimeoutError);
  });

  scenario("in onJobStart, keeps no worker from its end", async (scene) => {
    const gate = new Gate();
    const onJobStart = () => gate.pass();
    const running = scene.start({ functions: { one }, onJobStart, abortGrace: 50 });
    const job = await scene.arq.enqueueJob("one");
    await gate.reached();
    await closesSoon(running);
    assert.equal(await job.status(), "queued");
    await scene.burst({ functions: { one } });
  });

  scenario("in the import of a function, runs into the job's timeout", async (scene) => {
    const lazy = func(import.meta.resolve("./data/never_loaded.ts"));
    const running = scene.start({ functions: { lazy }, jobTimeout: 100, abortGrace: 50 });
    const job = await scene.arq.enqueueJob("lazy");
    await assert.rejects(job.result({ timeout: 5_000 }), JobTimeoutError);
    await closesSoon(running);
  });

  scenario("in the import of a function, is given back by a worker that stops", async (scene) => {
    const lazy = func(import.meta.resolve("./data/never_loaded.ts"));
    const gate = new Gate();
    gate.open();
    const onJobStart = () => gate.pass();
    const running = scene.start({ functions: { lazy }, onJobStart, abortGrace: 50 });
    const job = await scene.arq.enqueueJob("lazy");
    await gate.reached();
    await closesSoon(running);
    assert.equal(await job.status(), "queued");
    await scene.burst({ functions: { lazy: one } });
  });

  scenario("in onStartup, ends with the worker, which takes no job", async (scene) => {
    const gate = new Gate();
    const running = scene.start({ functions: { one }, onStartup: () => gate.pass() });
    const job = await scene.arq.enqueueJob("one");
    await gate.reached();
    const took = await timeOf(running.worker.close());
    assert.ok(took < 5_000, `it took ${took} ms`);
    await running.ended;
    assert.equal(await job.status(), "queued");
    await scene.burst({ functions: { one } });
  });
});

/** What a function sees on a copy of its context. */
async function seenOnCopy(
  scene: Scene,
  look: (copy: JobContext<{ state: string }>) => unknown,
): Promise<unknown> {
  const copy = (ctx: JobContext<{ state: string }>) => look({ ...ctx });
  const job = await scene.arq.enqueueJob("copy", [], { jobId: "x" });
  await scene.burst<{ state: string }>({ functions: { copy }, ctx: { state: "ours" } });
  return await job?.result();
}

scenarios("A copy of a job's context", (scenario) => {
  scenario("has the job's facts, its signal and the state", async (scene) => {
    const look = ({ jobId, jobTry, signal, state }: JobContext<{ state: string }>) => [
      jobId,
      jobTry,
      signal instanceof AbortSignal && !signal.aborted,
      state,
    ];
    assert.deepEqual(await seenOnCopy(scene, look), ["x", 1, true, "ours"]);
  });

  scenario("has a logger that works", async (scene) => {
    const lines = await listen();
    await seenOnCopy(scene, ({ logger }) => logger.info("by the copy"));
    assert.equal(lines.filter(({ text }) => text === "by the copy").length, 1);
  });

  scenario("has a signal that aborts with the job", async (scene) => {
    const gate = new Gate();
    const wait = (ctx: JobContext) => gate.pass({ ...ctx }.signal);
    const { worker } = scene.start({ functions: { wait }, abortGrace: 10_000 });
    const job = await scene.arq.enqueueJob("wait");
    await gate.reached();
    const took = await timeOf(worker.close());
    assert.ok(took < 5_000, `it took ${took} ms`);
    assert.equal(await job.status(), "queued");
    await scene.burst({ functions: { wait: one } });
  });
});

describe("The options of a run", () => {
  const worker = new Worker({ functions: { one }, connection: "sqlite::memory:" });

  it("must be known ones", async () => {
    await assert.rejects(worker.run({ singal: new AbortController().signal } as never), {
      name: "TypeError",
      message: 'run: unknown option "singal"; did you mean "signal"?',
    });
    await assert.rejects(worker.run({ maxBurstJobs: 1 } as never), {
      name: "TypeError",
      message: 'run: unknown option "maxBurstJobs"; known: signal',
    });
    await assert.rejects(worker.runCheck({ retryJob: false } as never), {
      name: "TypeError",
      message: 'runCheck: unknown option "retryJob"; did you mean "retryJobs"?',
    });
  });

  for (const maxBurstJobs of [-1, 0, NaN, 1.5]) {
    it(`do not take ${maxBurstJobs} for maxBurstJobs`, async () => {
      await assert.rejects(worker.runCheck({ maxBurstJobs }), {
        name: "RangeError",
        message: "runCheck: maxBurstJobs must be a whole number of 1 or more, " +
          `got ${maxBurstJobs}; leave it out for no limit`,
      });
    });
  }

  it("leave the worker as it was when they are refused", async () => {
    await assert.rejects(worker.runCheck({ maxBurstJobs: -1 }), RangeError);
    assert.equal(await worker.runCheck(), 0);
  });
});

describe("A client that was handed in and gives up reconnecting", () => {
  it("is replaced: the worker runs jobs again and the pool enqueues", async () => {
    await using server = await startRedis({ args: ["--appendonly", "yes"] });
    let givenUp = 0;
    const reconnectStrategy = (retries: number) => {
      if (retries < 3) return 20;
      givenUp++;
      return new Error("enough");
    };
    const own = createClient({ url: server.url, RESP: 2, socket: { reconnectStrategy } });
    own.on("error", () => {});
    await own.connect();
    await using arq = await createPool(own as unknown as Parameters<typeof createPool>[0]);
    await using _worker = start(
      new Worker({ connection: arq, pollDelay: 50, functions: { one } }),
    );
    assert.equal(await arq.call("one", [], { timeout: 5_000 }), 1);
    server.kill("SIGKILL");
    await until("the client gives up, and the pool's with it", () => givenUp >= 2 && !own.isOpen);
    await server.restart();
    await using other = await createPool(server.url);
    assert.equal(await other.call("one", [], { timeout: 10_000 }), 1);
    assert.equal(await arq.call("one", [], { timeout: 10_000 }), 1);
  });
});

scenarios("A worker whose thread was blocked", (scenario) => {
  scenario("renews and records before it claims (rule 21)", async (scene) => {
    const gate = new Gate();
    const calls: string[] = [];
    const block = () => {
      const end = performance.now() + 700;
      while (performance.now() < end);
      calls.push("blocked");
    };
    const functions = { wait: () => gate.pass(), block, one };
    const { worker } = scene.start({ functions, lease: 900, maxJobs: 2, pollDelay: 20 });
    const { store } = worker.arq;
    for (const name of ["claim", "renew", "finish"] as const) {
      const method = store[name].bind(store) as (...args: unknown[]) => Promise<never>;
      store[name] = (...args: unknown[]) => {
        calls.push(name);
        return method(...args);
      };
    }
    await scene.arq.enqueueJob("wait", [], { jobId: "wait" });
    await gate.reached();
    const jobs = await scene.arq.enqueueJobs([{ name: "block" }, { name: "one" }]);
    for (const job of jobs) await job.result({ timeout: 10_000 });
    const after = calls.slice(calls.indexOf("blocked") + 1);
    const [first, second, third] = [...new Set(after)];
    assert.deepEqual([first, second, third], ["renew", "finish", "claim"]);
    gate.open();
    assert.equal(await scene.arq.job("wait").result({ timeout: 10_000 }), undefined);
    assert.equal(worker.jobsRetried, 0);
  });
});

describe("A worker whose reply was lost", () => {
  /** Runs a job with the reply to a script lost, and returns what was logged meanwhile. */
  async function linesWithout(reply: keyof typeof scripts, name: string): Promise<string[]> {
    await using server = await startRedis();
    await using relay = await startLossyRelay(server.port);
    await using arq = await createPool(server.url);
    const ended: string[] = [];
    const twice = ({ jobTry }: JobContext) => {
      // Long enough for what is sent again to come before the next claim.
      if (jobTry === 1) throw new Retry({ defer: 500 });
      return "done";
    };
    const worker = new Worker({
      connection: { host: "127.0.0.1", port: relay.port },
      keepResult: 0,
      functions: { twice, warmUp: twice, once: () => "done" },
      afterJobEnd: ({ functionName }, { kind }) => void ended.push(`${functionName} ${kind}`),
    });
    await using running = start(worker);
    await arq.call("warmUp", [], { timeout: 5_000 }); // the server knows the scripts from now on
    await until("the end of the first", () => ended.includes("warmUp success"));
    const lines = await listen();
    relay.loseReplyTo(scripts[reply].sha);
    assert.equal(await arq.call(name, [], { timeout: 10_000 }), "done");
    await until("the end of the job", () => ended.includes(`${name} success`));
    await running[Symbol.asyncDispose]();
    assert.equal(relay.lost, 1);
    assert.equal(worker.jobsComplete, 2);
    return lines.map(({ text }) => text);
  }

  it("to the end of a job that keeps no result warns of no lost lease", async () => {
    const lines = await linesWithout("finish", "once");
    assert.deepEqual(lines.filter((text) => text.includes("lost its lease")), []);
    assert.match(lines.join("\n"), /:once ●/);
  });

  it("to the hand-back of a job warns of no lost lease", async () => {
    const lines = await linesWithout("giveBack", "twice");
    assert.deepEqual(lines.filter((text) => text.includes("lost its lease")), []);
    assert.match(lines.join("\n"), /:twice retrying job/);
  });
});
