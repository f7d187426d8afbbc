/**
 * Ids for jobs that were given none.
 * @module
 */

let lastMs = 0;
/** The same in hexadecimal: to write it anew for each id would be most of the work. */
let time = "";
let count = 0;

/**
 * Returns a new id: 32 hexadecimal digits, of which 16 are random.
 *
 * It begins with the time and a count, so that ids grow: jobs enqueued by one program in the same
 * millisecond are run in order, and a store's index grows at its end.
 */
export function newJobId(): string {
  const now = Date.now();
  if (now > lastMs) setTime(now);
  else if (++count > 0xffff) setTime(lastMs + 1);
  const random = crypto.randomUUID();
  return `${time}${count.toString(16).padStart(4, "0")}${random.slice(19, 23)}${random.slice(24)}`;
}

function setTime(ms: number): void {
  lastMs = ms;
  time = ms.toString(16).padStart(12, "0");
  count = 0;
}
