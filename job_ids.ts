/**
 * Ids for jobs that were given none.
 * @module
 */

let lastMs = 0;
let count = 0;

/**
 * Returns a new id: 32 hexadecimal digits, of which 16 are random.
 *
 * It begins with the time and a count, so that ids grow: jobs enqueued by one program in the same
 * millisecond are run in order, and a store's index grows at its end.
 */
export function newJobId(): string {
  const now = Date.now();
  if (now > lastMs) {
    lastMs = now;
    count = 0;
  } else if (++count > 0xffff) {
    lastMs++;
    count = 0;
  }
  const time = lastMs.toString(16).padStart(12, "0") + count.toString(16).padStart(4, "0");
  const random = crypto.randomUUID();
  return time + random.slice(19, 23) + random.slice(24);
}
