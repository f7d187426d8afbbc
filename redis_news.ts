/**
 * The news that jobs have finished: one connection for all who wait, one subscription a channel.
 * @module
 */
import type { RedisConnection } from "./redis_connection.ts";
import { doneChannel } from "./redis_keys.ts";
import type { FinishListener } from "./store.ts";

/** Those who wait for news on one channel, by job id. */
interface Line {
  readonly listeners: Map<string, Set<FinishListener>>;
  readonly subscribed: Promise<AsyncDisposable>;
}

/** Tells listeners of the ends of their jobs. */
export class RedisNews {
  readonly #prefix: string;
  readonly #connect: () => Promise<RedisConnection>;
  readonly #lines: Map<string, Line> = new Map();
  #connection: Promise<RedisConnection> | undefined;

  /** Takes the key prefix, and what opens the connection when the first one wants to listen. */
  constructor(prefix: string, connect: () => Promise<RedisConnection>) {
    this.#prefix = prefix;
    this.#connect = connect;
  }

  /** Calls back when the job finishes; resolves once nothing can be missed any more. */
  async listen(jobId: string, listener: FinishListener): Promise<AsyncDisposable> {
    const channel = doneChannel(this.#prefix, jobId);
    let line = this.#lines.get(channel);
    if (line === undefined) this.#lines.set(channel, line = this.#openLine(channel));
    const { listeners, subscribed } = line;
    const waiting = listeners.get(jobId) ?? new Set();
    listeners.set(jobId, waiting.add(listener));
    const leave = async () => {
      waiting.delete(listener);
      if (waiting.size === 0) listeners.delete(jobId);
      if (listeners.size > 0 || isShared(jobId) || this.#lines.get(channel) !== line) return;
      this.#lines.delete(channel);
      await (await subscribed)[Symbol.asyncDispose]();
    };
    try {
      await subscribed;
    } catch (error) {
      this.#lines.delete(channel);
      throw error;
    }
    return { [Symbol.asyncDispose]: leave };
  }

  /** Forgets the connection, which its owner has closed. */
  reset(): void {
    this.#lines.clear();
    this.#connection = undefined;
  }

  #openLine(channel: string): Line {
    const listeners: Line["listeners"] = new Map();
    const onMessage = (message: Uint8Array) => {
      const { jobId, record } = readMessage(message);
      for (const listener of listeners.get(jobId) ?? []) listener(record);
    };
    const subscribe = async () => (await this.#connected()).subscribe(channel, onMessage);
    return { listeners, subscribed: subscribe() };
  }

  #connected(): Promise<RedisConnection> {
    const connect = async () => {
      try {
        return await this.#connect();
      } catch (error) {
        this.#connection = undefined;
        throw error;
      }
    };
    return this.#connection ??= connect();
  }
}

/** What `ArqClient.call` gives its jobs; an @ in an id of the user's own means nothing. */
const CALL_ID = /^[0-9a-f]{12}@[0-9a-f]{32}$/;

/** Ids of one client's calls share a channel, which stays open for the next call. */
function isShared(jobId: string): boolean {
  return CALL_ID.test(jobId);
}

/** Takes a message apart; `doneChannel` says what it is made of. */
function readMessage(message: Uint8Array): { jobId: string; record: Uint8Array | undefined } {
  const colon = message.indexOf(0x3a);
  const end = colon + 1 + Number(new TextDecoder().decode(message.subarray(0, colon)));
  const jobId = new TextDecoder().decode(message.subarray(colon + 1, end));
  return { jobId, record: end < message.length ? message.subarray(end) : undefined };
}
