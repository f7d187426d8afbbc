/**
 * Many deadlines under one timer.
 *
 * A timer for every call costs more than the call's own bookkeeping, so one timer watches over all
 * of them: it is set for the earliest, and looks again when it fires.
 * @module
 */

import { Bag, type Bagged } from "./bag.ts";
import { LONGEST_TIMER_MS } from "./sleep.ts";

/** Something that has to happen in time. */
interface Waiting extends Bagged {
  readonly at: number;
  readonly onLate: () => void;
}

/** Calls back for whatever was not done in time; keeps the process alive as long as there is something. */
export class Deadlines {
  readonly #waiting: Bag<Waiting> = new Bag();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Infinity;

  /** Calls `onLate` after `ms` milliseconds, unless what it returns is called before. */
  set(ms: number, onLate: () => void): () => void {
    const waiting = { at: performance.now() + ms, onLate, bagIndex: 0 };
    this.#waiting.add(waiting);
    if (waiting.at < this.#timerAt) this.#arm(waiting.at);
    else if (this.#waiting.size === 1) this.#timer?.ref?.();
    return () => {
      this.#waiting.delete(waiting);
      if (this.#waiting.size === 0) this.#timer?.unref?.();
    };
  }

  /** Leaves no timer behind if nothing waits; until then it is not set anew for each deadline. */
  dropIdleTimer(): void {
    if (this.#waiting.size > 0) return;
    clearTimeout(this.#timer);
    this.#timerAt = Infinity;
  }

  /** Forgets all deadlines and leaves no timer behind. */
  clear(): void {
    this.#waiting.clear();
    this.dropIdleTimer();
  }

  #arm(at: number): void {
    clearTimeout(this.#timer);
    this.#timerAt = at;
    const delay = Math.min(Math.max(0, at - performance.now()), LONGEST_TIMER_MS);
    this.#timer = setTimeout(() => this.#look(), delay);
  }

  #look(): void {
    const now = performance.now();
    this.#timerAt = Infinity;
    const late = [...this.#waiting].filter(({ at }) => at <= now);
    for (const waiting of late) this.#waiting.delete(waiting);
    let next = Infinity;
    for (const { at } of this.#waiting) next = Math.min(next, at);
    if (next < Infinity) this.#arm(next);
    for (const { onLate } of late) onLate();
  }
}
