/** OpenTelemetry's SDK in memory, registered for as long as a test needs it. */
import { context, metrics, propagation, type Span, trace, type Tracer } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  CompositePropagator,
  W3CBaggagePropagator,
  W3CTraceContextPropagator,
} from "@opentelemetry/core";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import {
  InMemorySpanExporter,
  type ReadableSpan,
  type Sampler,
  SimpleSpanProcessor,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import assert from "node:assert/strict";

const NEVER_MS = 2 ** 30;

/** What a metric was at its last collection, for one set of attributes. */
export interface Point {
  readonly attributes: Readonly<Record<string, unknown>>;
  /** A sum, or how often a histogram was recorded. */
  readonly value: number;
}

/** What is listened to. */
export interface ListenOptions {
  readonly traces?: boolean;
  readonly metrics?: boolean;
  readonly sampler?: Sampler;
}

/** A registered SDK. */
export class Otel implements AsyncDisposable {
  readonly tracer: Tracer;
  readonly #exporter = new InMemorySpanExporter();
  readonly #reader = new PeriodicExportingMetricReader({
    exporter: new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE),
    exportIntervalMillis: NEVER_MS,
  });
  readonly #spans: TracerProvider;
  readonly #meters = new MeterProvider({ readers: [this.#reader] });

  constructor({ traces = true, metrics: hasMetrics = true, sampler }: ListenOptions = {}) {
    const spanProcessors = [new SimpleSpanProcessor({ exporter: this.#exporter })];
    this.#spans = new TracerProvider({ spanProcessors, sampler });
    this.tracer = this.#spans.getTracer("test");
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    const propagators = [new W3CTraceContextPropagator(), new W3CBaggagePropagator()];
    propagation.setGlobalPropagator(new CompositePropagator({ propagators }));
    if (traces) trace.setGlobalTracerProvider(this.#spans);
    if (hasMetrics) metrics.setGlobalMeterProvider(this.#meters);
  }

  /** The spans that have ended, in the order in which they began. */
  get spans(): ReadableSpan[] {
    const began = ({ startTime: [seconds, nanoseconds] }: ReadableSpan) =>
      BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
    return this.#exporter.getFinishedSpans().toSorted((a, b) => Number(began(a) - began(b)));
  }

  /** The spans of this name. */
  named(name: string): ReadableSpan[] {
    return this.spans.filter((span) => span.name === name);
  }

  /** The one span of this name. */
  span(name: string): ReadableSpan {
    const found = this.named(name);
    assert.equal(found.length, 1, `spans: ${this.spans.map((span) => span.name).join(", ")}`);
    return found[0] as ReadableSpan;
  }

  /** Acts inside of a span, which ends after it. */
  async inSpan<T>(name: string, act: (span: Span) => Promise<T>): Promise<T> {
    return await this.tracer.startActiveSpan(name, async (span) => {
      try {
        return await act(span);
      } finally {
        span.end();
      }
    });
  }

  /** What the metric of this name shows. */
  async points(name: string): Promise<Point[]> {
    const { resourceMetrics } = await this.#reader.collect();
    const all = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics);
    const metric = all.find(({ descriptor }) => descriptor.name === name);
    return (metric?.dataPoints ?? []).map(({ attributes, value }) => ({
      attributes,
      value: typeof value === "number" ? value : value.count,
    }));
  }

  /** Registers nothing any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const api of [trace, metrics, propagation, context]) api.disable();
    await this.#spans.shutdown();
    await this.#meters.shutdown();
  }
}
