/** What tests of serialized values have in common: records, and what becomes of a value. */
import { decode as decodeMsgpack } from "@msgpack/msgpack";
import assert from "node:assert/strict";
import {
  decodeResult,
  deserialize,
  encodeResult,
  type JobRecord,
  type ResultRecord,
  serialize,
} from "../serializer.ts";

export const JOB: JobRecord = { t: 1, f: "add", a: [1], k: { b: 2 }, et: 1795439884803 };
export const COMPLETE: ResultRecord = {
  ...JOB,
  s: true,
  r: 3,
  st: 1795439884806,
  ft: 1795439884806,
  q: "arq:queue",
  id: "a1",
};

export function toHex(bytes: Uint8Array): string {
  return bytes.toHex();
}

export function fromHex(hex: string): Uint8Array {
  return Uint8Array.fromHex(hex);
}

export function roundTrip(value: unknown): unknown {
  return deserialize(serialize(value));
}

export function assertSurvives(value: unknown): void {
  assert.deepEqual(roundTrip(value), value);
}

/** Asserts that `serialize` refuses `value` with exactly this message. */
export function refuses(value: unknown, message: string | RegExp): void {
  assert.throws(() => serialize(value), { name: "SerializationError", message });
}

/** Asserts that these bytes are refused with this message, which is one line. */
export function refusesBytes(hex: string, message: RegExp): void {
  assert.throws(() => deserialize(fromHex(hex)), { name: "DeserializationError", message });
}

/** Sends a failure to the wire and back. */
export function fail(thrown: unknown): Error {
  const { r } = decodeResult(encodeResult({ ...COMPLETE, s: false, r: thrown }));
  assert.ok(r instanceof Error);
  return r;
}

/** What a program without this library sees of a failure. */
export function failureOnTheWire(thrown: unknown): Record<string, unknown> {
  const bytes = encodeResult({ ...COMPLETE, s: false, r: thrown });
  return (decodeMsgpack(bytes) as { r: Record<string, unknown> }).r;
}

/** Reads a failure whose `r` is this very value. */
export function readFailure(r: unknown): Error {
  return decodeResult(serialize({ ...COMPLETE, s: false, r })).r as Error;
}

export function nest(levels: number): unknown {
  let value: unknown = [];
  for (let level = 1; level < levels; level++) value = [value];
  return value;
}
