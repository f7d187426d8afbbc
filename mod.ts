/**
 * Job queues and RPC for Deno and Bun, the successor of Python's arq.
 *
 * A program enqueues a job by name, a worker elsewhere runs it, the program may await its result.
 * A job that was accepted is run until it succeeds, fails for good or expires; it may run more
 * than once, and it is never lost.
 *
 * @example
 * ```ts
 * import { createPool, type JobContext, Worker } from "@arq/arq";
 *
 * const functions = { double: (_ctx: JobContext, n: number): number => 2 * n };
 *
 * await using worker = new Worker({ functions, connection: "redis://localhost:6379" });
 * const running = worker.run();
 *
 * await using arq = await createPool<typeof functions>("redis://localhost:6379");
 * console.log(await arq.call("double", [21])); // 42
 *
 * await worker.close();
 * await running;
 * ```
 * @module
 */
export {
  ArqClient,
  type CallOptions,
  type Connection,
  createPool,
  type EnqueueOptions,
  type IdOf,
  type JobOf,
  type JobRequest,
  type PoolOptions,
  type QueueInspection,
  type RedisClient,
} from "./client.ts";
export * from "./cron.ts";
export type { Duration, DurationParts, Instant } from "./duration.ts";
export {
  ArqError,
  DeserializationError,
  FailedJobs,
  JobAborted,
  JobExecutionFailed,
  JobNotFound,
  JobStateError,
  JobTimeoutError,
  QueueConnectionError,
  ResultNotFound,
  SerializationError,
  SettingsError,
} from "./errors.ts";
export {
  type Func,
  func,
  type FuncOptions,
  type IsolatedContext,
  type JobContext,
  type JobFunction,
  type JobLogger,
  type JobMeta,
  type JobOutcome,
  Retry,
  type RetryOptions,
} from "./functions.ts";
export type * from "./inspection.ts";
export type { IsolateOptions, IsolatePermissions } from "./isolate_options.ts";
export {
  type EventOptions,
  Job,
  type JobDef,
  type JobEvent,
  type JobFinished,
  type JobProgress,
  type JobQueued,
  type JobResult,
  type JobRetried,
  type JobStarted,
  type JobStatus,
  type ResultOptions,
} from "./jobs.ts";
export type { ExistingClient } from "./redis_clients.ts";
export type { CommandRetry, RedisSettings } from "./redis_settings.ts";
export { deserialize, type Deserializer, serialize, type Serializer } from "./serializer.ts";
export type * from "./typed_names.ts";
export {
  checkHealth,
  createWorker,
  type RunCheckOptions,
  type RunOptions,
  runWorker,
  Worker,
  type WorkerContext,
  type WorkerFunction,
  type WorkerSettings,
} from "./worker.ts";
