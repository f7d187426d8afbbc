import { decode as decodeMsgpack, encode as encodeMsgpack, ExtData } from "@msgpack/msgpack";
import fc from "fast-check";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import vm from "node:vm";
import * as errors from "../errors.ts";
import {
  decodeJob,
  decodeResult,
  deserialize,
  encodeJob,
  encodeResult,
  type JobRecord,
  type ResultRecord,
  serialize,
} from "../serializer.ts";

const { DeserializationError, SerializationError } = errors;
const SEED = 20260303;

/** What Python arq 0.26.1 with msgpack 1.0.3 left in Redis. */
const PYTHON_JOBS: readonly { state: string; hex: string; record: JobRecord }[] = [
  {
    state: "enqueued: add(1, b=2)",
    hex: "85a174c0a166a3616464a1619101a16b81a16202a26574cf000001a2088e79ff",
    record: { t: null, f: "add", a: [1], k: { b: 2 }, et: 1795439884799 },
  },
  {
    state: "deferred: add(1)",
    hex: "85a174c0a166a3616464a1619101a16b80a26574cf000001a2088e7a00",
    record: { t: null, f: "add", a: [1], k: {}, et: 1795439884800 },
  },
  {
    state: "with expires and job_try 3",
    hex: "85a17403a166a3616464a1619101a16b80a26574cf000001a2088e7a02",
    record: { t: 3, f: "add", a: [1], k: {}, et: 1795439884802 },
  },
  {
    state: "in progress: slow()",
    hex: "85a174c0a166a4736c6f77a16190a16b80a26574cf000001a2088e7a38",
    record: { t: null, f: "slow", a: [], k: {}, et: 1795439884856 },
  },
  {
    state: "after a retry",
    hex: "85a174c0a166a5616761696ea16190a16b80a26574cf000001a2088e7e35",
    record: { t: null, f: "again", a: [], k: {}, et: 1795439885877 },
  },
  {
    state: "abort asked for",
    hex: "85a174c0a166a4736c6f77a16190a16b80a26574cf000001a2088e7e6e",
    record: { t: null, f: "slow", a: [], k: {}, et: 1795439885934 },
  },
  {
    state: "cron",
    hex: "85a174c0a166a963726f6e3a7469636ba16190a16b80a26574cf000001a2088e86b6",
    record: { t: null, f: "cron:tick", a: [], k: {}, et: 1795439888054 },
  },
];
const PYTHON_COMPLETE =
  "8ba17401a166a3616464a1619101a16b81a16202a26574cf000001a2088e7a03a173c3a17203a27374cf" +
  "000001a2088e7a06a26674cf000001a2088e7a06a171a96172713a7175657565a26964a26131";
const PYTHON_FAILED =
  "8ba17401a166a4626f6f6da16190a16b80a26574cf000001a2088e7e38a173c2a172ba756e61626c6520" +
  "746f2073657269616c697a6520726573756c74a27374cf000001a2088e7e38a26674cf000001a2088e7e" +
  "38a171a96172713a7175657565a26964a26231";

const JOB: JobRecord = { t: 1, f: "add", a: [1], k: { b: 2 }, et: 1795439884803 };
const COMPLETE: ResultRecord = {
  ...JOB,
  s: true,
  r: 3,
  st: 1795439884806,
  ft: 1795439884806,
  q: "arq:queue",
  id: "a1",
};

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function fromHex(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

function roundTrip(value: unknown): unknown {
  return deserialize(serialize(value));
}

function assertSurvives(value: unknown): void {
  assert.deepEqual(roundTrip(value), value);
}

/** Asserts that `serialize` refuses `value` with exactly this message. */
function refuses(value: unknown, message: string | RegExp): void {
  assert.throws(() => serialize(value), { name: "SerializationError", message });
}

/** Asserts that these bytes are refused with this message, which is one line. */
function refusesBytes(hex: string, message: RegExp): void {
  assert.throws(() => deserialize(fromHex(hex)), { name: "DeserializationError", message });
}

/** Sends a failure to the wire and back. */
function fail(thrown: unknown): Error {
  const { r } = decodeResult(encodeResult({ ...COMPLETE, s: false, r: thrown }));
  assert.ok(r instanceof Error);
  return r;
}

/** What a program without this library sees of a failure. */
function failureOnTheWire(thrown: unknown): Record<string, unknown> {
  const bytes = encodeResult({ ...COMPLETE, s: false, r: thrown });
  return (decodeMsgpack(bytes) as { r: Record<string, unknown> }).r;
}

/** Reads a failure whose `r` is this very value. */
function readFailure(r: unknown): Error {
  return decodeResult(serialize({ ...COMPLETE, s: false, r })).r as Error;
}

function nest(levels: number): unknown {
  let value: unknown = [];
  for (let level = 1; level < levels; level++) value = [value];
  return value;
}

describe("encodeJob and decodeJob", () => {
  for (const { state, hex, record } of PYTHON_JOBS) {
    it(`equal Python byte for byte: ${state}`, () => {
      assert.equal(toHex(encodeJob(record)), hex);
      assert.deepEqual(decodeJob(fromHex(hex)), record);
    });
  }

  it("write the fields in arq's order, whatever the order of the record, and nothing else", () => {
    const record = { et: 5, k: {}, extra: 1, a: [], f: "x", t: null };
    assert.deepEqual(Object.keys(decodeMsgpack(encodeJob(record)) as object), [
      "t",
      "f",
      "a",
      "k",
      "et",
    ]);
  });

  it("read a Buffer as well, and its result shares no memory with it", () => {
    const buffer = Buffer.from(encodeJob({ ...JOB, a: [new Uint8Array([1, 2])] }));
    const { a: [bytes] } = decodeJob(buffer);
    buffer.fill(0);
    assert.deepEqual(bytes, new Uint8Array([1, 2]));
    assert.equal((bytes as Uint8Array).buffer.byteLength, 2);
  });

  it("name the path of what cannot travel", () => {
    const cases: readonly [Partial<JobRecord>, string][] = [
      [{ a: [{ onDone: () => {} }] }, "args[0].onDone: it is a function"],
      [{ a: [1, [Symbol("x")]] }, "args[1][0]: it is a symbol"],
      [{ k: { x: () => {} } }, "kwargs.x: it is a function"],
      [{ k: { "a b": [() => {}] } }, 'kwargs["a b"][0]: it is a function'],
    ];
    for (const [fields, message] of cases) {
      assert.throws(() => encodeJob({ ...JOB, ...fields }), {
        name: "SerializationError",
        message: `Cannot serialize ${message}`,
      });
    }
  });

  it("ignore unknown keys", () => {
    assert.deepEqual(decodeJob(serialize({ ...JOB, x: 1, __proto: 2 })), JOB);
  });

  it("carry a trace context behind arq's fields, and read only the texts in it", () => {
    const record: JobRecord = { ...JOB, tc: { traceparent: "00-1-2-01" } };
    const keys = Object.keys(decodeMsgpack(encodeJob(record)) as object);
    assert.deepEqual(keys, ["t", "f", "a", "k", "et", "tc"]);
    assert.deepEqual(decodeJob(encodeJob(record)), record);
    const tc = { traceparent: "00-1-2-01", tracestate: 5, baggage: null, x: ["y"] };
    assert.deepEqual(decodeJob(serialize({ ...JOB, tc })), record);
    for (const strange of [5, "x", [], null, new Map()]) {
      assert.deepEqual(decodeJob(serialize({ ...JOB, tc: strange })), JOB);
    }
  });

  it("refuse a map with a missing or wrong field, and say which", () => {
    const cases: readonly [Record<string, unknown>, string][] = [
      [{ t: undefined }, 'its field "t" must be an integer or null, got undefined'],
      [{ t: 1.5 }, 'its field "t" must be an integer or null, got 1.5'],
      [{ f: 5 }, 'its field "f" must be a string, got 5'],
      [{ a: {} }, 'its field "a" must be an array, got an Object'],
      [{ k: null }, 'its field "k" must be a map, got null'],
      [{ k: [] }, 'its field "k" must be a map, got an Array'],
      [{ k: new Map() }, 'its field "k" must be a map, got a Map'],
      [{ et: "now" }, 'its field "et" must be a number, got a string'],
      [{ et: NaN }, 'its field "et" must be a number, got NaN'],
      [{ et: 2n ** 60n }, 'its field "et" must be a number, got a bigint'],
    ];
    for (const [fields, message] of cases) {
      assert.throws(() => decodeJob(serialize({ ...JOB, ...fields })), {
        name: "DeserializationError",
        message: `Cannot read the job: ${message}`,
      });
    }
    const { f: _, ...rest } = JOB;
    assert.throws(() => decodeJob(serialize(rest)), /its field "f" must be a string, got undef/);
  });

  it("refuse what is no map", () => {
    for (const value of [null, 5, "x", [], new Map(), undefined]) {
      const message = /^Cannot read the job: it must be a map, got/;
      assert.throws(() => decodeJob(serialize(value)), { name: "DeserializationError", message });
    }
    assert.throws(() => decodeJob(new Uint8Array(0)), /^.*Cannot read the job: it ends too early$/);
  });
});

describe("encodeResult and decodeResult", () => {
  it("equal Python byte for byte: complete", () => {
    assert.equal(toHex(encodeResult(COMPLETE)), PYTHON_COMPLETE);
    assert.deepEqual(decodeResult(fromHex(PYTHON_COMPLETE)), COMPLETE);
  });

  it("read Python's failure as a SerializationError", () => {
    const { s, r, id } = decodeResult(fromHex(PYTHON_FAILED));
    assert.deepEqual([s, id], [false, "b1"]);
    assert.ok(r instanceof SerializationError);
    assert.equal(r.message, "unable to serialize result");
  });

  it("keep undefined as a result", () => {
    assert.equal(decodeResult(encodeResult({ ...COMPLETE, r: undefined })).r, undefined);
  });

  it("name the path of a result that cannot travel", () => {
    const result = { ...COMPLETE, r: { x: [() => {}] } };
    assert.throws(() => encodeResult(result), {
      name: "SerializationError",
      message: "Cannot serialize result.x[0]: it is a function",
    });
  });

  it("refuse a map with a missing or wrong field, and say which", () => {
    for (const field of ["f", "s", "st", "ft", "q", "id"]) {
      assert.throws(() => decodeResult(serialize({ ...COMPLETE, [field]: null })), {
        name: "DeserializationError",
        message: new RegExp(`^Cannot read the result: its field "${field}" must be .*, got null$`),
      });
    }
  });
});

describe("a serializer of the user's own", () => {
  const toJson = (record: Record<string, unknown>) =>
    new TextEncoder().encode(JSON.stringify(record));
  const fromJson = (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes));

  it("gets the record as a plain map", () => {
    const seen: unknown[] = [];
    const keep = (record: Record<string, unknown>) => {
      seen.push(record);
      return new Uint8Array(1);
    };
    encodeJob(JOB, keep);
    encodeResult(COMPLETE, keep);
    assert.deepEqual(seen, [JOB, COMPLETE]);
    assert.equal(Object.keys(seen[1] as object).join(), "t,f,a,k,et,s,r,st,ft,q,id");
  });

  it("round trips jobs, results and failures", () => {
    assert.deepEqual(decodeJob(encodeJob(JOB, toJson), fromJson), JOB);
    assert.deepEqual(decodeResult(encodeResult(COMPLETE, toJson), fromJson), COMPLETE);
    const noResult = { ...COMPLETE, r: undefined };
    assert.deepEqual(decodeResult(encodeResult(noResult, toJson), fromJson), noResult);
    const cause = new RangeError("inner");
    const failed = { ...COMPLETE, s: false, r: new TypeError("outer", { cause }) };
    const { r } = decodeResult(encodeResult(failed, toJson), fromJson);
    assert.ok(r instanceof TypeError && r.cause instanceof RangeError);
    assert.equal(r.cause.message, "inner");
  });

  it("may fail on an error's own fields, which are left out then", () => {
    const r = Object.assign(new Error("big"), { size: 2n });
    const { r: read } = decodeResult(encodeResult({ ...COMPLETE, s: false, r }, toJson), fromJson);
    assert.equal((read as Error).message, "big");
    assert.equal("size" in (read as Error), false);
  });

  it("has its errors wrapped, with the cause", () => {
    const cause = new Error("no");
    const thrower = () => {
      throw cause;
    };
    const wrapped = { cause, message: /threw Error: no$/ };
    assert.throws(() => encodeJob(JOB, thrower), { name: "SerializationError", ...wrapped });
    assert.throws(() => encodeResult(COMPLETE, thrower), { name: "SerializationError" });
    const bytes = new Uint8Array(1);
    assert.throws(() => decodeJob(bytes, thrower), { name: "DeserializationError", ...wrapped });
    assert.throws(() => decodeResult(bytes, thrower), { name: "DeserializationError", cause });
  });

  it("must return bytes, and a map", () => {
    const wrong = (() => "text") as unknown as () => Uint8Array;
    const message = 'Cannot serialize "add": the serializer must return a Uint8Array, got a string';
    assert.throws(() => encodeJob(JOB, wrong), { name: "SerializationError", message });
    assert.throws(() => decodeJob(new Uint8Array(1), () => 5), /it must be a map, got a number$/);
  });

  it("touches no prototype with keys of JSON", () => {
    const hostile = `{"t":1,"f":"x","a":[],"k":{},"et":1,"s":false,"st":1,"ft":1,"q":"q","id":"i",
      "r":{"name":"E","message":"m","__proto__":{"polluted":1},"constructor":{"x":1}}}`;
    const { r } = decodeResult(new TextEncoder().encode(hostile), fromJson);
    assert.ok(r instanceof Error);
    assert.equal(Object.getPrototypeOf(r), Error.prototype);
    assert.equal(Reflect.get({}, "polluted"), undefined);
    assert.deepEqual(Reflect.get(r, "constructor"), { x: 1 });
  });
});

describe("plain data", () => {
  const plain = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom(null, true, false),
      fc.maxSafeInteger(),
      fc.integer({ min: -70_000, max: 70_000 }),
      fc.double({ noNaN: true }).filter((value) => !Object.is(value, -0)),
      fc.string({ unit: "grapheme", maxLength: 100 }),
      fc.uint8Array(),
      fc.array(tie("value"), { maxLength: 20 }),
      fc.dictionary(fc.string().filter((key) => key !== "__proto__"), tie("value")),
    ),
  })).value;

  it("is written as @msgpack/msgpack writes it without extensions, byte for byte", () => {
    fc.assert(
      fc.property(plain, (value) => {
        assert.equal(
          toHex(serialize(value)),
          toHex(encodeMsgpack(value, { extensionCodec: undefined })),
        );
      }),
      { seed: SEED },
    );
  });

  it("comes back equal", () => {
    fc.assert(
      fc.property(plain, (value) => {
        assert.deepEqual(roundTrip(value), structuredClone(withPlainPrototypes(value)));
      }),
      { seed: SEED },
    );
  });

  it("has the shortest form at every border of integers", () => {
    const borders: readonly [number, string][] = [
      [0, "00"],
      [127, "7f"],
      [128, "cc80"],
      [255, "ccff"],
      [256, "cd0100"],
      [65_535, "cdffff"],
      [65_536, "ce00010000"],
      [2 ** 32 - 1, "ceffffffff"],
      [2 ** 32, "cf0000000100000000"],
      [2 ** 53 - 1, "cf001fffffffffffff"],
      [-1, "ff"],
      [-32, "e0"],
      [-33, "d0df"],
      [-128, "d080"],
      [-129, "d1ff7f"],
      [-32_768, "d18000"],
      [-32_769, "d2ffff7fff"],
      [-(2 ** 31), "d280000000"],
      [-(2 ** 31) - 1, "d3ffffffff7fffffff"],
      [-(2 ** 53) + 1, "d3ffe0000000000001"],
    ];
    for (const [value, hex] of borders) {
      assert.equal(toHex(serialize(value)), hex);
      assert.equal(deserialize(fromHex(hex)), value);
    }
  });

  it("has the shortest form at every border of sizes", () => {
    const borders: readonly [length: number, text: string, binary: string, items: string][] = [
      [0, "a0", "c400", "90"],
      [1, "a1", "c401", "91"],
      [15, "af", "c40f", "9f"],
      [16, "b0", "c410", "dc0010"],
      [31, "bf", "c41f", "dc001f"],
      [32, "d920", "c420", "dc0020"],
      [200, "d9c8", "c4c8", "dc00c8"],
      [255, "d9ff", "c4ff", "dc00ff"],
      [256, "da0100", "c50100", "dc0100"],
      [65_535, "daffff", "c5ffff", "dcffff"],
      [65_536, "db00010000", "c600010000", "dd00010000"],
    ];
    for (const [length, text, binary, items] of borders) {
      const fields = Array.from({ length }, (_, index) => [`k${index}`, index]);
      const map = items.replace(/^9/, "8").replace(/^dc/, "de").replace(/^dd/, "df");
      const cases: readonly [unknown, string][] = [
        ["x".repeat(length), text],
        ["é".repeat(Math.floor(length / 2)) + (length % 2 ? "x" : ""), text],
        [new Uint8Array(length), binary],
        [new Array(length).fill(0), items],
        [Object.fromEntries(fields), map],
      ];
      for (const [value, head] of cases) {
        const bytes = serialize(value);
        assert.equal(toHex(bytes.subarray(0, head.length / 2)), head);
        assert.deepEqual(deserialize(bytes), value);
      }
      const emoji = "😀".repeat(length);
      assert.equal(deserialize(serialize(emoji)), emoji);
    }
  });

  it("keeps -0, which Python writes as a 64-bit float, and the other odd numbers", () => {
    assert.equal(toHex(serialize(-0)), "c7000a");
    assert.ok(Object.is(deserialize(fromHex("cb8000000000000000")), -0));
    for (const value of [-0, NaN, Infinity, -Infinity, 5e-324, Number.MAX_VALUE, 2 ** 53, 1e20]) {
      assert.ok(Object.is(roundTrip(value), value), String(value));
    }
  });

  it("keeps a byte order mark and a zero byte in a string", () => {
    for (const text of ["\uFEFFa", `\uFEFF${"x".repeat(500)}`, "a\0b", "\0"]) assertSurvives(text);
    for (const length of [15, 64, 65, 66, 67, 99, 198, 199, 200, 201]) {
      for (const letter of ["x", "é", "€"]) assertSurvives(`\uFEFF${letter.repeat(length)}`);
    }
  });

  it("reads what Python writes: 32-bit floats, integers of every size, integer keys", () => {
    assert.equal(deserialize(fromHex("ca3fc00000")), 1.5);
    assert.equal(deserialize(fromHex("cd0005")), 5);
    assert.equal(deserialize(fromHex("d1ff00")), -256);
    assert.deepEqual(deserialize(fromHex("8301a1610ba162ffa163")), { 1: "a", 11: "b", "-1": "c" });
  });

  it("reads 64-bit integers as numbers if safe, else as exact bigints", () => {
    const cases: readonly [string, number | bigint][] = [
      ["cf001fffffffffffff", Number.MAX_SAFE_INTEGER],
      ["cf0020000000000000", 2n ** 53n],
      ["cf0020000000000001", 2n ** 53n + 1n],
      ["cfffffffffffffffff", 2n ** 64n - 1n],
      ["d3ffe0000000000001", Number.MIN_SAFE_INTEGER],
      ["d3ffe0000000000000", -(2n ** 53n)],
      ["d3ffdfffffffffffff", -(2n ** 53n) - 1n],
      ["d38000000000000000", -(2n ** 63n)],
      ["d37fffffffffffffff", 2n ** 63n - 1n],
      ["d30000000000000005", 5],
    ];
    for (const [hex, value] of cases) assert.equal(deserialize(fromHex(hex)), value);
  });

  it("reads unsafe integers beside other values, which stay what they are", () => {
    const big = "cf0020000000000001";
    const value = [2n ** 53n + 1n, 5, 5n, new Map([[5n, 5]]), { x: new Set([7n]), 5: -0 }];
    const own = toHex(serialize(value.slice(2)));
    const bytes = fromHex(`95${big}cf0000000000000005${own.slice(2)}`);
    assert.deepEqual(deserialize(bytes), value);
    assert.deepEqual(deserialize(fromHex(`81${big}${big}`)), { "9007199254740993": value[0] });
    const map = deserialize(fromHex(`c714039192${big}${big}`));
    assert.deepEqual(map, new Map([[value[0], value[0]]]));
  });

  it("comes back in memory of its own, wherever a byte array lies", () => {
    const part = new Uint8Array([1, 2, 3]);
    const bytes = Buffer.from(
      serialize([part, { part }, new Map([["part", [part]]]), new Set([part])]),
    );
    const copies = deserialize(bytes) as [
      Uint8Array,
      { part: Uint8Array },
      Map<string, Uint8Array[]>,
      Set<Uint8Array>,
    ];
    bytes.fill(0);
    const found = [copies[0], copies[1].part, ...(copies[2].get("part") ?? []), ...copies[3]];
    assert.deepEqual(found, [part, part, part, part]);
    for (const { buffer } of found) assert.equal(buffer.byteLength, 3);
  });
});

/** The same data in objects with the usual prototype. */
function withPlainPrototypes(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withPlainPrototypes);
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, withPlainPrototypes(item)]),
  );
}

describe("values that plain MessagePack lacks", () => {
  it("keep undefined in arrays and objects, and holes as undefined", () => {
    assertSurvives(undefined);
    assertSurvives([undefined, null]);
    const copy = roundTrip({ a: undefined, b: null }) as object;
    assert.deepEqual(Object.keys(copy), ["a", "b"]);
    assert.equal(Reflect.get(copy, "a"), undefined);
    const sparse = roundTrip(Array(3)) as unknown[];
    assert.deepEqual(Object.keys(sparse), ["0", "1", "2"]);
    assert.equal(sparse[1], undefined);
  });

  it("keep every bigint", () => {
    for (const value of [0n, 1n, -1n, 255n, 2n ** 53n, -(2n ** 64n)]) assertSurvives(value);
    fc.assert(fc.property(fc.bigInt(), (value) => assertSurvives(value)), { seed: SEED });
    assertSurvives(-(3n ** 5000n));
  });

  it("keep every Date to the millisecond, and an invalid one", () => {
    fc.assert(
      fc.property(fc.date({ noInvalidDate: true }), (date) => {
        const copy = roundTrip(date);
        assert.ok(copy instanceof Date);
        assert.equal(copy.getTime(), date.getTime());
      }),
      { seed: SEED },
    );
    for (const ms of [0, -1, 1, 999, 2 ** 32 * 1000, 2 ** 34 * 1000, 8.64e15, -8.64e15]) {
      assert.equal((roundTrip(new Date(ms)) as Date).getTime(), ms);
    }
    const invalid = roundTrip(new Date(NaN));
    assert.ok(invalid instanceof Date && Number.isNaN(invalid.getTime()));
  });

  it("write a Date as MessagePack's own timestamp, in each of its three forms", () => {
    const cases: readonly [number, string][] = [
      [1795439884000, "d6ff6b043d0c"],
      [1795439884803, "d7ffbf733b006b043d0c"],
      [2 ** 33 * 1000, "d7ff0000000200000000"],
      [-1, "c70cff3b8b87c0ffffffffffffffff"],
      [2 ** 35 * 1000, "c70cff000000000000000800000000"],
    ];
    for (const [ms, hex] of cases) {
      assert.equal(toHex(serialize(new Date(ms))), hex);
      assert.deepEqual(deserialize(fromHex(hex)), new Date(ms));
    }
  });

  it("read Python's microseconds as the millisecond they are in", () => {
    assert.deepEqual(deserialize(fromHex("c70cff3b9ac618ffffffffffffffff")), new Date(-1));
  });

  it("keep Map and Set, with any keys, nested", () => {
    assertSurvives(new Map<unknown, unknown>([["a", 1], [{ x: 1 }, new Set([1n])], [null, NaN]]));
    assertSurvives(new Set([undefined, new Map([[1, [new Set()]]])]));
    assertSurvives([new Map(), new Set()]);
  });

  it("keep RegExp and URL", () => {
    const regexp = roundTrip(/a\/[b]\n/giu);
    assert.ok(regexp instanceof RegExp);
    assert.equal(String(regexp), String(/a\/[b]\n/giu));
    const url = roundTrip(new URL("https://deno.com/ü?q=1#x"));
    assert.ok(url instanceof URL);
    assert.equal(url.href, "https://deno.com/%C3%BC?q=1#x");
  });

  it("keep Uint8Array as MessagePack's own binary, a Buffer as well", () => {
    assert.equal(toHex(serialize(new Uint8Array([1, 2]))), "c4020102");
    assert.equal(toHex(serialize(Buffer.from([1, 2]))), "c4020102");
    assert.equal(Object.getPrototypeOf(roundTrip(Buffer.from("a"))), Uint8Array.prototype);
  });

  it("keep ArrayBuffer, DataView and every typed array, only the part that is seen", () => {
    const { buffer } = new Uint8Array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
    assertSurvives(buffer);
    const classes = [
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
      Float16Array,
    ];
    for (const ViewClass of classes) {
      const copy = roundTrip(new ViewClass(buffer, 8, 1));
      assert.ok(copy instanceof ViewClass);
      assert.deepEqual(copy, new ViewClass(buffer, 8, 1));
      assert.equal(copy.buffer.byteLength, copy.BYTES_PER_ELEMENT);
    }
    const view = roundTrip(new DataView(buffer, 3, 2)) as DataView;
    assert.ok(view instanceof DataView);
    assert.deepEqual([view.byteLength, view.getUint16(0)], [2, 0x0304]);
  });

  it("keep a string with lone surrogates, short or long", () => {
    for (const text of ["\uD800", "a\uDC00b", `${"x".repeat(300)}\uD83D`]) assertSurvives(text);
  });

  it("keep an Error with its name, message, stack, cause and own fields", () => {
    const cause = new RangeError("inner");
    const error = Object.assign(new TypeError("outer", { cause }), {
      code: "E_X",
      at: new Date(0),
    });
    const copy = roundTrip({ error }) as { error: TypeError & { code: string; at: Date } };
    assert.ok(copy.error instanceof TypeError);
    assert.equal(copy.error.stack, error.stack);
    assert.ok(copy.error.cause instanceof RangeError);
    assert.deepEqual([copy.error.code, copy.error.at], ["E_X", new Date(0)]);
    assert.deepEqual(Object.keys(copy.error), ["code", "at"]);
  });

  it("keep an AggregateError with its errors", () => {
    const copy = roundTrip(new AggregateError([new RangeError("a"), "b"], "many"));
    assert.ok(copy instanceof AggregateError);
    assert.ok(copy.errors[0] instanceof RangeError);
    assert.deepEqual([copy.errors[0].message, copy.errors[1], copy.message], ["a", "b", "many"]);
  });

  it("keep any nesting of them", () => {
    const anything = fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withTypedArray: true,
      withBoxedValues: false,
      withNullPrototype: false,
      withSparseArray: false,
      key: fc.string().filter((key) => key !== "__proto__"),
    });
    fc.assert(fc.property(anything, (value) => assertSurvives(value)), { seed: SEED });
  });
});

describe("objects with a class", () => {
  it("travel as plain objects, without a call of toJSON", () => {
    class Point {
      x = 1;
      #secret = 2;
      toJSON(): number {
        return this.#secret;
      }
    }
    const copy = roundTrip([new Point(), Object.assign(Object.create(null), { y: 1 })]);
    assert.deepEqual(copy, [{ x: 1 }, { y: 1 }]);
    assert.equal(Object.getPrototypeOf((copy as object[])[1]), Object.prototype);
  });

  it("travel as plain objects also if they are MessagePack's own extensions", () => {
    assert.deepEqual(roundTrip([new ExtData(7, new Uint8Array([1]))]), [
      { type: 7, data: new Uint8Array([1]) },
    ]);
  });

  it("travel from another realm as plain ones", () => {
    assert.deepEqual(roundTrip(vm.runInNewContext("({ a: [1, { b: 2 }] })")), { a: [1, { b: 2 }] });
  });

  it("travel as their primitive if they box one", () => {
    assert.deepEqual(roundTrip([Object(1), Object("a"), Object(false), Object(2n)]), [
      1,
      "a",
      false,
      2n,
    ]);
  });

  it("are refused if the platform's and without fields, which would be lost silently", () => {
    refuses({ body: Promise.resolve() }, /^Cannot serialize value\.body: it is a Promise, which/);
    for (const value of [new WeakMap(), new Blob([]), new Headers(), Temporal.Now.instant()]) {
      refuses(value, /which cannot be copied$/);
    }
  });

  it("are copied where they are shared", () => {
    const shared = { x: 1 };
    const [a, b] = roundTrip([shared, shared]) as [object, object];
    assert.deepEqual(a, b);
    assert.notEqual(a, b);
  });
});

describe("what cannot travel", () => {
  it("is refused with its path", () => {
    const fn = () => {};
    refuses(fn, "Cannot serialize value: it is a function");
    refuses(Symbol("x"), "Cannot serialize value: it is a symbol");
    refuses(Object(Symbol("x")), "Cannot serialize value: it is a symbol");
    refuses([[{ a: fn }]], "Cannot serialize value[0][0].a: it is a function");
    refuses({ constructor: fn }, "Cannot serialize value.constructor: it is a function");
    refuses({ "": { "1a": fn } }, 'Cannot serialize value[""]["1a"]: it is a function');
    refuses([new Map([["k", fn]])], "Cannot serialize value[0].entries()[0][1]: it is a function");
    refuses(new Set([1, fn]), "Cannot serialize value.values()[1]: it is a function");
    const error = Object.assign(new Error("x"), { send: fn });
    refuses({ error }, "Cannot serialize value.error.send: it is a function");
    refuses(new Error("x", { cause: fn }), "Cannot serialize value.cause: it is a function");
  });

  it("is a cycle, wherever it closes", () => {
    const object: Record<string, unknown> = {};
    object.list = [object];
    refuses(object, "Cannot serialize value.list[0]: it contains itself");
    const map = new Map();
    map.set("self", map);
    refuses(map, "Cannot serialize value.entries()[0][1]: it contains itself");
    const set = new Set();
    set.add([set]);
    refuses(set, "Cannot serialize value.values()[0][0]: it contains itself");
    const error = new Error("x");
    error.cause = error;
    refuses(error, "Cannot serialize value.cause: it contains itself");
  });

  it("is what lies deeper than 1,000 levels", () => {
    assertSurvives(nest(1000));
    refuses(nest(1001), /\[0\]: it is more than 1,000 levels deep$/);
    let maps: unknown = 1;
    for (let level = 0; level < 333; level++) maps = new Map([[1, maps]]);
    assert.ok(roundTrip(maps) instanceof Map);
    refuses([new Map([[1, maps]])], /1,000 levels deep$/);
  });

  it("is a key called __proto__, and one with a lone surrogate", () => {
    const value = JSON.parse('{"a":{"__proto__":{"x":1}}}');
    refuses(value, "Cannot serialize value.a.__proto__: such a key is not allowed");
    refuses({ "\uD800": 1 }, /^Cannot serialize value\[.*\]: the key has a lone surrogate$/);
    refuses({ ["\uFEFF".padEnd(250)]: 1 }, /: the key has a byte order mark in front$/);
    assertSurvives({ "\uFEFFkey": 1 });
  });

  it("is wrapped with its cause where a getter throws", () => {
    const cause = new Error("closed");
    const value = {
      get name() {
        throw cause;
      },
    };
    assert.throws(() => serialize([value]), {
      name: "SerializationError",
      message: "Cannot serialize value[0].name: Error: closed",
      cause,
    });
  });

  it("leaves the serializer as it was, also when a getter serializes meanwhile", () => {
    const inner = {
      get value() {
        return [...serialize("inner")];
      },
    };
    assert.throws(() => serialize([{ f() {} }]));
    const expected = ["before", { value: [...serialize("inner")] }, "after"];
    assert.deepEqual(roundTrip(["before", inner, "after"]), expected);
  });
});

describe("the bytes", () => {
  it("stay as they were when more is serialized", () => {
    const bytes = serialize("first");
    const hex = toHex(bytes);
    for (let i = 0; i < 10; i++) serialize("x".repeat(10_000 * i));
    assert.equal(toHex(bytes), hex);
  });
});

describe("a failure", () => {
  it("is a readable map for others", () => {
    const cause = new RangeError("inner");
    const error = Object.assign(new TypeError("outer", { cause }), {
      code: 5,
      f() {},
      gone: void 0,
    });
    assert.deepEqual(failureOnTheWire(error), {
      name: "TypeError",
      message: "outer",
      stack: error.stack,
      code: 5,
      cause: { name: "RangeError", message: "inner", stack: cause.stack },
    });
  });

  it("of a class that is built in comes back as itself", () => {
    const classes = [
      Error,
      TypeError,
      RangeError,
      SyntaxError,
      ReferenceError,
      EvalError,
      URIError,
    ];
    for (const ErrorClass of classes) {
      const error = new ErrorClass("text");
      const copy = fail(error);
      assert.equal(Object.getPrototypeOf(copy), ErrorClass.prototype);
      assert.deepEqual([copy.name, copy.message, copy.stack], [error.name, "text", error.stack]);
      assert.deepEqual(Object.keys(copy), []);
      assert.equal(Object.hasOwn(copy, "cause"), false);
    }
  });

  it("of a class of this library comes back as itself", () => {
    const { JobAborted, JobTimeoutError, JobExecutionFailed, ResultNotFound } = errors;
    const classes = [
      JobAborted,
      JobTimeoutError,
      JobExecutionFailed,
      ResultNotFound,
      SerializationError,
      DeserializationError,
      errors.QueueConnectionError,
    ];
    for (const ErrorClass of classes) {
      const copy = fail(new ErrorClass("text"));
      assert.equal(Object.getPrototypeOf(copy), ErrorClass.prototype);
      assert.equal(copy.message, "text");
    }
  });

  it("of an AggregateError keeps its errors, also in a subclass", () => {
    class ManyErrors extends AggregateError {
      override name = "ManyErrors";
    }
    const error = new ManyErrors([new TypeError("a"), 5], "many");
    const copy = fail(error);
    assert.ok(copy instanceof AggregateError);
    assert.equal(copy.name, "ManyErrors");
    assert.ok(copy.errors[0] instanceof TypeError);
    assert.equal(copy.errors[1], 5);
    assert.deepEqual(Object.keys(copy), []);
    assert.equal((failureOnTheWire(error).errors as Error[])[0]?.name, "TypeError");
  });

  it("of a DOMException comes back as one", () => {
    const copy = fail(new DOMException("late", "TimeoutError"));
    assert.ok(copy instanceof DOMException);
    assert.deepEqual([copy.name, copy.message, copy.code], ["TimeoutError", "late", 23]);
    assert.deepEqual(Object.keys(copy), []);
  });

  it("of another class comes back as an Error with its name and own fields", () => {
    class HttpError extends Error {
      override name = "HttpError";
      status = 404;
      errors = ["no such page"];
      class = "permanent";
      line = 7;
    }
    const copy = fail(new HttpError("gone"));
    assert.equal(Object.getPrototypeOf(copy), Error.prototype);
    assert.equal(String(copy), "HttpError: gone");
    const { status, errors, class: kind, line } = copy as HttpError;
    assert.deepEqual([status, errors, kind, line], [404, ["no such page"], "permanent", 7]);
    assert.equal(Object.keys(copy).includes("name"), false);
  });

  it("that is no error survives, as an Error called NonError", () => {
    for (const thrown of ["text", 5, null, undefined, { code: 1 }, [1n], new Date(0)]) {
      const copy = fail(thrown);
      assert.equal(copy.name, "NonError");
      assert.deepEqual(Reflect.get(copy, "thrown"), thrown);
      assert.ok(Object.hasOwn(copy, "thrown"));
    }
    assert.equal(fail("two\nlines").message, "two\nlines");
    assert.equal(fail({ code: 1 }).message, '{"code":1}');
  });

  it("that is no error and cannot travel survives as its text", () => {
    assert.equal(fail(Symbol("x")).message, "Symbol(x)");
    assert.match(fail(function named() {}).message, /named/);
    assert.equal(fail(Object.create({ toString: null, valueOf: null })).name, "NonError");
  });

  it("leaves out what cannot travel", () => {
    const error = Object.assign(new Error("x"), {
      send() {},
      socket: { on() {} },
      key: Symbol("k"),
      ok: 1,
    });
    const copy = fail(error);
    assert.deepEqual(Object.entries(copy), [["ok", 1]]);
  });

  it("survives errors that are hard to read", () => {
    const cycle = new Error("cycle");
    cycle.cause = new Error("inner", { cause: cycle });
    assert.equal((fail(cycle).cause as Error).message, "inner");
    const getter = Object.defineProperty(new Error("x"), "message", {
      get() {
        throw new Error("no");
      },
    });
    assert.equal(fail(getter).name, "Error");
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    assert.ok(fail(proxy) instanceof Error);
    const odd = Object.assign(new Error("x"), { name: 5, stack: 6 });
    assert.deepEqual([fail(odd).name, fail(odd).stack], ["5", "5: x"]);
    let deep = new Error("0");
    for (let i = 1; i < 3000; i++) deep = new Error(String(i), { cause: deep });
    assert.equal(fail(deep).message, "2999");
  });

  it("is recorded even if the job spoilt its own arguments", () => {
    const options = { onDone() {} };
    const bytes = encodeResult({ ...COMPLETE, a: [1, options], s: false, r: new Error("x") });
    const { a, r } = decodeResult(bytes);
    assert.equal(a[0], 1);
    assert.equal(typeof a[1], "string");
    assert.equal((r as Error).message, "x");
  });

  it("that a Python serializer wrote as text reads as an Error with it", () => {
    const error = readFailure("ValueError: no");
    assert.deepEqual([error.name, error.message], ["Error", "ValueError: no"]);
  });

  it("with any other r reads as an Error", () => {
    for (const r of [null, 5, [], new Map(), undefined]) {
      assert.equal(readFailure(r).name, "NonError");
    }
    assert.ok(readFailure(new TypeError("x")) instanceof TypeError);
  });

  it("with hostile fields reads as an Error and touches no prototype", () => {
    const maps: Record<string, unknown>[] = [
      {},
      { name: 5, message: null, stack: 7 },
      { name: "constructor", message: "x" },
      { name: "AggregateError", message: "x", errors: 5 },
      { name: "x", class: "DOMException" },
      { name: "TypeError", constructor: 1, toString: 2, hasOwnProperty: 3, prototype: {} },
      { name: "Error", message: "x", cause: { name: "a", message: "b", stack: "c", cause: [] } },
    ];
    const before = Object.getOwnPropertyNames(Object.prototype);
    for (const map of maps) {
      const error = readFailure(map);
      assert.ok(error instanceof Error);
      assert.equal(typeof error.name, "string");
      assert.equal(typeof error.message, "string");
      assert.equal(typeof error.stack, "string");
    }
    assert.deepEqual(Object.getOwnPropertyNames(Object.prototype), before);
  });

  it("of any kind can be recorded and read", () => {
    const thrown = fc.anything({ withBigInt: true, withMap: true, withNullPrototype: true });
    fc.assert(
      fc.property(thrown, fc.dictionary(fc.string(), thrown), (value, fields) => {
        assert.ok(fail(value) instanceof Error);
        assert.equal(fail(Object.assign(new Error("x"), { ...fields, message: "x" })).message, "x");
      }),
      { seed: SEED },
    );
  });
});

describe("hostile bytes", () => {
  it("are refused with one clear line", () => {
    refusesBytes("", /^Cannot read the value: it ends too early$/);
    refusesBytes("c1", /^Cannot read the value: it has the byte 0xc1/);
    refusesBytes("0101", /^Cannot read the value: there are bytes after its end$/);
    refusesBytes("9201", /ends too early$/);
    refusesBytes("a2ff41", /^Cannot read the value: TypeError/);
    refusesBytes("c70106", /ends too early$/);
    refusesBytes("c7002a", /unknown extension, type 42 of 0 bytes$/);
    refusesBytes("81c001", /^Cannot read the value: it has a key that is null$/);
    refusesBytes("81cb3ff800000000000001", /it has a key that is a number$/);
    refusesBytes(
      "81a95f5f70726f746f5f5f80",
      /^Cannot read the value: DecodeError: .* __proto__ is not allowed$/,
    );
    refusesBytes("81d9095f5f70726f746f5f5f80", /key __proto__ is not allowed$/);
  });

  it("in an extension are refused", () => {
    const hex = (type: string, payload: string) =>
      `c7${(payload.length / 2).toString(16).padStart(2, "0")}${type}${payload}`;
    const wrong = [
      hex("00", "00"),
      hex("01", ""),
      hex("01", "2b31"),
      hex("01", "2d"),
      hex("02", "00"),
      hex("03", "9101"),
      hex("03", "91920102ff"),
      hex("03", "80"),
      hex("04", "01"),
      hex("04", ""),
      hex("05", "9101"),
      hex("05", "92a128a0"),
      hex("06", "a1"),
      hex("07", "90"),
      hex("08", ""),
      hex("08", "ff"),
      hex("08", "0401"),
      hex("09", "01"),
      hex("0a", "00"),
      hex("04", "0101"),
      hex("04", "9181cb3ff800000000000001"),
      hex("04", "91a1ff"),
      hex("04", "dd00ffffff"),
      `92${hex("04", "900506")}`,
      `92${hex("04", "90")}05${hex("04", "9105")}`,
      hex("ff", "00"),
      hex("ff", "ffffffff7fffffffffffffff"),
      hex("ff", "000000007fffffffffffffff"),
    ];
    for (const bytes of wrong) refusesBytes(bytes, /^Cannot read the value: .+$/);
  });

  it("that claim to be huge allocate nothing", () => {
    for (const head of ["dd", "df", "db", "c6", "c9"]) {
      refusesBytes(`${head}ffffffff`, /too early$/);
    }
    refusesBytes("dd01ffffff".repeat(2000), /too early$|levels deep$/);
  });

  it("that are nested too deep are refused, and do not blow the stack", () => {
    for (const hex of ["91", "81a16b", "c9000f424004dd00000001"]) {
      refusesBytes(hex.repeat(100_000), /1,000 levels deep$|too early$/);
    }
  });

  const samples = [
    serialize(COMPLETE),
    serialize({ a: [1.5, -0, "ü", null, true], b: new Uint8Array([1]), c: new Date(0) }),
    serialize([new Map([[1, new Set([2n])]]), /x/g, new URL("a:b"), new Error("x"), undefined]),
    serialize([new Int16Array([1, 2]), new DataView(new ArrayBuffer(2)), "\uD800", new Date(NaN)]),
    encodeResult({ ...COMPLETE, s: false, r: new AggregateError([new TypeError("x")], "y") }),
  ];

  /** Asserts that reading ends in a value or in a DeserializationError of one line. */
  function assertSafe(bytes: Uint8Array): void {
    for (const read of [deserialize, decodeJob, decodeResult]) {
      try {
        read(bytes);
      } catch (error) {
        assert.ok(error instanceof DeserializationError, String(error));
        assert.match(error.message, /^Cannot read the (value|job|result): .+$/);
      }
    }
  }

  it("at random end in a value or a DeserializationError", () => {
    const bytes = fc.uint8Array({ maxLength: 64 });
    fc.assert(fc.property(bytes, assertSafe), { seed: SEED, numRuns: 3000 });
  });

  it("made from good ones end in a value or a DeserializationError", () => {
    const edit = fc.tuple(fc.nat(400), fc.nat(255));
    const mutated = fc.tuple(fc.constantFrom(...samples), fc.array(edit, { maxLength: 5 }));
    fc.assert(
      fc.property(mutated, fc.nat(400), ([sample, edits], cut) => {
        const bytes = sample.slice();
        for (const [at, value] of edits) bytes[at % bytes.length] = value;
        assertSafe(bytes);
        assertSafe(bytes.subarray(0, cut));
      }),
      { seed: SEED, numRuns: 3000 },
    );
    assert.deepEqual(Object.keys(Object.prototype), []);
  });

  it("cut anywhere are never taken for a whole value", () => {
    for (const sample of samples) {
      for (let end = 0; end < sample.length; end++) {
        assert.throws(() => deserialize(sample.subarray(0, end)), { name: "DeserializationError" });
      }
    }
  });
});
