import { encode as encodeMsgpack, ExtData } from "@msgpack/msgpack";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import vm from "node:vm";
import { deserialize, serialize } from "../serializer.ts";
import { fc } from "./_properties.ts";
import { assertSurvives, fromHex, nest, refuses, roundTrip, toHex } from "./_records.ts";

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
    );
  });

  it("comes back equal", () => {
    fc.assert(
      fc.property(plain, (value) => {
        assert.deepEqual(roundTrip(value), structuredClone(withPlainPrototypes(value)));
      }),
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
    fc.assert(fc.property(fc.bigInt(), (value) => assertSurvives(value)));
    assertSurvives(-(3n ** 5000n));
  });

  it("keep every Date to the millisecond, and an invalid one", () => {
    fc.assert(
      fc.property(fc.date({ noInvalidDate: true }), (date) => {
        const copy = roundTrip(date);
        assert.ok(copy instanceof Date);
        assert.equal(copy.getTime(), date.getTime());
      }),
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
    fc.assert(fc.property(anything, (value) => assertSurvives(value)));
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
