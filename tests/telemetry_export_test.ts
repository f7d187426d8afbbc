/** What the runtime exports by itself, in Deno: it arrives at a collector that this test runs. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { json } from "node:stream/consumers";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const PROGRAM = fileURLToPath(new URL("./data/traced_program.ts", import.meta.url));
const IS_DENO = "Deno" in globalThis;
const CONSUMER = 5;

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly doubleValue?: number };
}

interface ExportedSpan {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly links: readonly { readonly spanId: string }[];
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code: number; readonly message: string };
}

interface ExportedMetric {
  readonly name: string;
  readonly sum?: { readonly dataPoints: readonly { readonly asDouble: number }[] };
  readonly histogram?: { readonly dataPoints: readonly { readonly count: string }[] };
}

interface Export {
  readonly resourceSpans?: readonly {
    readonly scopeSpans: readonly { readonly spans: readonly ExportedSpan[] }[];
  }[];
  readonly resourceMetrics?: readonly {
    readonly scopeMetrics: readonly { readonly metrics: readonly ExportedMetric[] }[];
  }[];
}

/** Receives OTLP over HTTP as JSON. */
class Collector implements AsyncDisposable {
  readonly exports: Export[] = [];
  readonly #server: Server = createServer(async (request, response) => {
    this.exports.push(await json(request) as Export);
    response.setHeader("content-type", "application/json");
    response.end("{}");
  });

  /** Listens on loopback; resolves to its address. */
  async listen(): Promise<string> {
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get spans(): ExportedSpan[] {
    return this.exports.flatMap(({ resourceSpans = [] }) =>
      resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
    );
  }

  /** What the metric of this name adds up to. */
  total(name: string): number {
    const metrics = this.exports.flatMap(({ resourceMetrics = [] }) =>
      resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
    );
    const metric = metrics.findLast((metric) => metric.name === name);
    const sums = metric?.sum?.dataPoints.map(({ asDouble }) => asDouble) ?? [];
    const counts = metric?.histogram?.dataPoints.map(({ count }) => Number(count)) ?? [];
    return [...sums, ...counts].reduce((sum, value) => sum + value, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, "close");
  }
}

/** Runs the program with Deno's exporter on; resolves to what it printed. */
async function runProgram(collector: Collector, ...args: string[]): Promise<string> {
  const env = {
    ...process.env,
    NO_COLOR: "1",
    OTEL_DENO: "true",
    OTEL_EXPORTER_OTLP_ENDPOINT: await collector.listen(),
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
  };
  const flags = IS_DENO ? ["--no-prompt", "--no-check", "--frozen", "--cached-only"] : [];
  const command = ["run", ...flags, ...args];
  const { stdout } = await promisify(execFile)(process.execPath, command, { env, timeout: 30_000 });
  return stdout;
}

describe("A program that registers no provider", () => {
  it("tells its runtime's exporter of traces and metrics, if it has one", async () => {
    await using collector = new Collector();
    const stdout = await runProgram(collector, PROGRAM); // without any permission
    assert.match(stdout, /j_complete=2 j_failed=1/);
    const { spans } = collector;
    if (!IS_DENO) return assert.deepEqual(spans, []); // Bun has none
    const named = (name: string) => spans.filter((span) => span.name === name);
    const [list] = named("enqueue");
    const [request] = named("request");
    assert.ok(list && request);
    assert.equal(list.parentSpanId, request.spanId);
    const greets = named("run greet");
    const [direct, deferred] = greets.toSorted((a) => a.traceId === request.traceId ? -1 : 1);
    assert.ok(direct && deferred && greets.length === 2);
    assert.equal(direct.parentSpanId, list.spanId);
    assert.equal(deferred.parentSpanId, "");
    assert.deepEqual(deferred.links.map(({ spanId }) => spanId), [
      named("enqueue greet")[0]?.spanId,
    ]);
    const parents = named("greeting").map(({ parentSpanId }) => parentSpanId);
    assert.deepEqual(parents.toSorted(), greets.map(({ spanId }) => spanId).toSorted());
    const [failed] = named("run fail");
    assert.equal(failed?.kind, CONSUMER);
    assert.deepEqual(failed.status, { code: 2, message: "no such thing" });
    const outcome = failed.attributes.find(({ key }) => key === "messaging.arq.outcome");
    assert.equal(outcome?.value.stringValue, "failure");
    assert.equal(collector.total("messaging.client.sent.messages"), 3);
    assert.equal(collector.total("messaging.process.duration"), 3);
    assert.equal(collector.total("messaging.arq.active_jobs"), 0);
  });

  it("tells of functions in processes of their own", async () => {
    await using collector = new Collector();
    const stdout = await runProgram(collector, ...IS_DENO ? ["-A"] : [], PROGRAM, "apart");
    assert.match(stdout, /j_complete=1 j_failed=0/);
    const { spans } = collector;
    if (!IS_DENO) return assert.deepEqual(spans, []); // Bun has none
    const [greeting] = spans.filter(({ name }) => name === "greeting apart");
    const [run] = spans.filter(({ name }) => name === "run greetApart");
    assert.ok(greeting && run);
    assert.equal(greeting.parentSpanId, run.spanId);
  });
});
