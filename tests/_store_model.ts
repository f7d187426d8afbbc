/** What a store does, said as simply as possible: the model that random sequences are held against. */
import type { AbortReply, Settled } from "../store.ts";

/** A queue entry becomes due so long after its lock has ended. */
const LOCK_GAP_MS = 5;

/** A lease, or what is left of it. */
interface ModelLease {
  token: string;
  until: number;
  score: number;
}

/** A job that waits or runs. */
interface ModelJob {
  payload: string;
  score: number;
  expiresAt: number;
  starts: number;
  handbacks: number;
  abortAsked: boolean;
  lease?: ModelLease;
  /** The score under which an earlier incarnation ran, whose worker may still come with a success. */
  formerScore?: number;
}

interface ModelResult {
  record: string;
  expiresAt: number;
}

/** What a worker keeps of a claim. */
export interface Handle {
  jobId: string;
  token: string;
  score: number;
}

/** One queue. Times are those of the model's own clock. */
export class StoreModel {
  now = 1_700_000_000_000;
  readonly jobs: Map<string, ModelJob> = new Map();
  readonly results: Map<string, ModelResult> = new Map();

  result(jobId: string): string | undefined {
    const result = this.results.get(jobId);
    return result && result.expiresAt > this.now ? result.record : undefined;
  }

  hasPayload(job: ModelJob | undefined): boolean {
    return job !== undefined && job.expiresAt > this.now;
  }

  isLocked(job: ModelJob | undefined): boolean {
    return job?.lease !== undefined && job.lease.until > this.now;
  }

  /** The job's place in the queue. */
  score(job: ModelJob): number {
    return job.lease ? job.lease.until + LOCK_GAP_MS : job.score;
  }

  enqueue(jobId: string, payload: string, score: number, expiresMs: number): boolean {
    const job = this.jobs.get(jobId);
    if (this.hasPayload(job) || this.isLocked(job) || this.result(jobId) !== undefined) {
      return false;
    }
    this.jobs.set(jobId, {
      payload,
      score,
      expiresAt: this.now + expiresMs,
      starts: 0,
      handbacks: 0,
      abortAsked: false,
      formerScore: job?.lease?.score ?? job?.formerScore,
    });
    return true;
  }

  /** Entries without a job but with a result: a claim that comes across one removes it. */
  isGhost(jobId: string): boolean {
    return !this.hasPayload(this.jobs.get(jobId)) && this.result(jobId) !== undefined;
  }

  /** Jobs whose lease has run out: they come first, in an order of the store's own. */
  orphans(): string[] {
    return this.#find((job) => job.lease !== undefined && this.score(job) <= this.now);
  }

  /** Jobs that are due, in order. */
  due(): string[] {
    const due = this.#find((job) => job.lease === undefined && job.score <= this.now);
    const score = (jobId: string) => this.jobs.get(jobId)?.score ?? 0;
    return due.sort((a, b) => score(a) - score(b));
  }

  claim(jobId: string, token: string, leaseMs: number): ModelJob & { lease: ModelLease } {
    const job = this.#job(jobId);
    const { score } = job.lease ?? job;
    const lease = { token, score, until: this.now + leaseMs };
    return Object.assign(job, { lease, formerScore: undefined, starts: job.starts + 1 });
  }

  renew(handle: Handle, leaseMs: number): boolean {
    const job = this.jobs.get(handle.jobId);
    if (!job?.lease || !this.#isMine(job, handle)) return false;
    job.lease = { token: handle.token, score: handle.score, until: this.now + leaseMs };
    return true;
  }

  finish(handle: Handle, success: boolean, record: string, keepMs: number): Settled {
    const { jobId, score } = handle;
    const job = this.jobs.get(jobId);
    if (!job) return "refused";
    const isLate = success && (job.lease?.score ?? job.formerScore) === score;
    if (!this.#isMine(job, handle) && !isLate) return "refused";
    if (job.lease) this.jobs.delete(jobId);
    else job.formerScore = undefined;
    this.results.set(jobId, { record, expiresAt: this.now + keepMs });
    return "done";
  }

  giveBack(
    handle: Handle,
    kind: "retry" | "release",
    deferMs: number | undefined,
    starts: number,
  ): Settled {
    const job = this.jobs.get(handle.jobId);
    if (!job || !this.#isMine(job, handle)) return "refused";
    const score = deferMs === undefined ? handle.score : this.now + deferMs;
    const handbacks = starts === 0 ? 0 : job.handbacks + (kind === "release" ? 1 : 0);
    Object.assign(job, { lease: undefined, score, starts, handbacks });
    return deferMs !== undefined && score > job.expiresAt ? "expires_first" : "done";
  }

  releaseUnknown(known: readonly Pick<Handle, "jobId" | "token">[]): number {
    const isKnown = (jobId: string, token: string) =>
      known.some((handle) => handle.jobId === jobId && handle.token === token);
    const lost = [...this.jobs].filter(([jobId, job]) =>
      this.isLocked(job) && !isKnown(jobId, job.lease?.token ?? "")
    );
    for (const [, job] of lost) {
      job.score = job.lease?.score ?? job.score;
      job.lease = undefined;
      job.handbacks++;
    }
    return lost.length;
  }

  abort(jobId: string, record: string, keepMs: number): AbortReply {
    const job = this.jobs.get(jobId);
    if (!job || (!this.hasPayload(job) && !this.isLocked(job))) return "not_found";
    if (this.isLocked(job)) {
      job.abortAsked = true;
      return "asked";
    }
    this.jobs.delete(jobId);
    this.results.set(jobId, { record, expiresAt: this.now + keepMs });
    return "aborted";
  }

  #job(jobId: string): ModelJob {
    const job = this.jobs.get(jobId);
    if (!job) throw new Error(`The store has a job ${jobId} that the model has not`);
    return job;
  }

  #isMine(job: ModelJob, { token, score }: Handle): boolean {
    if (!job.lease) return false;
    return this.isLocked(job) ? job.lease.token === token : job.lease.score === score;
  }

  #find(condition: (job: ModelJob) => boolean): string[] {
    return [...this.jobs].filter(([, job]) => condition(job)).map(([jobId]) => jobId);
  }
}
