/**
 * The client: connect, enqueue jobs, call; what looks at them is in `queue_inspection.ts`.
 * @module
 */
import { durationMs, instantMs } from "./duration.ts";
import {
  CALL,
  type CallOptions,
  checkEnqueueOptions,
  ENQUEUE,
  type EnqueueOptions,
  type OptionsSpec,
} from "./enqueue_options.ts";
import { QueueConnectionError, SerializationError } from "./errors.ts";
import { checkWaiting, dropIdleTimer, unwrap, waitForResult } from "./job_results.ts";
import { newJobId } from "./job_ids.ts";
import { checkRequest, type JobOf, type JobRequest } from "./job_requests.ts";
import { Job } from "./jobs.ts";
import { openStore } from "./open_store.ts";
import { Outbox, settleChunks } from "./outbox.ts";
import {
  checkPoolOptions,
  type Connection,
  DEFAULT_CONNECTION,
  type PoolOptions,
} from "./pool_options.ts";
import { checkJobId, QUEUE_EXAMPLE, QueueInspection } from "./queue_inspection.ts";
import { type Deserializer, encodeJob, type Serializer } from "./serializer.ts";
import type { NewJob, Store } from "./store.ts";
import { beginSending, beginSendingList, countScheduled, type Sending } from "./telemetry.ts";
import type {
  ArgsAndOptions,
  ArgsOf,
  FunctionTable,
  ResultOf,
  UntypedFunctions,
} from "./typed_names.ts";
import { checkName, checkOptions, show } from "./validation.ts";

export type { CallOptions, EnqueueOptions } from "./enqueue_options.ts";
export type * from "./inspection.ts";
export type { IdOf, JobOf, JobRequest } from "./job_requests.ts";
export type { Connection, PoolOptions } from "./pool_options.ts";
export type { QueueInspection } from "./queue_inspection.ts";

/**
 * The client of `@redis/client` behind a pool. Cast it to that package's `RedisClientType` for its
 * typed commands, or to the type of a Sentinel's or Cluster's client where the connection is one.
 */
export interface RedisClient {
  /** Whether the connection is there. */
  readonly isReady: boolean;
  /** Sends a command to a single Redis. */
  sendCommand(args: readonly string[]): Promise<unknown>;
}

const DAY_MS = 86_400_000;

/**
 * Connects to the store of a queue.
 *
 * With `typeof functions` as type argument, names, arguments and results are checked by the
 * compiler. Close the client when done, or declare it with `await using`.
 *
 * @example
 * ```ts
 * import { createPool, type JobContext } from "@arq/arq";
 *
 * const functions = { double: (_ctx: JobContext, n: number): number => 2 * n };
 *
 * await using arq = await createPool<typeof functions>("redis://localhost:6379");
 * await arq.enqueueJob("double", [21], { deferBy: { seconds: 10 } });
 * ```
 *
 * @throws {SettingsError} if settings or connection string cannot be used.
 * @throws {TypeError | RangeError} if an option is unknown or has a bad value.
 * @throws {QueueConnectionError} if the store cannot be reached.
 */
export async function createPool<F extends FunctionTable<F> = UntypedFunctions>(
  connection: Connection = DEFAULT_CONNECTION,
  options: PoolOptions = {},
): Promise<ArqClient<F>> {
  const client = makeClient<F>(connection, options);
  try {
    await client.store.connect(options.signal);
    return client;
  } catch (error) {
    await client.close();
    throw error;
  }
}

/**
 * Makes a client that is not connected yet; checks everything, and does no I/O.
 *
 * `createPool` does this and connects; a {@linkcode Worker} connects the client it is made with.
 *
 * @throws {SettingsError} if settings or connection string cannot be used.
 * @throws {TypeError | RangeError} if an option is unknown or has a bad value.
 */
export function makeClient<F extends FunctionTable<F> = UntypedFunctions>(
  connection: Connection,
  options: PoolOptions,
): ArqClient<F> {
  checkPoolOptions(options);
  return new ArqClient<F>(openStore(connection, options.prefix), options);
}

/**
 * A connection to the queue, made by {@linkcode createPool}.
 *
 * One is enough for a program; it may be used by any number of calls at a time. On Redis it keeps the
 * process alive until it is closed. Every method but `close` rejects with a
 * {@linkcode QueueConnectionError} if the store does not answer in time; after that the call is not
 * known to have taken effect.
 */
export class ArqClient<F extends FunctionTable<F> = UntypedFunctions> extends QueueInspection
  implements AsyncDisposable {
  /** The queue used where none is named. */
  readonly defaultQueueName: string;
  /** The backend; most programs never need it. */
  readonly store: Store;
  /** The program's own serializer, if it gave one. */
  readonly serializer?: Serializer;
  /** The program's own deserializer, if it gave one. */
  readonly deserializer?: Deserializer;
  /** How long after its due time a job may still be started, milliseconds. */
  readonly expiresExtraMs: number;
  readonly #outbox: Outbox;
  /** Calls of one client share the part of their ids before the @, and so one line for their news. */
  readonly #callGroup: string = crypto.randomUUID().slice(-12);

  /** Use {@linkcode createPool} instead. */
  constructor(store: Store, options: PoolOptions = {}) {
    super();
    this.store = store;
    this.serializer = options.jobSerializer;
    this.deserializer = options.jobDeserializer;
    this.defaultQueueName = options.defaultQueueName ?? `${store.prefix}queue`;
    this.expiresExtraMs = durationMs("expiresExtra", options.expiresExtra ?? DAY_MS, 1);
    this.#outbox = new Outbox(store, this.expiresExtraMs);
    store.checkQueueName(this.defaultQueueName);
  }

  /**
   * Enqueues a job; once this resolves, no crash loses it.
   *
   * Calls of one tick travel together. Resolves to null if a job with the given `jobId`, or its
   * result, exists already; that job is left as it is. Without a `jobId` it never does.
   *
   * @example
   * ```ts
   * import { createPool } from "@arq/arq";
   *
   * await using arq = await createPool("redis://localhost:6379");
   * await arq.enqueueJob("report", ["May"], { deferBy: { minutes: 10 } });
   * const backup = await arq.enqueueJob("backup", [], { jobId: "backup" });
   * console.log(backup === null ? "one is under way" : "enqueued");
   * ```
   *
   * @throws {TypeError | RangeError} if an option is unknown or has a bad value.
   * @throws {SerializationError} if an argument cannot travel; the message names its path.
   * @throws {QueueConnectionError} if the store did not answer: the job is not known to be accepted.
   */
  enqueueJob<N extends keyof F & string>(
    name: N,
    ...rest: ArgsAndOptions<ArgsOf<F[N]>, EnqueueOptions & { readonly jobId?: undefined }>
  ): Promise<Job<ResultOf<F[N]>>>;
  /** Enqueues a job with an id of its own; null if the id is taken. */
  enqueueJob<N extends keyof F & string>(
    name: N,
    ...rest: ArgsAndOptions<ArgsOf<F[N]>, EnqueueOptions>
  ): Promise<Job<ResultOf<F[N]>> | null>;
  async enqueueJob(
    name: string,
    args: readonly unknown[] = [],
    options: EnqueueOptions = {},
  ): Promise<Job | null> {
    this.#check(name, args, options, ENQUEUE);
    const { jobId = newJobId(), queueName = this.defaultQueueName } = options;
    const sending = beginSending(name, queueName, jobId);
    const job = this.#newJob(name, args, options, jobId, sending);
    const isNew = await this.#submit(queueName, job, sending);
    return isNew ? new Job(jobId, queueName, this) : null;
  }

  /**
   * Enqueues many jobs in few round trips; the result has a job, or null for a taken id, for each.
   *
   * All jobs are checked before any is sent. They travel in chunks, of which all jobs are accepted
   * or none.
   *
   * @example
   * ```ts
   * import { createPool } from "@arq/arq";
   *
   * await using arq = await createPool("redis://localhost:6379");
   * const cities = ["Oslo", "Rome"];
   * const jobs = await arq.enqueueJobs(cities.map((city) => ({ name: "forecast", args: [city] })));
   * console.log(jobs.length); // 2
   * ```
   *
   * @throws {TypeError | RangeError} if the list is none, or an option is unknown or has a bad value.
   * @throws {SerializationError} if an argument cannot travel; the message names its path.
   * @throws {QueueConnectionError} if a chunk was not known to be accepted; its `accepted` has the
   * ids of those that were.
   */
  async enqueueJobs<const L extends readonly JobRequest<F>[]>(
    requests: L,
  ): Promise<{ -readonly [I in keyof L]: JobOf<F, L[I]> }> {
    if (!Array.isArray(requests)) {
      throw new TypeError(`enqueueJobs takes a list of jobs, got ${show(requests)}`);
    }
    const checked = Array.from(requests, (request: JobRequest<F>) => { // also holes of the list
      const { name, args = [], options = {} } = checkRequest(request);
      this.#check(name, args, options, ENQUEUE);
      return { name, args, options, queueName: options.queueName ?? this.defaultQueueName };
    });
    const sending = beginSendingList(checked);
    const pending = checked.map(({ name, args, options, queueName }) => {
      const job = this.#newJob(name, args, options, options.jobId ?? newJobId(), sending);
      return { job, queueName };
    });
    const submissions = pending.map(({ job, queueName }) =>
      this.#outbox.submitOfList(queueName, job)
    );
    const { created, cause } = await settleChunks(new Set(submissions.map(({ chunk }) => chunk)));
    const areNew = submissions.map(({ chunk, index }) => created.get(chunk)?.[index]);
    sending?.conclude(areNew.map((isNew) => outcomeOf(isNew, cause)));
    if (cause) {
      const accepted = pending.flatMap(({ job }, i) => areNew[i] === undefined ? [] : job.jobId);
      const message =
        `${accepted.length} of ${requests.length} jobs are known to be accepted: ${cause.message}`;
      throw new QueueConnectionError(message, { cause, accepted });
    }
    return pending.map(({ job, queueName }, i) =>
      areNew[i] ? new Job(job.jobId, queueName, this) : null
    ) as { -readonly [I in keyof L]: JobOf<F, L[I]> };
  }

  /**
   * Enqueues a job and waits for its result: a remote procedure call.
   *
   * With a `jobId` that is taken, it waits for the job that is there. Without a `timeout` it waits
   * as long as it takes, also for a worker to be started.
   *
   * @example
   * ```ts
   * import { createPool, type JobContext, Worker } from "@arq/arq";
   *
   * const functions = { double: (_ctx: JobContext, n: number): number => 2 * n };
   * await using worker = new Worker({ functions, connection: "redis://localhost:6379" });
   * const running = worker.run();
   *
   * await using arq = await createPool<typeof functions>("redis://localhost:6379");
   * console.log(await arq.call("double", [21], { timeout: { seconds: 30 } })); // 42
   *
   * await worker.close();
   * await running;
   * ```
   *
   * @throws what the function threw, and what `enqueueJob` and `Job.result` throw.
   */
  call<N extends keyof F & string>(
    name: N,
    ...rest: ArgsAndOptions<ArgsOf<F[N]>, CallOptions>
  ): Promise<ResultOf<F[N]>>;
  async call(
    name: string,
    args: readonly unknown[] = [],
    options: CallOptions = {},
  ): Promise<unknown> {
    this.#check(name, args, options, CALL);
    checkWaiting("call", options);
    options.signal?.throwIfAborted();
    const { jobId = `${this.#callGroup}@${newJobId()}` } = options;
    const { queueName = this.defaultQueueName } = options;
    const sending = beginSending(name, queueName, jobId);
    const job = this.#newJob(name, args, options, jobId, sending);
    let isSent = false;
    const enqueue = () => {
      isSent = true;
      return this.#submit(queueName, job, sending);
    };
    try {
      return unwrap(await waitForResult(this, { jobId, queueName }, options, { enqueue }));
    } catch (error) {
      if (!isSent) sending?.fail(error); // its time was over before it could be sent
      throw error;
    }
  }

  /**
   * A handle on any job; `functionName` only tells the compiler the type of its result.
   *
   * @throws {TypeError} without an id, or if an option is unknown or has a bad value.
   */
  job<N extends keyof F & string>(
    jobId: string,
    options: { readonly functionName?: N; readonly queueName?: string } = {},
  ): Job<ResultOf<F[N]>> {
    checkJobId("job", jobId);
    checkOptions("job", QUEUE_EXAMPLE, options, ["functionName", "queueName"]);
    checkName("job: queueName", options.queueName);
    return new Job(jobId, options.queueName ?? this.defaultQueueName, this);
  }

  /**
   * The client of `@redis/client` that commands travel on, or the one that was handed in.
   *
   * @throws {TypeError} if the store is not Redis.
   * @throws {QueueConnectionError} if the pool has made it itself, and is closed.
   */
  get redis(): RedisClient {
    return this.store.client as RedisClient;
  }

  /** Sends what is still to be sent in this tick, then closes the connections; may be called twice. */
  async close(): Promise<void> {
    await this.#outbox.drain();
    await this.store.close();
    dropIdleTimer();
  }

  /** Closes the connections, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Enqueues a cron job; false if its id is taken. With `slotId` it is for one slot of all workers,
   * which is that id where the job has none of its own: false, too, if another worker has enqueued
   * it, or if the slot is too old.
   */
  async enqueueScheduled(
    name: string,
    options: EnqueueOptions,
    slotId?: string,
  ): Promise<boolean> {
    this.#check(name, [], options, ENQUEUE);
    const { jobId = slotId ?? newJobId(), queueName = this.defaultQueueName } = options;
    const job = this.#newJob(name, [], options, jobId);
    const slot = { ...job, idKind: "slot", slotId: slotId === jobId ? undefined : slotId } as const;
    const isNew = await this.#outbox.submit(queueName, slotId === undefined ? job : slot);
    if (isNew) countScheduled(name, queueName);
    return isNew;
  }

  /** Resolves to whether the job is new, once the store has it and whoever listens was told. */
  #submit(queueName: string, job: NewJob, sending: Sending | undefined): Promise<boolean> {
    const accepted = this.#outbox.submit(queueName, job);
    return sending?.observe(accepted) ?? accepted;
  }

  #check(
    name: string,
    args: readonly unknown[],
    options: EnqueueOptions,
    spec: OptionsSpec,
  ): void {
    if (typeof name !== "string" || name === "") {
      throw new TypeError(
        `Cannot enqueue a job: its function's name must be a text, got ${show(name)}`,
      );
    }
    try {
      checkEnqueueOptions(args, options, spec);
      this.store.checkQueueName(options.queueName ?? this.defaultQueueName);
    } catch (error) {
      throw withHeading(`Cannot enqueue "${name}": `, error);
    }
  }

  #newJob(
    name: string,
    args: readonly unknown[],
    options: EnqueueOptions,
    jobId: string,
    sending?: Sending,
  ): NewJob {
    try {
      const { deferUntil, deferBy, expires, jobTry, kwargs = {} } = options;
      const et = Date.now();
      const dueAt = deferUntil === undefined ? undefined : instantMs("deferUntil", deferUntil);
      const deferMs = deferBy === undefined ? undefined : durationMs("deferBy", deferBy);
      const expiresMs = expires === undefined ? undefined : durationMs("expires", expires, 1);
      if (deferMs !== undefined && expiresMs !== undefined && expiresMs <= deferMs) {
        throw new RangeError(
          `expires counts from now and must be longer than deferBy, or the job never starts; ` +
            `got ${show(expires)} and ${show(deferBy)}`,
        );
      }
      const tc = sending?.carrier((dueAt ?? et + (deferMs ?? 0)) > et);
      return {
        jobId,
        idKind: options.jobId === undefined ? "random" : "given",
        payload: encodeJob(
          { t: jobTry ?? null, f: name, a: args, k: kwargs, et, tc },
          this.serializer,
        ),
        dueAt,
        deferMs,
        expiresMs,
      };
    } catch (error) {
      const told = withHeading(`Cannot enqueue "${name}": `, error);
      sending?.fail(told);
      throw told;
    }
  }
}

function outcomeOf(isNew: boolean | undefined, cause: unknown): PromiseSettledResult<boolean> {
  if (isNew === undefined) return { status: "rejected", reason: cause };
  return { status: "fulfilled", value: isNew };
}

function withHeading(heading: string, error: unknown): unknown {
  if (error instanceof SerializationError) {
    return new SerializationError(heading + error.message, { cause: error.cause });
  }
  if (error instanceof RangeError) return new RangeError(heading + error.message);
  if (error instanceof TypeError) return new TypeError(heading + error.message);
  return error;
}
