/**
 * One connection to Redis that outlives the server: it reconnects for ever, and every call on it
 * ends in a reply or in a `QueueConnectionError` within its deadline.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { ConnectionTimeoutError, DisconnectsClientError, RESP_TYPES } from "@redis/client";
import { Buffer } from "node:buffer";
import { Deadlines } from "./deadlines.ts";
import { QueueConnectionError, SettingsError } from "./errors.ts";
import { pluralText } from "./quantities.ts";
import type { RawClient, Reconnect } from "./redis_clients.ts";
import {
  firstWord,
  isFinal,
  isHangUp,
  isNoScript,
  isPassing,
  isTooLarge,
  mayHaveRun,
  reasonOf,
  underlying,
} from "./redis_errors.ts";
import type { Script } from "./redis_prelude.ts";
import type { RedisTarget } from "./redis_settings.ts";
import { checkTls } from "./redis_tls.ts";
import { completeTracingChannels } from "./redis_tracing.ts";
import { sleep } from "./sleep.ts";

/** An argument of a Redis command. */
export type Argument = string | Buffer;

/** What a command may answer, with every string as bytes. */
export type Reply = Buffer | number | null | readonly Reply[];

/** A script and what it is called with. */
export interface ScriptCall {
  /** The script. */
  readonly script: Script;
  /** The keys it works on. */
  readonly keys: readonly string[];
  /** Its first argument. */
  readonly prefix: string;
  /** The others, asked for at each attempt; told whether an earlier one may have taken effect. */
  readonly args: (again: boolean) => readonly Argument[];
}

const logger = getLogger(["arq", "redis"]);
const BYTES = { [RESP_TYPES.BLOB_STRING]: Buffer };
/** How much of its time is left to a repetition at least: with less, a fine connection looks silent. */
const LEAST_SHARE = 0.25;
/** An attempt to connect is waited for in so many steps. */
const STEPS = 10;
const COMMAND_OPTIONS = { typeMapping: BYTES, timeout: undefined };

/** Makes an unconnected client that asks `reconnect` what to do after a lost connection. */
export type ClientFactory = (reconnect: Reconnect) => RawClient;

/** Who listens on a channel. */
interface Subscription {
  readonly channel: string;
  readonly onMessage: (message: Uint8Array) => void;
}

/** One connection, replaced when the server stops answering on it. */
export class RedisConnection {
  readonly #factory: ClientFactory;
  readonly #target: RedisTarget;
  readonly #deadlines: Deadlines = new Deadlines();
  readonly #reconnectListeners: Set<() => void> = new Set();
  readonly #established: WeakSet<RawClient> = new WeakSet();
  readonly #connects: WeakMap<RawClient, Promise<unknown>> = new WeakMap();
  readonly #subscriptions: Set<Subscription> = new Set();
  #client: RawClient | undefined;
  /** The client of an attempt to connect that is under way. */
  #attempted: RawClient | undefined;
  #closed = false;
  #lastError: unknown;
  #isLost = false;

  /** Takes what makes the clients, and the target's deadlines and pace. */
  constructor(factory: ClientFactory, target: RedisTarget) {
    this.#factory = factory;
    this.#target = target;
  }

  /** The client of the moment; there is none before `connect`. */
  get client(): RawClient {
    if (this.#client === undefined || this.#closed) throw this.#explain(new Error("not connected"));
    return this.#client;
  }

  /** Whether `connect` has succeeded once. */
  get isConnected(): boolean {
    return this.#client !== undefined && this.#established.has(this.#client);
  }

  /** Whether it was closed, by whoever owns it. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /**
   * Connects, trying again as the settings say.
   *
   * @throws {QueueConnectionError} when the attempts are used up, or at once where another attempt
   * cannot help (a wrong password, a missing permission, no Redis), or if it is closed.
   */
  async connect(signal?: AbortSignal): Promise<void> {
    const { connRetries, connRetryDelayMs } = this.#target;
    for (let attempt = 0;; attempt++) {
      signal?.throwIfAborted();
      try {
        return await this.#connectOnce(signal);
      } catch (error) {
        signal?.throwIfAborted();
        const failure = this.#explain(error);
        const left = connRetries - attempt;
        if (this.#closed || left <= 0 || isFinal(error)) throw failure;
        logger.warn("{reason} ({attempts} left)", {
          reason: failure.message,
          attempts: pluralText(left, "attempt"),
        });
        await sleep(connRetryDelayMs, signal);
      }
    }
  }

  /** Lets it be used once more after it was closed. */
  reopen(): void {
    if (this.#closed) this.#client = undefined; // A call would replace it beside the one to come.
    this.#closed = false;
  }

  /** Calls back whenever a lost connection is there again; on a Cluster, one to any of the nodes. */
  onReconnect(listener: () => void): Disposable {
    this.#reconnectListeners.add(listener);
    return { [Symbol.dispose]: () => void this.#reconnectListeners.delete(listener) };
  }

  /** Runs a script. */
  script(call: ScriptCall): Promise<Reply> {
    const { script, keys: [key] } = call;
    return this.#repeat(async (again, timeoutMs) => {
      try {
        return await this.#send(commandOf("EVALSHA", script.sha, call, again), key, timeoutMs);
      } catch (error) {
        if (!isNoScript(error)) throw error;
        return await this.#send(commandOf("EVAL", script.source, call, again), key, timeoutMs);
      }
    });
  }

  /** Runs a command that may be repeated; `key` says which node of a Cluster it goes to. */
  command(args: readonly Argument[], key?: string): Promise<Reply> {
    return this.#repeat((_again, timeoutMs) => this.#send(args, key, timeoutMs));
  }

  /** Runs a command once, without repeating it, for as long as `timeoutMs`. */
  async once(args: readonly Argument[], key: string, timeoutMs: number): Promise<Reply> {
    try {
      return await this.#send(args, key, timeoutMs);
    } catch (error) {
      throw this.#explain(error);
    }
  }

  /**
   * Runs a command that blocks, and a script as soon as it returns: both are written together, so
   * that the script needs no round trip of its own. Neither is repeated. The reply is undefined to a
   * command that was refused while the script was not, and to a script that the server did not know.
   */
  async onceWithScript(
    args: readonly Argument[],
    call: ScriptCall,
    timeoutMs: number,
  ): Promise<[Reply | undefined, Reply | undefined]> {
    const { script, keys: [key] } = call;
    const [first, second] = await Promise.allSettled([
      this.#send(args, key, timeoutMs),
      this.#send(commandOf("EVALSHA", script.sha, call, false), key, timeoutMs),
    ]);
    const isUnknown = second.status === "rejected" && isNoScript(second.reason);
    if (second.status === "rejected" && !isUnknown) throw this.#explain(second.reason);
    // What the script did must be known, even if the command before it was refused.
    if (first.status === "rejected" && isUnknown) throw this.#explain(first.reason);
    return [
      first.status === "fulfilled" ? first.value : undefined,
      second.status === "fulfilled" ? second.value : undefined,
    ];
  }

  /** Listens to a channel until disposed of; a lost connection takes it up again by itself. */
  async subscribe(
    channel: string,
    listener: (message: Uint8Array) => void,
  ): Promise<AsyncDisposable> {
    const onMessage = (message: Uint8Array) => {
      if (this.#subscriptions.has(subscription)) listener(message);
    };
    const subscription = { channel, onMessage };
    this.#subscriptions.add(subscription);
    try {
      await this.#subscribe(subscription);
    } catch (error) {
      this.#subscriptions.delete(subscription);
      throw this.#explain(error);
    }
    return {
      [Symbol.asyncDispose]: () => {
        this.#subscriptions.delete(subscription);
        this.#unsubscribe(this.#client, subscription);
        return Promise.resolve();
      },
    };
  }

  /** Closes the connection at once; what is under way is rejected. */
  close(): void {
    this.#closed = true;
    this.#deadlines.clear();
    if (this.#client) this.#destroy(this.#client);
  }

  async #repeat(attempt: (again: boolean, timeoutMs: number) => Promise<Reply>): Promise<Reply> {
    const { timeoutMs, retries, retryOnTimeout, minDelayMs, maxDelayMs } = this.#target;
    let deadline = performance.now() + timeoutMs;
    let mayTimeOut = retryOnTimeout;
    let again = false;
    let answer: unknown;
    for (let failures = 0;; failures++) {
      try {
        return await attempt(again, Math.max(1, deadline - performance.now()));
      } catch (error) {
        again ||= mayHaveRun(error);
        const timedOut = error instanceof NoReplyError;
        const mayPass = timedOut ? mayTimeOut : this.#isTransient(error);
        if (timedOut) {
          mayTimeOut = false;
          deadline = performance.now() + timeoutMs;
        } else if (firstWord(error) !== undefined) answer = error;
        const delay = backoff(failures, minDelayMs, maxDelayMs);
        const late = performance.now() + delay >= deadline - timeoutMs * LEAST_SHARE;
        if (this.#closed || !mayPass || failures >= retries || late) {
          throw this.#explain(error, answer);
        }
        await sleep(delay);
      }
    }
  }

  #send(args: readonly Argument[], key: string | undefined, timeoutMs: number): Promise<Reply> {
    return this.#ask((client) => sendTo(client, this.#target.kind, args, key), timeoutMs);
  }

  /** Asks the client of the moment; one that is silent, or has given up, is replaced. */
  #ask<T>(question: (client: RawClient) => Promise<T>, timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      // A client that was handed in may have a strategy that gives up; a worker never does.
      if (this.isConnected && !this.client.isOpen) this.#replace(this.client);
      const client = this.client;
      const done = this.#deadlines.set(timeoutMs, () => {
        reject(new NoReplyError());
        this.#replace(client);
      });
      const onReply = (reply: T) => {
        done();
        resolve(reply);
      };
      const onError = (error: unknown) => {
        done();
        reject(error);
      };
      try {
        question(client).then(onReply, onError);
      } catch (error) {
        onError(error);
      }
    });
  }

  /** Does nothing where the client has this subscription. */
  #subscribe(subscription: Subscription): Promise<void> {
    const { channel, onMessage } = subscription;
    return this.#ask(async (client) => {
      await client.subscribe(channel, onMessage, true);
      if (!this.#subscriptions.has(subscription)) this.#unsubscribe(client, subscription);
    }, this.#target.timeoutMs);
  }

  #unsubscribe(client: RawClient | undefined, { channel, onMessage }: Subscription): void {
    if (this.#closed || !client?.isOpen) return;
    client.unsubscribe(channel, onMessage, true).catch(() => {}); // It is gone by itself.
  }

  async #connectOnce(signal: AbortSignal | undefined): Promise<void> {
    const { promise: silence, reject } = Promise.withResolvers<never>();
    const { connTimeoutMs } = this.#target;
    // Nothing is heard while the event loop is blocked: in steps, that time does not count.
    let timer: ReturnType<typeof setTimeout> | undefined;
    const wait = (steps: number) => {
      if (steps === 0) reject(new NoReplyError(connTimeoutMs));
      else timer = setTimeout(() => wait(steps - 1), connTimeoutMs / STEPS);
    };
    const onAbort = () => reject(signal?.reason);
    const over = new AbortController();
    try {
      if (this.#closed) throw new Error("it was closed");
      wait(STEPS);
      signal?.addEventListener("abort", onAbort, { once: true });
      await Promise.race([checkTls(this.#target, over.signal), silence]);
      await this.#connectClient(silence);
    } finally {
      over.abort();
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  async #connectClient(silence: Promise<never>): Promise<void> {
    if (this.#closed) throw new Error("it was closed");
    const client = this.#makeClient();
    this.#client = this.#attempted = client;
    this.#lastError = undefined;
    const { promise: refusal, reject } = Promise.withResolvers<never>();
    client.on("error", (error) => isFinal(error) && reject(error)); // `connect` may go on for ever.
    try {
      const ready = this.#connecting(client).then(() =>
        sendTo(client, this.#target.kind, ["PING"])
      );
      await Promise.race([ready, silence, refusal]);
    } catch (error) {
      this.#destroy(client);
      // A Sentinel's client gives its reasons on the way, and says in the end that there is none.
      const isSummary = this.#target.kind === "sentinel" && !(error instanceof NoReplyError);
      throw isSummary ? this.#lastError ?? error : error;
    } finally {
      this.#attempted = undefined;
    }
    this.#established.add(client);
    this.#lastError = undefined; // Some node, or some try, may have failed on the way.
  }

  #makeClient(): RawClient {
    completeTracingChannels();
    const { minDelayMs, maxDelayMs } = this.#target;
    const client = this.#factory((retries, cause) => {
      // What a Sentinel's client opens while it is closed would try to connect for ever.
      const isUsed = !this.#closed && this.#client === client && this.#established.has(client);
      // An attempt has our own deadline, which knows better how long the event loop was blocked.
      const isTried = this.#attempted === client && cause instanceof ConnectionTimeoutError;
      return isUsed || isTried ? backoff(retries, minDelayMs, maxDelayMs) : cause;
    });
    client.on("error", (error) => {
      this.#lastError = error;
      if (this.#client === client && this.#established.has(client) && !this.#isLost) {
        this.#isLost = true;
        logger.warn("{reason}, connecting again", { reason: this.#explain(error).message });
      }
    });
    const onReady = () => void this.#onReady(client).catch((error) => this.#lastError = error);
    if (this.#target.kind === "cluster") onNodesReady(client, onReady);
    else client.on("ready", onReady);
    return client;
  }

  /** Tells of a connection that is there again, once it hears what its predecessor has heard. */
  async #onReady(client: RawClient): Promise<void> {
    await this.#connects.get(client);
    if (this.#client !== client || !this.#established.has(client)) return;
    this.#isLost = false;
    this.#lastError = undefined;
    await Promise.all(Array.from(this.#subscriptions, (each) => this.#subscribe(each)));
    for (const listener of this.#reconnectListeners) listener();
  }

  /** A connection without answers is given up; what else waits on it is repeated on the next. */
  #replace(silent: RawClient): void {
    if (this.#closed || this.#client !== silent) return;
    let client: RawClient;
    try {
      client = this.#makeClient();
    } catch (error) { // Its files cannot be read at the moment; the silent one may come back.
      const { address } = this.#target;
      const reason = (error as Error).message.replace(/\s+/g, " ");
      logger.warn("Redis at {address} is silent, and cannot be connected to again: {reason}", {
        address,
        reason,
      });
      return;
    }
    this.#established.add(client);
    this.#client = client;
    this.#connecting(client).catch((error) => this.#lastError = error);
    this.#destroy(silent);
  }

  #connecting(client: RawClient): Promise<unknown> {
    const connect = client.connect();
    this.#connects.set(client, connect);
    return connect;
  }

  /** A client that is destroyed while it connects comes up all the same: then it goes again. */
  #destroy(client: RawClient): void {
    const destroy = () => void client.destroy();
    destroy();
    this.#connects.get(client)?.then(destroy, () => {});
  }

  #isTransient(error: unknown): boolean {
    if (error instanceof QueueConnectionError) return false;
    const { kind, retryOnError } = this.#target;
    return isPassing(error, kind === "cluster") || retryOnError.includes(firstWord(error) ?? "");
  }

  /** What may be wrong where the first words of one side meant nothing to the other. */
  #tlsHint(error: unknown): string {
    if (this.isConnected) return "";
    if (this.#target.tls === undefined) {
      return isHangUp(error) ? "; does it want TLS, as with rediss://?" : "";
    }
    return error instanceof NoReplyError ? "; does it speak TLS on this port?" : "";
  }

  /** In words; of silence, by what is wrong with the connection, or by an answer that came before. */
  #explain(thrown: unknown, answer?: unknown): Error {
    const error = underlying(thrown);
    if (error instanceof QueueConnectionError || error instanceof SettingsError) return error;
    const { address, timeoutMs, connTimeoutMs, kind } = this.#target;
    if (this.#closed) return new QueueConnectionError(`The connection to ${address} is closed`);
    // The client of a call is given up when another call on it has waited in vain.
    const isSilence = error instanceof NoReplyError || error instanceof DisconnectsClientError;
    const isConnecting = error instanceof ConnectionTimeoutError;
    const limitMs = error instanceof NoReplyError && error.limitMs ||
      (isConnecting ? connTimeoutMs : timeoutMs);
    const reason = isSilence ? this.#lastError ?? answer : error;
    const text = reason === undefined || reason instanceof ConnectionTimeoutError
      ? `no reply within ${limitMs / 1_000} s`
      : reasonOf(reason, address, kind === "sentinel");
    const refused = firstWord(reason) !== undefined && !isPassing(reason, true);
    const tooLarge = isTooLarge(error);
    return new QueueConnectionError(`Redis at ${address}: ${text}${this.#tlsHint(error)}`, {
      cause: error,
      refused,
      tooLarge,
    });
  }
}

class NoReplyError extends Error {
  constructor(readonly limitMs?: number) {
    super();
  }
}

/** A Cluster's client tells of its nodes alone; it has new ones all the time, which miss nothing. */
function onNodesReady(client: RawClient, onReady: () => void): void {
  const lost = new Set<unknown>();
  client.on("connect", onReady);
  client.on("node-reconnecting", (node) => lost.add(node));
  client.on("node-ready", (node) => lost.delete(node) && onReady());
}

function commandOf(
  name: "EVALSHA" | "EVAL",
  script: string,
  { keys, prefix, args }: ScriptCall,
  again: boolean,
): readonly Argument[] {
  const head: Argument[] = [name, script, String(keys.length), ...keys, prefix];
  return head.concat(args(again));
}

function backoff(failures: number, minDelayMs: number, maxDelayMs: number): number {
  const delay = Math.min(maxDelayMs, minDelayMs * 2 ** Math.min(failures, 30));
  return delay * (0.5 + Math.random() / 2);
}

interface CommandSender {
  sendCommand(...args: unknown[]): Promise<Reply>;
}

function sendTo(
  client: RawClient,
  kind: RedisTarget["kind"],
  args: readonly Argument[],
  key?: string,
): Promise<Reply> {
  const sender = client as unknown as CommandSender;
  if (kind === "single") return sender.sendCommand(args, COMMAND_OPTIONS);
  if (kind === "sentinel") return sender.sendCommand(false, args, COMMAND_OPTIONS);
  return sender.sendCommand(key, false, args, COMMAND_OPTIONS);
}
