/** Functions for processes of their own, with what such a process registers itself. */
import { context, propagation, type SpanContext, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CTraceContextPropagator } from "@opentelemetry/core";

// Where the runtime has registered its own, that stays.
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(new W3CTraceContextPropagator());

/** Tells in whose span it runs. */
export function whose(): SpanContext | undefined {
  return trace.getSpanContext(context.active());
}

/** Begins a span, as any library may. */
export function greet(): void {
  trace.getTracer("program").startActiveSpan("greeting apart", (span) => span.end());
}
