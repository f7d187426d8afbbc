/**
 * The default serializer, and the records that travel: jobs and their results.
 *
 * The bytes are MessagePack. Plain data (null, booleans, numbers, well-formed strings, `Uint8Array`,
 * arrays, plain objects) is standard MessagePack in its shortest form, equal byte for byte to what
 * Python's `msgpack.packb` writes. Integers are integers, -0 and fractions are 64-bit floats.
 * Everything else is an extension:
 *
 * | type | value | payload |
 * |---|---|---|
 * | -1 | `Date` | MessagePack's own timestamp; Python's aware `datetime` reads as a `Date` as well |
 * | 0 | `undefined`, also a hole in an array | none |
 * | 1 | `bigint` | hexadecimal digits in ASCII, `-` before them if negative |
 * | 2 | an invalid `Date` | none |
 * | 3 | `Map` | an array of `[key, value]` arrays, in MessagePack |
 * | 4 | `Set` | an array, in MessagePack |
 * | 5 | `RegExp` | the array `[source, flags]`, in MessagePack |
 * | 6 | `URL` | its `href` in UTF-8 |
 * | 7 | `Error` | a map in MessagePack, see {@linkcode ErrorFields} |
 * | 8 | binary data but `Uint8Array` | one byte for the class, then its bytes, little-endian: 0 `ArrayBuffer`, 1 `DataView`, 2 `Int8Array`, 3 `Uint8ClampedArray`, 4 `Int16Array`, 5 `Uint16Array`, 6 `Int32Array`, 7 `Uint32Array`, 8 `Float32Array`, 9 `Float64Array`, 10 `BigInt64Array`, 11 `BigUint64Array`, 12 `Float16Array` |
 * | 9 | a string with a lone surrogate | its UTF-16 code units, little-endian |
 *
 * Class instances travel as plain objects, boxed primitives as their primitives, subclasses of the
 * classes above as these; `toJSON` is not called and shared references are copied. Integers beyond
 * `Number.MAX_SAFE_INTEGER` (Python writes them) read as `bigint`; integer keys of a map read as
 * strings, other keys that are no strings are refused, and so is the key `__proto__`.
 *
 * This file has a codec of its own since `@msgpack/msgpack` writes -0 as 0, drops the byte order mark
 * of a long string, corrupts long lone surrogates, reads 64-bit integers inexactly, returns views on
 * the caller's buffer, and allocates what a hostile length asks for. It is the oracle of the tests.
 * @module
 */

import {
  DeserializationError,
  JobAborted,
  JobExecutionFailed,
  JobTimeoutError,
  QueueConnectionError,
  ResultNotFound,
  SerializationError,
} from "./errors.ts";

/** Turns a record into bytes; what a user gives as `jobSerializer`. */
export type Serializer = (record: Record<string, unknown>) => Uint8Array;

/** Turns the bytes of a {@linkcode Serializer} into a record; what a user gives as `jobDeserializer`. */
export type Deserializer = (bytes: Uint8Array) => unknown;

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

type Fields = Record<string, unknown>;

const MAX_DEPTH = 1_000;
const MAX_KEPT_BUFFER = 1 << 16;
const SHORT_TEXT = 40;
const UNDEFINED = 0;
const BIGINT = 1;
const INVALID_DATE = 2;
const MAP = 3;
const SET = 4;
const REGEXP = 5;
const URL_HREF = 6;
const ERROR = 7;
const BINARY = 8;
const UTF16 = 9;
const TIMESTAMP = -1;
const FIXED_EXTENSIONS = [1, 2, 4, 8, 16];
const NO_BYTES = new Uint8Array(0);
const TOO_SHORT = "it ends too early";
const TOO_DEEP = "it is more than 1,000 levels deep";

const VIEW_CLASSES: readonly (new (buffer: ArrayBuffer) => ArrayBufferView)[] = [
  DataView,
  Int8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
  ...(typeof Float16Array === "undefined" ? [] : [Float16Array]),
];

/** How the fields of a record are called in messages. */
const RECORD_NAMES: ReadonlyMap<Key, string> = new Map([
  ["a", "args"],
  ["k", "kwargs"],
  ["r", "result"],
]);

/**
 * Turns any value of the module's table into bytes.
 *
 * @example
 * ```ts
 * import { deserialize, serialize } from "./serializer.ts";
 *
 * const bytes = serialize({ when: new Date(0), tags: new Set(["a"]), size: 2n ** 70n });
 * const copy = deserialize(bytes); // equal to what went in
 * ```
 *
 * @throws {SerializationError} if it holds a function, a symbol, a cycle, an object that cannot be
 * copied (a promise, a stream) or more than 1,000 levels; the message names the path.
 */
export function serialize(value: unknown): Uint8Array {
  return write(value);
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
    return new Reader(bytes).document();
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
  const { t, f, a, k, et } = record;
  return encodeRecord({ t, f, a, k, et }, serializer);
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
    throw unreadable("job", error);
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
  const { t, f, a, k, et, s, st, ft, q, id } = record;
  const r = s ? record.r : describeFailure(record.r);
  const fields = { t, f, a, k, et, s, r, st, ft, q, id };
  if (s) return encodeRecord(fields, serializer);
  try {
    return encodeRecord(fields, serializer);
  } catch {
    return encodeRecord(withoutOddities(fields, r as ErrorFields), serializer);
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
    return { ...job, s, r: s ? r : reviveFailure(r), st, ft, q, id };
  } catch (error) {
    throw unreadable("result", error);
  }
}

function encodeRecord(fields: Fields, serializer: Serializer | undefined): Uint8Array {
  if (serializer === undefined) return write(fields, RECORD_NAMES);
  let bytes: unknown;
  try {
    bytes = serializer(fields);
  } catch (error) {
    const message = `Cannot serialize "${fields.f}": the serializer threw ${textOf(error)}`;
    throw new SerializationError(message, { cause: error });
  }
  if (bytes instanceof Uint8Array) return bytes;
  throw new SerializationError(
    `Cannot serialize "${fields.f}": the serializer must return a Uint8Array, got ${
      typeName(bytes)
    }`,
  );
}

function decodeRecord(bytes: Uint8Array, deserializer: Deserializer | undefined): Fields {
  const fields = deserializer
    ? callDeserializer(deserializer, bytes)
    : new Reader(bytes).document();
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

function jobFields({ t, f, a, k, et }: Fields): JobRecord {
  if (t !== null && !Number.isSafeInteger(t)) throw wrongField("t", "an integer or null", t);
  if (typeof f !== "string") throw wrongField("f", "a string", f);
  if (!Array.isArray(a)) throw wrongField("a", "an array", a);
  if (!isPlainObject(k)) throw wrongField("k", "a map", k);
  if (!isTime(et)) throw wrongField("et", "a number", et);
  return { t: t as number | null, f, a, k, et };
}

function isTime(value: unknown): value is number {
  return Number.isFinite(value);
}

function wrongField(name: string, wanted: string, value: unknown): DeserializationError {
  const got = typeof value === "number" ? String(value) : typeName(value);
  return new DeserializationError(`its field "${name}" must be ${wanted}, got ${got}`);
}

function unreadable(what: string, cause: unknown): DeserializationError {
  if (cause instanceof DeserializationError) {
    const options = cause.cause === undefined ? undefined : { cause: cause.cause };
    return new DeserializationError(`Cannot read the ${what}: ${cause.message}`, options);
  }
  return new DeserializationError(`Cannot read the ${what}: ${textOf(cause)}`, { cause });
}

// Failures

/** How an error travels: in the `r` of a failed job, and in the extension of an `Error`. */
interface ErrorFields extends Fields {
  /** Its `name`, `NonError` if what was thrown is no error. */
  name: string;
  /** Its `message`, or the text of what was thrown. */
  message: string;
  /** Its `stack`. */
  stack?: string;
  /** Its `cause`; in `r` an error is such a map again. A map with the three texts above reads as one. */
  cause?: unknown;
  /** The `errors` of an `AggregateError`, written as the cause is. */
  errors?: unknown;
  /** `DOMException` or `AggregateError`, where the name doesn't tell. */
  class?: unknown;
  /** What was thrown, if it is no error and can travel. */
  thrown?: unknown;
}

const UNSERIALIZABLE_IN_PYTHON = "unable to serialize result";
const MAX_DESCRIBED_CAUSES = 20;

const ERROR_CLASSES: ReadonlyMap<string, new (message: string) => Error> = new Map(
  [
    Error,
    TypeError,
    RangeError,
    SyntaxError,
    ReferenceError,
    EvalError,
    URIError,
    ResultNotFound,
    JobAborted,
    JobTimeoutError,
    JobExecutionFailed,
    SerializationError,
    DeserializationError,
    QueueConnectionError,
  ].map((errorClass) => [errorClass.prototype.name, errorClass]),
);

function isError(value: unknown): value is Error {
  return value instanceof Error || Error.isError(value);
}

function errorFields(error: Error): ErrorFields {
  const name = String(error.name);
  const message = String(error.message);
  const stack = typeof error.stack === "string" ? error.stack : `${name}: ${message}`;
  const own: Fields = { ...error, name, message, stack };
  const fields: ErrorFields = { name, message, stack, ...own };
  if (Object.hasOwn(error, "cause")) fields.cause = error.cause;
  if (error instanceof DOMException) fields.class = "DOMException";
  if (error instanceof AggregateError) {
    fields.errors = error.errors;
    if (name !== "AggregateError") fields.class = "AggregateError";
  }
  return fields;
}

/** Describes what was thrown, readable for Python; whatever cannot travel is left out. */
function describeFailure(thrown: unknown, outer: readonly unknown[] = []): ErrorFields {
  try {
    if (!isError(thrown)) return describeNonError(thrown);
    const chain = [...outer, thrown];
    const describe = (value: unknown) =>
      isError(value) && !chain.includes(value) && chain.length < MAX_DESCRIBED_CAUSES
        ? describeFailure(value, chain)
        : value;
    const fields = errorFields(thrown);
    if ("cause" in fields) fields.cause = describe(fields.cause);
    if (Array.isArray(fields.errors)) fields.errors = fields.errors.map(describe);
    const kept = Object.entries(fields)
      .filter(([key, value]) => value !== undefined && canTravel({ [key]: value }));
    return Object.fromEntries(kept) as ErrorFields;
  } catch {
    return { name: "Error", message: textOf(thrown) };
  }
}

function describeNonError(thrown: unknown): ErrorFields {
  const message = typeof thrown === "string" ? thrown : textOf(thrown);
  const fields = { name: "NonError", message };
  return canTravel(thrown) ? { ...fields, thrown } : fields;
}

/** The failed record without the error's own fields, and with arguments that the job spoilt as text. */
function withoutOddities(record: Fields & JobRecord, error: ErrorFields): Fields {
  const { name, message, stack } = error;
  const portable = (value: unknown) => canTravel(value) ? value : textOf(value);
  return {
    ...record,
    a: record.a.map(portable),
    k: Object.fromEntries(Object.entries(record.k).map(([key, value]) => [key, portable(value)])),
    r: stack === undefined ? { name, message } : { name, message, stack },
  };
}

function canTravel(value: unknown): boolean {
  try {
    write(value);
    return true;
  } catch {
    return false;
  }
}

function reviveFailure(r: unknown): Error {
  if (isError(r)) return r;
  if (r === UNSERIALIZABLE_IN_PYTHON) return new SerializationError(r);
  if (typeof r === "string") return new Error(r);
  return reviveError(isPlainObject(r) ? r : describeNonError(r));
}

function reviveError(fields: Fields): Error {
  const name = typeof fields.name === "string" ? fields.name : "Error";
  const message = typeof fields.message === "string" ? fields.message : "";
  const error = createError(fields, name, message);
  if (error.name !== name) define(error, "name", name, false);
  const stack = typeof fields.stack === "string" ? fields.stack : `${name}: ${message}`;
  define(error, "stack", stack, false);
  if (Object.hasOwn(fields, "cause")) define(error, "cause", reviveNested(fields.cause), false);
  for (const [key, value] of Object.entries(fields)) {
    const isRead = ERROR_KEYS.has(key) || (key === "class" && CLASS_MARKS.has(value)) ||
      (key === "errors" && error instanceof AggregateError);
    if (!isRead) define(error, key, value, true);
  }
  return error;
}

const ERROR_KEYS: ReadonlySet<string> = new Set(["name", "message", "stack", "cause", "__proto__"]);
const CLASS_MARKS: ReadonlySet<unknown> = new Set(["DOMException", "AggregateError"]);

function createError(fields: Fields, name: string, message: string): Error {
  if (fields.class === "DOMException") return new DOMException(message, name);
  if (fields.class === "AggregateError" || name === "AggregateError") {
    const errors = Array.isArray(fields.errors) ? fields.errors.map(reviveNested) : [];
    return new AggregateError(errors, message);
  }
  return new (ERROR_CLASSES.get(name) ?? Error)(message);
}

function reviveNested(value: unknown): unknown {
  if (!isPlainObject(value)) return value;
  const { name, message, stack } = value;
  const isErrorMap = [name, message, stack].every((text) => typeof text === "string");
  return isErrorMap ? reviveError(value) : value;
}

function define(target: object, key: string, value: unknown, enumerable: boolean): void {
  Object.defineProperty(target, key, { value, enumerable, writable: true, configurable: true });
}

// Writing

let spareWriter: Writer | undefined;

function write(value: unknown, names?: ReadonlyMap<Key, string>): Uint8Array {
  const writer = spareWriter ?? new Writer();
  spareWriter = undefined; // a getter may serialize in the middle of this
  try {
    const bytes = writer.document(value);
    if (writer.capacity <= MAX_KEPT_BUFFER) spareWriter = writer;
    return bytes;
  } catch (error) {
    const path = writer.path(names);
    if (error instanceof SerializationError) {
      throw new SerializationError(`Cannot serialize ${path}: ${error.message}`);
    }
    throw new SerializationError(`Cannot serialize ${path}: ${textOf(error)}`, { cause: error });
  }
}

/** A key in a container; undefined where the container is not seen by the user. */
type Key = string | number | undefined;

/** Writes one value at a time; after an error it still knows the path and is used no more. */
class Writer {
  private bytes = new Uint8Array(1024);
  private view = new DataView(this.bytes.buffer);
  private length = 0;
  private depth = 0;
  /** The containers around the value being written, and its key in each of them. */
  private readonly containers: (object | undefined)[] = [];
  private readonly keys: Key[] = [];

  get capacity(): number {
    return this.bytes.length;
  }

  document(value: unknown): Uint8Array {
    this.length = 0;
    this.value(value);
    return this.bytes.slice(0, this.length);
  }

  path(names?: ReadonlyMap<Key, string>): string {
    const [first, ...rest] = this.keys.slice(0, this.depth);
    return rest.reduce<string>(joinPath, names?.get(first) ?? joinPath("value", first));
  }

  private value(value: unknown): void {
    switch (typeof value) {
      case "string":
        return this.text(value);
      case "number":
        return this.number(value);
      case "boolean":
        return this.byte(value ? 0xc3 : 0xc2);
      case "undefined":
        return this.extension(UNDEFINED, NO_BYTES);
      case "bigint":
        return this.extension(BIGINT, encoder.encode(value.toString(16)));
      case "object":
        return value === null ? this.byte(0xc0) : this.object(value);
      default:
        throw new SerializationError(`it is a ${typeof value}`);
    }
  }

  private object(value: object): void {
    if (Array.isArray(value)) return this.array(value);
    const prototype = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) return this.map(value as Fields);
    if (value instanceof Uint8Array) return this.binary(value);
    if (value instanceof Date) return this.date(value);
    if (value instanceof Map) return this.nested(MAP, value, "entries()", [...value]);
    if (value instanceof Set) return this.nested(SET, value, "values()", [...value]);
    if (isError(value)) return this.nested(ERROR, value, undefined, errorFields(value));
    if (value instanceof RegExp) {
      return this.nested(REGEXP, value, undefined, [value.source, value.flags]);
    }
    if (value instanceof URL) return this.extension(URL_HREF, encoder.encode(value.href));
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
      return this.extension(BINARY, binaryPayload(value));
    }
    if (isBoxed(value)) return this.value(value.valueOf());
    if (Symbol.toStringTag in value && Object.keys(value).length === 0) {
      throw new SerializationError(`it is ${typeName(value)}, which cannot be copied`);
    }
    this.map(value as Fields);
  }

  private array(items: readonly unknown[]): void {
    this.enter(items);
    const { length } = items;
    if (length < 16) this.byte(0x90 | length);
    else this.size16(0xdc, length);
    for (let index = 0; index < length; index++) {
      this.keys[this.depth - 1] = index;
      this.value(items[index]);
    }
    this.leave();
  }

  private map(fields: Fields): void {
    this.enter(fields);
    const keys = Object.keys(fields);
    if (keys.length < 16) this.byte(0x80 | keys.length);
    else this.size16(0xde, keys.length);
    for (const key of keys) {
      this.keys[this.depth - 1] = key;
      this.key(key);
      this.value(fields[key]);
    }
    this.leave();
  }

  private enter(container: object): void {
    for (let level = 0; level < this.depth; level++) {
      if (this.containers[level] === container) throw new SerializationError("it contains itself");
    }
    if (this.depth === MAX_DEPTH) throw new SerializationError(TOO_DEEP);
    this.keys[this.depth] = undefined;
    this.containers[this.depth++] = container;
  }

  private leave(): void {
    this.containers[--this.depth] = undefined;
  }

  private nested(type: number, container: object, key: Key, payload: object): void {
    this.enter(container);
    this.keys[this.depth - 1] = key;
    const start = this.reserve(6);
    this.length += 6;
    this.object(payload);
    this.bytes[start] = 0xc9;
    this.view.setUint32(start + 1, this.length - start - 6);
    this.view.setInt8(start + 5, type);
    this.leave();
  }

  private number(value: number): void {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) this.float(value);
    else if (value > 0xffff_ffff) this.integer64(0xcf, value);
    else if (value >= 0x80) this.size8(0xcc, value);
    else if (value >= -0x20) this.byte(value & 0xff);
    else if (value >= -0x80) this.size8(0xd0, value & 0xff);
    else if (value >= -0x8000) this.size16(0xd1, value & 0xffff);
    else if (value >= -0x8000_0000) this.size16(0xd1, value >>> 0);
    else this.integer64(0xd3, value);
  }

  private float(value: number): void {
    const start = this.reserve(9);
    this.bytes[start] = 0xcb;
    this.view.setFloat64(start + 1, value);
    this.length += 9;
  }

  private integer64(code: number, value: number): void {
    const start = this.reserve(9);
    this.bytes[start] = code;
    this.view.setUint32(start + 1, Math.floor(value / 0x1_0000_0000));
    this.view.setUint32(start + 5, value);
    this.length += 9;
  }

  private text(value: string): void {
    if (this.shortAscii(value)) return;
    if (value.isWellFormed()) this.utf8(value);
    else this.extension(UTF16, utf16Payload(value));
  }

  private key(key: string): void {
    if (key === "__proto__") throw new SerializationError("such a key is not allowed");
    if (this.shortAscii(key)) return;
    if (!key.isWellFormed()) throw new SerializationError("the key has a lone surrogate");
    this.utf8(key);
  }

  /** Writes a short ASCII string, for which a loop is faster than the encoder. */
  private shortAscii(value: string): boolean {
    const { length } = value;
    if (length > SHORT_TEXT) return false;
    const start = this.reserve(2 + length);
    this.textHead(length);
    const { bytes } = this;
    for (let index = 0; index < length; index++) {
      const code = value.charCodeAt(index);
      if (code > 0x7f) {
        this.length = start;
        return false;
      }
      bytes[this.length++] = code;
    }
    return true;
  }

  private utf8(value: string): void {
    const start = this.reserve(5 + 3 * value.length);
    const { written } = encoder.encodeInto(value, this.bytes.subarray(start + 5));
    this.textHead(written);
    this.bytes.copyWithin(this.length, start + 5, start + 5 + written);
    this.length += written;
  }

  private textHead(length: number): void {
    if (length < 32) this.byte(0xa0 | length);
    else this.size8(0xd9, length);
  }

  private date(value: Date): void {
    if (Number.isNaN(value.getTime())) return this.extension(INVALID_DATE, NO_BYTES);
    this.extension(TIMESTAMP, timestampPayload(value.getTime()));
  }

  private binary(bytes: Uint8Array): void {
    this.size8(0xc4, bytes.length);
    this.raw(bytes);
  }

  private extension(type: number, payload: Uint8Array): void {
    const fixed = FIXED_EXTENSIONS.indexOf(payload.length);
    if (fixed >= 0) this.byte(0xd4 + fixed);
    else this.size8(0xc7, payload.length);
    this.byte(type & 0xff);
    this.raw(payload);
  }

  /** Writes `code` and an 8-bit number, or one of the two codes after it and a longer number. */
  private size8(code: number, value: number): void {
    if (value > 0xff) return this.size16(code + 1, value);
    this.byte(code);
    this.byte(value);
  }

  private size16(code: number, value: number): void {
    if (value > 0xffff_ffff) throw new SerializationError("it is longer than 4 GiB");
    const start = this.reserve(5);
    if (value > 0xffff) {
      this.bytes[start] = code + 1;
      this.view.setUint32(start + 1, value);
      this.length += 5;
    } else {
      this.bytes[start] = code;
      this.view.setUint16(start + 1, value);
      this.length += 3;
    }
  }

  private byte(value: number): void {
    const start = this.reserve(1); // first, since it may replace the buffer
    this.bytes[start] = value;
    this.length++;
  }

  private raw(bytes: Uint8Array): void {
    const start = this.reserve(bytes.length);
    this.bytes.set(bytes, start);
    this.length += bytes.length;
  }

  /** Makes room for `count` bytes and returns where they start. */
  private reserve(count: number): number {
    const needed = this.length + count;
    if (needed > this.bytes.length) {
      const bytes = new Uint8Array(Math.max(needed, this.bytes.length * 2));
      bytes.set(this.bytes.subarray(0, this.length));
      this.bytes = bytes;
      this.view = new DataView(bytes.buffer);
    }
    return this.length;
  }
}

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*(?:\(\))?$/u;

function joinPath(path: string, key: Key): string {
  if (key === undefined) return path;
  if (typeof key === "number") return `${path}[${key}]`;
  return IDENTIFIER.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`;
}

function isBoxed(value: object): boolean {
  return [Number, String, Boolean, BigInt, Symbol].some((boxed) => value instanceof boxed);
}

function binaryPayload(value: ArrayBuffer | ArrayBufferView): Uint8Array {
  const bytes = ArrayBuffer.isView(value)
    ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    : new Uint8Array(value);
  const payload = new Uint8Array(1 + bytes.length);
  payload[0] = 1 + VIEW_CLASSES.findIndex((viewClass) => value instanceof viewClass);
  payload.set(bytes, 1);
  return payload;
}

function utf16Payload(value: string): Uint8Array {
  const payload = new DataView(new ArrayBuffer(value.length * 2));
  for (let index = 0; index < value.length; index++) {
    payload.setUint16(index * 2, value.charCodeAt(index), true);
  }
  return new Uint8Array(payload.buffer);
}

function timestampPayload(ms: number): Uint8Array {
  const seconds = Math.floor(ms / 1000);
  const nanoseconds = (ms - seconds * 1000) * 1_000_000;
  const payload = new DataView(new ArrayBuffer(12));
  payload.setUint32(0, nanoseconds);
  payload.setBigInt64(4, BigInt(seconds));
  if (seconds < 0 || seconds >= 2 ** 34) return new Uint8Array(payload.buffer);
  if (nanoseconds === 0 && seconds < 2 ** 32) return new Uint8Array(payload.buffer, 8);
  payload.setUint32(4, nanoseconds * 4 + Math.floor(seconds / 2 ** 32));
  return new Uint8Array(payload.buffer, 4);
}

// Reading

/** Reads one document; everything it returns is newly made. */
class Reader {
  private readonly bytes: Uint8Array;
  private end: number;
  private lazyNumbers: DataView | undefined;
  private position = 0;
  private depth = 0;

  constructor(bytes: Uint8Array) {
    // A plain view, since slices of a Buffer share its memory.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.end = bytes.length;
  }

  document(): unknown {
    const value = this.value();
    if (this.position < this.end) throw new DeserializationError("there are bytes after its end");
    return value;
  }

  private value(): unknown {
    const code = this.byte();
    if (code < 0x80) return code;
    if (code < 0x90) return this.map(code & 0x0f);
    if (code < 0xa0) return this.array(code & 0x0f);
    if (code < 0xc0) return this.text(code & 0x1f);
    if (code >= 0xe0) return code - 0x100;
    switch (code) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return code === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.slice(this.uint(1 << (code - 0xc4)));
      case 0xc7:
      case 0xc8:
      case 0xc9:
        return this.extension(this.uint(1 << (code - 0xc7)));
      case 0xca:
        return this.numbers().getFloat32(this.skip(4));
      case 0xcb:
        return this.numbers().getFloat64(this.skip(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.uint(1 << (code - 0xcc));
      case 0xcf:
        return this.uint64();
      case 0xd0:
        return this.numbers().getInt8(this.skip(1));
      case 0xd1:
        return this.numbers().getInt16(this.skip(2));
      case 0xd2:
        return this.numbers().getInt32(this.skip(4));
      case 0xd3:
        return this.int64();
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.text(this.uint(1 << (code - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.array(this.uint(2 << (code - 0xdc)));
      case 0xde:
      case 0xdf:
        return this.map(this.uint(2 << (code - 0xde)));
      case 0xc1:
        throw new DeserializationError("it has the byte 0xc1, which MessagePack doesn't use");
      default:
        return this.extension(1 << (code - 0xd4));
    }
  }

  private array(length: number): unknown[] {
    this.enter();
    const items: unknown[] = []; // grows with what is there, whatever the length says
    for (let index = 0; index < length; index++) items.push(this.value());
    this.depth--;
    return items;
  }

  private map(size: number): Fields {
    this.enter();
    const fields: Fields = {};
    for (let index = 0; index < size; index++) {
      const key = this.key();
      fields[key] = this.value();
    }
    this.depth--;
    return fields;
  }

  private key(): string {
    const code = this.bytes[this.position] ?? 0;
    const key = (code & 0xe0) === 0xa0 ? this.shortKey(code & 0x1f) : this.value();
    if (key === "__proto__") throw new DeserializationError('it has the key "__proto__"');
    if (typeof key === "string") return key;
    if (Number.isInteger(key) || typeof key === "bigint") return String(key);
    throw new DeserializationError(`it has a key that is ${typeName(key)}`);
  }

  /** Reads a key of up to 31 bytes; one that was seen lately is not decoded again. */
  private shortKey(length: number): string {
    const start = this.skip(1 + length) + 1;
    const { bytes } = this;
    const slot = (length * 31 + (bytes[start] ?? 0) * 7 + (bytes[start + length - 1] ?? 0)) & 0xff;
    const known = seenKeys[slot];
    if (known !== undefined && isAsciiAt(known, bytes, start, length)) return known;
    const key = decodeText(bytes, start, start + length);
    seenKeys[slot] = key;
    return key;
  }

  private text(length: number): string {
    const start = this.skip(length);
    return decodeText(this.bytes, start, start + length);
  }

  private extension(length: number): unknown {
    const type = this.numbers().getInt8(this.skip(1));
    switch (type) {
      case TIMESTAMP:
        return readTimestamp(this.view(length));
      case UNDEFINED:
      case INVALID_DATE:
        if (length > 0) break;
        return type === UNDEFINED ? undefined : new Date(NaN);
      case BIGINT:
        return readBigInt(this.text(length));
      case URL_HREF:
        return new URL(this.text(length));
      case BINARY:
        return readBinary(this.slice(length));
      case UTF16:
        return readUtf16(this.view(length));
      case MAP:
      case SET:
      case REGEXP:
      case ERROR:
        return revive(type, this.nested(length));
    }
    throw new DeserializationError(`it has an unknown extension, type ${type} of ${length} bytes`);
  }

  private nested(length: number): unknown {
    this.enter();
    const { end } = this;
    this.end = this.skip(length) + length;
    this.position = this.end - length;
    const value = this.document();
    this.end = end;
    this.depth--;
    return value;
  }

  private enter(): void {
    if (++this.depth > MAX_DEPTH) throw new DeserializationError(TOO_DEEP);
  }

  private uint64(): number | bigint {
    const high = this.uint(4);
    const low = this.uint(4);
    if (high < 0x20_0000) return high * 0x1_0000_0000 + low;
    return BigInt(high) << 32n | BigInt(low);
  }

  private int64(): number | bigint {
    const high = this.uint(4) | 0;
    const low = this.uint(4);
    const value = high * 0x1_0000_0000 + low;
    return Number.isSafeInteger(value) ? value : BigInt(high) << 32n | BigInt(low);
  }

  private byte(): number {
    if (this.position >= this.end) throw new DeserializationError(TOO_SHORT);
    return this.bytes[this.position++]!;
  }

  private uint(size: number): number {
    let position = this.skip(size);
    let value = 0;
    while (position < this.position) value = value * 0x100 + this.bytes[position++]!;
    return value;
  }

  private numbers(): DataView {
    const { buffer, byteOffset } = this.bytes;
    return this.lazyNumbers ??= new DataView(buffer, byteOffset, this.bytes.length);
  }

  private view(length: number): DataView {
    const start = this.skip(length);
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + start, length);
  }

  private slice(length: number): Uint8Array {
    const start = this.skip(length);
    return this.bytes.slice(start, start + length);
  }

  /** Moves over `count` bytes and returns where they start. */
  private skip(count: number): number {
    const start = this.position;
    if (count > this.end - start) throw new DeserializationError(TOO_SHORT);
    this.position = start + count;
    return start;
  }
}

const seenKeys: string[] = [];

function isAsciiAt(text: string, bytes: Uint8Array, start: number, length: number): boolean {
  if (text.length !== length) return false;
  for (let index = 0; index < length; index++) {
    const code = text.charCodeAt(index);
    if (code > 0x7f || code !== bytes[start + index]) return false;
  }
  return true;
}

function decodeText(bytes: Uint8Array, start: number, end: number): string {
  if (end - start > SHORT_TEXT) return decoder.decode(bytes.subarray(start, end));
  const codes = new Array<number>(end - start);
  for (let position = start; position < end; position++) {
    const code = bytes[position]!;
    if (code > 0x7f) return decoder.decode(bytes.subarray(start, end));
    codes[position - start] = code;
  }
  return String.fromCharCode.apply(null, codes);
}

function readTimestamp(payload: DataView): Date {
  const { byteLength } = payload;
  let seconds = 0;
  let nanoseconds = 0;
  if (byteLength === 4) {
    seconds = payload.getUint32(0);
  } else if (byteLength === 8) {
    nanoseconds = payload.getUint32(0) >>> 2;
    seconds = (payload.getUint32(0) & 3) * 2 ** 32 + payload.getUint32(4);
  } else if (byteLength === 12) {
    nanoseconds = payload.getUint32(0);
    seconds = Number(payload.getBigInt64(4));
  } else throw new DeserializationError(`it has a timestamp of ${byteLength} bytes`);
  const date = new Date(seconds * 1000 + Math.floor(nanoseconds / 1_000_000));
  if (nanoseconds < 1e9 && !Number.isNaN(date.getTime())) return date;
  throw new DeserializationError("it has a timestamp that is no date");
}

function readBigInt(hex: string): bigint {
  const [, sign, digits] = /^(-?)([0-9a-f]+)$/.exec(hex) ?? [];
  if (digits === undefined) throw new DeserializationError("it has a bigint with wrong digits");
  const value = BigInt(`0x${digits}`);
  return sign ? -value : value;
}

function readBinary(payload: Uint8Array): ArrayBuffer | ArrayBufferView {
  const kind = payload[0] ?? -1;
  const buffer = payload.slice(1).buffer as ArrayBuffer;
  if (kind === 0) return buffer;
  const viewClass = VIEW_CLASSES[kind - 1];
  if (viewClass) return new viewClass(buffer);
  throw new DeserializationError(`it has binary data of an unknown class, ${kind}`);
}

function readUtf16(payload: DataView): string {
  const units: string[] = [];
  for (let offset = 0; offset < payload.byteLength; offset += 2) {
    units.push(String.fromCharCode(payload.getUint16(offset, true)));
  }
  return units.join("");
}

function revive(type: number, payload: unknown): unknown {
  if (type === ERROR && isPlainObject(payload)) return reviveError(payload);
  if (type === SET && Array.isArray(payload)) return new Set(payload);
  if (type === MAP && Array.isArray(payload) && payload.every(isPair)) return new Map(payload);
  if (type === REGEXP && isPair(payload)) return new RegExp(String(payload[0]), String(payload[1]));
  throw new DeserializationError(`it has a wrong payload in an extension of type ${type}`);
}

function isPair(value: unknown): value is [unknown, unknown] {
  return Array.isArray(value) && value.length === 2;
}

// Shared

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function isPlainObject(value: unknown): value is Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** Names what a value is, for a message: `null`, `a string`, `a Promise`. */
function typeName(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== "object") return `a ${typeof value}`;
  const name = Object.prototype.toString.call(value).slice(8, -1);
  return /^[aeiou]/i.test(name) ? `an ${name}` : `a ${name}`;
}

/** Shows anything in one short line, and never throws. */
function textOf(value: unknown): string {
  try {
    const text = isPlainObject(value) ? JSON.stringify(value) : String(value);
    return text.replace(/\s+/g, " ").slice(0, 200);
  } catch {
    return `a ${typeof value}`;
  }
}
