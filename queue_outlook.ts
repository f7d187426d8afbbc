/**
 * What a worker knows of its queue, by its claims, by wake-ups and by the time.
 * @module
 */
import type { ClaimReply } from "./store.ts";

/**
 * What the last claim has left in the queue.
 *
 * - `unknown`: nobody has asked yet, or there was no reply.
 * - `backlog`: jobs that are due.
 * - `later`: jobs that run or are deferred, and none that is due.
 * - `nothing`: no job at all.
 */
type Remainder = "unknown" | "backlog" | "later" | "nothing";

/** What is known of one queue, and with it whether another claim is worth while. */
export class QueueOutlook implements Disposable {
  /** Whether a claim may find a job: until one has found none, and from the next sign of one on. */
  mayHaveWork = true;
  /** How many jobs the queue holds, as of the last claim. */
  queued = 0;
  readonly #longestWaitMs: number;
  readonly #onDue: () => void;
  #remainder: Remainder = "unknown";
  /** Whether a wake-up came since the last claim was sent. */
  #wasWoken = false;
  #clockOffset: number | undefined;
  #dueTimer: ReturnType<typeof setTimeout> | undefined;

  /** Takes what to call when the next job is due, if that is in less than `longestWaitMs`. */
  constructor(longestWaitMs: number, onDue: () => void) {
    this.#longestWaitMs = longestWaitMs;
    this.#onDue = onDue;
  }

  /** The store's time, epoch milliseconds; undefined until it has answered once. */
  get now(): number | undefined {
    if (this.#clockOffset === undefined) return undefined;
    return Math.round(performance.now() + this.#clockOffset);
  }

  /** Whether the last claim has left jobs that are due. */
  get hasBacklog(): boolean {
    return this.#remainder === "backlog";
  }

  /** Whether the queue is known to hold nothing, not even a job that runs or is deferred. */
  get isEmpty(): boolean {
    return this.#remainder === "nothing" && !this.mayHaveWork;
  }

  /** Notes a wake-up: if a claim is under way, its job may have come too late for that. */
  noteWakeUp(): void {
    this.#wasWoken = true;
    this.mayHaveWork = true;
  }

  /** A claim is about to be sent. */
  beginClaim(): void {
    this.#wasWoken = false;
  }

  /** The claim has ended, with or without a reply. */
  endClaim(reply: ClaimReply | undefined): void {
    if (!reply || !this.#wasWoken) this.mayHaveWork = false;
    if (reply) this.noteReply(reply);
    else this.#remainder = "unknown";
  }

  /** Notes what a claim has replied, which may be one that a wake-up made. */
  noteReply({ now, nextDueMs = Infinity, queued }: ClaimReply): void {
    this.#clockOffset = now - performance.now();
    this.queued = queued;
    if (nextDueMs <= 0) {
      this.#remainder = "backlog";
      this.mayHaveWork = true;
    } else {
      this.#remainder = queued === 0 ? "nothing" : "later";
      this.#awaitDue(nextDueMs);
    }
  }

  /** Leaves no timer behind. */
  [Symbol.dispose](): void {
    clearTimeout(this.#dueTimer);
  }

  #awaitDue(delayMs: number): void {
    if (delayMs >= this.#longestWaitMs) return;
    clearTimeout(this.#dueTimer);
    this.#dueTimer = setTimeout(() => {
      this.mayHaveWork = true;
      this.#onDue();
    }, delayMs);
  }
}
