/**
 * What `@redis/client` tells to tracers, and what that costs where there are none.
 * @module
 */
import { tracingChannel } from "node:diagnostics_channel";

/**
 * Gives the runtime's tracing channels the `hasSubscribers` of Node's, where it has none (Bun 1.4).
 * Without it the client takes it that somebody listens, and makes a text of every argument of every
 * command, payloads included.
 */
export function completeTracingChannels(): void {
  const prototype: object = Object.getPrototypeOf(tracingChannel("arq"));
  if ("hasSubscribers" in prototype) return;
  Object.defineProperty(prototype, "hasSubscribers", {
    configurable: true,
    get(this: ReturnType<typeof tracingChannel>): boolean {
      const { start, end, asyncStart, asyncEnd, error } = this;
      return [start, end, asyncStart, asyncEnd, error].some((channel) => channel.hasSubscribers);
    },
  });
}
