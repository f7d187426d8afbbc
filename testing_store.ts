/**
 * A store for tests: in memory, with a given clock, and it can tell what went through it.
 * @module
 */
import { decodeJob, type Deserializer } from "./serializer.ts";
import { MEMORY } from "./sqlite_settings.ts";
import { SqliteStore } from "./sqlite_store.ts";
import type { ClaimReply, ClaimRequest, Finish, JobObservation, NewJob, Settled } from "./store.ts";

/** A job that was enqueued, by the test, by a job or by a schedule. */
export interface EnqueuedJob {
  /** The job's id. */
  readonly jobId: string;
  /** The name it was enqueued under. */
  readonly functionName: string;
  /** Its arguments. */
  readonly args: readonly unknown[];
  /** Its keyword arguments. */
  readonly kwargs: Readonly<Record<string, unknown>>;
  /** The queue it was put into. */
  readonly queueName: string;
  /** When it was enqueued, by the queue's clock. */
  readonly enqueueTime: Date;
  /** When it is due, by the queue's clock. */
  readonly dueTime: Date;
}

/** A job as it was accepted. */
export interface AcceptedJob {
  readonly queueName: string;
  readonly job: NewJob;
  /** When, epoch milliseconds of the store's clock. */
  readonly now: number;
}

/** A memory store with a given clock, which notes what is enqueued and how jobs end. */
export class TestStore extends SqliteStore {
  /** All jobs that were accepted. */
  readonly enqueued: AcceptedJob[] = [];
  readonly #clock: { readonly now: number };
  #records: Uint8Array[] = [];

  /** Takes the prefix of everything stored, and the clock; does no I/O. */
  constructor(prefix: string, clock: { readonly now: number }) {
    super({ path: MEMORY, prefix, timeoutMs: 10_000 }, () => clock.now);
    this.#clock = clock;
  }

  /** Notes the jobs that were accepted. */
  override async enqueue(
    queueName: string,
    jobs: readonly NewJob[],
    extraMs: number,
  ): Promise<boolean[]> {
    const { now } = this.#clock;
    const accepted = await super.enqueue(queueName, jobs, extraMs);
    for (const [i, job] of jobs.entries()) {
      if (accepted[i]) this.enqueued.push({ queueName, job, now });
    }
    return accepted;
  }

  /** Shows a worker in burst mode an empty queue when nothing is due, for time stands still. */
  override async claim(queueName: string, request: ClaimRequest): Promise<ClaimReply> {
    const reply = await super.claim(queueName, request);
    return { ...reply, nextDueMs: undefined, queued: reply.claims.length };
  }

  /** Notes the results that were recorded. */
  override async finish(queueName: string, ends: readonly Finish[]): Promise<Settled[]> {
    const settled = await super.finish(queueName, ends);
    this.#records.push(...ends.filter((_, i) => settled[i] === "done").map(({ record }) => record));
    return settled;
  }

  /** Watches for as long as it is told to in real time, however far the clock is moved meanwhile. */
  override observe(
    queueName: string,
    jobId: string,
    _watchMs: number,
    withPayload: boolean,
  ): Promise<JobObservation> {
    return super.observe(queueName, jobId, Infinity, withPayload);
  }

  /** When the next job is due; Infinity if there is none. */
  async nextDueAt(queueName: string): Promise<number> {
    const request = { holder: "", limit: 0, leaseMs: 1 }; // takes nothing, and tells
    const { now, nextDueMs = Infinity } = await super.claim(queueName, request);
    return now + nextDueMs;
  }

  /** The encoded results recorded since the last time. */
  takeRecords(): Uint8Array[] {
    return this.#records.splice(0);
  }
}

/** What was enqueued, in words. */
export function readEnqueued(
  { queueName, job, now }: AcceptedJob,
  deserializer: Deserializer | undefined,
): EnqueuedJob {
  const { jobId, dueAt, deferMs = 0 } = job;
  const { f: functionName, a: args, k: kwargs } = decodeJob(job.payload, deserializer);
  const enqueueTime = new Date(now);
  const dueTime = new Date(dueAt ?? now + deferMs);
  return { jobId, functionName, args, kwargs, queueName, enqueueTime, dueTime };
}
