/** More than is good: many jobs, large ones, functions that block and functions that leak. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import process from "node:process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { createPool, type JobContext, Worker } from "../mod.ts";
import { startRedis } from "./_redis.ts";
import { Gate, pause, scenarios, start, until } from "./_worker.ts";

const one = () => 1;

/** Keeps the event loop from everything else. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

scenarios("A worker whose event loop is blocked for longer than the lease", (scenario) => {
  const LEASE_MS = 200;

  scenario("records the success that comes late, once, and goes on", async (scene) => {
    let runs = 0;
    const settings = { lease: LEASE_MS, pollDelay: 20 };
    const stall = () => {
      runs++;
      block(3 * LEASE_MS);
      return `run ${runs}`;
    };
    const { worker } = scene.start({ functions: { stall, one }, ...settings });
    await scene.arq.call("one"); // the server knows the scripts from now on
    const job = await scene.arq.enqueueJob("stall");
    assert.equal(await job.result({ timeout: 10_000 }), "run 1");
    assert.equal(await scene.arq.call("one", [], { timeout: 5_000 }), 1);
    assert.equal(await job.result(), "run 1");
    assert.deepEqual([runs, worker.jobsComplete], [1, 3]);
  });

  scenario(
    "goes on under a new lease where it is the first to find the old one ended",
    async (scene) => {
      const gate = new Gate();
      let signal: AbortSignal | undefined;
      const wait = async (ctx: JobContext) => {
        signal = ctx.signal;
        await gate.pass();
        ctx.progress("half");
        return `try ${ctx.jobTry}`;
      };
      const { worker } = scene.start({ functions: { wait, one }, pollDelay: 20 });
      const job = await scene.arq.enqueueJob("wait");
      await gate.reached();
      await scene.endLeases();
      await until("it is claimed again", async () => {
        const { locked } = await scene.arq.store.lookUp(scene.queueName, job.jobId, false);
        return locked;
      });
      assert.equal(await scene.arq.call("one", [], { timeout: 5_000 }), 1);
      gate.open();
      assert.equal(await job.result({ timeout: 5_000 }), "try 1");
      assert.deepEqual([signal?.aborted, gate.arrived, worker.jobsComplete], [false, 1, 2]);
      assert.equal((await scene.arq.store.readProgress(job.jobId))?.starts, 1, "told as its try");
    },
  );

  scenario("keeps a success whose lease was lost while its hook still ran", async (scene) => {
    const gate = new Gate();
    let runs = 0;
    let signal: AbortSignal | undefined;
    const succeed = (ctx: JobContext) => {
      signal = ctx.signal;
      return `run ${++runs}`;
    };
    const onJobEnd = () => gate.pass();
    const { worker } = scene.start({
      functions: { succeed },
      onJobEnd,
      lease: LEASE_MS,
      pollDelay: 20,
    });
    const job = await scene.arq.enqueueJob("succeed");
    await gate.reached();
    const [lease] = await scene.stealLeases();
    assert.ok(lease);
    await until("the loss is noticed", () => signal?.aborted === true);
    await scene.arq.store.giveBack(scene.queueName, [{ lease, kind: "release", starts: 2 }]);
    await until("it is claimed again", async () => {
      return (await scene.arq.store.lookUp(scene.queueName, job.jobId, false)).locked;
    });
    gate.open();
    assert.equal(await job.result({ timeout: 5_000 }), "run 1");
    assert.deepEqual([runs, worker.jobsComplete], [1, 1]);
  });

  scenario("loses a failure that comes late to whoever has the job by then", async (scene) => {
    const gate = new Gate();
    const first = scene.start({
      functions: {
        stall: async () => {
          await gate.pass();
          throw new Error("late");
        },
        one,
      },
      pollDelay: 20, // but no renewal comes in between
    });
    const job = await scene.arq.enqueueJob("stall");
    await gate.reached();
    const leases = await scene.stealLeases(); // what another worker does meanwhile
    gate.open();
    await until("the failure is told", () => first.worker.jobsFailed === 1);
    assert.equal(await scene.arq.call("one", [], { timeout: 5_000 }), 1);
    assert.equal(await job.status(), "in_progress");
    const [lease] = leases;
    assert.ok(lease);
    await scene.arq.store.giveBack(scene.queueName, [{ lease, kind: "release", starts: 2 }]);
    await assert.rejects(job.result({ timeout: 5_000 }), { message: "late" });
  });
});

describe("A Redis that is frozen for longer than the lease", () => {
  it("costs no result: what ended meanwhile is recorded, once", async () => {
    await using server = await startRedis();
    await using arq = await createPool(`${server.url}?timeout=5000`);
    const gate = new Gate();
    let runs = 0;
    const wait = async () => {
      runs++;
      await gate.pass();
      return runs;
    };
    const functions = { wait, one };
    await using _worker = start(
      new Worker({ functions, connection: arq, lease: 200, pollDelay: 20 }),
    );
    await arq.call("one");
    const job = await arq.enqueueJob("wait");
    await gate.reached();
    server.kill("SIGSTOP");
    gate.open();
    await pause(600); // for longer than the lease, which nothing here can tell
    server.kill("SIGCONT");
    assert.equal(await job.result({ timeout: 10_000 }), 1);
    assert.equal(await arq.call("one", [], { timeout: 5_000 }), 1);
    assert.equal(runs, 1);
  });
});

describe("A hundred thousand jobs enqueued at once", () => {
  it("wait in Redis for their worker, which runs each once", async () => {
    await using server = await startRedis();
    await using arq = await createPool(server.url);
    const count = 100_000;
    await arq.enqueueJobs(Array.from({ length: count }, (_, i) => ({ name: "add", args: [i] })));
    let sum = 0;
    const worker = new Worker({
      functions: { add: (_ctx: JobContext, n: number) => void (sum += n) },
      connection: arq,
      burst: true,
      keepResult: 0,
      maxJobs: 200,
    });
    await worker.run();
    assert.equal(worker.jobsComplete, count);
    assert.equal(sum, count * (count - 1) / 2);
  });
});

describe("A payload of 64 MiB", () => {
  it("goes to its function, and keeps no other job from its own", async () => {
    await using server = await startRedis();
    await using arq = await createPool(server.url);
    const size = 64 << 20;
    const measure = (_ctx: JobContext, bytes: Uint8Array) => bytes.length;
    await using _worker = start(new Worker({ functions: { measure, one }, connection: arq }));
    const job = await arq.enqueueJob("measure", [new Uint8Array(size)]);
    assert.equal(await arq.call("one", [], { timeout: 20_000 }), 1);
    assert.equal(await job.result({ timeout: 20_000 }), size);
  });
});

scenarios("Functions and hooks that reject when they were given up long ago", (scenario) => {
  scenario("end no program: whoever gave them up catches it", async (scene) => {
    const program = fileURLToPath(new URL("./data/leaky_program.ts", import.meta.url));
    const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : ["run"];
    const args = [...flags, program, scene.connection, scene.prefix];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (chunk) => output += String(chunk));
    }
    const { promise: exit, resolve } = Promise.withResolvers<number | null>();
    child.on("close", (code) => resolve(code));
    assert.equal(await exit, 0, output);
    assert.match(output, /<Worker j_complete=1 j_failed=2 /);
    for (const { jobId } of await scene.arq.queuedJobs()) await scene.arq.job(jobId).abort();
  });
}, { inProcesses: true });
