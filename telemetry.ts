/**
 * Traces and metrics for OpenTelemetry: what is told of enqueueing and of running a job, and the
 * trace context that a job carries from the one to the other.
 *
 * Names follow the semantic conventions for messaging; what these do not know is under
 * `messaging.arq`. A provider may be registered at any time: each call looks whether there is one,
 * and where there is none, nothing is made and the jobs' bytes stay as they are. A provider that
 * throws is logged and harms no job.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import {
  type Attributes,
  type Context,
  context,
  type Counter,
  createNoopMeter,
  type Histogram,
  type Meter,
  type MeterProvider,
  metrics,
  propagation,
  ProxyTracerProvider,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
  type TracerProvider,
  type UpDownCounter,
} from "@opentelemetry/api";
import { describeFailure } from "./error_fields.ts";
import type { TraceCarrier } from "./serializer.ts";

const SCOPE = "@arq/arq";
const SYSTEM = { "messaging.system": "arq" } as const;
const ENQUEUE = {
  ...SYSTEM,
  "messaging.operation.name": "enqueue",
  "messaging.operation.type": "send",
} as const;
const SCHEDULE = { ...ENQUEUE, "messaging.operation.name": "schedule" } as const;
const RUN = {
  ...SYSTEM,
  "messaging.operation.name": "run",
  "messaging.operation.type": "process",
} as const;
/** Stands for a function that the worker does not have: its name comes from the queue, and may be anything. */
const UNKNOWN_FUNCTION = "_OTHER";
/** Beside the propagator's own fields: the job was deferred, so its runs only link to the trace. */
const DEFERRED = "arq-deferred";
/** Upper bounds in seconds: those of the conventions, and some above them, since jobs may take long. */
const DURATION_BOUNDS = [
  ...[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  ...[30, 60, 300, 1_800, 3_600],
];
const logger = getLogger(["arq", "telemetry"]);

/** What is counted and measured. */
interface Instruments {
  readonly sent: Counter;
  readonly sendDuration: Histogram;
  readonly consumed: Counter;
  readonly runDuration: Histogram;
  readonly wait: Histogram;
  readonly active: UpDownCounter;
}

/** Who listens: to traces, to metrics, or to both. */
interface Listener {
  readonly tracer: Tracer | undefined;
  readonly instruments: Instruments | undefined;
}

/** What stands for a provider of traces until one is registered. */
const NO_TRACERS: TracerProvider = new ProxyTracerProvider().getDelegate();
let tracers: TracerProvider = NO_TRACERS;
let meters: MeterProvider | undefined;
let listener: Listener | undefined;

/** Who listens at the moment; undefined, which costs two look-ups, where nobody does. */
function findListener(): Listener | undefined {
  const registered = trace.getTracerProvider();
  const currentTracers = registered instanceof ProxyTracerProvider
    ? registered.getDelegate()
    : registered;
  const currentMeters = metrics.getMeterProvider();
  if (currentTracers !== tracers || currentMeters !== meters) {
    tracers = currentTracers;
    meters = currentMeters;
    listener = guarded(() => makeListener(currentTracers, currentMeters));
  }
  return listener;
}

function makeListener(tracers: TracerProvider, meters: MeterProvider): Listener | undefined {
  const tracer = tracers === NO_TRACERS ? undefined : tracers.getTracer(SCOPE);
  const meter = meters.getMeter(SCOPE);
  const instruments = meter === createNoopMeter() ? undefined : makeInstruments(meter);
  return tracer || instruments ? { tracer, instruments } : undefined;
}

function makeInstruments(meter: Meter): Instruments {
  const duration = (name: string, description: string) => {
    const advice = { explicitBucketBoundaries: DURATION_BOUNDS };
    return meter.createHistogram(name, { unit: "s", description, advice });
  };
  return {
    sent: meter.createCounter("messaging.client.sent.messages", {
      unit: "{message}",
      description: "Jobs that were sent to the store, by whether it accepted them",
    }),
    sendDuration: duration("messaging.client.operation.duration", "Duration of enqueueing"),
    consumed: meter.createCounter("messaging.client.consumed.messages", {
      unit: "{message}",
      description: "Runs of jobs, by how they ended",
    }),
    runDuration: duration("messaging.process.duration", "Duration of a run, by how it ended"),
    wait: duration("messaging.arq.wait.duration", "Time from being due to the first start"),
    active: meter.createUpDownCounter("messaging.arq.active_jobs", {
      unit: "{job}",
      description: "Jobs that are running",
    }),
  };
}

/** What a provider that throws does to a job: nothing. */
function guarded<T>(tell: () => T): T | undefined {
  try {
    return tell();
  } catch (error) {
    logger.warn("OpenTelemetry failed: {error}", { error });
  }
}

/** A job in a list to enqueue. */
interface SentJob {
  readonly name: string;
  readonly queueName: string;
}

/** Begins to tell of the enqueueing of a job; undefined where nobody listens. */
export function beginSending(
  name: string,
  queueName: string,
  jobId: string,
): Sending | undefined {
  const listener = findListener();
  if (listener === undefined) return undefined;
  const attributes = { "messaging.message.id": jobId };
  return guarded(() => new Sending(listener, [{ name, queueName }], attributes));
}

/** As `beginSending`, for a list: one span is the origin of all its jobs. */
export function beginSendingList(jobs: readonly SentJob[]): Sending | undefined {
  const listener = jobs.length > 0 ? findListener() : undefined;
  if (listener === undefined) return undefined;
  const attributes = { "messaging.batch.message_count": jobs.length };
  return guarded(() => new Sending(listener, jobs, attributes));
}

/** An enqueueing that is told of. */
export class Sending {
  readonly #instruments: Instruments | undefined;
  readonly #jobs: readonly SentJob[];
  readonly #attributes: Attributes;
  readonly #context: Context;
  readonly #span: Span | undefined;
  readonly #carrier: TraceCarrier | undefined;
  readonly #startedAt: number = performance.now();

  constructor(
    { tracer, instruments }: Listener,
    jobs: readonly SentJob[],
    attributes: Attributes,
  ) {
    const name = theOne(jobs.map((job) => job.name));
    const queueName = theOne(jobs.map((job) => job.queueName));
    this.#instruments = instruments;
    this.#jobs = jobs;
    this.#attributes = labels(ENQUEUE, name, queueName);
    this.#context = context.active();
    if (tracer === undefined) return;
    this.#span = tracer.startSpan(name === undefined ? "enqueue" : `enqueue ${name}`, {
      kind: SpanKind.PRODUCER,
      attributes: { ...this.#attributes, ...attributes },
    }, this.#context);
    this.#context = trace.setSpan(this.#context, this.#span);
    this.#carrier = carrierOf(this.#context);
  }

  /** What a job carries to its runs; undefined where it has nothing to carry. */
  carrier(isDeferred: boolean): TraceCarrier | undefined {
    return isDeferred && this.#carrier ? { ...this.#carrier, [DEFERRED]: "1" } : this.#carrier;
  }

  /** Tells how it ended once the store has answered; resolves and rejects as `accepted` does. */
  async observe(accepted: Promise<boolean>): Promise<boolean> {
    const outcomes = await Promise.allSettled([accepted]);
    this.conclude(outcomes);
    return await accepted;
  }

  /** Tells how it ended for each job. */
  conclude(outcomes: readonly PromiseSettledResult<boolean>[]): void {
    guarded(() => {
      for (const [i, { name, queueName }] of this.#jobs.entries()) {
        const attributes = { ...labels(ENQUEUE, name, queueName), ...outcomeOf(outcomes[i]) };
        this.#instruments?.sent.add(1, attributes, this.#context);
      }
      if (outcomes.length === 1) this.#span?.setAttributes(outcomeOf(outcomes[0]));
    });
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed) this.fail(failed.reason);
    else this.#end();
  }

  /** Tells that it ended with an error. */
  fail(error: unknown): void {
    guarded(() => this.#span && recordError(this.#span, error));
    this.#end({ "error.type": exceptionOf(error).name });
  }

  #end(attributes?: Attributes): void {
    guarded(() => {
      const seconds = (performance.now() - this.#startedAt) / 1_000;
      const { sendDuration } = this.#instruments ?? {};
      sendDuration?.record(seconds, { ...this.#attributes, ...attributes }, this.#context);
      this.#span?.end();
    });
  }
}

/** Counts a cron job that was enqueued at its time. Nobody asked for it, so its run begins the trace. */
export function countScheduled(name: string, queueName: string): void {
  const instruments = findListener()?.instruments;
  if (instruments === undefined) return;
  const attributes = { ...labels(SCHEDULE, name, queueName), ...ACCEPTED };
  guarded(() => instruments.sent.add(1, attributes));
}

/** What is told of a run. */
export interface RunFacts {
  readonly claim: { readonly jobId: string; readonly score: string; readonly starts: number };
  readonly record: { readonly f: string; readonly tc?: TraceCarrier };
  readonly jobTry: number;
  /** Undefined if the worker does not have the function. */
  readonly fn: object | undefined;
}

/** Begins to tell of a run; undefined where nobody listens. The clock is the store's. */
export function beginRun(
  run: RunFacts,
  queueName: string,
  clock: { readonly now: number | undefined },
): RunTelemetry | undefined {
  const listener = findListener();
  return listener && guarded(() => new RunTelemetry(listener, run, queueName, clock.now));
}

/** Calls a function where the spans it begins are children of the run's. */
export function within<T>(telemetry: RunTelemetry | undefined, call: () => T): T {
  return telemetry === undefined ? call() : context.with(telemetry.context, call);
}

/** What is active here, for a process that is to go on with it; undefined where nobody traces. */
export function activeCarrier(): TraceCarrier | undefined {
  return findListener()?.tracer && guarded(() => carrierOf(context.active()));
}

/** Calls a function in the context that was active where the carrier comes from. */
export function withinCarrier<T>(carrier: TraceCarrier | undefined, call: () => T): T {
  if (carrier === undefined) return call();
  const carried = guarded(() => propagation.extract(ROOT_CONTEXT, carrier)) ?? ROOT_CONTEXT;
  return context.with(carried, call);
}

/** A run that is told of. */
export class RunTelemetry {
  /** What is active during the run. */
  readonly context: Context = ROOT_CONTEXT;
  readonly #instruments: Instruments | undefined;
  readonly #attributes: Attributes;
  readonly #span: Span | undefined;
  readonly #startedAt: number = performance.now();

  constructor(
    { tracer, instruments }: Listener,
    { claim, record, jobTry, fn }: RunFacts,
    queueName: string,
    now: number | undefined,
  ) {
    this.#instruments = instruments;
    this.#attributes = labels(RUN, fn ? record.f : UNKNOWN_FUNCTION, queueName);
    if (tracer) {
      const { origin, parent } = originOf(record.tc);
      this.#span = tracer.startSpan(fn ? `run ${record.f}` : "run", {
        kind: SpanKind.CONSUMER,
        attributes: {
          ...labels(RUN, record.f, queueName),
          "messaging.message.id": claim.jobId,
          "messaging.arq.try": jobTry,
        },
        links: origin ? [{ context: origin }] : [],
      }, parent);
      this.context = trace.setSpan(parent, this.#span);
    }
    instruments?.active.add(1, this.#attributes, this.context);
    if (now === undefined || claim.starts > 1) return;
    const waitedMs = Math.max(0, now - Number(claim.score));
    instruments?.wait.record(waitedMs / 1_000, this.#attributes, this.context);
  }

  /** Tells how it ended. */
  end(outcome: RunOutcome): void {
    const seconds = (performance.now() - this.#startedAt) / 1_000;
    const { kind, error } = outcome;
    guarded(() => {
      const failure = kind === "failure" ? { "error.type": exceptionOf(error).name } : {};
      const attributes = { ...this.#attributes, "messaging.arq.outcome": kind, ...failure };
      this.#instruments?.active.add(-1, this.#attributes, this.context);
      this.#instruments?.consumed.add(1, attributes, this.context);
      this.#instruments?.runDuration.record(seconds, attributes, this.context);
    });
    guarded(() => this.#endSpan(outcome));
  }

  /** Only a failure is an error: the other ends were asked for, or the job runs again. */
  #endSpan({ kind, error, cause }: RunOutcome): void {
    const span = this.#span;
    if (span === undefined) return;
    span.setAttribute("messaging.arq.outcome", kind);
    if (kind === "failure") recordError(span, error);
    else if (cause !== undefined) span.recordException(exceptionOf(cause));
    span.end();
  }
}

/** A job's outcome, as far as it is told. */
export interface RunOutcome {
  readonly kind: string;
  readonly error?: unknown;
  readonly cause?: unknown;
}

const ACCEPTED = { "messaging.arq.outcome": "accepted" } as const;
const DUPLICATE = { "messaging.arq.outcome": "duplicate" } as const;

function outcomeOf(outcome: PromiseSettledResult<boolean> | undefined): Attributes {
  if (outcome?.status === "fulfilled") return outcome.value ? ACCEPTED : DUPLICATE;
  return { "messaging.arq.outcome": "failed", "error.type": exceptionOf(outcome?.reason).name };
}

/** The attributes of spans and metrics alike; without a name or queue that is not the same for all. */
function labels(
  operation: Attributes,
  name: string | undefined,
  queueName: string | undefined,
): Attributes {
  return {
    ...operation,
    ...(queueName === undefined ? {} : { "messaging.destination.name": queueName }),
    ...(name === undefined ? {} : { "messaging.arq.function": name }),
  };
}

/** What all are, if they are all the same. */
function theOne(texts: readonly string[]): string | undefined {
  const [first] = texts;
  return texts.every((text) => text === first) ? first : undefined;
}

/** What the program's propagators write of a context; undefined if that is nothing. */
function carrierOf(origin: Context): TraceCarrier | undefined {
  const carrier: Record<string, string> = {};
  propagation.inject(origin, carrier);
  return Object.keys(carrier).length > 0 ? carrier : undefined;
}

/**
 * Where a job comes from, and what its run is a child of: its origin, so that a trace shows the work
 * that it caused. A deferred job begins a trace of its own, since the other one is over by then, and
 * a job that enqueues itself for tomorrow would make it endless.
 */
function originOf(
  carrier: TraceCarrier = {},
): { readonly origin: SpanContext | undefined; readonly parent: Context } {
  const carried = propagation.extract(ROOT_CONTEXT, carrier);
  const isDeferred = Object.hasOwn(carrier, DEFERRED);
  return {
    origin: trace.getSpanContext(carried),
    parent: isDeferred ? trace.deleteSpan(carried) : carried,
  };
}

/** Marks a span as failed. */
function recordError(span: Span, error: unknown): void {
  const exception = exceptionOf(error);
  span.recordException(exception);
  span.setStatus({ code: SpanStatusCode.ERROR, message: exception.message });
  span.setAttribute("error.type", exception.name);
}

/** The fields of an exception, whatever was thrown. */
function exceptionOf(error: unknown): { name: string; message: string; stack?: string } {
  const { name, message, stack } = describeFailure(error, () => true);
  return { name, message, stack };
}
