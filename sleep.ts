/**
 * Waiting that can be cut short.
 * @module
 */

/** Timers cannot be longer: beyond it they fire at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Waits for `ms` milliseconds; rejects with the signal's reason if it aborts before. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, Math.min(ms, LONGEST_TIMER_MS));
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
