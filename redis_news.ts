/**
 * The news of jobs, their steps and their ends: one connection for all who wait, one subscription a
 * channel.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Bag, type Bagged } from "./bag.ts";
import type { RedisConnection } from "./redis_connection.ts";
import { doneChannel, newsChannel } from "./redis_keys.ts";
import type { FinishListener, JobNews, NewsListener, ProgressReport } from "./store.ts";

const logger = getLogger(["arq", "redis"]);
/** An id may begin with what is a byte order mark elsewhere. */
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const NOTHING = new Uint8Array();
/** So often it is tried whether the connection still hears; what is silent would wait for ever. */
const TRIAL_MS = 5_000;

/**
 * What `ArqClient.call` gives its jobs: those of one client share a channel, which it keeps open for
 * its next call. An @ in an id of the user's own means nothing.
 */
const CALL_ID = /^[0-9a-f]{12}@[0-9a-f]{32}$/;

/** Called with what a message says of one job; without any field where messages may have been missed. */
type Listener = (news: Uint8Array, fields: readonly string[]) => void;

/** Somebody who waits; who has left is not called any more. */
interface Waiting extends Bagged {
  listener: Listener | undefined;
}

/** Those who wait for news on one channel, by job id. */
interface Line {
  readonly listeners: Map<string, Bag<Waiting>>;
  readonly subscribed: Promise<AsyncDisposable>;
  /** Whether it is kept for the next call, though nobody waits. */
  staysOpen: boolean;
}

/** Tells listeners what happens to their jobs. */
export class RedisNews {
  readonly #prefix: string;
  readonly #connect: () => Promise<RedisConnection>;
  readonly #lines: Map<string, Line> = new Map();
  #connection: Promise<RedisConnection> | undefined;
  #trials: ReturnType<typeof setInterval> | undefined;

  /** Takes the key prefix, and what opens the connection when the first one wants to listen. */
  constructor(prefix: string, connect: () => Promise<RedisConnection>) {
    this.#prefix = prefix;
    this.#connect = connect;
  }

  /** Calls back when the job finishes; resolves once nothing can be missed any more. */
  async listen(
    jobId: string,
    listener: FinishListener,
    isCall: boolean,
  ): Promise<AsyncDisposable> {
    const onNews: Listener = (record) => listener(record.length > 0 ? record : undefined);
    const staysOpen = isCall && CALL_ID.test(jobId);
    return await this.#join(doneChannel(this.#prefix, jobId), jobId, onNews, staysOpen);
  }

  /** Calls back with the steps of a watched job, and when some may have been missed. */
  async watch(queueName: string, jobId: string, listener: NewsListener): Promise<AsyncDisposable> {
    const onNews: Listener = (value, fields) => {
      const news = readNews(fields, value);
      if (news) listener(news);
    };
    return await this.#join(newsChannel(queueName), jobId, onNews, false);
  }

  /** Forgets the connection, which its owner has closed. */
  reset(): void {
    this.#lines.clear();
    this.#connection = undefined;
    clearInterval(this.#trials);
  }

  async #join(
    channel: string,
    jobId: string,
    listener: Listener,
    staysOpen: boolean,
  ): Promise<AsyncDisposable> {
    let line = this.#lines.get(channel);
    if (line === undefined) this.#lines.set(channel, line = this.#openLine(channel));
    line.staysOpen ||= staysOpen;
    const { listeners, subscribed } = line;
    const waiting: Waiting = { listener, bagIndex: 0 };
    const ofJob = listeners.get(jobId) ?? new Bag();
    ofJob.add(waiting);
    listeners.set(jobId, ofJob);
    const leave = async () => {
      waiting.listener = undefined; // What the map was laid out in before may live on for a while.
      ofJob.delete(waiting);
      if (ofJob.size === 0 && listeners.get(jobId) === ofJob) listeners.delete(jobId);
      if (listeners.size > 0 || line.staysOpen || this.#lines.get(channel) !== line) return;
      this.#lines.delete(channel);
      await (await subscribed)[Symbol.asyncDispose]();
    };
    try {
      await subscribed;
    } catch (error) {
      if (this.#lines.get(channel) === line) this.#lines.delete(channel);
      throw error;
    }
    return { [Symbol.asyncDispose]: leave };
  }

  #openLine(channel: string): Line {
    const listeners: Line["listeners"] = new Map();
    const onMessage = (message: Uint8Array) => {
      const { jobId, fields, value } = readMessage(message);
      for (const { listener } of [...listeners.get(jobId) ?? []]) listener?.(value, fields);
    };
    const subscribe = async () => (await this.#connected()).subscribe(channel, onMessage);
    return { listeners, subscribed: subscribe(), staysOpen: false };
  }

  #connected(): Promise<RedisConnection> {
    const connect = async () => {
      try {
        const connection = await this.#connect();
        // Both last as long as the connection does.
        connection.onReconnect(() => this.#tellOfGap());
        if (!connection.isClosed) {
          this.#trials = setInterval(() => void this.#tryLine(connection), TRIAL_MS);
        }
        return connection;
      } catch (error) {
        this.#connection = undefined;
        throw error;
      }
    };
    return this.#connection ??= connect();
  }

  /** Subscribes to what nobody sends: a connection that does not answer to that is replaced. */
  async #tryLine(connection: RedisConnection): Promise<void> {
    try {
      const channel = doneChannel(this.#prefix, "");
      await using _ = await connection.subscribe(channel, () => {});
    } catch (error) {
      logger.debug("the connection for news does not answer: {reason}", {
        reason: (error as Error).message,
      });
    }
  }

  #tellOfGap(): void {
    const lines = [...this.#lines.values()];
    const bags = lines.flatMap(({ listeners }) => [...listeners.values()]);
    const waiting = bags.flatMap((bag) => [...bag]);
    for (const { listener } of waiting) listener?.(NOTHING, []);
  }
}

/** What a message is made of; the length of its id is the last thing before the first colon. */
interface Message {
  readonly fields: readonly string[];
  readonly jobId: string;
  readonly value: Uint8Array;
}

/** Takes a message apart; `doneChannel` and `redis_prelude.ts` say what it is made of. */
function readMessage(message: Uint8Array): Message {
  const colon = message.indexOf(0x3a);
  const fields = decoder.decode(message.subarray(0, colon)).split(",");
  const end = colon + 1 + Number(fields.at(-1));
  const jobId = decoder.decode(message.subarray(colon + 1, end));
  return { fields, jobId, value: message.subarray(end) };
}

/** What a message says; undefined for what no script of ours has sent. */
function readNews(fields: readonly string[], value: Uint8Array): JobNews | undefined {
  if (fields.length === 0) return { kind: "gap" };
  const [kind, ...numbers] = fields;
  const [at = NaN, starts = NaN, number = NaN] = numbers.map(Number);
  if (!Number.isFinite(at + starts + number)) return undefined;
  switch (kind) {
    case "started":
      return { kind, at, starts };
    case "progress":
      return { kind, at, starts, nth: number, value };
    case "retried":
      return { kind, at, starts, dueAt: number };
    default:
      return undefined;
  }
}

/** What a progress key holds; undefined if it is no report. */
export function readReport(report: Uint8Array): ProgressReport | undefined {
  const colon = report.indexOf(0x3a);
  const numbers = decoder.decode(report.subarray(0, colon)).split(",").map(Number);
  const [at = NaN, starts = NaN, nth = NaN] = numbers;
  if (colon < 0 || !Number.isFinite(at + starts + nth)) return undefined;
  return { at, starts, nth, value: report.subarray(colon + 1) };
}
