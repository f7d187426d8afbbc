/** Bytes that nobody should have to read, made at random. */
import { encodeJob, encodeResult, serialize } from "../serializer.ts";
import { fc } from "./_properties.ts";
import { fromHex } from "./_records.ts";

const JOB = { t: null, f: "echo", a: [1, "two"], k: {}, et: 1_700_000_000_000 };
const RESULT = { ...JOB, s: true, r: 1, st: JOB.et, ft: JOB.et, q: "queue", id: "x" };

/** Keys that are read and must not be written: half a pair, and a byte order mark in front of many. */
export const FORGED_KEYS: readonly string[] = ["d50900d8", `d953efbbbf${"6b".repeat(80)}`];

/** A job for `echo` with such a key among its keyword arguments. */
export function forgedJob(key: string): Uint8Array {
  return fromHex(`85a174c0a166a46563686fa16190a16b81${key}01a2657401`);
}

/** A job's map with fields of wrong types, of wrong sizes, or missing. */
const wrongFields = fc.record({
  t: fc.oneof(fc.integer(), fc.double(), fc.string(), fc.constant(2 ** 60)),
  f: fc.oneof(fc.constantFrom("echo", "constructor", "__proto__", ""), fc.integer()),
  a: fc.oneof(fc.array(fc.anything({ maxDepth: 1 })), fc.string(), fc.integer()),
  k: fc.oneof(fc.dictionary(fc.string(), fc.integer()), fc.array(fc.integer()), fc.constant(null)),
  et: fc.oneof(fc.double(), fc.bigInt(), fc.constantFrom(1e300, -1, NaN, 9e15), fc.string()),
}, { requiredKeys: [] }).map((fields) => {
  try {
    return serialize(fields);
  } catch {
    return serialize({}); // a key that cannot travel
  }
});

const edited = fc.tuple(
  fc.constantFrom(encodeJob(JOB), encodeResult(RESULT)),
  fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 4 }),
  fc.nat(200),
).map(([good, edits, cut]) => {
  const bytes = good.slice();
  for (const [at, value] of edits) bytes[at % bytes.length] = value;
  return bytes.subarray(0, cut);
});

/** Payloads of every hostile kind. */
export const hostileBytes: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  edited,
  wrongFields,
  fc.constantFrom(
    fromHex("91".repeat(2_000)), // deep
    fromHex("ddffffffff"), // a list of four thousand million
    fromHex("dfffffffff"),
    fromHex("c6ffffffff"),
    fromHex("81a95f5f70726f746f5f5f80"), // { __proto__: {} }
    fromHex(
      "85a174c0a166a46563686fa16190a16b81a95f5f70726f746f5f5f81a878c3a26574cb4270000000000000",
    ),
    ...FORGED_KEYS.map(forgedJob),
    encodeJob({ ...JOB, f: "__proto__" }),
    encodeJob({ ...JOB, a: [JSON.parse('{"constructor": {"prototype": {"x": 1}}}')] }),
  ),
);

/** Numbers where counters stand, and what is no number. */
export const hostileCounts: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom("", "-5", "1e308", "nan", "inf", "0x10", "9223372036854775807", "1.5", "ü"),
  fc.string(),
);
