/**
 * Checks of what users hand in: unknown keys with a suggestion, and values shown in errors.
 * @module
 */

/** More known keys than that are not listed. */
const MOST_LISTED = 10;
/** What BullMQ, bee-queue and ioredis call an option, and what it is here. */
const ELSEWHERE: ReadonlyMap<string, string> = new Map([
  ["attempts", "maxTries"],
  ["concurrency", "maxJobs"],
  ["connectTimeout", "connTimeout"],
  ["db", "database"],
  ["delay", "deferBy"],
  ["lockDuration", "lease"],
  ["removeOnComplete", "keepResult"],
  ["removeOnFail", "keepResult"],
  ["retries", "maxTries"],
  ["stallInterval", "lease"],
  ["tls", "ssl"],
  ["tz", "timezone"],
]);

/** One line for each key of `value` that is not known, with the nearest known one, or with all. */
export function checkKeys(value: object, known: readonly string[]): string[] {
  const problems: string[] = [];
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) problems.push(unknownKey(key, known));
  }
  return problems;
}

function unknownKey(key: string, known: readonly string[]): string {
  const all = known.length <= MOST_LISTED ? `; known: ${known.join(", ")}` : "";
  const renamed = ELSEWHERE.get(key) ?? "";
  const near = known.includes(renamed)
    ? renamed
    : nearest(key, known) ?? shorter(key, known) ?? longer(key, known);
  return `unknown option "${key}"${near === undefined ? all : `; did you mean "${near}"?`}`;
}

/** The longest of `words` that `word` begins with, as `hostname` does with `host`. */
function shorter(word: string, words: readonly string[]): string | undefined {
  const found = words.filter((each) =>
    each.length >= 4 && word.toLowerCase().startsWith(each.toLowerCase())
  );
  return found.sort((a, b) => b.length - a.length)[0];
}

/** The one of `words` that begins or ends with `word`, as `defaultQueueName` does with `queueName`. */
function longer(word: string, words: readonly string[]): string | undefined {
  const part = word.toLowerCase();
  const found = words.filter((each) => {
    const whole = each.toLowerCase();
    return whole.startsWith(part) || whole.endsWith(part);
  });
  return word.length < 4 || found.length !== 1 ? undefined : found[0];
}

/** A connection string's query. A plus is no space in it, nor before the host: passwords have some. */
export function parseQuery(query: string): URLSearchParams {
  return new URLSearchParams(query.replaceAll("+", "%2B"));
}

/** Whether `value` is an object that may have options: neither null nor a list. */
export function isOptions(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Also one of another realm: its class has no further one above it. */
export function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Whether `value` is a whole number of `min` or more. */
export function isCount(value: unknown, min = 1): value is number {
  return Number.isSafeInteger(value) && value as number >= min;
}

/** Whether `value` is the IANA name of a time zone. */
export function isTimeZone(value: unknown): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: value as string });
    return typeof value === "string";
  } catch {
    return false;
  }
}

/** The system's time zone; UTC where Deno finds none, as with an empty `TZ`. */
export function systemTimeZone(): string {
  const zone = Temporal.Now.timeZoneId();
  return isTimeZone(zone) ? zone : "UTC";
}

/** What is wrong with an id or a queue's name; undefined if nothing is. */
export function nameProblem(value: unknown): string | undefined {
  if (typeof value !== "string" || value === "") return "must be a text that is not empty";
  // Stored as UTF-8, it would be the same as others.
  return value.isWellFormed() ? undefined : "must not have a lone surrogate";
}

/**
 * Checks an id or a queue's name, if it is given; `what` is what errors call it.
 *
 * @throws {TypeError} if it is none.
 */
export function checkName(what: string, value: unknown): void {
  const problem = value === undefined ? undefined : nameProblem(value);
  if (problem !== undefined) throw new TypeError(`${what} ${problem}, got ${show(value)}`);
}

/**
 * Checks that `value` is an object with known keys only; `what` takes it, and `example` is one.
 *
 * @throws {TypeError} if it is none, or has a key that is not known.
 */
export function checkOptions(
  what: string,
  example: string,
  value: unknown,
  known: readonly string[],
): void {
  checkOptionsObject(what, example, value, known);
  const [problem] = checkKeys(value, known);
  if (problem !== undefined) throw new TypeError(`${what}: ${problem}`);
}

/**
 * Whether `value` is an object that may have options, and not a signal or a date, say, in place of
 * one: it would pass for an object without any.
 */
export function isOptionsObject(value: unknown, known: readonly string[]): value is object {
  if (!isOptions(value)) return false;
  return isPlain(value) || Object.keys(value).length > 0 || known.some((key) => key in value);
}

/**
 * Checks that `value` is an object that may have options; `what` takes it, and `example` is one.
 *
 * @throws {TypeError} if it is none.
 */
export function checkOptionsObject(
  what: string,
  example: string,
  value: unknown,
  known: readonly string[],
): asserts value is object {
  if (isOptionsObject(value, known)) return;
  throw new TypeError(`${what} takes an object such as ${example}, got ${show(value)}`);
}

/**
 * Checks that what `what` takes as its `signal` is one, if it is given.
 *
 * @throws {TypeError} if it is none, such as the controller it comes from.
 */
export function checkSignal(what: string, signal: unknown): void {
  if (signal === undefined || signal instanceof AbortSignal) return;
  throw new TypeError(`${what}: signal must be an AbortSignal, got ${show(signal)}`);
}

/**
 * Checks that `value` is what `createPool` resolves with, as far as a look at it tells.
 *
 * @throws {TypeError} if it is none, such as the promise of one.
 */
export function checkPool(what: string, value: unknown): void {
  if (isOptions(value) && "stats" in value) return;
  throw new TypeError(`${what} takes the pool that createPool resolves to, got ${show(value)}`);
}

/** The word of `words` that differs from `word` by a slip or two; undefined if none does. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const limit = word.length < 4 ? 1 : 2;
  const ranked = words
    .map((candidate) => ({
      candidate,
      distance: editDistance(word.toLowerCase(), candidate.toLowerCase()),
    }))
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.candidate;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** A value as it is shown in an error: short, and strings in quotes. */
export function show(value: unknown): string {
  if (typeof value === "string") return curtail(JSON.stringify(value), 60);
  if (typeof value === "function") return `function ${value.name || "without a name"}`;
  if (typeof value !== "object" || value === null || value instanceof Date) return String(value);
  if (value instanceof Promise) return "a Promise; is an await missing?";
  const className = value.constructor?.name ?? "no class";
  try {
    const named = (_key: string, part: unknown) => typeof part === "function" ? show(part) : part;
    const json = JSON.stringify(value, named);
    const saysNothing = json === "{}" && className !== "Object";
    return saysNothing ? `an object of ${className}` : curtail(json, 60);
  } catch {
    return `an object of ${className}`;
  }
}

/**
 * Cuts `text` to `length` characters, the last being an ellipsis where something was cut; a pair of
 * surrogates is not taken apart.
 */
export function curtail(text: string, length: number): string {
  if (text.length <= length) return text;
  return text.slice(0, length - 1).replace(/[\ud800-\udbff]$/, "") + "…";
}
