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

/**
 * Waits for `value`, but rejects with the signal's reason if it aborts before; an error that the
 * value ends in after that is dropped.
 */
export async function untilAborted<T>(value: T, signal?: AbortSignal): Promise<Awaited<T>> {
  if (signal === undefined) return await value;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([value, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Waits for `promise`, but no longer than `ms` milliseconds; leaves no timer behind. */
export async function atMost(ms: number, promise: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  const time = sleep(ms, over.signal).catch(() => {}); // Aborted when the promise was faster.
  try {
    await Promise.race([promise, time]);
  } finally {
    over.abort();
  }
}

/** Whether this is the error of a waiting that has taken too long. */
export function isTimeout(error: unknown): error is DOMException {
  return error instanceof DOMException && error.name === "TimeoutError";
}
