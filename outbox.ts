/**
 * What a client has yet to send: jobs enqueued in one tick travel together, in chunks.
 * @module
 */
import { Bag, type Bagged } from "./bag.ts";
import type { NewJob, Store } from "./store.ts";

/** Calls of one tick that travel together: few enough that the store works while others are encoded. */
const TICK_CHUNK = 50;
const CHUNK_BYTES = 1 << 20;

/** Jobs that travel in one call; all of them are accepted, or none. */
export interface Chunk {
  /** Resolves to which of the jobs are new. */
  readonly sent: Promise<readonly boolean[]>;
}

/** A job that was handed in: the chunk that it travels in, and its index there. */
export interface Submission {
  readonly chunk: Chunk;
  readonly index: number;
}

/** How chunks have ended. */
export interface Settlement {
  /** Which jobs are new, of each chunk that was answered. */
  readonly created: ReadonlyMap<Chunk, readonly boolean[]>;
  /** The first failure, if there was one. */
  readonly cause: Error | undefined;
}

interface OpenChunk extends Chunk, Bagged {
  readonly jobs: NewJob[];
  readonly queueName: string;
  readonly limit: number;
  readonly resolve: (created: readonly boolean[]) => void;
  readonly reject: (error: unknown) => void;
  bytes: number;
}

/** Gathers jobs and sends them, one chunk a turn of the event loop. */
export class Outbox {
  readonly #store: Store;
  readonly #extraMs: number;
  readonly #waiting: OpenChunk[] = [];
  readonly #underWay: Bag<OpenChunk> = new Bag();
  #isScheduled = false;

  /** Takes the store, and how long after its due time a job may still be started. */
  constructor(store: Store, extraMs: number) {
    this.#store = store;
    this.#extraMs = extraMs;
  }

  /** Resolves to whether the job is new, once the store has it. */
  async submit(queueName: string, job: NewJob): Promise<boolean> {
    const { chunk, index } = this.#add(queueName, job, TICK_CHUNK);
    return (await chunk.sent)[index] ?? false;
  }

  /** Takes a job of a long list; returns where it travels. */
  submitOfList(queueName: string, job: NewJob): Submission {
    return this.#add(queueName, job, this.#store.listChunk);
  }

  /** Sends what is waiting, and resolves when all was answered that is under way by then. */
  async drain(): Promise<void> {
    for (let left = this.#waiting.length; left > 0; left--) this.#sendNext();
    await Promise.allSettled(Array.from(this.#underWay, ({ sent }) => sent));
  }

  #add(queueName: string, job: NewJob, limit: number): Submission {
    const chunk = this.#chunkFor(queueName, job.payload.length, limit);
    const index = chunk.jobs.push(job) - 1;
    chunk.bytes += job.payload.length;
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      queueMicrotask(() => this.#sendNext());
    }
    return { chunk, index };
  }

  #chunkFor(queueName: string, bytes: number, limit: number): OpenChunk {
    const open = this.#waiting.findLast((chunk) => chunk.queueName === queueName);
    const hasRoom = open && open.limit === limit && open.jobs.length < limit &&
      (open.bytes + bytes <= CHUNK_BYTES || open.jobs.length === 0);
    if (hasRoom) return open;
    const { promise: sent, ...settle } = Promise.withResolvers<readonly boolean[]>();
    const chunk = { queueName, limit, jobs: [], bytes: 0, sent, bagIndex: 0, ...settle };
    this.#waiting.push(chunk);
    return chunk;
  }

  #sendNext(): void {
    const chunk = this.#waiting.shift();
    if (chunk) void this.#send(chunk);
    this.#isScheduled = this.#waiting.length > 0;
    if (this.#isScheduled) setImmediate(() => this.#sendNext());
  }

  async #send(chunk: OpenChunk): Promise<void> {
    const { queueName, jobs, resolve, reject } = chunk;
    this.#underWay.add(chunk);
    try {
      resolve(await this.#store.enqueue(queueName, jobs, this.#extraMs));
    } catch (error) {
      reject(error);
    }
    this.#underWay.delete(chunk);
  }
}

/** Waits for the answers to all chunks; tells which of their jobs are new, and the first failure. */
export async function settleChunks(chunks: Iterable<Chunk>): Promise<Settlement> {
  const created = new Map<Chunk, readonly boolean[]>();
  let cause: Error | undefined;
  await Promise.all(Array.from(chunks, async (chunk) => {
    try {
      created.set(chunk, await chunk.sent);
    } catch (error) {
      cause ??= error as Error;
    }
  }));
  return { created, cause };
}
