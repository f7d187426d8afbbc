/** Functions in processes of their own: what they are told, how they end, how they are stopped. */
import { configure, type LogRecord, reset } from "@logtape/logtape";
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { getPriority } from "node:os";
import process from "node:process";
import { describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import {
  createPool,
  func,
  JobAborted,
  type JobContext,
  JobExecutionFailed,
  JobTimeoutError,
  SerializationError,
  Worker,
  type WorkerSettings,
} from "../mod.ts";
import { newMark } from "../isolate_channel.ts";
import { IsolateProcess } from "../isolate_process.ts";
import type { Lease } from "../store.ts";
import { jobDeserializer, jobSerializer, Money } from "./data/money.ts";
import { gone, isAlive, isolated, Notes } from "./_isolation.ts";
import { pause, scenarios, until } from "./_worker.ts";

const POLL = { pollDelay: 20 };
/** For what takes as long as a process, or a few, take to start. */
const DEADLINE_MS = 40_000;
const IN_MEMORY = "sqlite::memory:";

scenarios("A function in a process of its own", (scenario) => {
  scenario("is given the job and gives its end, with every type", async (scene) => {
    const functions = { look: isolated("look"), fail: isolated("fail"), again: isolated("again") };
    let score: number | undefined;
    const onJobStart = (ctx: JobContext) => score ??= ctx.score;
    const { worker } = scene.start({ functions, onJobStart, ...POLL });
    const values = [new Date(5), new Map([[1, { big: 2n ** 70n }]]), undefined, -0, /x/g];
    const job = await scene.arq.enqueueJob("look", values, { jobId: "j", kwargs: { b: 2 } });
    const { context, args } = await job?.result({ timeout: DEADLINE_MS }) as {
      readonly context: unknown;
      readonly args: unknown;
    };
    assert.deepEqual(args, values);
    const info = await job?.resultInfo();
    assert.deepEqual(context, {
      jobId: "j",
      jobTry: 1,
      enqueueTime: info?.enqueueTime,
      score,
      functionName: "look",
      queueName: scene.queueName,
      kwargs: { b: 2 },
      isAborted: false,
    });
    const failed = await scene.arq.enqueueJob("fail");
    await assert.rejects(failed.result({ timeout: DEADLINE_MS }), (error: RangeError) => {
      assert.ok(error instanceof RangeError);
      assert.equal(error.message, "too far");
      assert.ok(error.cause instanceof TypeError);
      assert.match(error.stack ?? "", /data\/isolated\.ts/);
      assert.deepEqual(Object.entries(error), [["code", "EFAR"], ["at", new Date(0)]]);
      return true;
    });
    assert.equal(await scene.arq.call("again", [], { timeout: DEADLINE_MS }), 2);
    assert.equal(String(worker), "<Worker j_complete=2 j_failed=1 j_retried=1 j_ongoing=0>");
  });

  scenario("is killed when its lease is lost", async (scene) => {
    using notes = new Notes();
    const { worker } = scene.start({
      functions: { spin: isolated("spin") },
      lease: 300,
      abortGrace: 30,
      ...POLL,
    });
    const job = await scene.arq.enqueueJob("spin", [notes.path("pid")]);
    const pid = await notes.pid("pid");
    const stolen = await scene.stealLeases();
    await gone(pid);
    await until("the worker is free", () => worker.jobsOngoing === 0);
    await worker.close();
    const release = (lease: Lease) => ({ lease, kind: "release", starts: 1 } as const);
    await scene.arq.store.giveBack(scene.queueName, stolen.map(release));
    await scene.burst({ functions: { spin: () => "by another" } });
    assert.equal(await job.result(), "by another");
  });

  scenario("tells how far it is, although it never gives way", async (scene) => {
    using notes = new Notes();
    const file = notes.path("go");
    scene.start({ functions: { advance: isolated("advance") }, ...POLL });
    const job = await scene.arq.enqueueJob("advance", [file]);
    const values: unknown[] = [];
    for await (const event of job.events()) {
      if (event.kind === "progress") values.push(event.value);
      if (values.length === 1) writeFileSync(file, "");
    }
    assert.deepEqual(values[0], new Map([["waits for", file]]));
    assert.equal(values.at(-1), 1_000);
    assert.equal(await job.result(), 1);
  });

  scenario("is killed when it spins: by abort, and by the worker's end", async (scene) => {
    using notes = new Notes();
    const functions = { spin: isolated("spin", { maxProcesses: 1 }) };
    const settings = { functions, abortGrace: 30, ...POLL };
    const { worker, ended } = scene.start(settings);
    const aborted = await scene.arq.enqueueJob("spin", [notes.path("a")]);
    const first = await notes.pid("a");
    assert.equal(await aborted.abort({ timeout: DEADLINE_MS }), true);
    await assert.rejects(aborted.result(), JobAborted);
    const job = await scene.arq.enqueueJob("spin", [notes.path("b")]);
    const second = await notes.pid("b");
    await worker.close();
    await ended;
    assert.ok(!isAlive(first) && !isAlive(second), "no process outlives its worker");
    assert.equal(await job.status(), "queued");
    await scene.burst({ functions: { spin: () => "again" } });
    assert.equal(await job.result(), "again");
  });
});

/** A worker in memory, which leaves no process behind. */
async function playing(
  settings: Partial<WorkerSettings<never>>,
  play: (
    call: (name: string, ...args: readonly unknown[]) => Promise<unknown>,
    worker: Worker,
  ) => Promise<void>,
): Promise<void> {
  await using arq = await createPool(IN_MEMORY);
  const worker = new Worker({ connection: arq, abortGrace: 30, ...POLL, ...settings } as object);
  const running = worker.run();
  try {
    await play((name, ...args) => arq.call(name, args, { timeout: DEADLINE_MS }), worker);
  } finally {
    await worker.close();
  }
  await running;
}

type Count = { readonly pid: number; readonly calls: number };

describe("A pool of processes", () => {
  it("is shared by the functions of a module, kept warm, and ended in order", async () => {
    using notes = new Notes();
    let pid = 0;
    const functions = {
      count: isolated("count"),
      more: isolated("count"),
      mourn: isolated("mourn"),
    };
    await playing({ functions }, async (call) => {
      const first = await call("count") as Count;
      pid = first.pid;
      assert.notEqual(pid, process.pid);
      assert.ok(getPriority(pid) >= 10, "it yields to what waits");
      await call("mourn", notes.path("end"));
      assert.deepEqual(await call("more"), { pid, calls: 2 });
      assert.ok(isAlive(pid));
    });
    assert.ok(!isAlive(pid));
    assert.equal(readFileSync(notes.path("end"), "utf8"), "in order");
  });

  it("has so many processes and no more; a job's time begins when it has one", async () => {
    using notes = new Notes();
    const functions = {
      hold: isolated("hold", { maxProcesses: 2 }, { timeout: DEADLINE_MS }),
      count: isolated("count", { maxProcesses: 2 }, { timeout: 1_500 }),
      nap: () => pause(1_600), // longer than the time of the job that waits
    };
    await playing({ functions }, async (call, worker) => {
      const held = [call("hold", notes.path("go")), call("hold", notes.path("go"))];
      await until("two jobs run", () => worker.jobsOngoing === 2);
      const waiting = call("count");
      await until("the third waits", () => worker.jobsOngoing === 3);
      await call("nap");
      writeFileSync(notes.path("go"), "");
      const pids = await Promise.all(held);
      assert.equal(new Set(pids).size, 2);
      assert.ok(pids.includes((await waiting as Count).pid));
    });
  });

  it("replaces a process after so many jobs, or so long without one", async () => {
    const functions = {
      used: isolated("count", { maxJobsPerProcess: 2 }),
      idle: isolated("count", { idleTime: 1 }),
    };
    await playing({ functions }, async (call) => {
      const used = [await call("used"), await call("used"), await call("used")] as Count[];
      assert.deepEqual(used.map(({ calls }) => calls), [1, 2, 1]);
      const { pid } = await call("idle") as Count;
      await gone(pid);
      assert.deepEqual((await call("idle") as Count).calls, 1);
    });
  });
});

describe("What a function logs", () => {
  it("is told as its job's, also when its process runs the next one", async () => {
    using notes = new Notes();
    const records: LogRecord[] = [];
    await configure({
      sinks: { memory: (record) => void records.push(record) },
      loggers: [
        { category: ["arq", "job"], sinks: ["memory"] },
        { category: ["logtape", "meta"], lowestLevel: "error", sinks: [] },
      ],
      reset: true,
    });
    const functions = { linger: isolated("linger"), tarry: isolated("tarry") };
    await playing({ functions }, async (call, worker) => {
      await call("linger", notes.path("log"));
      const next = call("tarry", notes.path("end"));
      await until("the next job runs", () => worker.jobsOngoing === 1);
      writeFileSync(notes.path("log"), "");
      await until("the log", () => records.length > 0);
      writeFileSync(notes.path("end"), "");
      await next;
    });
    await reset();
    const told = records.map(({ message, properties }) => [message.join(""), properties.function]);
    assert.deepEqual(told, [["left behind", "linger"]]);
  });
});

describe("A serializer of the program's own", () => {
  it("carries what the process is given and gives", async () => {
    const serializer = import.meta.resolve("./data/money.ts");
    const functions = { double: isolated("double", { serializer }), plain: isolated("double") };
    await using arq = await createPool("sqlite::memory:", { jobSerializer, jobDeserializer });
    await playing({ functions, connection: arq }, async () => {
      const doubled = await arq.call("double", [new Money(21)], { timeout: DEADLINE_MS });
      assert.ok(doubled instanceof Money);
      assert.equal(doubled.cents, 42);
      await assert.rejects(
        arq.call("plain", [new Money(21)], { timeout: DEADLINE_MS }),
        /no money/,
      );
    });
  });
});

describe("A process that fails", () => {
  const fails = (call: Promise<unknown>, message: RegExp) =>
    assert.rejects(call, (error: Error) => {
      assert.ok(error instanceof JobExecutionFailed);
      assert.match(error.message, message);
      return true;
    });

  it("takes its own job with it, and tells why", async () => {
    const names = ["exit", "garble", "leave", "count", "toss", "untransportable", "missing"];
    const functions = Object.fromEntries(
      names.map((name) => [name, isolated(name, { maxProcesses: 1 })]),
    );
    await playing({ functions }, async (call) => {
      const exit =
        /^The process that ran "exit" ended with exit code 3 before the job did; it printed last:\n/;
      await fails(call("exit", 3), exit);
      await fails(call("exit", 3), /\n {2}line 4\n(?:.*\n)+ {2}the last line$/);
      await fails(call("garble", 0x7fffffff), /its channel \(it claims to have 2147483647 bytes\)/);
      await fails(call("garble", 10), /its channel \(its checksum is wrong\).*\n {2}garbling$/);
      await fails(call("missing"), /^Module file:.* exports no function "missing"$/);
      await assert.rejects(call("toss"), { name: "NonError", message: "a text" });
      await assert.rejects(call("untransportable"), (error: Error) => {
        assert.ok(error instanceof SerializationError);
        assert.match(error.message, /result\.inner\.handler/);
        return true;
      });
      const pid = await call("leave") as number;
      await gone(pid);
      assert.equal((await call("count") as Count).calls, 1);
    });
  });

  it("is used no more where its module could not be loaded, which may succeed in another", async () => {
    using notes = new Notes();
    const module = notes.path("module.mjs");
    const isThere = 'existsSync(new URL("database", import.meta.url))';
    writeFileSync(
      module,
      `import { existsSync } from "node:fs";
      if (!${isThere}) throw new Error("no database");
      export const query = () => "found";`,
    );
    const query = func(`${pathToFileURL(module).href}#query`, { isolate: { maxProcesses: 1 } });
    await playing({ functions: { query } }, async (call) => {
      for (let i = 0; i < 2; i++) await assert.rejects(call("query"), /^Error: no database$/);
      writeFileSync(notes.path("database"), "");
      assert.equal(await call("query"), "found");
    });
  });

  it("may print as it likes, and return what is large", async () => {
    await playing({ functions: { print: isolated("print") } }, async (call) => {
      assert.equal((await call("print") as string).length, 1_000_000);
      assert.equal((await call("print") as string).length, 1_000_000);
    });
  });

  it("may have others print where it does, whatever it tells meanwhile", async () => {
    await playing({ functions: { mingle: isolated("mingle") } }, async (call) => {
      for (let i = 0; i < 9; i++) assert.equal((await call("mingle") as string).length, 1_000_000);
    });
  });

  it("is killed from outside", async () => {
    using notes = new Notes();
    await playing({ functions: { spin: isolated("spin") } }, async (call) => {
      const spinning = fails(
        call("spin", notes.path("pid")),
        /ended with SIGKILL before the job did/,
      );
      process.kill(await notes.pid("pid"), "SIGKILL");
      await spinning;
    });
  });

  it("may have ended by itself, unnoticed, when it is killed", async () => {
    const command = { path: "/bin/sh", args: ["-c", "exit 0"], mayYield: false, advice: "" };
    for (let i = 0; i < 20; i++) {
      const isolate = new IsolateProcess(command, newMark());
      await pause(0);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5); // as a busy worker does
      isolate.kill();
      await isolate.ended;
    }
  });
});

/** Ends its process by one signal after the other, at each start, before the process can ignore any. */
const ENDED_AT_ITS_START = `
import { appendFileSync, readFileSync } from "node:fs";
import process from "node:process";
const starts = new URL("starts", import.meta.url);
appendFileSync(starts, "x");
const signal = ["SIGINT", "SIGTERM", "SIGHUP"][readFileSync(starts).length - 1];
if (signal) process.kill(process.pid, signal);
`;

describe("A process that ends between two jobs", () => {
  const functions = Object.fromEntries(
    ["abandon", "count", "endure"].map((name) => [name, isolated(name, { maxProcesses: 1 })]),
  );

  it("fails neither, whether something left by the first ends it or somebody else", async () => {
    await playing({ functions }, async (call) => {
      for (const how of ["rejects", "rejects later", "throws"]) {
        await call("count");
        const abandoned = await call("abandon", how);
        const { pid, calls } = await call("count") as Count;
        assert.notEqual(pid, abandoned);
        assert.equal(calls, 1);
        process.kill(pid, "SIGKILL");
        assert.equal((await call("count") as Count).calls, 1);
      }
    });
  });

  it("does not end where the module heeds what nobody catches", async () => {
    for (const by of ["listeners", "callback", ..."Deno" in globalThis ? ["events"] : []]) {
      await playing({ functions }, async (call) => {
        await call("endure", by);
        const pid = await call("abandon", "rejects");
        assert.equal(await call("abandon", "throws"), pid);
        assert.deepEqual(await call("count"), { pid, calls: 1 });
      });
    }
  });
});

describe("A process that Bun does not end for what nobody catches", () => {
  it("goes on as well", async () => {
    if ("Deno" in globalThis) return; // It has no such mode.
    const isolate = { maxProcesses: 1, runtimeArgs: ["--unhandled-rejections=warn"] };
    const functions = { abandon: isolated("abandon", isolate), count: isolated("count", isolate) };
    await playing({ functions }, async (call) => {
      const pid = await call("abandon", "rejects");
      assert.deepEqual(await call("count"), { pid, calls: 1 });
    });
  });
});

describe("A signal to end, which reaches a process as well as its worker,", () => {
  it("is ignored, whether the function gives way or not", async () => {
    using notes = new Notes();
    const functions = Object.fromEntries(
      ["count", "hold", "tarry"].map((name) => [name, isolated(name, { maxProcesses: 1 })]),
    );
    await playing({ functions }, async (call) => {
      const { pid } = await call("count") as Count;
      for (const name of ["hold", "tarry"]) {
        const running = call(name, notes.path(name));
        for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.kill(pid, signal);
        writeFileSync(notes.path(name), "");
        await running;
      }
      assert.deepEqual(await call("count"), { pid, calls: 2 });
    });
  });

  it("has the job begin in another process if it comes while one starts", async () => {
    using notes = new Notes();
    writeFileSync(notes.path("preload.mjs"), ENDED_AT_ITS_START);
    const runtimeArgs = [`--preload=${notes.path("preload.mjs")}`];
    await playing({ functions: { count: isolated("count", { runtimeArgs }) } }, async (call) => {
      assert.equal((await call("count") as Count).calls, 1);
      assert.equal(readFileSync(notes.path("starts")).length, 4);
    });
  });
});

describe("A function that is told to stop", () => {
  it("has time to heed its signal", async () => {
    using notes = new Notes();
    const functions = { heed: isolated("heed", true, { timeout: 300 }), count: isolated("count") };
    await playing({ functions, abortGrace: 5_000 }, async (call) => {
      const { pid } = await call("count") as Count;
      await assert.rejects(call("heed", notes.path("reason")), JobTimeoutError);
      assert.match(
        readFileSync(notes.path("reason"), "utf8"),
        /^JobTimeoutError: .* within 0\.3 s$/,
      );
      assert.deepEqual(await call("count"), { pid, calls: 2 }, "its process is not lost");
    });
  });

  it("is killed at its timeout while it spins, and its place is free at once", async () => {
    using notes = new Notes();
    const functions = {
      spin: isolated("spin", { maxProcesses: 1 }, { timeout: 1_500 }), // in which it says that it spins
      count: isolated("count", { maxProcesses: 1 }),
    };
    await playing({ functions }, async (call) => {
      await call("count");
      const rejected = assert.rejects(call("spin", notes.path("pid")), JobTimeoutError);
      const pid = await notes.pid("pid");
      const waiting = call("count");
      await rejected;
      assert.equal((await waiting as Count).calls, 1);
      await gone(pid);
    });
  });
});
