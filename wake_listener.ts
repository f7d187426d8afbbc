/**
 * Waits to be woken while the worker is idle.
 * @module
 */
import { sleep } from "./sleep.ts";
import type { ClaimReply, ClaimRequest, WakeLine } from "./store.ts";
import { log } from "./worker_log.ts";

/** What the listener asks and tells the worker. */
export interface Sleeper {
  /** Whether the worker has room for a job and knows of none. */
  isIdle(): boolean;
  /** What a wake-up is to claim at once, if anything; answered by `onClaimed`. */
  prepareClaim(): ClaimRequest | undefined;
  /** Called with the reply to a prepared claim, or whether none was made, or nobody knows. */
  onClaimed(reply: ClaimReply | "none" | "unknown"): void;
  /** Called at a wake-up that claimed nothing. */
  onWake(): void | Promise<void>;
  /** Called when wake-ups may have been missed. */
  onGap(): void;
}

/** The pause after a failure to listen; the worker polls meanwhile. */
const PAUSE_MS = 500;

/** Listens on a line for as long as the worker lives. */
export class WakeListener implements Disposable {
  readonly #line: WakeLine;
  readonly #sleeper: Sleeper;
  readonly #ended = new AbortController();
  #resume: (() => void) | undefined;

  /** Takes the line, which is closed at the end, and whom to wake. */
  constructor(line: WakeLine, sleeper: Sleeper) {
    this.#line = line;
    this.#sleeper = sleeper;
  }

  /** Listens until disposed of; never rejects. */
  async run(): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      try {
        if (this.#sleeper.isIdle()) await this.#wait();
        else await this.#untilNotified();
      } catch (error) {
        if (signal.aborted) return;
        log.storeFailed("wait to be woken", error);
        await sleep(PAUSE_MS, signal).catch(() => {}); // The signal ends the loop.
        if (!signal.aborted) this.#sleeper.onGap();
      }
    }
  }

  /** Tells that the worker may be idle now. */
  notify(): void {
    this.#resume?.();
  }

  /** From now on no wake-up claims anything for this holder. */
  disarm(holder: string): Promise<void> {
    return this.#line.disarm(holder);
  }

  /** Ends the listening and closes the line. */
  [Symbol.dispose](): void {
    this.#ended.abort();
    this.#resume?.();
    this.#line[Symbol.dispose]();
  }

  /** A claim that is under way at the end is left to its sleeper, which knows of it. */
  async #wait(): Promise<void> {
    const { signal } = this.#ended;
    const request = this.#line.canClaim ? this.#sleeper.prepareClaim() : undefined;
    let reply: ClaimReply | boolean;
    try {
      reply = await this.#line.wait(request);
    } catch (error) {
      if (request && !signal.aborted) this.#sleeper.onClaimed("unknown");
      throw error;
    }
    if (signal.aborted) return;
    if (request) this.#sleeper.onClaimed(typeof reply === "object" ? reply : "none");
    if (reply === true) await this.#sleeper.onWake();
  }

  #untilNotified(): Promise<void> {
    return new Promise((resolve) => this.#resume = resolve);
  }
}
