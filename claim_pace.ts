/**
 * How many jobs a worker takes before it has a slot for them.
 * @module
 */

/** Jobs up to this long are short, milliseconds. */
const SHORT_MS = 5;
const LONG_WAIT_MS = 2 * SHORT_MS;
const MOST_AHEAD = 100;

/**
 * The pace at which slots become free.
 *
 * Where jobs are short, a claim for each handful of free slots would take longer than the jobs, so
 * some more are taken meanwhile: one more for each short job that ends, half as many after a long
 * one, or after a job that waited for too long.
 */
export class ClaimPace {
  readonly #most: number;
  #ahead = 0;

  /** Takes how many jobs may wait at the most. */
  constructor(most: number) {
    this.#most = Math.min(most, MOST_AHEAD);
  }

  /** How many jobs may wait for a slot. */
  get ahead(): number {
    return this.#ahead;
  }

  /** Notes for how long a job had its slot. */
  noteJob(ms: number): void {
    if (ms > SHORT_MS) this.#halve();
    else if (this.#ahead < this.#most) this.#ahead++;
  }

  /** Notes for how long the last job of a line has waited. */
  noteWait(ms: number): void {
    if (ms > LONG_WAIT_MS) this.#halve();
  }

  /** Notes that jobs have waited in vain. */
  noteBlocked(): void {
    this.#ahead = 0;
  }

  #halve(): void {
    this.#ahead = Math.floor(this.#ahead / 2);
  }
}
