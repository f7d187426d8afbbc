import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { cron, func, SettingsError, Worker, type WorkerSettings } from "../mod.ts";
import { resolveSettings } from "../worker_settings.ts";

const noop = () => {};
const functions = { noop };

class Directory {
  readonly names: string[] = [];
  find(name: string): boolean {
    return this.names.includes(name);
  }
  get size(): number {
    return this.names.length;
  }
}

/** The problems of settings that may be anything, as a program without types has them. */
function problemsOf(settings: unknown): readonly string[] {
  try {
    new Worker(settings as WorkerSettings);
  } catch (error) {
    assert.ok(error instanceof SettingsError, String(error));
    assert.equal(
      error.message,
      ["Cannot use these worker settings:", ...error.problems].join("\n  "),
    );
    return error.problems;
  }
  return [];
}

describe("Worker settings", () => {
  it("need at least one function", () => {
    const problem = "functions is empty, and so is cronJobs: give the worker at least one function";
    assert.deepEqual(problemsOf({}), [problem]);
    assert.deepEqual(problemsOf({ functions: [] }), [problem]);
    assert.deepEqual(problemsOf({ cronJobs: [cron(function tick() {}, "0 0 * * *")] }), []);
  });

  it("have arq's defaults", () => {
    const { client, hooks, functions: registered, ...rest } = resolveSettings({ functions });
    assert.equal(client.defaultQueueName, "arq:queue");
    assert.equal(client.store.address, "localhost:6379");
    assert.deepEqual(hooks, {
      onStartup: undefined,
      onShutdown: undefined,
      onJobStart: undefined,
      onJobEnd: undefined,
      afterJobEnd: undefined,
    });
    assert.deepEqual(
      { ...registered.get("noop"), fn: undefined },
      {
        name: "noop",
        fn: undefined,
        isSlot: false,
        timeoutMs: 300_000,
        keepMs: 3_600_000,
        maxTries: 5,
        isolate: undefined,
      },
    );
    assert.deepEqual(rest, {
      keepResultMs: 3_600_000,
      cronJobs: [],
      ownsClient: true,
      queueName: "arq:queue",
      burst: false,
      maxBurstJobs: Infinity,
      handleSignals: false,
      jobCompletionWaitMs: 0,
      abortGraceMs: 1_000,
      maxJobs: 10,
      pollDelayMs: 500,
      queueReadLimit: 100,
      leaseMs: 30_000,
      healthCheckIntervalMs: 3_600_000,
      healthCheckKey: "arq:queue:health-check",
      state: {},
      retryJobs: true,
      allowAbortJobs: true,
      timezone: undefined,
      logResults: true,
    });
  });

  it("read five times maxJobs from the queue, if that is more than 100", () => {
    assert.equal(resolveSettings({ functions, maxJobs: 50 }).queueReadLimit, 250);
    assert.equal(resolveSettings({ functions, maxJobs: 50, queueReadLimit: 7 }).queueReadLimit, 7);
  });

  it("take durations as milliseconds, as an object or from Temporal", () => {
    const { jobCompletionWaitMs, pollDelayMs, leaseMs, keepResultMs } = resolveSettings({
      functions,
      jobCompletionWait: { minutes: 1, seconds: 30 },
      pollDelay: 250,
      lease: Temporal.Duration.from({ seconds: 10 }),
      keepResult: "forever",
    });
    const read = [jobCompletionWaitMs, pollDelayMs, leaseMs, keepResultMs];
    assert.deepEqual(read, [90_000, 250, 10_000, "forever"]);
  });

  it("report every problem at once", () => {
    const problems = problemsOf({
      functions: { noop: 3 },
      maxJob: 5,
      maxTries: 0,
      pollDelay: -1,
      burst: "yes",
      onStartup: 7,
      timezone: "Mars/Phobos",
      connection: { host: "localhost", prot: 6380, port: 0 },
    });
    const expected = [
      'unknown option "maxJob"; did you mean "maxJobs"?',
      "maxTries must be a whole number of 1 or more, got 0",
      "pollDelay must be 1 ms or more, got -1 (milliseconds)",
      'burst must be true or false, got "yes"',
      "onStartup must be a function, got 7",
      'timezone must be an IANA name such as "Europe/London", got "Mars/Phobos"',
      "functions.noop must be a function or what func() returns, got 3",
      'unknown option "prot"; did you mean "port"?',
      "port must be a whole number from 1 to 65535, got 0",
    ];
    assert.deepEqual([...problems].sort(), expected.sort());
  });

  it("report every bad entry of a list, and every unknown option of a function", () => {
    const options = { timout: 1, xyz: 2, keepResult: -1, maxTries: 0 } as never;
    assert.deepEqual(problemsOf({ functions: [3, noop, "x", func(noop, options)] }), [
      "functions.0 must be a function or what func() returns, got 3",
      'functions.2 must be a function or what func() returns, got "x"',
      'functions: two functions are named "noop", give one of them a name: func(fn, { name })',
    ]);
    assert.deepEqual(problemsOf({ functions: { a: func(noop, options) } }), [
      'functions.a: unknown option "timout"; did you mean "timeout"?',
      'functions.a: unknown option "xyz"; known: name, keepResult, timeout, maxTries, isolate',
      "functions.a: maxTries must be a whole number of 1 or more, got 0",
      "functions.a: keepResult must be 0 or more, got -1",
    ]);
  });

  it("know what other queues call an option", () => {
    const named = { concurrency: 50, lockDuration: 1, removeOnComplete: true, drainDelay: 5 };
    const connection = { db: 2, tls: {}, connection: {} };
    const functions = { a: func(noop, { attempts: 3 } as never) };
    assert.deepEqual(problemsOf({ ...named, functions, connection }), [
      'unknown option "concurrency"; did you mean "maxJobs"?',
      'unknown option "lockDuration"; did you mean "lease"?',
      'unknown option "removeOnComplete"; did you mean "keepResult"?',
      'unknown option "drainDelay"',
      'functions.a: unknown option "attempts"; did you mean "maxTries"?',
      'unknown option "db"; did you mean "database"?',
      'unknown option "tls"; did you mean "ssl"?',
      'unknown option "connection"',
    ]);
  });

  it("say how a function in processes of its own may be described", () => {
    const { functions: registered } = resolveSettings({
      functions: { one: func("file:///a.ts", { isolate: true }), two: func("file:///a.ts") },
    });
    assert.deepEqual(registered.get("one")?.isolate, {
      maxProcesses: navigator.hardwareConcurrency,
      idleMs: 60_000,
      maxJobsPerProcess: Infinity,
      permissions: {},
      serializer: undefined,
      runtimeArgs: [],
    });
    assert.equal(registered.get("two")?.isolate, undefined);
    const options = {
      maxProcesses: 0,
      maxJobsPerProcess: 1.5,
      idleTime: -1,
      serializer: "",
      runtimeArgs: ["--smol", "-A"],
      permissions: { net: 1, read: ["a,b"], wride: false },
      timeout: 1,
    } as never;
    const problems = [
      'isolate: unknown option "timeout"; known: maxProcesses, idleTime, maxJobsPerProcess, ' +
      "permissions, serializer, runtimeArgs",
      "isolate.maxProcesses must be a whole number of 1 or more, got 0",
      "isolate.maxJobsPerProcess must be a whole number of 1 or more, got 1.5",
      'isolate.serializer must be a module specifier, got ""',
      'isolate.runtimeArgs must not have "-A": use isolate.permissions',
      'isolate.permissions: unknown option "wride"; did you mean "write"?',
      'isolate.permissions.read must be true, false or a list of texts without a comma, got ["a,b"]',
      "isolate.permissions.net must be true, false or a list of texts without a comma, got 1",
      "isolate.idleTime must be 0 or more, got -1",
    ];
    assert.deepEqual(
      problemsOf({ functions: { a: func("file:///a.ts", { isolate: options }) } }),
      problems.map((problem) => `functions.a: ${problem}`),
    );
    for (const argument of ["-qA", "-rN=a.example", "--allow-all", "--permission-set=x"]) {
      const isolate = { runtimeArgs: ["-q", "-cApp.json", argument] };
      assert.deepEqual(problemsOf({ functions: { a: func("file:///a.ts", { isolate }) } }), [
        `functions.a: isolate.runtimeArgs must not have "${argument}": use isolate.permissions`,
      ]);
    }
    assert.deepEqual(
      problemsOf({
        functions: {
          b: func("file:///a.ts", { isolate: 5 as never }),
          c: func(noop, { isolate: true }),
        },
      }),
      [
        "functions.b: isolate must be true, false or an object of options, got 5",
        "functions.c: isolate needs a module specifier in place of the function, which cannot be " +
        'sent to another process: func(import.meta.resolve("./tasks.ts#resize"), { isolate: true })',
      ],
    );
  });

  it("tell that a relative specifier needs its module", () => {
    const given = {
      functions: {
        a: func("./a.ts#b"),
        e: func("file:///e.ts#f", { isolate: { serializer: "./json.ts" } }),
      },
      cronJobs: [cron("../c.ts#d", "@hourly", { isolate: true })],
    };
    assert.deepEqual(problemsOf(given), [
      'functions.a: nobody knows what "./a.ts#b" is relative to; write ' +
      'import.meta.resolve("./a.ts#b")',
      'functions.e: isolate.serializer: nobody knows what "./json.ts" is relative to; write ' +
      'import.meta.resolve("./json.ts")',
      'functions.cron:d: nobody knows what "../c.ts#d" is relative to; write ' +
      'import.meta.resolve("../c.ts#d")',
    ]);
  });

  for (
    const [what, settings, problem] of [
      ["no object", null, "they must be an object, got null"],
      ["a text", "redis://", 'they must be an object, got "redis://"'],
      ["a key without a near one", { functions, xyz: 1 }, 'unknown option "xyz"'],
      [
        "a name of Python's",
        { functions, max_jobs: 1 },
        'unknown option "max_jobs"; did you mean "maxJobs"?',
      ],
      [
        "a fraction of a job",
        { functions, maxJobs: 1.5 },
        "maxJobs must be a whole number of 1 or more, got 1.5",
      ],
      [
        "-1 for no limit",
        { functions, maxBurstJobs: -1 },
        "maxBurstJobs must be a whole number of 1 or more, got -1",
      ],
      [
        "a word but forever",
        { functions, keepResult: "forevr" },
        'keepResult must be milliseconds, an object such as { hours: 5 } or "forever", got "forevr"',
      ],
      [
        "a negative duration",
        { functions, keepResult: -5 },
        "keepResult must be 0 or more, got -5",
      ],
      [
        "an unknown unit",
        { functions, jobTimeout: { second: 5 } },
        'jobTimeout has an unknown unit "second"; use days, hours, minutes, seconds, milliseconds',
      ],
      [
        "no timeout at all",
        { functions, jobTimeout: 0 },
        "jobTimeout must be 1 ms or more, got 0 (milliseconds)",
      ],
      [
        "too short a lease",
        { functions, lease: 30 },
        "lease must be 100 ms or more, got 30 (milliseconds)",
      ],
      ["no tries, once", { functions, maxTries: 0 }, /^maxTries must be a whole number .*got 0$/],
      ["a worker", new Worker({ functions }), "export the settings, not a Worker"],
      [
        "a function that is no cron job",
        { cronJobs: [noop] },
        'cronJobs must be a list of what cron() returns, got ["function noop"]',
      ],
      [
        "Python's name of the connection",
        { functions, redis_settings: {} },
        'unknown option "redis_settings"; did you mean "connection"?',
      ],
      [
        "a pool by another name",
        { functions, redisPool: {} },
        'unknown option "redisPool"; did you mean "connection"?',
      ],
      [
        "no options of a function",
        { functions: { a: func(noop, null as never) } },
        "functions.a: func takes an object such as { timeout: { minutes: 2 } }, got null",
      ],
      [
        "an empty queue name",
        { functions, queueName: "" },
        'queueName must be a text that is not empty, got ""',
      ],
      [
        "a number as prefix",
        { functions, prefix: 5 },
        "prefix must be a text that is not empty, got 5",
      ],
      [
        "a text as serializer",
        { functions, jobSerializer: "json" },
        'jobSerializer must be a function, got "json"',
      ],
      [
        "a negative expiresExtra",
        { functions, expiresExtra: -1 },
        "expiresExtra must be 1 ms or more, got -1 (milliseconds)",
      ],
      [
        "a number of functions",
        { functions: 5 },
        "functions must be a record or a list of functions, got 5",
      ],
      [
        "no functions at all",
        { functions: null },
        "functions must be a record or a list of functions, got null",
      ],
      [
        "cron jobs that are none",
        { functions, cronJobs: [{}] },
        "cronJobs must be a list of what cron() returns, got [{}]",
      ],
      [
        "what only looks like a cron job",
        { functions, cronJobs: [{ schedule: "@daily" }] },
        'cronJobs must be a list of what cron() returns, got [{"schedule":"@daily"}]',
      ],
      [
        "one cron job",
        { functions, cronJobs: cron(noop, "0 0 * * *") },
        /^cronJobs must be a list of what cron\(\) returns, got \{/,
      ],
      [
        "a function without a name",
        { functions: [() => {}] },
        "functions: a function without a name needs func(fn, { name })",
      ],
      [
        "two functions of one name",
        { functions: [noop, func(noop)] },
        'functions: two functions are named "noop", give one of them a name: func(fn, { name })',
      ],
      [
        "a function called like a cron job",
        {
          functions: { "cron:noop": noop },
          cronJobs: [cron(noop, "0 0 * * *")],
        },
        'functions: two functions are named "cron:noop", give one of them a name: cron(fn, …, { name })',
      ],
      [
        "an unknown option of a function",
        { functions: { a: func(noop, { timout: 5 } as never) } },
        'functions.a: unknown option "timout"; did you mean "timeout"?',
      ],
      [
        "tries of a function that are no whole number",
        { functions: { a: func(noop, { maxTries: 1.5 }) } },
        "functions.a: maxTries must be a whole number of 1 or more, got 1.5",
      ],
      [
        "a bad duration of a function",
        { functions: { a: func(noop, { keepResult: -1 }) } },
        "functions.a: keepResult must be 0 or more, got -1",
      ],
      [
        "a bad connection string",
        { functions, connection: "http://x" },
        /^a connection string starts with redis:\/\/.*got "http:"$/,
      ],
      [
        "a connection that is none",
        { functions, connection: 6379 },
        /^A connection is a connection string, .*got 6379$/,
      ],
      [
        "a connection that was not awaited",
        { functions, connection: Promise.resolve() },
        /^A connection is a connection string, .*got a Promise; is an await missing\?$/,
      ],
      [
        "state that hides the context",
        { functions, ctx: { jobId: 1, arq: 2 } },
        "ctx: the state must not have jobId, arq, which every job's context has",
      ],
      [
        "a queue name with half a character",
        { functions, queueName: "\ud800" },
        'queueName must not have a lone surrogate, got "\\ud800"',
      ],
      [
        "state that is a list",
        { functions, ctx: ["a"] },
        'ctx must be an object, got ["a"]',
      ],
      [
        "state whose methods no job would find",
        { functions, ctx: new (class extends Directory {})() },
        "ctx: find, size of its class would be lost; put the object under a name, such as " +
        "{ app: … }",
      ],
    ] as const
  ) {
    it(`refuse ${what} in one clear line`, () => {
      const problems = problemsOf(settings);
      assert.equal(problems.length, 1, problems.join("\n"));
      if (typeof problem === "string") assert.equal(problems[0], problem);
      else assert.match(problems[0] ?? "", problem);
    });
  }

  it("do not change the object they are read from", () => {
    const settings = Object.freeze({ functions: Object.freeze({ noop }), ctx: Object.freeze({}) });
    new Worker(settings);
  });
});
