/**
 * The default serializer, and the records that travel: jobs and their results.
 *
 * The bytes are MessagePack, which Python reads; `codec.ts` lists the extension types and what becomes
 * of each value.
 * @module
 */

import { decode, encode, type Key } from "./codec.ts";
import {
  describeFailure,
  type ErrorFields,
  type Fields,
  isPlainObject,
  reviveFailure,
  textOf,
  typeName,
} from "./error_fields.ts";
import { DeserializationError, SerializationError } from "./errors.ts";

/** Turns a record into bytes; what a user gives as `jobSerializer`. */
export type Serializer = (record: Record<string, unknown>) => Uint8Array;

/** Turns the bytes of a {@linkcode Serializer} into a record; what a user gives as `jobDeserializer`. */
export type Deserializer = (bytes: Uint8Array) => unknown;

/** A trace context, as the fields that propagators read and write: `traceparent` and the like. */
export type TraceCarrier = Readonly<Record<string, string>>;

/** A job as it stands in the queue. */
export interface JobRecord {
  /** The number of the try to start with, null for the first. */
  t: number | null;
  /** The name of the function. */
  f: string;
  /** The positional arguments. */
  a: readonly unknown[];
  /** The keyword arguments, which Python's functions take. */
  k: Readonly<Record<string, unknown>>;
  /** When it was enqueued, epoch milliseconds. */
  et: number;
  /** The trace it comes from, where there is one. */
  tc?: TraceCarrier;
  /** In a result: arguments are missing or have become text, so that it cannot be run again. */
  cut?: true;
}

/** A job that has ended. */
export interface ResultRecord extends JobRecord {
  /** Whether it succeeded. */
  s: boolean;
  /** What it returned, or what it threw. */
  r: unknown;
  /** When its last run started, epoch milliseconds. */
  st: number;
  /** When it finished, epoch milliseconds. */
  ft: number;
  /** The name of its queue. */
  q: string;
  /** Its id. */
  id: string;
}

/** What stands in a result where nobody could read the job. */
export const UNREADABLE: Omit<JobRecord, "et"> = {
  t: null,
  f: "<unknown>",
  a: [],
  k: {},
  cut: true,
};

/** How the fields of a record are called in messages. */
const RECORD_NAMES: ReadonlyMap<Key, string> = new Map([
  ["a", "args"],
  ["k", "kwargs"],
  ["r", "result"],
  ["p", "progress"],
]);

/** Most often a record was written in another format than it is read in. */
const ADVICE = "; do all clients and workers have the same jobSerializer and jobDeserializer?";

/**
 * Turns a value into bytes, as the arguments and results of jobs are by default.
 *
 * It may hold what a structured clone may, and a `URL`: plain data becomes standard MessagePack,
 * which Python reads; the rest (`undefined`, bigints, dates, maps, sets, regular expressions, typed
 * arrays, errors) its extensions. Class instances travel as plain objects.
 *
 * @example
 * ```ts
 * import { deserialize, serialize } from "@arq/arq";
 *
 * const bytes = serialize({ when: new Date(0), tags: new Set(["a"]), size: 2n ** 70n });
 * const copy = deserialize(bytes); // equal to what went in
 * ```
 *
 * @throws {SerializationError} if it holds a function, a symbol, a cycle, an object that cannot be
 * copied (a promise, a stream) or more than 1,000 levels; the message names the path.
 */
export function serialize(value: unknown): Uint8Array {
  return encode(value);
}

/**
 * Turns bytes of {@linkcode serialize}, or of Python's `msgpack.packb`, into the value.
 *
 * The value shares no memory with `bytes`.
 *
 * @throws {DeserializationError} if they are not exactly one value that can be read.
 */
export function deserialize(bytes: Uint8Array): unknown {
  try {
    return decode(bytes);
  } catch (error) {
    throw unreadable("value", error);
  }
}

/**
 * Turns a job into the bytes of its key, by `serializer` if there is one.
 *
 * @throws {SerializationError} if an argument cannot travel; the message names it, such as
 * `args[0].onDone`. Also if `serializer` throws (its error is the cause) or returns no bytes.
 */
export function encodeJob(record: JobRecord, serializer?: Serializer): Uint8Array {
  const { t, f, a, k, et, tc } = record;
  const fields = tc === undefined ? { t, f, a, k, et } : { t, f, a, k, et, tc };
  return encodeRecord(`"${f}"`, fields, serializer);
}

/**
 * Turns the bytes of a job's key into the job, by `deserializer` if there is one.
 *
 * @throws {DeserializationError} if they cannot be read, or a field is missing or of a wrong type.
 */
export function decodeJob(bytes: Uint8Array, deserializer?: Deserializer): JobRecord {
  try {
    return jobFields(decodeRecord(bytes, deserializer));
  } catch (error) {
    throw unreadable("job", error, ADVICE);
  }
}

/**
 * Turns the end of a job into the bytes of its result key, by `serializer` if there is one.
 *
 * For a failed job, `r` is whatever was thrown and becomes the map {@linkcode ErrorFields}. A failure
 * can always be recorded by the default serializer: what cannot travel is left out, or shown as text.
 *
 * @throws {SerializationError} if the result of a successful job cannot travel; the message names the
 * path, such as `result.socket`. Also if `serializer` throws or returns no bytes.
 */
export function encodeResult(record: ResultRecord, serializer?: Serializer): Uint8Array {
  const { t, f, a, k, et, s, st, ft, q, id, cut } = record;
  const r = s ? record.r : describeFailure(record.r, canTravel);
  const fields = { t, f, a, k, et, s, r, st, ft, q, id, ...(cut && { cut }) };
  const name = `"${f}"`;
  if (s) return encodeRecord(name, fields, serializer);
  try {
    return encodeRecord(name, fields, serializer);
  } catch {
    return encodeRecord(name, withoutOddities(fields, r as ErrorFields), serializer);
  }
}

/**
 * Turns the bytes of a result key into the end of a job, by `deserializer` if there is one.
 *
 * For a failed job, `r` is an `Error`: built-in classes and those of this library come back as
 * themselves, others as an `Error` with their name. A value that is no error comes back as an `Error`
 * called `NonError` with the value in `thrown`; the text that Python stores when it could not
 * serialize, as a {@linkcode SerializationError}. A missing `r` reads as `undefined`, since JSON
 * leaves it out.
 *
 * @throws {DeserializationError} if they cannot be read, or a field is missing or of a wrong type.
 */
export function decodeResult(bytes: Uint8Array, deserializer?: Deserializer): ResultRecord {
  try {
    const fields = decodeRecord(bytes, deserializer);
    const { s, r, st, ft, q, id } = fields;
    const job = jobFields(fields);
    if (typeof s !== "boolean") throw wrongField("s", "a boolean", s);
    if (!isTime(st)) throw wrongField("st", "a number", st);
    if (!isTime(ft)) throw wrongField("ft", "a number", ft);
    if (typeof q !== "string") throw wrongField("q", "a string", q);
    if (typeof id !== "string") throw wrongField("id", "a string", id);
    const cut = fields.cut === true ? { cut: true } as const : undefined;
    return { ...job, s, r: s ? r : reviveFailure(r), st, ft, q, id, ...cut };
  } catch (error) {
    throw unreadable("result", error, ADVICE);
  }
}

/**
 * Turns what a job tells of its progress into bytes, by `serializer` if there is one.
 *
 * @throws {SerializationError} if it cannot travel; the message names the path, such as
 * `progress.socket`. Also if `serializer` throws or returns no bytes.
 */
export function encodeProgress(value: unknown, serializer?: Serializer): Uint8Array {
  return encodeRecord("the progress", { p: value }, serializer);
}

/**
 * Turns the bytes of {@linkcode encodeProgress} into the value, by `deserializer` if there is one.
 *
 * @throws {DeserializationError} if they cannot be read.
 */
export function decodeProgress(bytes: Uint8Array, deserializer?: Deserializer): unknown {
  try {
    return decodeRecord(bytes, deserializer).p;
  } catch (error) {
    throw unreadable("progress", error, ADVICE);
  }
}

/** Turns a record, which messages call `what`, into bytes. */
function encodeRecord(
  what: string,
  fields: Fields,
  serializer: Serializer | undefined,
): Uint8Array {
  if (serializer === undefined) return encode(fields, RECORD_NAMES);
  let bytes: unknown;
  try {
    bytes = serializer(fields);
  } catch (error) {
    const message = `Cannot serialize ${what}: the serializer threw ${textOf(error)}`;
    throw new SerializationError(message, { cause: error });
  }
  if (bytes instanceof Uint8Array) return bytes;
  throw new SerializationError(
    `Cannot serialize ${what}: the serializer must return a Uint8Array, got ${typeName(bytes)}`,
  );
}

function decodeRecord(bytes: Uint8Array, deserializer: Deserializer | undefined): Fields {
  const fields = deserializer ? callDeserializer(deserializer, bytes) : decode(bytes);
  if (!isPlainObject(fields)) {
    throw new DeserializationError(`it must be a map, got ${typeName(fields)}`);
  }
  return fields;
}

function callDeserializer(deserializer: Deserializer, bytes: Uint8Array): unknown {
  try {
    return deserializer(bytes);
  } catch (error) {
    const message = `the deserializer threw ${textOf(error)}`;
    throw new DeserializationError(message, { cause: error });
  }
}

function jobFields({ t, f, a, k, et, tc }: Fields): JobRecord {
  if (t !== null && !Number.isSafeInteger(t)) throw wrongField("t", "an integer or null", t);
  if (typeof f !== "string") throw wrongField("f", "a string", f);
  if (!Array.isArray(a)) throw wrongField("a", "an array", a);
  if (!isPlainObject(k)) throw wrongField("k", "a map", k);
  if (!isTime(et)) throw wrongField("et", "a number", et);
  const record = { t: t as number | null, f, a, k, et };
  return isPlainObject(tc) ? { ...record, tc: textsOf(tc) } : record;
}

/** No job fails for what stands in its trace context: what is no text is left out. */
function textsOf(fields: Fields): TraceCarrier {
  const texts = Object.entries(fields).filter(([, value]) => typeof value === "string");
  return Object.fromEntries(texts) as TraceCarrier;
}

function isTime(value: unknown): value is number {
  return Number.isFinite(value);
}

function wrongField(name: string, wanted: string, value: unknown): DeserializationError {
  const got = typeof value === "number" ? String(value) : typeName(value);
  return new DeserializationError(`its field "${name}" must be ${wanted}, got ${got}`);
}

function unreadable(what: string, cause: unknown, advice = ""): DeserializationError {
  if (cause instanceof DeserializationError) {
    const options = cause.cause === undefined ? undefined : { cause: cause.cause };
    return new DeserializationError(`Cannot read the ${what}: ${cause.message}${advice}`, options);
  }
  return new DeserializationError(`Cannot read the ${what}: ${textOf(cause)}${advice}`, { cause });
}

/** The failed record without the error's own fields, and with arguments that the job spoilt as text. */
function withoutOddities(record: Fields & JobRecord, error: ErrorFields): Fields {
  const { name, message, stack } = error;
  const { a, k } = record;
  const args = {
    a: a.map(portable),
    k: Object.fromEntries(Object.entries(k).map(([key, value]) => [key, portable(value)])),
  };
  return {
    ...record,
    ...(!canTravel({ a, k }) && { cut: true }),
    ...(canTravel(args) ? args : { a: [], k: {} }), // A forged key is read that nobody may write.
    r: stack === undefined ? { name, message } : { name, message, stack },
  };
}

/** The value, or its text where it cannot travel. */
export function portable(value: unknown): unknown {
  return canTravel(value) ? value : textOf(value);
}

function canTravel(value: unknown): boolean {
  try {
    encode(value);
    return true;
  } catch {
    return false;
  }
}
