/**
 * What a client has yet to send: jobs enqueued in one tick travel together, in chunks.
 * @module
 */
import type { NewJob, Store } from "./store.ts";

/** Calls of one tick that travel together: few enough that the store works while others are encoded. */
const TICK_CHUNK = 50;
const CHUNK_BYTES = 1 << 20;

interface Entry {
  readonly job: NewJob;
  readonly resolve: (isNew: boolean) => void;
  readonly reject: (error: unknown) => void;
}

interface Chunk {
  readonly queueName: string;
  readonly limit: number;
  readonly entries: Entry[];
  bytes: number;
}

/** Gathers jobs and sends them, one chunk a turn of the event loop. */
export class Outbox {
  readonly #store: Store;
  readonly #extraMs: number;
  readonly #waiting: Chunk[] = [];
  readonly #open: Map<string, Chunk> = new Map();
  readonly #sending: Set<Promise<void>> = new Set();
  #isScheduled = false;

  /** Takes the store, and how long after its due time a job may still be started. */
  constructor(store: Store, extraMs: number) {
    this.#store = store;
    this.#extraMs = extraMs;
  }

  /** Resolves to whether the job is new, once the store has it. */
  submit(queueName: string, job: NewJob, limit: number = TICK_CHUNK): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const chunk = this.#chunkFor(queueName, job.payload.length, limit);
    chunk.entries.push({ job, resolve, reject });
    chunk.bytes += job.payload.length;
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      queueMicrotask(() => this.#sendNext());
    }
    return promise;
  }

  /** As `submit`, for a job of a long list: of those in one call all are accepted or none. */
  submitOfList(queueName: string, job: NewJob): Promise<boolean> {
    return this.submit(queueName, job, this.#store.listChunk);
  }

  /** Sends what is waiting, and resolves when all of it was answered. */
  async drain(): Promise<void> {
    while (this.#waiting.length > 0) this.#sendNext();
    await Promise.all(this.#sending);
  }

  #chunkFor(queueName: string, bytes: number, limit: number): Chunk {
    const open = this.#open.get(queueName);
    const hasRoom = open && open.limit === limit && open.entries.length < limit &&
      (open.bytes + bytes <= CHUNK_BYTES || open.entries.length === 0);
    if (hasRoom) return open;
    const chunk = { queueName, limit, entries: [], bytes: 0 };
    this.#open.set(queueName, chunk);
    this.#waiting.push(chunk);
    return chunk;
  }

  #sendNext(): void {
    const chunk = this.#waiting.shift();
    if (chunk) {
      if (this.#open.get(chunk.queueName) === chunk) this.#open.delete(chunk.queueName);
      const sending = this.#send(chunk).finally(() => this.#sending.delete(sending));
      this.#sending.add(sending);
    }
    this.#isScheduled = this.#waiting.length > 0;
    if (this.#isScheduled) setImmediate(() => this.#sendNext());
  }

  async #send({ queueName, entries }: Chunk): Promise<void> {
    try {
      const jobs = entries.map(({ job }) => job);
      const created = await this.#store.enqueue(queueName, jobs, this.#extraMs);
      for (const [i, { resolve }] of entries.entries()) resolve(created[i] ?? false);
    } catch (error) {
      for (const { reject } of entries) reject(error);
    }
  }
}
