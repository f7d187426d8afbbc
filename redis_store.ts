/**
 * The store on Redis: each method is one script or command, one jump away in `redis_scripts.ts`.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Buffer } from "node:buffer";
import { QueueConnectionError } from "./errors.ts";
import {
  type Argument,
  type ClientFactory,
  RedisConnection,
  type Reply,
  type ScriptCall,
} from "./redis_connection.ts";
import { eventScripts } from "./redis_event_scripts.ts";
import {
  abortKey,
  jobKey,
  leftKey,
  OPS,
  progressKey,
  resultKey,
  scriptKeys,
  wakeKey,
} from "./redis_keys.ts";
import { RedisInspection } from "./redis_inspection.ts";
import {
  BATCH,
  bytes,
  claimArguments,
  enqueueArguments,
  finishBatches,
  flag,
  giveBackArguments,
  list,
  number,
  readClaims,
  readSnapshot,
  rowBatches,
  settled,
  startsOf,
  text,
} from "./redis_arguments.ts";
import { readReport, RedisNews } from "./redis_news.ts";
import { scripts } from "./redis_scripts.ts";
import type { Script } from "./redis_prelude.ts";
import type { RedisTarget } from "./redis_settings.ts";
import type {
  AbortReply,
  ClaimReply,
  ClaimRequest,
  Finish,
  FinishListener,
  GiveBack,
  JobObservation,
  JobSnapshot,
  Lease,
  NewJob,
  NewProgress,
  NewsListener,
  ProgressReport,
  QueueEntry,
  Settled,
  Store,
  WakeLine,
} from "./store.ts";

const logger = getLogger(["arq", "redis"]);
/** A blocking pop returns after this many seconds at the latest, so that a dead peer is noticed. */
const WAKE_WAIT_SECONDS = 5;

/** Queues in Redis, in the layout that Python's arq uses. */
export class RedisStore implements Store {
  readonly prefix: string;
  readonly listChunk = 250;
  readonly address: string;
  readonly inspection: RedisInspection;
  readonly #target: RedisTarget;
  readonly #factory: ClientFactory;
  readonly #commands: RedisConnection;
  readonly #given: unknown;
  readonly #further: Set<RedisConnection> = new Set();
  readonly #news: RedisNews;
  readonly #closeListeners: Set<() => void> = new Set();
  /** Those of the queue that was used last: most programs use one. */
  #keys: readonly string[] = [];
  #keysOf: string | undefined;

  /** Takes the target, what makes its clients, the key prefix, and the program's own client if it gave one. */
  constructor(target: RedisTarget, factory: ClientFactory, prefix: string, given?: unknown) {
    this.#target = target;
    this.#factory = factory;
    this.#commands = new RedisConnection(factory, target);
    this.#given = given;
    this.#news = new RedisNews(prefix, () => this.#connectNews());
    this.prefix = prefix;
    this.address = target.database === 0
      ? target.address
      : `${target.address}?db=${target.database}`;
    this.inspection = new RedisInspection((...call) => this.#run(...call), prefix);
  }

  get client(): unknown {
    return this.#given ?? this.#commands.client;
  }

  get isOpen(): boolean {
    return this.#commands.isConnected && !this.#commands.isClosed;
  }

  connect(signal?: AbortSignal): Promise<void> {
    this.#commands.reopen();
    return this.#commands.connect(signal);
  }

  checkQueueName(queueName: string): void {
    if (queueName.includes(OPS)) {
      throw new RangeError(
        `A queue's name must not contain "${OPS}", got "${queueName}": there the store keeps what ` +
          "operators see",
      );
    }
    if (this.#target.kind !== "cluster") return;
    const tag = hashTag(this.prefix);
    if (tag === undefined) {
      throw new RangeError(
        `On a Cluster the prefix needs a hash tag, such as "{arq}:", so that one queue lives in ` +
          `one slot; got "${this.prefix}"`,
      );
    }
    if (hashTag(queueName) !== tag) {
      throw new RangeError(
        `On a Cluster the queue's name needs the prefix's tag {${tag}}, got "${queueName}"`,
      );
    }
  }

  async describe(): Promise<{ readonly info: string; readonly warning?: string }> {
    const key = jobKey(this.prefix, "");
    const sections = ["Server", "Memory", "Clients"];
    const info = text(await this.#commands.command(["INFO", ...sections], key));
    const keys = await this.#commands.command(["DBSIZE"], key);
    const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, "m").exec(info)?.[1];
    const policy = field("maxmemory_policy");
    return {
      info: `redis_version=${field("redis_version")} mem_usage=${field("used_memory_human")} ` +
        `clients_connected=${field("connected_clients")} db_keys=${keys}`,
      ...(policy !== undefined && policy !== "noeviction" && {
        warning: `Redis may evict jobs: maxmemory-policy is ${policy}, set it to noeviction`,
      }),
    };
  }

  onReconnect(listener: () => void): Disposable {
    return this.#commands.onReconnect(listener);
  }

  onClose(listener: () => void): Disposable {
    this.#closeListeners.add(listener);
    return { [Symbol.dispose]: () => void this.#closeListeners.delete(listener) };
  }

  async enqueue(queueName: string, jobs: readonly NewJob[], extraMs: number): Promise<boolean[]> {
    const anyGiven = jobs.some((job) => job.idKind !== "random");
    const nonce = anyGiven ? crypto.randomUUID() : "";
    const args = enqueueArguments(jobs);
    this.inspection.noteUse(queueName);
    const reply = await this.#run(scripts.enqueue, queueName, (again) => [
      String(extraMs),
      flag(again),
      nonce,
      ...args,
    ]);
    const taken = new Set(text(reply).split(",").map(Number));
    return jobs.map((_job, i) => !taken.has(i + 1));
  }

  async claim(queueName: string, request: ClaimRequest): Promise<ClaimReply> {
    const args = claimArguments(request);
    let wasRepeated = false;
    const reply = await this.#run(scripts.claim, queueName, (again) => {
      wasRepeated ||= again;
      return args;
    });
    return { ...await this.#readClaims(queueName, reply), wasRepeated };
  }

  async renew(queueName: string, leases: readonly Lease[], leaseMs: number): Promise<boolean[]> {
    const flags = await this.#runBatches(
      scripts.renew,
      queueName,
      () => [String(leaseMs)],
      rowBatches(leases.map(({ jobId, token, score }) => [jobId, token, score])),
    );
    return Array.from(flags, (flag) => flag === "1");
  }

  async finish(queueName: string, ends: readonly Finish[]): Promise<Settled[]> {
    // The nodes of a Cluster, for one, do not know who listens on the others.
    const allListenHere = flag(this.#target.kind === "single");
    const first = (again: boolean) => [flag(again), allListenHere];
    return settled(await this.#runBatches(scripts.finish, queueName, first, finishBatches(ends)));
  }

  async giveBack(queueName: string, jobs: readonly GiveBack[]): Promise<Settled[]> {
    const batches = rowBatches(jobs.map(giveBackArguments));
    const first = (again: boolean) => [flag(again)];
    return settled(await this.#runBatches(scripts.giveBack, queueName, first, batches));
  }

  async releaseUnknown(
    queueName: string,
    holder: string,
    known: readonly Lease[],
  ): Promise<number> {
    const args = [`${holder}:`, ...known.map(({ token, jobId }) => `${token}:${jobId}`)];
    return number(await this.#run(scripts.releaseUnknown, queueName, () => args));
  }

  openWakeLine(queueName: string): WakeLine {
    if (this.#target.maxConnections < 3) {
      const wait = () => new Promise<never>(() => {});
      return { canClaim: false, wait, disarm: async () => {}, [Symbol.dispose]() {} };
    }
    const connection = this.#furtherConnection(0); // a worker tries again by itself
    const key = wakeKey(queueName);
    const timeoutMs = WAKE_WAIT_SECONDS * 1_000 + this.#target.timeoutMs;
    const pop = ["BLPOP", key, String(WAKE_WAIT_SECONDS)];
    let canWait = true;
    const isSingle = this.#target.kind === "single";
    return {
      // A Sentinel's client spreads its commands over connections, a Cluster's may be redirected.
      // Where the pop is refused it must be seen: claims that succeed behind it would come unasked.
      get canClaim() {
        return isSingle && canWait;
      },
      wait: async (request) => {
        if (!connection.isConnected) await connection.connect();
        if (!request) {
          const popped = await connection.once(pop, key, timeoutMs);
          canWait = true;
          return popped !== null;
        }
        const args = claimArguments(request);
        const claim = this.#call(scripts.claim, queueName, () => args);
        const [popped, reply] = await connection.onceWithScript(pop, claim, timeoutMs);
        canWait = popped !== undefined;
        if (reply === undefined) return Array.isArray(popped);
        return await this.#readClaims(queueName, reply);
      },
      disarm: async (holder) => {
        const mark = leftKey(queueName, holder);
        await this.#commands.command(["SET", mark, "1", "PX", String(2 * timeoutMs)], mark);
      },
      [Symbol.dispose]: () => {
        this.#further.delete(connection);
        connection.close();
      },
    };
  }

  async wake(queueName: string): Promise<void> {
    await this.#run(scripts.wake, queueName, () => []);
  }

  async abort(
    queueName: string,
    jobId: string,
    record: Uint8Array,
    keepMs: number,
  ): Promise<AbortReply> {
    const args = [jobId, bytes(record), String(keepMs)];
    return text(await this.#run(scripts.abort, queueName, () => args)) as AbortReply;
  }

  async findAborts(jobIds: readonly string[]): Promise<ReadonlySet<string>> {
    if (jobIds.length === 0) return new Set();
    const key = abortKey(this.prefix);
    const scores = list(await this.#commands.command(["ZMSCORE", key, ...jobIds], key));
    return new Set(jobIds.filter((_id, i) => scores[i] !== null));
  }

  async lookUp(queueName: string, jobId: string, withPayload: boolean): Promise<JobSnapshot> {
    const args = [jobId, flag(withPayload)];
    return readSnapshot(list(await this.#run(scripts.lookUp, queueName, () => args)));
  }

  async onFinished(
    jobId: string,
    listener: FinishListener,
    isCall: boolean = false,
  ): Promise<AsyncDisposable> {
    if (this.#target.maxConnections < 2) return { [Symbol.asyncDispose]: async () => {} };
    return await this.#news.listen(jobId, listener, isCall);
  }

  async report(
    queueName: string,
    reports: readonly NewProgress[],
    leaseMs: number,
  ): Promise<void> {
    const rows = reports.map(({ lease, starts, nth, value }) => [
      lease.jobId,
      lease.token,
      lease.score,
      String(starts),
      String(nth),
      bytes(value),
    ]);
    const first = () => [String(leaseMs)];
    await this.#runBatches(eventScripts.report, queueName, first, rowBatches(rows));
  }

  async readProgress(jobId: string): Promise<ProgressReport | undefined> {
    const key = progressKey(this.prefix, jobId);
    const reply = await this.#commands.command(["GET", key], key);
    return Buffer.isBuffer(reply) ? readReport(reply) : undefined;
  }

  async observe(
    queueName: string,
    jobId: string,
    watchMs: number,
    withPayload: boolean,
  ): Promise<JobObservation> {
    const args = [jobId, flag(withPayload), String(watchMs)];
    const reply = list(await this.#run(eventScripts.observe, queueName, () => args));
    const [starts, report] = reply.slice(6);
    return {
      ...readSnapshot(reply),
      starts: startsOf(starts),
      progress: Buffer.isBuffer(report) ? readReport(report) : undefined,
    };
  }

  async onNews(queueName: string, jobId: string, listener: NewsListener): Promise<AsyncDisposable> {
    return await this.#news.watch(queueName, jobId, listener);
  }

  async queueEntries(queueName: string): Promise<QueueEntry[]> {
    const range = ["ZRANGE", queueName, "0", "-1", "WITHSCORES"];
    const reply = list(await this.#commands.command(range, queueName)).flat();
    const entries = Array.from({ length: reply.length / 2 }, (_, i) => ({
      jobId: text(reply[2 * i]),
      score: number(reply[2 * i + 1]),
    }));
    const payloads = await this.#getAll(entries.map(({ jobId }) => jobKey(this.prefix, jobId)));
    return entries.map((entry, i) => ({ ...entry, payload: payloads[i] }));
  }

  async *results(): AsyncIterable<{ readonly jobId: string; readonly record: Uint8Array }> {
    const start = resultKey(this.prefix, "");
    const pattern = start.replace(/[*?[\]\\]/g, "\\$&") + "*";
    const seen = new Set<string>();
    const isCluster = flag(this.#target.kind === "cluster");
    let cursor = "0";
    let node: string | undefined;
    do {
      const args = [cursor, pattern, isCluster];
      const reply = await this.#run(scripts.scan, `${this.prefix}queue`, () => args);
      const [next, served, found] = list(reply);
      if (node !== undefined && node !== text(served)) {
        [cursor, node] = ["0", undefined]; // The slot has moved, and the cursor means nothing there.
        continue;
      }
      node = text(served);
      const keys = list(found).map(text).filter((key) => !seen.has(key));
      for (const key of keys) seen.add(key);
      const records = await this.#getAll(keys);
      for (const [i, record] of records.entries()) {
        if (record !== undefined) yield { jobId: (keys[i] ?? "").slice(start.length), record };
      }
      cursor = text(next);
    } while (cursor !== "0" || node === undefined);
  }

  async writeHealth(key: string, value: string, ttlMs: number): Promise<void> {
    await this.#commands.command(["SET", key, value, "PX", String(ttlMs)], key);
  }

  async readHealth(key: string): Promise<string | undefined> {
    const reply = await this.#commands.command(["GET", key], key);
    return reply === null ? undefined : text(reply);
  }

  async removeHealth(key: string): Promise<void> {
    await this.#commands.command(["DEL", key], key);
  }

  close(): Promise<void> {
    for (const listener of [...this.#closeListeners]) listener();
    for (const connection of [this.#commands, ...this.#further]) connection.close();
    this.#further.clear();
    this.#news.reset();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #readClaims(queueName: string, reply: Reply): Promise<ClaimReply> {
    const { strange, ...claimed } = readClaims(list(reply));
    if (strange.length > 0) await this.#remove(queueName, strange);
    return claimed;
  }

  #run(script: Script, queueName: string, args: ScriptCall["args"]): Promise<Reply> {
    return this.#commands.script(this.#call(script, queueName, args));
  }

  #call(script: Script, queueName: string, args: ScriptCall["args"]): ScriptCall {
    const { prefix } = this;
    if (queueName !== this.#keysOf) {
      this.#keys = scriptKeys(prefix, queueName);
      this.#keysOf = queueName;
    }
    return { script, keys: this.#keys, prefix, args };
  }

  /** Removes entries that nobody can name, so that they do not come again and again. */
  async #remove(queueName: string, ids: readonly Argument[]): Promise<void> {
    const what = `${ids.length} entries whose id is no UTF-8 text`;
    logger.warn("Removed from queue {queueName}: {what}", { queueName, what });
    await this.#commands.command(["ZREM", queueName, ...ids], queueName);
  }

  /** Runs a script that answers a flag for each of many, in one call a batch. */
  async #runBatches(
    script: Script,
    queueName: string,
    first: ScriptCall["args"],
    batches: Iterable<readonly Argument[]>,
  ): Promise<string> {
    const calls = Array.from(
      batches,
      (batch) => this.#run(script, queueName, (again) => [...first(again), ...batch]),
    );
    return (await Promise.all(calls)).map(text).join("");
  }

  /** A connection beside the one for commands; it is closed with the store. */
  #furtherConnection(connRetries: number): RedisConnection {
    const connection = new RedisConnection(this.#factory, { ...this.#target, connRetries });
    if (this.#commands.isClosed) connection.close();
    this.#further.add(connection);
    return connection;
  }

  async #connectNews(): Promise<RedisConnection> {
    if (this.#target.maxConnections < 2) {
      throw new QueueConnectionError("maxConnections leaves no connection to listen on");
    }
    const connection = this.#furtherConnection(this.#target.connRetries);
    try {
      await connection.connect();
      return connection;
    } catch (error) {
      this.#further.delete(connection);
      throw error;
    }
  }

  async #getAll(keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    const values: (Uint8Array | undefined)[] = [];
    for (let i = 0; i < keys.length; i += BATCH) {
      const batch = keys.slice(i, i + BATCH);
      const reply = list(await this.#commands.command(["MGET", ...batch], batch[0]));
      values.push(...reply.map((value) => Buffer.isBuffer(value) ? value : undefined));
    }
    return values;
  }
}

function hashTag(key: string): string | undefined {
  return /^[^{]*\{([^}]+)\}/.exec(key)?.[1];
}
