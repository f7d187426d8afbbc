import { configure, reset } from "@logtape/logtape";
import assert from "node:assert/strict";
import { after } from "node:test";
import { type Job, type JobContext, type JobEvent, Retry } from "../mod.ts";
import { Gate, pause, scenarios, type Scene, until } from "./_worker.ts";

const POLL = { pollDelay: 20 };

/** What is logged as a warning or an error from now on. */
async function listen(): Promise<string[]> {
  const texts: string[] = [];
  await configure({
    sinks: { memory: ({ message }) => texts.push(message.join("")) },
    loggers: [
      { category: ["arq"], lowestLevel: "warning", sinks: ["memory"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: [] },
    ],
    reset: true,
  });
  return texts;
}

/** What a job tells until its end; `atFirst` is called when it is watched. */
async function valuesOf(job: Job, atFirst: () => void = () => {}): Promise<unknown[]> {
  const values: unknown[] = [];
  let events: JobEvent[] = [];
  for await (const event of job.events()) {
    if (events.length === 0) atFirst();
    events = [...events, event];
    if (event.kind === "progress") values.push(event.value);
  }
  return values;
}

/** Watches a job from the beginning, run by a worker that starts when it is watched. */
async function watched(
  scene: Scene,
  fn: (ctx: JobContext) => unknown,
  settings = {},
): Promise<{ readonly job: Job; readonly values: unknown[] }> {
  const job = await scene.arq.enqueueJob("fn");
  const start = () => scene.start({ functions: { fn }, ...POLL, ...settings });
  return { job, values: await valuesOf(job, start) };
}

after(() => reset());

scenarios("ctx.progress", (scenario) => {
  scenario("takes every value that can travel, and the last one stays", async (scene) => {
    const values = [
      { done: 1, of: new Map([["all", 2n ** 70n]]) },
      [new Date(5), new Set([null]), /x/g, new Uint8Array([1, 2])],
      undefined,
      "ü".repeat(100_000),
      -0,
    ];
    const next = new Gate();
    let told = 0;
    const fn = async (ctx: JobContext) => {
      for (const [i, value] of values.entries()) {
        ctx.progress(value);
        await until("it is seen", () => told > i); // another would come in its place
      }
      await next.pass();
    };
    const job = await scene.arq.enqueueJob("fn");
    assert.equal(await job.progress(), undefined);
    const seen: unknown[] = [];
    for await (const event of job.events()) {
      if (event.kind === "queued") scene.start({ functions: { fn }, ...POLL });
      if (event.kind !== "progress") continue;
      seen.push(event.value);
      if (++told < values.length) continue;
      assert.equal(await job.progress(), -0);
      next.open();
    }
    assert.deepEqual(seen, values);
    assert.equal(await job.progress(), -0, "it stays after the end");
  });

  scenario("sends ten values a second at most, the last one always", async (scene) => {
    let calls = 0;
    let tookMs = 0;
    const { values } = await watched(scene, async (ctx) => {
      const startedAt = performance.now();
      while (performance.now() - startedAt < 350 || calls <= 1_000) {
        for (let i = 0; i < 100; i++) ctx.progress(++calls);
        await pause(1);
      }
      tookMs = performance.now() - startedAt;
    });
    assert.equal(values.at(-1), calls);
    assert.ok(values.length >= 2 && values.length <= tookMs / 100 + 2, `${values.length} values`);
    assert.deepEqual(values, values.toSorted((a, b) => Number(a) - Number(b)));
  });

  scenario("tells the last value before the end, whatever the end is", async (scene) => {
    const ends = {
      returns: (ctx: JobContext) => ctx.progress("returned"),
      throws: (ctx: JobContext) => {
        ctx.progress("not yet");
        ctx.progress("threw");
        throw new Error("no");
      },
      retries: (ctx: JobContext) => {
        ctx.progress(`retried ${ctx.jobTry}`);
        if (ctx.jobTry < 3) throw new Retry();
      },
      destructures: ({ progress }: JobContext) => progress("destructured"),
      spreads: (ctx: JobContext) => ({ ...ctx }).progress("spread"),
    };
    const jobs = await Promise.all(
      Object.keys(ends).map((name) => scene.arq.enqueueJob(name)),
    );
    const gate = new Gate();
    const all = jobs.map((job) => valuesOf(job, () => void gate.pass()));
    await gate.reached(jobs.length);
    scene.start({ functions: ends, ...POLL });
    assert.deepEqual(await Promise.all(all), [
      ["returned"],
      ["threw"],
      ["retried 1", "retried 2", "retried 3"],
      ["destructured"],
      ["spread"],
    ]);
    assert.equal(await jobs[1]?.progress(), "threw");
  });

  scenario("never harms the job: what cannot be sent is said once", async (scene) => {
    const warnings = await listen();
    const { job, values } = await watched(scene, async (ctx) => {
      for (let n = 0; n < 3; n++) {
        ctx.progress({ to: { here: () => n } });
        await pause(110);
      }
      ctx.progress("better");
      return "done";
    });
    assert.equal(await job.result(), "done");
    assert.deepEqual(values, ["better"]);
    const [warning = "", ...more] = warnings;
    assert.match(
      warning,
      /:fn told of a progress that cannot be sent: SerializationError: .*progress\.to\.here/,
    );
    assert.deepEqual(more, []);
  });

  scenario("never harms the job, whatever the program's own serializer does", async (scene) => {
    await listen();
    const jobSerializer = (record: Record<string, unknown>) => {
      if ("p" in record) throw new Error("no progress, please");
      return new TextEncoder().encode(JSON.stringify(record));
    };
    const jobDeserializer = (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes));
    const arq = await scene.pool({ jobSerializer, jobDeserializer });
    const job = await arq.enqueueJob("fn");
    const fn = (ctx: JobContext) => {
      ctx.progress(1);
      return "done";
    };
    await scene.burst({ functions: { fn }, jobSerializer, jobDeserializer });
    assert.equal(await job.result(), "done");
    assert.equal(await job.progress(), undefined);
  });

  scenario(
    "does nothing once the job has ended, and in the hook before that it does",
    async (scene) => {
      const { store } = scene.arq;
      const report = store.report.bind(store);
      let calls = 0;
      store.report = (...args) => {
        calls++;
        return report(...args);
      };
      let ctx: JobContext | undefined;
      const fn = (given: JobContext) => {
        ctx = given;
        given.progress("running");
      };
      const onJobEnd = (given: JobContext) => given.progress("in the hook");
      const { job } = await watched(scene, fn, {
        onJobEnd,
        connection: scene.arq,
        prefix: undefined,
      });
      const before = calls;
      ctx?.progress("too late");
      await pause(150);
      assert.deepEqual([await job.progress(), calls], ["in the hook", before]);
    },
  );

  scenario(
    "is seen by whoever comes later, and not of an earlier job of that id",
    async (scene) => {
      const gate = new Gate();
      const fn = async (ctx: JobContext) => {
        ctx.progress("half");
        await gate.pass();
      };
      scene.start({ functions: { fn }, ...POLL, keepResult: 0 });
      const job = await scene.arq.enqueueJob("fn", [], { jobId: "again" });
      await gate.reached();
      for await (const event of job?.events() ?? []) if (event.kind === "started") gate.open();
      await scene.stop();
      assert.equal(await job?.progress(), "half");
      await scene.arq.enqueueJob("fn", [], { jobId: "again", deferBy: 60_000 });
      assert.equal(await job?.progress(), undefined);
      await job?.abort();
    },
  );
});
