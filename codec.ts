/**
 * MessagePack with everything that a structured clone can hold, on `@msgpack/msgpack`.
 *
 * Plain data (null, booleans, numbers, well-formed strings, `Uint8Array`, arrays, plain objects) is
 * standard MessagePack in its shortest form, equal byte for byte to what Python's `msgpack.packb`
 * writes. Everything else is an extension:
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
 * | 7 | `Error` | a map in MessagePack, see `ErrorFields` |
 * | 8 | binary data but `Uint8Array` | one byte for the class, then its bytes, little-endian: 0 `ArrayBuffer`, 1 `DataView`, 2 `Int8Array`, 3 `Uint8ClampedArray`, 4 `Int16Array`, 5 `Uint16Array`, 6 `Int32Array`, 7 `Uint32Array`, 8 `Float32Array`, 9 `Float64Array`, 10 `BigInt64Array`, 11 `BigUint64Array`, 12 `Float16Array` |
 * | 9 | a string that UTF-8 or the library would change: with a lone surrogate, or long with a byte order mark in front | its UTF-16 code units, little-endian |
 * | 10 | -0, which the library writes as 0 | none |
 *
 * Class instances travel as plain objects, boxed primitives as their primitives, subclasses of the
 * classes above as these; `toJSON` is not called and shared references are copied. Integers beyond
 * `Number.MAX_SAFE_INTEGER` (Python writes them) read as `bigint`; integer keys of a map read as
 * strings, other keys that are no strings are refused, and so is the key `__proto__`. A byte order mark
 * in front of more than 200 bytes of text that Python wrote is lost, since the library drops it.
 * @module
 */

import { Decoder, Encoder, EXT_TIMESTAMP, type ExtensionCodecType } from "@msgpack/msgpack";
import {
  BIGINT,
  bigintExtension,
  BINARY,
  binaryExtension,
  dateExtension,
  emptyExtension,
  ERROR,
  Extension,
  INVALID_DATE,
  MAP,
  NEGATIVE_ZERO,
  readBigint,
  readBinary,
  readTimestamp,
  readUrl,
  readUtf16,
  REGEXP,
  SET,
  UNDEFINED,
  URL_HREF,
  urlExtension,
  UTF16,
  utf16Extension,
} from "./codec_extensions.ts";
import { MAX_DEPTH, scan, TOO_DEEP } from "./codec_scan.ts";
import {
  errorFields,
  type Fields,
  isError,
  isPlainObject,
  reviveError,
  textOf,
  typeName,
} from "./error_fields.ts";
import { DeserializationError, SerializationError } from "./errors.ts";

const MAX_KEPT_BUFFER = 1 << 16;
/** A string of more UTF-16 units may have over 200 bytes, from where on the library drops its mark. */
const MAX_MARKED_LENGTH = 66;
const BYTE_ORDER_MARK = 0xfeff;
/** The extensions with MessagePack in them. */
const NESTED: ReadonlySet<number> = new Set([MAP, SET, REGEXP, ERROR]);

/** A key in a container; undefined where the container is not seen by the user. */
export type Key = string | number | undefined;

/**
 * Turns a value into MessagePack; `names` renames the first key of paths in messages.
 *
 * @throws {SerializationError} with the path of what cannot travel.
 */
export function encode(value: unknown, names?: ReadonlyMap<Key, string>): Uint8Array {
  const walk = spareWalk ?? new Walk();
  spareWalk = undefined; // a getter may serialize in the middle of this
  try {
    const prepared = walk.prepare(value);
    spareWalk = walk;
    return encodePrepared(prepared);
  } catch (error) {
    const path = walk.path(names);
    if (error instanceof SerializationError) {
      throw new SerializationError(`Cannot serialize ${path}: ${error.message}`);
    }
    throw new SerializationError(`Cannot serialize ${path}: ${textOf(error)}`, { cause: error });
  }
}

/**
 * Turns MessagePack into the value, which shares no memory with `bytes`.
 *
 * @throws {Error} of any class if they are not exactly one value that can be read.
 */
export function decode(bytes: Uint8Array): unknown {
  const { hasBinary, hasBigIntegers } = scan(bytes, NESTED);
  const value = (hasBigIntegers ? createDecoder(true) : decoder).decode(bytes);
  return hasBinary || hasBigIntegers ? settle(value, hasBigIntegers) : value;
}

// Writing

const extensionCodec: ExtensionCodecType<boolean> = {
  tryToEncode: (value) => value instanceof Extension ? value : null,
  decode: readExtension,
};

let encoder = createEncoder();
let spareWalk: Walk | undefined;

function createEncoder(): Encoder<boolean> {
  // One level more than the walk allows, since the library counts what the last one holds.
  return new Encoder({ extensionCodec, context: false, maxDepth: MAX_DEPTH + 1 });
}

function encodePrepared(value: unknown): Uint8Array {
  const bytes = encoder.encode(value);
  if (bytes.length > MAX_KEPT_BUFFER) encoder = createEncoder(); // it never shrinks its buffer
  return bytes;
}

/**
 * Makes values fit for the library, one at a time: whatever MessagePack lacks becomes an
 * {@linkcode Extension}, in copies of the containers around it. What needs no change is returned as it
 * is, so the library reads getters once more. After an error it still knows the path, and is used no
 * more.
 */
class Walk {
  private depth = 0;
  /** The containers around the value at hand, and its key in each of them. */
  private readonly containers: (object | undefined)[] = [];
  private readonly keys: Key[] = [];

  path(names?: ReadonlyMap<Key, string>): string {
    const [first, ...rest] = this.keys.slice(0, this.depth);
    return rest.reduce<string>(joinPath, names?.get(first) ?? joinPath("value", first));
  }

  prepare(value: unknown): unknown {
    switch (typeof value) {
      case "string":
        return survives(value) ? value : utf16Extension(value);
      case "number":
        return Object.is(value, -0) ? emptyExtension(NEGATIVE_ZERO) : value;
      case "boolean":
        return value;
      case "undefined":
        return emptyExtension(UNDEFINED);
      case "bigint":
        return bigintExtension(value);
      case "object":
        return value === null ? null : this.object(value);
      default:
        throw new SerializationError(`it is a ${typeof value}`);
    }
  }

  private object(value: object): unknown {
    if (Array.isArray(value)) return this.array(value);
    const prototype = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) return this.map(value as Fields);
    if (value instanceof Uint8Array) return value;
    if (value instanceof Date) return dateExtension(value);
    if (value instanceof Map) return this.nested(MAP, value, "entries()", [...value]);
    if (value instanceof Set) return this.nested(SET, value, "values()", [...value]);
    if (isError(value)) return this.nested(ERROR, value, undefined, errorFields(value));
    if (value instanceof RegExp) {
      return this.nested(REGEXP, value, undefined, [value.source, value.flags]);
    }
    if (value instanceof URL) return urlExtension(value);
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return binaryExtension(value);
    if (isBoxed(value)) return this.prepare(value.valueOf());
    if (Symbol.toStringTag in value && Object.keys(value).length === 0) {
      throw new SerializationError(`it is ${typeName(value)}, which cannot be copied`);
    }
    return this.map(value as Fields);
  }

  private array(items: readonly unknown[]): readonly unknown[] {
    const level = this.enter(items);
    let copy: unknown[] | undefined;
    for (let index = 0; index < items.length; index++) {
      this.keys[level] = index;
      const item = items[index];
      const prepared = this.prepare(item);
      if (!Object.is(prepared, item)) (copy ??= items.slice())[index] = prepared;
    }
    this.leave();
    return copy ?? items;
  }

  private map(fields: Fields): Fields {
    const level = this.enter(fields);
    let copy: Fields | undefined;
    for (const key of Object.keys(fields)) {
      this.keys[level] = key;
      checkKey(key);
      const value = fields[key];
      const prepared = this.prepare(value);
      if (!Object.is(prepared, value)) (copy ??= { ...fields })[key] = prepared;
    }
    this.leave();
    return copy ?? fields;
  }

  private nested(type: number, container: object, key: Key, payload: object): Extension {
    const level = this.enter(container);
    this.keys[level] = key;
    const prepared = this.object(payload);
    this.leave();
    return new Extension(type, encodePrepared(prepared));
  }

  private enter(container: object): number {
    for (let level = 0; level < this.depth; level++) {
      if (this.containers[level] === container) throw new SerializationError("it contains itself");
    }
    if (this.depth === MAX_DEPTH) throw new SerializationError(TOO_DEEP);
    this.keys[this.depth] = undefined;
    this.containers[this.depth] = container;
    return this.depth++;
  }

  private leave(): void {
    this.containers[--this.depth] = undefined;
  }
}

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*(?:\(\))?$/u;

function joinPath(path: string, key: Key): string {
  if (key === undefined) return path;
  if (typeof key === "number") return `${path}[${key}]`;
  return IDENTIFIER.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`;
}

function checkKey(key: string): void {
  if (key === "__proto__") throw new SerializationError("such a key is not allowed");
  if (survives(key)) return;
  const flaw = key.isWellFormed() ? "a byte order mark in front" : "a lone surrogate";
  throw new SerializationError(`the key has ${flaw}`);
}

/** Whether the library writes and reads this string as it is. */
function survives(text: string): boolean {
  if (text.length > MAX_MARKED_LENGTH && text.charCodeAt(0) === BYTE_ORDER_MARK) return false;
  return text.isWellFormed();
}

function isBoxed(value: object): boolean {
  return [Number, String, Boolean, BigInt, Symbol].some((boxed) => value instanceof boxed);
}

// Reading

const decoder = createDecoder(false);

/** Makes a decoder; one with `bigints` reads each 64-bit integer as a bigint, for {@linkcode settle}. */
function createDecoder(bigints: boolean): Decoder<boolean> {
  return new Decoder({
    extensionCodec,
    context: bigints,
    useBigInt64: bigints,
    mapKeyConverter: readKey,
  });
}

function readKey(key: unknown): string {
  if (typeof key === "string") return key;
  if (Number.isInteger(key) || typeof key === "bigint") return String(key);
  throw new DeserializationError(`it has a key that is ${typeName(key)}`);
}

/** Copies byte arrays, which are views on the input; with `bigints`, makes safe ones numbers again. */
function settle(value: unknown, bigints: boolean): unknown {
  if (typeof value !== "object" || value === null) return bigints ? narrow(value) : value;
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (value instanceof BigInt) return value.valueOf();
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) value[index] = settle(value[index], bigints);
  } else if (isPlainObject(value)) {
    for (const key of Object.keys(value)) value[key] = settle(value[key], bigints);
  }
  return value;
}

function narrow(value: unknown): unknown {
  return typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

function readExtension(data: Uint8Array, type: number, bigints: boolean): unknown {
  switch (type) {
    case EXT_TIMESTAMP:
      return readTimestamp(data);
    case UNDEFINED:
      if (data.length === 0) return undefined;
      break;
    case INVALID_DATE:
      if (data.length === 0) return new Date(NaN);
      break;
    case NEGATIVE_ZERO:
      if (data.length === 0) return -0;
      break;
    case BIGINT:
      // Boxed, so that settle() knows it from an integer.
      return bigints ? Object(readBigint(data)) : readBigint(data);
    case URL_HREF:
      return readUrl(data);
    case BINARY:
      return readBinary(data);
    case UTF16:
      return readUtf16(data);
    case MAP:
    case SET:
    case REGEXP:
    case ERROR:
      // The library would clone its busy decoder and forget `mapKeyConverter`.
      return revive(type, settle(createDecoder(bigints).decode(data), bigints));
  }
  throw new DeserializationError(
    `it has an unknown extension, type ${type} of ${data.length} bytes`,
  );
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
