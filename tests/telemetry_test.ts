/** What OpenTelemetry is told of jobs, with its SDK in memory. */
import {
  context,
  propagation,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import { AlwaysOffSampler, ParentBasedSampler, type ReadableSpan } from "@opentelemetry/sdk-trace";
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createPool } from "../client.ts";
import { cron } from "../cron.ts";
import { func, type JobContext, Retry } from "../functions.ts";
import { deserialize, serialize } from "../serializer.ts";
import { beginSending } from "../telemetry.ts";
import { Worker } from "../worker.ts";
import { newJob, rejection } from "./_helpers.ts";
import { Otel } from "./_otel.ts";
import { scenarios, type Scene } from "./_worker.ts";

const pass = (_ctx: JobContext, value: unknown) => value;
const functions = { pass };

/** The fields of a job that is still in the queue. */
async function fieldsOf(scene: Scene, jobId: string): Promise<Record<string, unknown>> {
  const { payload } = await scene.arq.store.lookUp(scene.queueName, jobId, true);
  assert.ok(payload);
  return deserialize(payload) as Record<string, unknown>;
}

function idsOf({ traceId, spanId }: SpanContext): { traceId: string; spanId: string } {
  return { traceId, spanId };
}

/** Fails unless a span is a child of the other one. */
function isChildOf(child: ReadableSpan, parent: ReadableSpan): void {
  assert.ok(child.parentSpanContext, `${child.name} has no parent`);
  assert.deepEqual(idsOf(child.parentSpanContext), idsOf(parent.spanContext()));
}

function isRoot(span: ReadableSpan): void {
  assert.equal(span.parentSpanContext, undefined, `${span.name} has a parent`);
}

/** The spans that this one links to. */
function linksOf(span: ReadableSpan): { traceId: string; spanId: string }[] {
  return span.links.map((link) => idsOf(link.context));
}

scenarios("Telemetry", (scenario) => {
  scenario("leaves jobs as they are until a provider is registered", async (scene) => {
    const begin = () => beginSending("pass", scene.queueName, "id");
    assert.equal(begin(), undefined, "nothing is made");
    const silent = await scene.arq.enqueueJob("pass");
    assert.deepEqual(Object.keys(await fieldsOf(scene, silent.jobId)), ["t", "f", "a", "k", "et"]);
    {
      await using otel = new Otel();
      const told = await scene.arq.enqueueJob("pass");
      const { traceId, spanId } = otel.span("enqueue pass").spanContext();
      const { tc } = await fieldsOf(scene, told.jobId);
      assert.deepEqual(tc, { traceparent: `00-${traceId}-${spanId}-01` });
    }
    assert.equal(begin(), undefined);
    const after = await scene.arq.enqueueJob("pass");
    assert.equal("tc" in await fieldsOf(scene, after.jobId), false);
    const { jobsComplete } = await scene.burst({ functions });
    assert.equal(jobsComplete, 3);
  });

  scenario("shows a job's way from its enqueueing to the spans of its function", async (scene) => {
    await using otel = new Otel();
    const work = async () => {
      await Promise.resolve();
      otel.tracer.startSpan("inner").end();
      return propagation.getActiveBaggage()?.getEntry("tenant")?.value;
    };
    const hook = () => otel.tracer.startSpan("hook").end();
    const job = await otel.inSpan("request", async (span) => {
      const baggage = propagation.createBaggage({ tenant: { value: "a" } });
      const inside = propagation.setBaggage(trace.setSpan(context.active(), span), baggage);
      return await context.with(inside, () => scene.arq.enqueueJob("work"));
    });
    await scene.burst({ functions: { work }, onJobStart: hook, onJobEnd: hook, afterJobEnd: hook });
    assert.equal(await job.result(), "a");
    const [enqueue, run] = [otel.span("enqueue work"), otel.span("run work")];
    isRoot(otel.span("request"));
    isChildOf(enqueue, otel.span("request"));
    isChildOf(run, enqueue);
    isChildOf(otel.span("inner"), run);
    for (const span of otel.named("hook")) isChildOf(span, run);
    assert.equal(otel.named("hook").length, 3);
    assert.deepEqual(linksOf(run), [idsOf(enqueue.spanContext())]);
    assert.deepEqual([enqueue.kind, run.kind], [SpanKind.PRODUCER, SpanKind.CONSUMER]);
    const shared = {
      "messaging.system": "arq",
      "messaging.destination.name": scene.queueName,
      "messaging.message.id": job.jobId,
      "messaging.arq.function": "work",
    };
    assert.deepEqual(enqueue.attributes, {
      ...shared,
      "messaging.operation.name": "enqueue",
      "messaging.operation.type": "send",
      "messaging.arq.outcome": "accepted",
    });
    assert.deepEqual(run.attributes, {
      ...shared,
      "messaging.operation.name": "run",
      "messaging.operation.type": "process",
      "messaging.arq.try": 1,
      "messaging.arq.outcome": "success",
    });
    assert.equal(run.status.code, SpanStatusCode.UNSET);
  });

  scenario("begins a trace of its own for a deferred job, and links it", async (scene) => {
    await using otel = new Otel();
    const again = async (ctx: JobContext, left: number) => {
      if (left > 0) await ctx.arq.enqueueJob("again", [left - 1], { deferBy: 1 });
    };
    await scene.arq.enqueueJob("again", [1], { deferUntil: Date.now() + 60_000 });
    await scene.makeDue();
    await scene.burst({ functions: { again } });
    const [[first, second], runs] = [otel.named("enqueue again"), otel.named("run again")];
    assert.ok(first && second);
    for (const run of runs) isRoot(run);
    assert.deepEqual(runs.map(linksOf), [
      [idsOf(first.spanContext())],
      [idsOf(second.spanContext())],
    ]);
    assert.equal(runs[0]?.spanContext().traceId, second.spanContext().traceId);
  });

  scenario("shows every try, why it was repeated and why it failed", async (scene) => {
    await using otel = new Otel();
    const flaky = (ctx: JobContext) => {
      if (ctx.jobTry === 1) throw new Retry({ cause: new TypeError("not yet") });
      throw new RangeError("never");
    };
    const job = await scene.arq.enqueueJob("flaky");
    await scene.burst({ functions: { flaky } });
    await assert.rejects(job.result(), RangeError);
    const [enqueue, runs] = [otel.span("enqueue flaky"), otel.named("run flaky")];
    for (const run of runs) isChildOf(run, enqueue);
    const told = runs.map(({ attributes, status, events }) => ({
      try: attributes["messaging.arq.try"],
      outcome: attributes["messaging.arq.outcome"],
      type: attributes["error.type"],
      status,
      exceptions: events.map((event) => event.attributes?.["exception.message"]),
    }));
    assert.deepEqual(told, [
      {
        try: 1,
        outcome: "retry",
        type: undefined,
        status: { code: SpanStatusCode.UNSET },
        exceptions: ["not yet"],
      },
      {
        try: 2,
        outcome: "failure",
        type: "RangeError",
        status: { code: SpanStatusCode.ERROR, message: "never" },
        exceptions: ["never"],
      },
    ]);
    assert.match(String(runs[1]?.events[0]?.attributes?.["exception.stacktrace"]), /flaky/);
    const [waited] = await otel.points("messaging.arq.wait.duration");
    assert.equal(waited?.value, 1); // for the first start only
  });

  scenario("shows a list as one span, the origin of all its jobs", async (scene) => {
    await using otel = new Otel();
    const queueName = `${scene.prefix}other`;
    await scene.arq.enqueueJobs([
      { name: "pass", options: { jobId: "mine" } },
      { name: "pass", options: { jobId: "mine" } },
      { name: "pass" },
    ]);
    await scene.arq.enqueueJobs([{ name: "a", options: { queueName } }, { name: "b" }]);
    await scene.arq.enqueueJobs([]);
    await scene.burst({ functions: { ...functions, b: pass } });
    await scene.burst({ functions: { a: pass }, queueName });
    const [ours, mixed] = [otel.span("enqueue pass"), otel.span("enqueue")];
    const counts = [ours, mixed].map((span) => span.attributes["messaging.batch.message_count"]);
    assert.deepEqual(counts, [3, 2]);
    assert.equal(ours.attributes["messaging.destination.name"], scene.queueName);
    assert.equal("messaging.destination.name" in mixed.attributes, false);
    assert.equal(otel.named("run pass").length, 2);
    for (const run of otel.named("run pass")) isChildOf(run, ours);
    for (const name of ["run a", "run b"]) isChildOf(otel.span(name), mixed);
    const sent = await otel.points("messaging.client.sent.messages");
    const outcomes = sent.map(({ attributes, value }) => [
      attributes["messaging.arq.function"],
      attributes["messaging.arq.outcome"],
      value,
    ]);
    assert.deepEqual(outcomes, [
      ["pass", "accepted", 2],
      ["pass", "duplicate", 1],
      ["a", "accepted", 1],
      ["b", "accepted", 1],
    ]);
  });

  scenario("shows a call's run in the caller's trace, whoever runs the worker", async (scene) => {
    await using otel = new Otel();
    await otel.inSpan("program", () => {
      scene.start({ functions });
      return Promise.resolve();
    });
    const value = await otel.inSpan("request", () => scene.arq.call("pass", [7]));
    assert.equal(value, 7);
    await scene.stop();
    isChildOf(otel.span("run pass"), otel.span("enqueue pass"));
    isChildOf(otel.span("enqueue pass"), otel.span("request"));
    assert.notEqual(
      otel.span("program").spanContext().traceId,
      otel.span("run pass").spanContext().traceId,
    );
  });

  scenario("begins the trace of a cron job with its run", async (scene) => {
    await using otel = new Otel();
    const cronJobs = [
      cron(function unique(): void {}, "0 0 1 1 *", { runAtStartup: true }),
      cron(function each(): void {}, "0 0 1 1 *", { runAtStartup: true, unique: false }),
    ];
    await otel.inSpan("program", () => scene.burst({ cronJobs }));
    scene.leaves(...await scene.keys()); // a slot's lock stays for a minute
    const names = otel.spans.map((span) => span.name);
    assert.deepEqual(names.toSorted(), ["program", "run cron:each", "run cron:unique"]);
    for (const name of ["run cron:each", "run cron:unique"]) {
      isRoot(otel.span(name));
      assert.deepEqual(linksOf(otel.span(name)), []);
    }
    const sent = await otel.points("messaging.client.sent.messages");
    assert.deepEqual(sent.map(({ attributes }) => attributes["messaging.operation.name"]), [
      "schedule",
      "schedule",
    ]);
  });

  scenario("shows what could not be sent or started", async (scene) => {
    await using otel = new Otel();
    await rejection(scene.arq.enqueueJob("pass", [() => {}]));
    await scene.arq.enqueueJob("strange");
    await scene.arq.enqueueJob("pass", [], { jobId: "unwanted" });
    await scene.arq.job("unwanted").abort();
    await scene.burst({ functions });
    const unsent = otel.named("enqueue pass")[0];
    assert.equal(unsent?.attributes["error.type"], "SerializationError");
    assert.match(String(unsent?.status.message), /^Cannot enqueue "pass": Cannot serialize args/);
    const run = otel.span("run");
    isChildOf(run, otel.span("enqueue strange"));
    assert.equal(run.attributes["messaging.arq.function"], "strange");
    assert.equal(run.attributes["error.type"], "JobExecutionFailed");
    const [point] = await otel.points("messaging.client.consumed.messages");
    assert.equal(point?.attributes["messaging.arq.function"], "_OTHER");
  });

  scenario("begins nothing for a call that is not sent", async (scene) => {
    const begun: string[] = [];
    const startSpan = (name: string) => {
      begun.push(name);
      return trace.wrapSpanContext({ traceId: "", spanId: "", traceFlags: 0 });
    };
    trace.setGlobalTracerProvider({ getTracer: () => ({ startSpan }) as unknown as Tracer });
    try {
      await assert.rejects(scene.arq.call("pass", [], { timeout: -1 }), RangeError);
      await assert.rejects(
        scene.arq.call("pass", [], { signal: AbortSignal.abort(new Error("no")) }),
        /no/,
      );
    } finally {
      trace.disable();
    }
    assert.deepEqual(begun, []);
  });

  scenario("ends the span of a call whose time is over before it is sent", async (scene) => {
    await using otel = new Otel();
    const pool = await scene.pool();
    pool.store.onFinished = () => new Promise(() => {}); // it is not heard yet
    await assert.rejects(pool.call("pass", [], { timeout: 10 }), { name: "TimeoutError" });
    const { status, attributes } = otel.span("enqueue pass");
    assert.equal(status.code, SpanStatusCode.ERROR);
    assert.equal(attributes["error.type"], "TimeoutError");
    assert.deepEqual(await pool.queuedJobs(), []);
  });

  scenario("counts and measures by function and outcome", async (scene) => {
    await using otel = new Otel({ traces: false });
    const seen: unknown[] = [];
    const fail = async () => {
      for (const { value } of await otel.points("messaging.arq.active_jobs")) seen.push(value);
      throw new RangeError("no");
    };
    const job = await scene.arq.enqueueJob("fail");
    assert.equal("tc" in await fieldsOf(scene, job.jobId), false);
    await scene.arq.enqueueJob("pass");
    await scene.burst({ functions: { fail, pass }, maxJobs: 1 });
    assert.deepEqual(seen, [1]);
    const show = async (name: string) =>
      (await otel.points(name)).map(({ attributes, value }) => [
        attributes["messaging.arq.function"],
        attributes["messaging.arq.outcome"] ?? null,
        attributes["error.type"] ?? null,
        value,
      ]);
    const runs = [["fail", "failure", "RangeError", 1], ["pass", "success", null, 1]];
    const each = (value: number) => [["fail", null, null, value], ["pass", null, null, value]];
    assert.deepEqual(await show("messaging.client.consumed.messages"), runs);
    assert.deepEqual(await show("messaging.process.duration"), runs);
    assert.deepEqual(await show("messaging.arq.wait.duration"), each(1));
    assert.deepEqual(await show("messaging.client.operation.duration"), each(1));
    assert.deepEqual(await show("messaging.arq.active_jobs"), each(0));
  });

  scenario("carries the decision not to record, too", async (scene) => {
    await using otel = new Otel({
      sampler: new ParentBasedSampler({ root: new AlwaysOffSampler() }),
    });
    const job = await scene.arq.enqueueJob("pass");
    const { tc } = await fieldsOf(scene, job.jobId);
    assert.match((tc as { traceparent: string }).traceparent, /-00$/);
    await scene.burst({ functions });
    assert.deepEqual(otel.spans, []);
  });

  scenario("runs a job whatever stands in its trace context", async (scene) => {
    await using otel = new Otel();
    const record = { t: null, f: "pass", a: [], k: {}, et: Date.now() };
    const strange = [5, [], "x", {}, { traceparent: 5 }, { traceparent: "00-x" }, new Map()];
    const jobs = strange.map((tc, i) =>
      newJob(`strange-${i}`, { payload: serialize({ ...record, tc }) })
    );
    await scene.arq.store.enqueue(scene.queueName, jobs, 60_000);
    const { jobsComplete } = await scene.burst({ functions });
    assert.equal(jobsComplete, strange.length);
    for (const run of otel.named("run pass")) {
      isRoot(run);
      assert.deepEqual(linksOf(run), []);
    }
  });

  scenario("does no harm to jobs when a provider throws", async (scene) => {
    const broken = () => assert.fail("broken provider");
    const tracer = { startSpan: broken, startActiveSpan: broken };
    trace.setGlobalTracerProvider({ getTracer: () => tracer });
    try {
      const handle = await scene.arq.enqueueJob("pass", [1]);
      await scene.burst({ functions });
      assert.equal(await handle.result(), 1);
    } finally {
      trace.disable();
    }
  });
});

describe("Telemetry of a function in a process of its own", () => {
  it("has the run's context there", async () => {
    await using otel = new Otel();
    await using arq = await createPool("sqlite::memory:", { prefix: "apart:" });
    const whose = func(import.meta.resolve("./data/traced_function.ts#whose"), { isolate: true });
    const job = await arq.enqueueJob("whose");
    await new Worker({ functions: { whose }, connection: arq, burst: true }).run();
    const { traceId, spanId } = otel.span("run whose").spanContext();
    const expected = { traceId, spanId, traceFlags: 1, isRemote: true };
    assert.deepEqual(await job.result(), expected);
  });
});
