import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import process from "node:process";
import { promisify } from "node:util";
import {
  type Job,
  JobAborted,
  type JobContext,
  type JobEvent,
  JobExecutionFailed,
  QueueConnectionError,
  ResultNotFound,
  Retry,
} from "../mod.ts";
import { within } from "./_helpers.ts";
import { Gate, scenarios, type Scene, until } from "./_worker.ts";

/** Reads events to their end. */
async function readAll<T>(events: AsyncIterable<JobEvent<T>>): Promise<JobEvent<T>[]> {
  const all: JobEvent<T>[] = [];
  for await (const event of events) all.push(event);
  return all;
}

/** What events say, without their times. */
function shown(events: readonly JobEvent[]): unknown[] {
  return events.map((event) => {
    switch (event.kind) {
      case "queued":
        return "queued";
      case "progress":
        return `progress ${event.jobTry}: ${event.value}`;
      case "finished":
        return event.success
          ? `finished ${event.jobTry}: ${event.result}`
          : `finished ${event.jobTry}: ${event.error}`;
      default:
        return `${event.kind} ${event.jobTry}`;
    }
  });
}

/** Steps without the starts that do not count: of a job that was taken and given back before it began. */
function withoutUnbegun(steps: readonly unknown[]): unknown[] {
  const isUnbegun = (i: number) => {
    const starts = /^started (\d+)$/.exec(String(steps[i]))?.[1];
    return starts !== undefined && steps[i + 1] === `retried ${Number(starts) - 1}`;
  };
  return steps.filter((_step, i) => !isUnbegun(i) && !isUnbegun(i - 1));
}

/** Fails unless a time is about now. */
function isNow(time: Date, what: string): void {
  assert.ok(Math.abs(time.getTime() - Date.now()) < 30_000, `${what}: ${time.toISOString()}`);
}

/** Starts a worker whose one function waits at a gate, and is half done then. */
function startGate(scene: Scene): Gate {
  const gate = new Gate();
  const wait = async (ctx: JobContext) => {
    ctx.progress("half");
    await gate.pass(ctx.signal);
    return "open";
  };
  scene.start({ functions: { wait }, pollDelay: 20, maxJobs: 1 });
  return gate;
}

/** The first event, and what follows. */
async function begin(job: Job, signal?: AbortSignal) {
  const events = job.events({ signal });
  const first = await events.next();
  return { events, first: first.value };
}

scenarios("Job.events", (scenario) => {
  scenario("tells each step, from the queue through a retry to the end", async (scene) => {
    const functions = {
      twice: (ctx: JobContext) => {
        ctx.progress(`of ${ctx.jobTry}`);
        if (ctx.jobTry === 1) throw new Retry({ defer: 30 });
        return "done";
      },
    };
    const job = await scene.arq.enqueueJob("twice");
    const { events, first } = await begin(job);
    scene.start({ functions, pollDelay: 20 });
    const all = [first as JobEvent, ...await readAll(events)];
    assert.deepEqual(shown(all), [
      "queued",
      "started 1",
      "progress 1: of 1",
      "retried 1",
      "started 2",
      "progress 2: of 2",
      "finished 2: done",
    ]);
    for (const { at, kind } of all) isNow(at, kind);
    const [, , , retried, again] = all;
    assert.ok(retried?.kind === "retried" && again);
    assert.ok(again.at >= retried.dueAt && retried.dueAt.getTime() >= retried.at.getTime() + 30);
    assert.deepEqual(await events.next(), { done: true, value: undefined });
  });

  scenario("begins with where the job is: deferred, running, complete", async (scene) => {
    const dueAt = new Date(Date.now() + 3_600_000);
    const deferred = await scene.arq.enqueueJob("wait", [], { deferUntil: dueAt });
    const waiting = await begin(deferred);
    assert.ok(waiting.first?.kind === "queued");
    assert.deepEqual(waiting.first.dueAt, dueAt);
    assert.deepEqual(waiting.first.at, (await deferred.info())?.enqueueTime);
    await waiting.events.return?.();

    const gate = startGate(scene);
    const job = await scene.arq.enqueueJob("wait", [], { jobTry: 3 });
    await gate.reached();
    await until("its progress", async () => await job.progress() === "half");
    const { events, first } = await begin(job);
    gate.open();
    const all = shown([first as JobEvent, ...await readAll(events)]);
    assert.deepEqual(all, ["started 3", "progress 3: half", "finished 3: open"]);

    assert.deepEqual(shown(await readAll(job.events())), ["finished 3: open"]);
    await deferred.abort();
  });

  scenario("throws ResultNotFound for what is not there, or not in this queue", async (scene) => {
    const never = scene.arq.job("never").events();
    await assert.rejects(never.next(), ResultNotFound);
    assert.deepEqual(await never.next(), { done: true, value: undefined });
    const { jobId } = await scene.arq.enqueueJob("wait");
    const elsewhere = scene.arq.job(jobId, { queueName: `${scene.prefix}other` });
    await assert.rejects(readAll(elsewhere.events()), ResultNotFound);
    await scene.arq.job(jobId).abort();
  });

  scenario("ends for every end: abort, failure, expiry, a result not kept", async (scene) => {
    const gate = new Gate();
    const waiting = await scene.arq.enqueueJob("wait", [], { deferBy: { hours: 1 } });
    const ofWaiting = await begin(waiting);
    assert.equal(await waiting.abort(), true);
    assert.deepEqual(shown(await readAll(ofWaiting.events)), [
      `finished null: JobAborted: Job ${waiting.jobId} was aborted before it started`,
    ]);

    const late = await scene.arq.enqueueJob("wait", [], { expires: 1 });
    const ofLate = await begin(late);
    const functions = {
      wait: (ctx: JobContext) => gate.pass(ctx.signal),
      fail: () => {
        throw new RangeError("too far");
      },
      tell: () => "x".repeat(100),
    };
    await until("its expiry", async () => await late.info() === null);
    scene.start({ functions, pollDelay: 20, keepResult: 0 });
    const [expired] = await readAll(ofLate.events);
    assert.ok(expired?.kind === "finished" && !expired.success);
    assert.ok(expired.error instanceof JobExecutionFailed);

    const running = await scene.arq.enqueueJob("wait");
    const ofRunning = await begin(running);
    await gate.reached();
    assert.equal(await running.abort(), true);
    const aborted = (await readAll(ofRunning.events)).at(-1);
    assert.ok(aborted?.kind === "finished" && !aborted.success);
    assert.ok(aborted.error instanceof JobAborted);
    assert.equal(aborted.jobTry, 1);

    for (const [name, end] of [["fail", "RangeError: too far"], ["tell", "x".repeat(100)]]) {
      await scene.arq.pause(); // until somebody watches
      const { events } = await begin(await scene.arq.enqueueJob(name as string));
      await scene.arq.resume();
      assert.equal(shown(await readAll(events)).at(-1), `finished 1: ${end}`);
    }
  });

  scenario("tells of hand-backs, and of a try whose worker was lost", async (scene) => {
    const job = await scene.arq.enqueueJob("wait");
    const { events, first } = await begin(job);
    const running = startGate(scene);
    await running.reached();
    await scene.stop();
    const gate = startGate(scene);
    await gate.reached();
    await scene.stealLeases();
    gate.open(); // a late success counts, for nobody else has finished the job
    const all = shown([first as JobEvent, ...await readAll(events)]);
    const steps = withoutUnbegun(all.filter((step) => !String(step).startsWith("progress")));
    const last = Number(/\d+/.exec(String(steps.at(-1)))?.[0]); // 2, or more where the first took it again
    const handedBack = Array.from({ length: last - 1 }, (_, i) => [
      `started ${i + 1}`,
      `retried ${i + 1}`,
    ]);
    assert.ok(last >= 2);
    assert.deepEqual(steps, [
      "queued",
      ...handedBack.flat(),
      `started ${last}`,
      `started ${last + 1}`,
      `finished ${last}: open`,
    ]);
  });

  scenario(
    "tells all who watch, in any client; one that leaves takes nobody along",
    async (scene) => {
      const job = await scene.arq.enqueueJob("wait");
      const other = (await scene.pool()).job(job.jobId);
      const watching = [job, job, other].map((handle) => handle.events());
      for (const events of watching) assert.equal((await events.next()).value?.kind, "queued");
      const leaving = await begin(job);
      await leaving.events.return?.();
      const gate = startGate(scene);
      await gate.reached();
      for (const events of watching) {
        assert.equal((await events.next()).value?.kind, "started");
        assert.equal((await events.next()).value?.kind, "progress");
      }
      gate.open();
      for (const events of watching) {
        assert.deepEqual(shown(await readAll(events)), [
          "finished 1: open",
        ]);
      }
    },
  );

  scenario("tells of a try that goes on under a new lease as of no further one", async (scene) => {
    const gates = [new Gate(), new Gate(), new Gate()];
    const wait = async (ctx: JobContext) => {
      for (const [i, gate] of gates.entries()) {
        ctx.progress(i);
        await gate.pass();
      }
    };
    scene.start({ functions: { wait }, pollDelay: 20 });
    const job = await scene.arq.enqueueJob("wait");
    const { events } = await begin(job);
    const told: JobEvent[] = [];
    const next = async (what: string) => {
      const { value } = await within(20_000, what, events.next());
      told.push(value as JobEvent);
      return shown(told).at(-1);
    };
    while (await next("the first progress") !== "progress 1: 0");
    await scene.endLeases(); // its own worker is the one that claims it again
    while (await next("the new lease") !== "started 2");
    for (const gate of gates) {
      gate.open();
      await next("what follows");
    }
    assert.deepEqual(shown(told).slice(-4), [
      "started 2",
      "progress 1: 1",
      "progress 1: 2",
      "finished 1: undefined",
    ]);
  });

  scenario("keeps every step for a slow reader, but of progress the last", async (scene) => {
    const functions = {
      count: async (ctx: JobContext) => {
        for (let n = 1; n <= 5; n++) {
          ctx.progress(n);
          await until(`${n} is told`, async () => await ctx.arq.job(ctx.jobId).progress() === n);
        }
        if (ctx.jobTry < 3) throw new Retry();
        return ctx.jobTry;
      },
    };
    const job = await scene.arq.enqueueJob("count");
    const { events, first } = await begin(job);
    scene.start({ functions, pollDelay: 20 });
    assert.equal(await job.result({ timeout: 10_000 }), 3);
    const rest = [];
    for await (const event of events) rest.push(event);
    assert.deepEqual(shown([first as JobEvent, ...rest]), [
      "queued",
      "started 1",
      "retried 1",
      "started 2",
      "retried 2",
      "started 3",
      "progress 3: 5",
      "finished 3: 3",
    ]);
  });

  scenario("ends by its signal, at any time, with its reason", async (scene) => {
    const job = await scene.arq.enqueueJob("wait");
    const before = job.events({ signal: AbortSignal.abort("before") });
    await assert.rejects(before.next(), (reason) => reason === "before");
    const controller = new AbortController();
    const { events } = await begin(job, controller.signal);
    const next = assert.rejects(events.next(), (reason) => reason === "enough");
    controller.abort("enough");
    await within(5_000, "the loop ends", next);
    assert.deepEqual(await events.next(), { done: true, value: undefined });
    assert.equal(await job.abort(), true);
  });

  scenario("ends for whoever waits when it is returned, or disposed of", async (scene) => {
    const job = await scene.arq.enqueueJob("wait");
    const { events } = await begin(job);
    const next = events.next();
    assert.deepEqual(await events.return?.(), { done: true, value: undefined });
    assert.deepEqual(await within(5_000, "it ends", next), { done: true, value: undefined });
    {
      await using other = job.events();
      await other.next();
    }
    assert.equal(await job.abort(), true);
  });

  scenario("throws when the client is closed", async (scene) => {
    const job = await scene.arq.enqueueJob("wait");
    const pool = await scene.pool();
    const { events } = await begin(pool.job(job.jobId));
    const next = assert.rejects(events.next(), QueueConnectionError);
    await pool.close();
    await within(5_000, "the loop ends", next);
    await assert.rejects(pool.job(job.jobId).events().next(), QueueConnectionError);
    assert.equal(await job.abort(), true);
  });

  scenario("reads what the program's own serializer writes", async (scene) => {
    const json = {
      jobSerializer: (record: Record<string, unknown>) =>
        new TextEncoder().encode(JSON.stringify(record)),
      jobDeserializer: (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes)),
    };
    const arq = await scene.pool(json);
    const job = await arq.enqueueJob("tell");
    const { events } = await begin(job);
    const functions = { tell: (ctx: JobContext) => ctx.progress({ done: [1, 2] }) };
    scene.start({ functions, pollDelay: 20, ...json });
    const [, progress] = await readAll(events);
    assert.ok(progress?.kind === "progress");
    assert.deepEqual(progress.value, { done: [1, 2] });
    assert.deepEqual(await job.progress(), { done: [1, 2] });
    await assert.rejects(scene.arq.job(job.jobId).progress(), { name: "DeserializationError" });
  });

  scenario("refuses an option that does not exist", async (scene) => {
    const options = { signal: undefined, singal: AbortSignal.abort() };
    assert.throws(() => scene.arq.job("a").events(options), {
      name: "TypeError",
      message: 'events: unknown option "singal"; did you mean "signal"?',
    });
    await Promise.resolve();
  });
});

scenarios("Job.events", (scenario) => {
  scenario("leaves nothing that keeps a process alive", async (scene) => {
    const { jobId } = await scene.arq.enqueueJob("wait");
    const script = `
      import { createPool } from ${JSON.stringify(import.meta.resolve("../mod.ts"))};
      const options = { prefix: ${JSON.stringify(scene.prefix)} };
      await using arq = await createPool(${JSON.stringify(scene.connection)}, options);
      const job = arq.job(${JSON.stringify(jobId)});
      const controller = new AbortController();
      for await (const event of job.events({ signal: controller.signal })) {
        console.log(event.kind);
        break;
      }
      const events = job.events({ signal: controller.signal });
      await events.next();
      controller.abort("enough");
      await events.next().catch(console.log);
    `;
    const isDeno = "Deno" in globalThis;
    const args = isDeno ? ["eval", "--ext=ts", script] : ["-e", script];
    const run = promisify(execFile)(process.execPath, args, { timeout: 30_000 });
    assert.deepEqual((await run).stdout.trim().split("\n"), ["queued", "enough"]);
    assert.equal(await scene.arq.job(jobId).abort(), true);
  });
}, { inProcesses: true });
