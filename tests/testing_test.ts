import { configure, type LogRecord, reset } from "@logtape/logtape";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import process from "node:process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import {
  cron,
  func,
  type JobContext,
  JobExecutionFailed,
  JobTimeoutError,
  Retry,
  SerializationError,
  SettingsError,
} from "../mod.ts";
import { createTestQueue, runFunction } from "../testing.ts";

const NOON = new Date("2030-01-01T12:00:00Z");
const HOUR_MS = 3_600_000;

const double = (_ctx: JobContext, n: number): number => 2 * n;
const fail = (_ctx: JobContext, message: string): never => {
  throw new RangeError(message);
};

/** Functions that note their arguments in the order in which they run. */
function noting() {
  const notes: string[] = [];
  const note = (_ctx: JobContext, text: string) => void notes.push(text);
  return { notes, functions: { note } };
}

const later = (minutes: number) => new Date(NOON.getTime() + minutes * 60_000);

describe("a job that is watched in a test queue", () => {
  it("tells its steps while the test moves the clock", async () => {
    const work = (ctx: JobContext) => {
      ctx.progress(`try ${ctx.jobTry}`);
      if (ctx.jobTry === 1) throw new Retry({ defer: { hours: 2 } });
      return "done";
    };
    await using queue = await createTestQueue({ functions: { work } }, { now: NOON });
    const job = await queue.arq.enqueueJob("work", [], { deferBy: { minutes: 5 } });
    const events = job.events();
    const first = await events.next();
    assert.ok(first.value?.kind === "queued");
    assert.deepEqual(first.value.dueAt, later(5));
    await queue.advance({ hours: 3 });
    const kinds = [];
    for await (const event of events) {
      if (event.kind === "started") kinds.push(event.at);
      else kinds.push(event.kind === "progress" ? event.value : event.kind);
    }
    assert.deepEqual(kinds, [later(5), "retried", later(125), "try 2", "finished"]);
    assert.equal(await job.progress(), undefined, "an hour later");
  });
});

describe("runDue of a test queue", () => {
  it("runs what is due and nothing else, and returns the results", async () => {
    await using queue = await createTestQueue({ functions: { double } });
    const job = await queue.arq.enqueueJob("double", [1]);
    const deferred = await queue.arq.enqueueJob("double", [2], { deferBy: 1 });
    const results = await queue.runDue();
    assert.deepEqual(results.map(({ jobId, result }) => [jobId, result]), [[job.jobId, 2]]);
    const result: number = await job.result();
    assert.equal(result, 2);
    assert.equal(await deferred.status(), "deferred");
    assert.deepEqual(await queue.runDue(), []);
  });

  it("runs what jobs enqueue and what is retried without a delay", async () => {
    const functions = {
      first: (ctx: JobContext) => ctx.arq.enqueueJob("second", [ctx.jobId]).then(() => "first"),
      second: ({ jobTry }: JobContext) => {
        if (jobTry < 3) throw new Retry();
        return `second, try ${jobTry}`;
      },
    };
    await using queue = await createTestQueue({ functions });
    await queue.arq.enqueueJob("first");
    const results = await queue.runDue();
    assert.deepEqual(results.map(({ result }) => result), ["first", "second, try 3"]);
  });

  it("throws the first error as it was, and has run the others all the same", async () => {
    class OwnError extends Error {}
    const own = () => Promise.reject(new OwnError("mine"));
    await using queue = await createTestQueue({ functions: { own, fail, double }, maxJobs: 1 });
    await queue.arq.enqueueJob("own");
    const failing = await queue.arq.enqueueJob("fail", ["second"]);
    const job = await queue.arq.enqueueJob("double", [4]);
    await assert.rejects(queue.runDue(), OwnError);
    assert.equal(await job.result(), 8);
    assert.equal((await failing.resultInfo())?.success, false);
    assert.deepEqual(await queue.runDue(), [], "an error is thrown once");
  });

  it("throws the error of a job that nobody can run", async () => {
    await using queue = await createTestQueue({ functions: { double } });
    await queue.arq.enqueueJob("doubel" as "double", [1]);
    await assert.rejects(queue.runDue(), /"doubel" is not registered; this worker has double/);
  });

  it("answers calls, also those of jobs", async () => {
    const functions = {
      double,
      fourfold: async (ctx: JobContext, n: number) =>
        await ctx.arq.call("double", [await ctx.arq.call("double", [n])]),
    };
    await using queue = await createTestQueue({ functions });
    const answer = queue.arq.call("fourfold", [3]);
    await queue.runDue();
    assert.equal(await answer, 12);
  });

  it("runs a thousand jobs", async () => {
    await using queue = await createTestQueue({ functions: { double } });
    const requests = Array.from({ length: 1_000 }, (_, i) => ({
      name: "double" as const,
      args: [i] as const,
    }));
    await queue.arq.enqueueJobs(requests);
    assert.equal((await queue.runDue()).length, 1_000);
  });
});

describe("advance of a test queue", () => {
  it("runs jobs at their times, in order, and sets the clock", async () => {
    const seen: string[] = [];
    await using queue = await createTestQueue({
      functions: {
        note: (_ctx: JobContext, text: string) => {
          seen.push(`${text} at ${queue.now.toISOString().slice(11, 19)}`);
        },
      },
    }, { now: NOON });
    await queue.arq.enqueueJob("note", ["late"], { deferBy: { hours: 2 } });
    await queue.arq.enqueueJob("note", ["second"], { deferUntil: later(30) });
    await queue.arq.enqueueJob("note", ["first"], { deferBy: { minutes: 10 } });
    assert.equal((await queue.advance({ hours: 1 })).length, 2);
    assert.deepEqual(seen, ["first at 12:10:00", "second at 12:30:00"]);
    assert.equal(queue.now.getTime(), NOON.getTime() + HOUR_MS);
    await queue.advance(HOUR_MS);
    assert.equal(seen.at(-1), "late at 14:00:00");
  });

  it("runs each slot of cron jobs on the way, among the jobs", async () => {
    const { notes, functions } = noting();
    const cronJobs = [
      cron(function quarter() {
        notes.push("quarter");
      }, { minute: [0, 15, 30, 45], second: 0, millisecond: 0 }),
      cron(
        function often() {
          notes.push("often");
        },
        "*/20 * * * *",
        { unique: false, runAtStartup: true, timezone: "UTC" },
      ),
    ];
    const settings = { functions, cronJobs, timezone: "UTC" };
    await using queue = await createTestQueue(settings, { now: NOON });
    await queue.arq.enqueueJob("note", ["job"], { deferBy: { minutes: 16 } });
    await queue.advance({ minutes: 40 });
    assert.deepEqual(notes, ["often", "often", "quarter", "job", "often", "quarter"]);
    await queue.advance({ days: 1 });
    assert.equal(notes.length, 6 + 24 * 7);
  });

  it("retries after the delay a job asks for", async () => {
    const starts: string[] = [];
    const flaky = ({ jobTry }: JobContext) => {
      starts.push(queue.now.toISOString().slice(11, 19));
      if (jobTry < 3) throw new Retry({ defer: { minutes: jobTry } });
      return "at last";
    };
    await using queue = await createTestQueue({ functions: { flaky } }, { now: NOON });
    await queue.arq.enqueueJob("flaky");
    const results = await queue.advance({ minutes: 3 });
    assert.deepEqual(starts, ["12:00:00", "12:01:00", "12:03:00"]);
    assert.deepEqual(results.map(({ result, jobTry }) => [result, jobTry]), [["at last", 3]]);
  });

  it("arrives before it throws the first error", async () => {
    const { notes, functions } = noting();
    await using queue = await createTestQueue({ functions: { ...functions, fail } }, { now: NOON });
    await queue.arq.enqueueJob("fail", ["one"], { deferBy: 1_000 });
    await queue.arq.enqueueJob("fail", ["two"], { deferBy: 2_000 });
    await queue.arq.enqueueJob("note", ["three"], { deferBy: 3_000 });
    await assert.rejects(queue.advance(5_000), /^RangeError: one$/);
    assert.deepEqual(notes, ["three"]);
    assert.equal(queue.now.getTime(), NOON.getTime() + 5_000);
  });

  it("throws what keeps a cron job from being enqueued, at its time, and then goes on", async () => {
    let failures = 0;
    const jobSerializer = (job: Record<string, unknown>) => {
      if (failures++ === 0) throw new Error("no room");
      return new TextEncoder().encode(JSON.stringify(job));
    };
    const jobDeserializer = (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes));
    const schedule = { minute: [0, 30], second: 0, millisecond: 0, timezone: "UTC" };
    const cronJobs = [cron(function often() {}, schedule)];
    const settings = { cronJobs, jobSerializer, jobDeserializer };
    await using queue = await createTestQueue(settings, { now: NOON });
    await assert.rejects(queue.advance({ hours: 1 }), /no room/);
    assert.deepEqual(queue.now, later(30));
    assert.equal((await queue.advance({ minutes: 30 })).length, 2);
    assert.deepEqual(queue.enqueued().map(({ dueTime }) => dueTime), [later(30), later(60)]);
  });

  it("lets jobs and results expire", async () => {
    const later = () => {
      throw new Retry({ defer: 2_000 });
    };
    await using queue = await createTestQueue({ functions: { double, later } });
    const job = await queue.arq.enqueueJob("double", [1]);
    await queue.runDue();
    const brief = await queue.arq.enqueueJob("later", [], { expires: 1_000 });
    await assert.rejects(queue.advance(5_000), JobExecutionFailed);
    assert.equal((await brief.resultInfo())?.success, false);
    assert.equal(await job.status(), "complete");
    await queue.advance({ hours: 1 });
    assert.equal(await job.status(), "not_found");
  });

  it("refuses what is no duration", async () => {
    await using queue = await createTestQueue({ functions: { double } });
    await assert.rejects(queue.advance(-1), /advance must be 0 or more, got -1/);
    await assert.rejects(queue.advance({ hour: 1 } as never), /unknown unit "hour"/);
  });
});

describe("What was enqueued in a test queue", () => {
  it("is listed in order, with function, arguments and time", async () => {
    const functions = { double, report: () => {} };
    await using queue = await createTestQueue({ functions }, { now: NOON });
    await queue.arq.enqueueJob("double", [1], { jobId: "a", deferBy: { minutes: 1 } });
    await queue.arq.enqueueJob("double", [1], { jobId: "a" }); // taken
    await queue.arq.enqueueJob("report", [], { jobId: "b", kwargs: { x: 1 }, queueName: "other" });
    await queue.advance({ minutes: 2 });
    assert.deepEqual(queue.enqueued(), [
      {
        jobId: "a",
        functionName: "double",
        args: [1],
        kwargs: {},
        queueName: "arq:queue",
        enqueueTime: NOON,
        dueTime: later(1),
      },
      {
        jobId: "b",
        functionName: "report",
        args: [],
        kwargs: { x: 1 },
        queueName: "other",
        enqueueTime: NOON,
        dueTime: NOON,
      },
    ]);
    assert.deepEqual(queue.enqueued("report").map(({ jobId }) => jobId), ["b"]);
  });

  it("can be asserted", async () => {
    await using queue = await createTestQueue({ functions: { double } }, { now: NOON });
    assert.throws(() => queue.assertEnqueued("double"), {
      message: "double(…) was not enqueued, nor anything else",
    });
    await queue.arq.enqueueJob("double", [1]);
    await queue.arq.enqueueJob("double", [2], { deferBy: { minutes: 5 } });
    queue.assertEnqueued("double");
    queue.assertEnqueued("double", [1], { deferBy: 0 });
    assert.equal(queue.assertEnqueued("double", [2]).dueTime.getTime(), later(5).getTime());
    queue.assertEnqueued("double", [2], { deferBy: { minutes: 5 } });
    queue.assertEnqueued("double", [2], { deferUntil: later(5) });
    assert.throws(() => queue.assertEnqueued("double", [2], { deferBy: 0 }), {
      message: "double(2) with { deferBy: 0 } was not enqueued, but 2 others:\n" +
        "  double(1) with { deferBy: 0 }\n" +
        "  double(2) with { deferBy: 300000 }",
    });
    assert.throws(() => queue.assertEnqueued("double", [2], { deferUntil: NOON }), {
      message: /was not enqueued, but 2 others:\n {2}double\(1\) for 2030-01-01T12:00:00.000Z\n/,
    });
    assert.throws(() => queue.assertEnqueued("double", [3]), /double\(3\) was not enqueued/);
  });
});

describe("A test queue", () => {
  it("starts once, keeps the state, and shuts down at its end", async () => {
    const events: string[] = [];
    interface State {
      greeting: string;
    }
    const settings = {
      functions: { greet: (ctx: JobContext<State>, name: string) => `${ctx.greeting} ${name}` },
      connection: "redis://nowhere.invalid",
      prefix: "app:",
      onStartup: (ctx: State) => {
        events.push("startup");
        ctx.greeting = "Hello";
      },
      onShutdown: (ctx: State) => void events.push(`shutdown ${ctx.greeting}`),
    };
    {
      await using queue = await createTestQueue<State>(settings);
      for (const name of ["Ann", "Bob"]) {
        await queue.arq.enqueueJob("greet", [name]);
        const [greeting] = await queue.runDue();
        assert.equal(greeting?.result, `Hello ${name}`);
        assert.equal(greeting?.queueName, "app:queue");
      }
    }
    assert.deepEqual(events, ["startup", "shutdown Hello"]);
  });

  it("throws what onStartup throws", async () => {
    const onStartup = () => Promise.reject(new Error("no database"));
    await using queue = await createTestQueue({ functions: { double }, onStartup });
    await assert.rejects(queue.runDue(), /no database/);
  });

  it("shares nothing with another one", async () => {
    await using one = await createTestQueue({ functions: { double } });
    await using other = await createTestQueue({ functions: { double } });
    await one.arq.enqueueJob("double", [1], { jobId: "same" });
    assert.notEqual(await other.arq.enqueueJob("double", [1], { jobId: "same" }), null);
    assert.equal((await one.runDue()).length, 1);
    assert.equal((await other.arq.queuedJobs()).length, 1);
  });

  it("takes a list of functions, and serializers", async () => {
    await using queue = await createTestQueue({
      functions: [func(double)],
      jobSerializer: (job) => new TextEncoder().encode(JSON.stringify(job)),
      jobDeserializer: (bytes) => JSON.parse(new TextDecoder().decode(bytes)),
    });
    await queue.arq.enqueueJob("double", [1]);
    assert.deepEqual((await queue.runDue()).map(({ result }) => result), [2]);
    queue.assertEnqueued("double", [1]);
  });

  it("takes how long a job may be started, as the real worker's settings have it", async () => {
    const settings = { functions: { double }, expiresExtra: { minutes: 1 } };
    await using queue = await createTestQueue(settings, { now: NOON });
    await queue.arq.pause();
    const job = await queue.arq.enqueueJob("double", [1]);
    await queue.advance({ minutes: 2 });
    await queue.arq.resume();
    await assert.rejects(queue.runDue(), new JobExecutionFailed(`Job ${job.jobId} expired`));
  });

  it("says once for each pause that nothing is run, whatever the steps", async () => {
    const warnings: string[] = [];
    const sinks = { memory: ({ message }: LogRecord) => void warnings.push(message.join("")) };
    await configure({
      sinks,
      loggers: [
        { category: ["arq"], lowestLevel: "warning", sinks: ["memory"] },
        { category: ["logtape", "meta"], lowestLevel: "error" },
      ],
    });
    try {
      const cronJobs = [cron(function report() {}, "* * * * *", { timezone: "UTC" })];
      await using queue = await createTestQueue({ cronJobs }, { now: NOON });
      const paused = 'The queue "arq:queue" is paused: nothing is run until it is resumed';
      await queue.arq.pause();
      await queue.advance({ minutes: 5 });
      await queue.runDue();
      assert.deepEqual(warnings, [paused]);
      await queue.arq.resume();
      assert.equal((await queue.runDue()).length, 5);
      await queue.arq.pause();
      await queue.runDue();
      assert.deepEqual(warnings, [paused, paused]);
    } finally {
      await reset();
    }
  });

  it("lists every problem of the settings", async () => {
    const settings = { functions: { double }, maxJobs: 0, pollDely: 1 };
    await assert.rejects(createTestQueue(settings), (error) => {
      return error instanceof SettingsError && error.problems.length === 2;
    });
  });

  it("refuses unknown options, which would make a test say nothing", async () => {
    const unknown = (text: string) => ({ name: "TypeError", message: text });
    await assert.rejects(
      createTestQueue({ functions: { double } }, { nwo: NOON } as never),
      unknown('createTestQueue: unknown option "nwo"; known: now'),
    );
    await assert.rejects(
      runFunction(double, [1], { try: 2 } as never),
      unknown('runFunction: unknown option "try"; known: ctx, jobTry, kwargs'),
    );
    await using queue = await createTestQueue({ functions: { double } });
    await queue.arq.enqueueJob("double", [1]);
    assert.throws(
      () => queue.assertEnqueued("double", [1], { defer: 5_000 } as never),
      unknown('assertEnqueued: unknown option "defer"; did you mean "deferBy"?'),
    );
  });

  it("needs no permission", async () => {
    if (!("Deno" in globalThis)) return; // Bun has no permissions
    const file = fileURLToPath(new URL("./data/unpermitted.ts", import.meta.url));
    const flags = ["test", "--no-prompt", "--no-check", "--frozen", "--cached-only"];
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, file], {
      env: { ...process.env, NO_COLOR: "1" },
    });
    assert.match(stdout, /ok \| 1 passed \(2 steps\) \| 0 failed/);
  });
});

describe("runFunction", () => {
  it("gives the function a real context, its state and its arguments", async () => {
    const all = (ctx: JobContext<{ db: string }>, ...args: unknown[]) => ({
      args,
      db: ctx.db,
      name: ctx.functionName,
      jobTry: ctx.jobTry,
      kwargs: ctx.kwargs,
      isAborted: ctx.signal.aborted,
    });
    const options = { ctx: { db: "mine" }, jobTry: 2, kwargs: { x: 1 } };
    assert.deepEqual(await runFunction(all, [1, new Date(5)], options), {
      args: [1, new Date(5)],
      db: "mine",
      name: "all",
      jobTry: 2,
      kwargs: { x: 1 },
      isAborted: false,
    });
    assert.equal(await runFunction(() => "nothing asked"), "nothing asked");
  });

  it("returns the result as it travels", async () => {
    class Price {
      readonly cents = 5;
      get text(): string {
        return `${this.cents} ct`;
      }
    }
    const result = await runFunction(() => [new Price(), { seen: new Set([1]) }]);
    assert.deepEqual(result, [{ cents: 5 }, { seen: new Set([1]) }]);
  });

  it("throws what the function throws, and Retry", async () => {
    await assert.rejects(runFunction(fail, ["no"]), new RangeError("no"));
    const again = () => Promise.reject(new Retry({ defer: { seconds: 2 } }));
    await assert.rejects(runFunction(again), (error) => {
      return error instanceof Retry && error.deferMs === 2_000;
    });
    const slow = func(
      (ctx: JobContext) => new Promise((_, reject) => ctx.signal.addEventListener("abort", reject)),
      { timeout: 10 },
    );
    await assert.rejects(runFunction(slow), JobTimeoutError);
    await assert.rejects(runFunction(() => () => {}), SerializationError);
    await assert.rejects(runFunction(double, [(() => 1) as never]), SerializationError);
    await assert.rejects(runFunction(double, [1], { jobTry: 9 }), /max 5 tries exceeded/);
  });

  it("is typed by the function", async () => {
    const result: number = await runFunction(double, [2]);
    assert.equal(result, 4);
    // @ts-expect-error: the argument is a number
    await runFunction(double, ["2"]);
    // @ts-expect-error: the argument is missing
    await runFunction(double);
  });
});
