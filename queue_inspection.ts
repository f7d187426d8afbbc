/**
 * What the client does for operators.
 * @module
 */
import { JobStateError } from "./errors.ts";
import type { QueueOptions } from "./inspection.ts";
import type { Deserializer, Serializer } from "./serializer.ts";
import type { Store } from "./store.ts";
import { checkOptions, show } from "./validation.ts";

/** What an option that names a queue looks like, for errors. */
export const QUEUE_EXAMPLE = '{ queueName: "mail" }';

/** Looks into queues and steers them; every client does. */
export abstract class QueueInspection {
  /** The queue used where none is named. */
  abstract readonly defaultQueueName: string;
  /** The backend; most programs never need it. */
  abstract readonly store: Store;
  /** The program's own serializer, if it gave one. */
  abstract readonly serializer?: Serializer;
  /** The program's own deserializer, if it gave one. */
  abstract readonly deserializer?: Deserializer;

  /**
   * Removes a job that waits, or the result of one that has ended; false if there is neither.
   *
   * Whoever waits for its result gets `ResultNotFound`.
   *
   * @throws {JobStateError} if it is running: abort it.
   */
  async removeJob(jobId: string, options: QueueOptions = {}): Promise<boolean> {
    checkJobId("removeJob", jobId);
    const queueName = this.#queueOf("removeJob", options);
    const removal = await this.store.inspection.remove(queueName, jobId);
    if (removal !== "running") return removal === "removed";
    throw new JobStateError(
      `Cannot remove job ${jobId}: it is running; end it with arq.job(id).abort() first`,
    );
  }

  /**
   * Has the workers of a queue claim nothing from now on; running jobs go on, and enqueueing.
   *
   * It lasts until `resume`, whichever workers come and go. Python's workers do not heed it.
   *
   * @example
   * ```ts
   * import { createPool } from "@arq/arq";
   *
   * await using arq = await createPool("redis://localhost:6379");
   * await arq.pause(); // the pool's own queue
   * await arq.resume();
   * ```
   */
  async pause(queueName?: string): Promise<void> {
    await this.store.inspection.setPaused(this.#queueOf("pause", { queueName }), true);
  }

  /** Ends a pause, and wakes a worker. */
  async resume(queueName?: string): Promise<void> {
    await this.store.inspection.setPaused(this.#queueOf("resume", { queueName }), false);
  }

  #queueOf(method: string, options: QueueOptions): string {
    checkOptions(method, QUEUE_EXAMPLE, options, ["queueName"]);
    checkQueueName(method, options.queueName);
    const queueName = options.queueName ?? this.defaultQueueName;
    this.store.checkQueueName(queueName);
    return queueName;
  }
}

/**
 * Checks a queue's name, if there is one.
 *
 * @throws {TypeError} if it is no name.
 */
export function checkQueueName(method: string, queueName: unknown): void {
  if (queueName === undefined || (typeof queueName === "string" && queueName !== "")) return;
  const rule = "queueName must be a text that is not empty";
  throw new TypeError(`${method}: ${rule}, got ${show(queueName)}`);
}

/**
 * Checks a job's id.
 *
 * @throws {TypeError} if it is none.
 */
export function checkJobId(method: string, jobId: unknown): void {
  if (typeof jobId === "string" && jobId !== "") return;
  throw new TypeError(`${method} takes an id, a text that is not empty, got ${show(jobId)}`);
}
