/**
 * How many jobs a worker takes before it has a slot for them.
 * @module
 */

/** A job that is taken ahead is to begin within this time, if jobs go on as they did. */
const AHEAD_MS = 5;
const MOST_AHEAD = 100;
/** How much the latest job counts against those before it. */
const WEIGHT = 1 / 8;
/** What a job is taken to last after the slots have been blocked. */
const BLOCKED_MS = 1_000;

/**
 * The pace at which slots become free.
 *
 * Where jobs are short, a claim for each handful of free slots would take longer than the jobs, so
 * some more are taken meanwhile; where they are long, none.
 */
export class ClaimPace {
  readonly #slots: number;
  readonly #most: number;
  #jobMs = BLOCKED_MS;

  /** Takes how many jobs run at a time, and how many may wait at the most. */
  constructor(slots: number, most = Infinity) {
    this.#slots = slots;
    this.#most = Math.min(most, MOST_AHEAD);
  }

  /** How many jobs may wait for a slot. */
  get ahead(): number {
    return Math.min(this.#most, Math.floor(AHEAD_MS * this.#slots / this.#jobMs));
  }

  /** Notes how long a job took. */
  noteJob(ms: number): void {
    this.#jobMs += (ms - this.#jobMs) * WEIGHT;
  }

  /** Notes that jobs have waited in vain: none is taken ahead until short ones have ended again. */
  noteBlocked(): void {
    this.#jobMs = BLOCKED_MS;
  }
}
