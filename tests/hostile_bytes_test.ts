import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeserializationError } from "../errors.ts";
import { decodeJob, decodeResult, deserialize, encodeResult, serialize } from "../serializer.ts";
import { fc } from "./_properties.ts";
import { COMPLETE, refusesBytes } from "./_records.ts";

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
    fc.assert(fc.property(bytes, assertSafe), { numRuns: 3000 });
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
      { numRuns: 3000 },
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
