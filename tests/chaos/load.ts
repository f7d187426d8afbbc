/** A client that enqueues jobs of every kind in every way, and knows which were accepted. */
import { type ArqClient, QueueConnectionError } from "../../mod.ts";
import type { Args, Kind } from "./jobs.ts";
import type { Random } from "./random.ts";

/** The ways in which jobs are enqueued. */
type Way = "one" | "list" | "given" | "deferred" | "call" | "abort";

/** What is enqueued, and how. */
export interface Mix {
  /** How often each kind of job comes. */
  readonly kinds: Readonly<Partial<Record<Kind, number>>>;
  /** How often each way of enqueueing is taken. */
  readonly ways: Readonly<Partial<Record<Way, number>>>;
  /** How long a `nap` lasts at most, and how long a `stall`, milliseconds. */
  readonly napMs: number;
  readonly stallMs: number;
}

/** A job that was accepted. */
export interface Accepted {
  readonly jobId: string;
  readonly kind: Kind;
  readonly n: number;
}

interface Draft {
  readonly kind: Kind;
  readonly args: Args;
}

/** How many jobs a list has. */
const LIST_SIZE = 40;
/** How many calls are under way at most. */
const LANES = 8;
/** A result that a call has waited for so long may come later; it is looked for at the end. */
const CALL_TIMEOUT_MS = 15_000;

/** No round lasts so long. */
const NEVER_MS = 3_600_000;

/** Enqueues, and keeps the books. */
export class Load {
  /** The jobs that were accepted, by number. */
  readonly accepted: Map<number, Accepted> = new Map();
  /** Jobs that are not known to be accepted, by number. */
  readonly unknown: Map<number, Kind> = new Map();
  /** The ids of jobs that were aborted before they were due, by number. */
  readonly aborted: Map<number, string> = new Map();
  /** What was said that cannot be true. */
  readonly lies: string[] = [];
  /** The runs whose results a caller has seen, by number. */
  readonly seen: Map<number, string> = new Map();
  /** How many calls ended in an error of the connection. */
  errors = 0;
  readonly #arq: ArqClient;
  readonly #mix: Mix;
  readonly #random: Random;
  #count = 0;

  constructor(arq: ArqClient, mix: Mix, random: Random) {
    this.#arq = arq;
    this.#mix = mix;
    this.#random = random;
  }

  /** Enqueues `count` jobs, or for as long as `signal` lets it, at most `perSecond`. */
  async run(count: number, perSecond: number, signal: AbortSignal): Promise<void> {
    const startedAt = performance.now();
    const lane = async () => {
      while (this.#count < count && !signal.aborted) {
        await this.#step(count - this.#count);
        const aheadMs = this.#count / perSecond * 1_000 - (performance.now() - startedAt);
        if (aheadMs > 0) await new Promise((resolve) => setTimeout(resolve, aheadMs));
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
  }

  async #step(room: number): Promise<void> {
    const way = this.#random.weighted(this.#mix.ways);
    const drafts = Array.from(
      { length: way === "list" ? Math.min(LIST_SIZE, room) : 1 },
      () => this.#draft(),
    );
    const [draft] = drafts as [Draft];
    try {
      if (way === "list") await this.#list(drafts);
      else if (way === "given") await this.#given(draft);
      else if (way === "call") await this.#call(draft);
      else if (way === "abort") await this.#abort(draft);
      else await this.#one(draft, way === "deferred" ? this.#random.magnitude(2_000) : 0);
    } catch (error) {
      if (!(error instanceof QueueConnectionError)) throw error;
      this.errors++;
      for (const { kind, args: [n] } of drafts) {
        if (!this.accepted.has(n)) this.unknown.set(n, kind);
      }
    }
  }

  #draft(): Draft {
    const { kinds, napMs, stallMs } = this.#mix;
    const kind = this.#random.weighted(kinds);
    const ms = kind === "stall" ? stallMs : this.#random.magnitude(napMs);
    const isLarge = this.#random.fraction() < 0.01;
    const padding = isLarge ? "x".repeat(this.#random.magnitude(500_000)) : "";
    return { kind, args: [this.#count++, ms, padding] };
  }

  #accept(jobId: string, { kind, args: [n] }: Draft): void {
    this.accepted.set(n, { jobId, kind, n });
    this.unknown.delete(n);
  }

  async #one(draft: Draft, deferBy: number): Promise<void> {
    const { jobId } = await this.#arq.enqueueJob(draft.kind, draft.args, { deferBy });
    this.#accept(jobId, draft);
  }

  async #list(drafts: readonly Draft[]): Promise<void> {
    const requests = drafts.map(({ kind, args }) => ({ name: kind, args }));
    const jobs = await this.#arq.enqueueJobs(requests);
    for (const [i, job] of jobs.entries()) {
      const draft = drafts[i];
      if (job && draft) this.#accept(job.jobId, draft);
    }
  }

  /** As README advises: after an error again with the same id, and then a taken id is our own. */
  async #given(draft: Draft): Promise<void> {
    const { kind, args } = draft;
    const jobId = `given-${args[0]}`;
    try {
      const job = await this.#arq.enqueueJob(kind, args, { jobId });
      if (!job) this.lies.push(`${jobId} was said to be taken at its first enqueueing`);
    } catch (error) {
      if (!(error instanceof QueueConnectionError)) throw error;
      this.errors++;
      this.unknown.set(args[0], kind);
      await this.#arq.enqueueJob(kind, args, { jobId });
    }
    this.#accept(jobId, draft);
  }

  /** Both calls are made until one succeeds, so that at the end the job is known to be aborted. */
  async #abort({ kind, args }: Draft): Promise<void> {
    const jobId = `aborted-${args[0]}`;
    await this.#insist(() => this.#arq.enqueueJob(kind, args, { jobId, deferBy: NEVER_MS }));
    let failures = 0;
    const abort = () => this.#arq.job(jobId).abort();
    const isAborted = await this.#insist(abort, () => failures++);
    // After an error an earlier call may have done it, and this one found nothing.
    if (!isAborted && failures === 0) this.lies.push(`${jobId} was said not to be aborted`);
    this.aborted.set(args[0], jobId);
  }

  async #insist<T>(call: () => Promise<T>, onError?: () => void): Promise<T> {
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof QueueConnectionError)) throw error;
        this.errors++;
        onError?.();
      }
    }
  }

  async #call(draft: Draft): Promise<void> {
    const { kind, args } = draft;
    if (kind !== "add" && kind !== "nap") return await this.#one(draft, 0);
    const job = await this.#arq.enqueueJob(kind, args);
    this.#accept(job.jobId, draft);
    try {
      const { run } = await job.result({ timeout: CALL_TIMEOUT_MS }) as { run: string };
      this.seen.set(args[0], run);
    } catch (error) {
      const isLate = error instanceof DOMException && error.name === "TimeoutError";
      if (!isLate) throw error;
    }
  }
}
