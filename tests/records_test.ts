import { decode as decodeMsgpack } from "@msgpack/msgpack";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import { SerializationError } from "../errors.ts";
import {
  decodeJob,
  decodeResult,
  encodeJob,
  encodeResult,
  type JobRecord,
  serialize,
} from "../serializer.ts";
import { COMPLETE, fromHex, JOB, toHex } from "./_records.ts";

/** What follows where a record cannot be read. */
const ADVICE = "do all clients and workers have the same jobSerializer and jobDeserializer?";
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
        message: `Cannot read the job: ${message}; ${ADVICE}`,
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
    assert.throws(
      () => decodeJob(new Uint8Array(0)),
      /^.*Cannot read the job: it ends too early; do all/,
    );
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
        message: new RegExp(
          `^Cannot read the result: its field "${field}" must be .*, got null; do all`,
        ),
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
    const wrapped = { cause, message: /threw Error: no(?:$|; do all)/ };
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
    assert.throws(
      () => decodeJob(new Uint8Array(1), () => 5),
      /it must be a map, got a number; do/,
    );
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
