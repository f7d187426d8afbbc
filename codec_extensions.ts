/**
 * The extensions as bytes: their types, and the payloads that are not MessagePack again.
 *
 * What each is for stands in the table in `codec.ts`.
 * @module
 */

import {
  decodeTimestampToTimeSpec,
  encodeDateToTimeSpec,
  encodeTimeSpecToTimestamp,
  EXT_TIMESTAMP,
  ExtData,
} from "@msgpack/msgpack";
import { Buffer } from "node:buffer";
import { DeserializationError } from "./errors.ts";

export const UNDEFINED = 0;
export const BIGINT = 1;
export const INVALID_DATE = 2;
export const MAP = 3;
export const SET = 4;
export const REGEXP = 5;
export const URL_HREF = 6;
export const ERROR = 7;
export const BINARY = 8;
export const UTF16 = 9;
export const NEGATIVE_ZERO = 10;

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

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A value in the form of an extension; a class of our own, so that nobody can smuggle bytes in. */
export class Extension extends ExtData {}

/** Writes a value that its type alone tells. */
export function emptyExtension(type: number): Extension {
  return new Extension(type, new Uint8Array(0));
}

/** Writes any `bigint` as its digits. */
export function bigintExtension(value: bigint): Extension {
  return new Extension(BIGINT, Buffer.from(value.toString(16)));
}

/** Reads what {@linkcode bigintExtension} wrote. */
export function readBigint(data: Uint8Array): bigint {
  const [, sign, digits] = /^(-?)([0-9a-f]+)$/.exec(utf8.decode(data)) ?? [];
  if (digits === undefined) throw new DeserializationError("it has a bigint with wrong digits");
  const value = BigInt(`0x${digits}`);
  return sign ? -value : value;
}

/** Writes a date as MessagePack's own timestamp, an invalid one as a type of its own. */
export function dateExtension(date: Date): Extension {
  if (Number.isNaN(date.getTime())) return emptyExtension(INVALID_DATE);
  return new Extension(EXT_TIMESTAMP, encodeTimeSpecToTimestamp(encodeDateToTimeSpec(date)));
}

/** Reads MessagePack's timestamp, as the millisecond it is in also before 1970. */
export function readTimestamp(data: Uint8Array): Date {
  const { sec, nsec } = decodeTimestampToTimeSpec(data);
  const date = new Date(sec * 1000 + Math.floor(nsec / 1_000_000));
  if (nsec < 1e9 && !Number.isNaN(date.getTime())) return date;
  throw new DeserializationError("it has a timestamp that is no date");
}

/** Writes the `href` of a URL. */
export function urlExtension(url: URL): Extension {
  return new Extension(URL_HREF, Buffer.from(url.href));
}

/** Reads what {@linkcode urlExtension} wrote. */
export function readUrl(data: Uint8Array): URL {
  return new URL(utf8.decode(data));
}

/** Writes the part of the memory that is seen, after the number of the class. */
export function binaryExtension(value: ArrayBuffer | ArrayBufferView): Extension {
  const bytes = ArrayBuffer.isView(value)
    ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    : new Uint8Array(value);
  const kind = 1 + VIEW_CLASSES.findIndex((viewClass) => value instanceof viewClass);
  return new Extension(BINARY, Buffer.concat([Uint8Array.of(kind), bytes]));
}

/** Reads what {@linkcode binaryExtension} wrote, into memory of its own. */
export function readBinary(data: Uint8Array): ArrayBuffer | ArrayBufferView {
  const kind = data[0] ?? -1;
  const { buffer } = new Uint8Array(data.subarray(1)); // a copy
  if (kind === 0) return buffer;
  const viewClass = VIEW_CLASSES[kind - 1];
  if (viewClass) return new viewClass(buffer);
  throw new DeserializationError(`it has binary data of an unknown class, ${kind}`);
}

/** Writes a string unit by unit, well-formed or not. */
export function utf16Extension(text: string): Extension {
  return new Extension(UTF16, Buffer.from(text, "utf16le"));
}

/** Reads what {@linkcode utf16Extension} wrote. */
export function readUtf16(data: Uint8Array): string {
  if (data.length % 2 === 0) {
    return Buffer.from(data.buffer, data.byteOffset, data.length).toString("utf16le");
  }
  throw new DeserializationError("it has half a UTF-16 code unit");
}
