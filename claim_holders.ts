/**
 * The names under which a worker claims jobs, and claims that it may have made without knowing.
 * @module
 */
import { sleep } from "./sleep.ts";
import type { Lease } from "./store.ts";
import { log } from "./worker_log.ts";
import type { ResolvedSettings } from "./worker_settings.ts";

/** The pause after a failed look for lost claims, unless `pollDelay` is less. */
const PAUSE_MS = 500;

/** The holders of one worker's claims. */
export class ClaimHolders {
  /** Of the claims that it makes itself. */
  readonly own: string = crypto.randomUUID().slice(-12);
  readonly #settings: ResolvedSettings;
  readonly #doubted: Set<string> = new Set();
  #wakeUps = 0;
  #ofWakeUp = "";

  /** Takes the worker's settings. */
  constructor(settings: ResolvedSettings) {
    this.#settings = settings;
  }

  /** Of the claim that the wake-up of the moment makes. */
  get ofWakeUp(): string {
    return this.#ofWakeUp;
  }

  /** Whether jobs may be held that the worker has never heard of. */
  get anyDoubted(): boolean {
    return this.#doubted.size > 0;
  }

  /**
   * Names the holder of the next wake-up's claim: one of its own for each, so that a look for lost
   * claims cannot take away one that is under way.
   */
  nextWakeUp(): string {
    return this.#ofWakeUp = `${this.own}-${++this.#wakeUps}`;
  }

  /** Notes that the reply to a claim of this holder may have been lost. */
  doubt(holder: string): void {
    this.#doubted.add(holder);
  }

  /**
   * Releases what is held and not `known`; after a failure it waits a while, unless `signal` ends
   * that. `disarm` sees to it that no claim of a holder is made any more.
   */
  async releaseUnknown(
    known: readonly Lease[],
    disarm: (holder: string) => Promise<void> | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { queueName, pollDelayMs, client: { store } } = this.#settings;
    try {
      for (const holder of this.#doubted) {
        // Its claim may still wait in the server, behind a connection that is lost to us only.
        if (holder !== this.own) await disarm(holder);
        await store.releaseUnknown(queueName, holder, known);
        this.#doubted.delete(holder);
      }
    } catch (error) {
      log.storeFailed("release lost claims", error);
      await sleep(Math.min(pollDelayMs, PAUSE_MS), signal).catch(() => {}); // The loop has ended.
    }
  }
}
