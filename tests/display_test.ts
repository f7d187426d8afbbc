import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { displayJson, displayText, displayValue } from "../display.ts";
import { fc } from "./_properties.ts";

/** What must never reach a terminal or a page as it is. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

const units = fc.string({ unit: "binary", maxLength: 300 });
const hostile = fc.oneof(
  units,
  fc.constantFrom(
    "\x1b[2J\x1b]0;title\x07",
    "\u202egpj.exe",
    "a\x9b31m",
    "\ud83d",
    "\ufeff",
    "\u2028",
  ),
);
const anything = fc.anything({
  key: hostile,
  values: [hostile, fc.integer(), fc.double(), fc.bigInt(), fc.boolean(), fc.constant(null)],
  withBigInt: true,
  withDate: true,
  withMap: true,
  withSet: true,
  withTypedArray: true,
  withNullPrototype: true,
});

function errorOf(message: string, fields: object): Error {
  return Object.assign(new TypeError(message, { cause: new RangeError("\x1b[1m") }), fields);
}

describe("displayText", () => {
  it("shows what is plainly visible as it is, and escapes the rest", () => {
    const texts: readonly (readonly [string, string])[] = [
      ["mail:42 Grüße 東京 🎉", "mail:42 Grüße 東京 🎉"],
      ["a\nb\r\tc", "a\\nb\\r\\tc"],
      ["\x1b[31mred\x9b0m\x07\x7f\0", "\\x1b[31mred\\x9b0m\\x07\\x7f\\x00"],
      ["\u202egpj.exe\u2066\u200b\ufeff\u2028", "\\u202egpj.exe\\u2066\\u200b\\ufeff\\u2028"],
      ["\u{e0041}\ud83d", "\\u{e0041}\\ud83d"],
    ];
    for (const [text, shown] of texts) assert.equal(displayText(text), shown);
  });

  it("is one line of the characters allowed, whatever it is given", () => {
    fc.assert(fc.property(hostile, fc.integer({ min: 1, max: 40 }), (text, limit) => {
      const shown = displayText(text, limit);
      assert.doesNotMatch(shown, UNSAFE);
      assert.ok(shown.length <= limit, shown);
    }));
    assert.equal(displayText("🎉🎉🎉", 4), "🎉…"); // no half of a pair
  });
});

describe("displayValue", () => {
  it("shows values as one writes them", () => {
    const { values } = {
      values: [
        ["it's", `"it's"`],
        ["both ' and \"", `'both \\' and "'`],
        ["back\\slash\n", "'back\\\\slash\\n'"],
        [[1, -0, NaN, 10n, null, undefined, true], "[ 1, -0, NaN, 10n, null, undefined, true ]"],
        [{ a: { "b c": [] } }, "{ a: { 'b c': [] } }"],
        [new Map([["a", new Set([1])]]), "Map(1) { 'a' => Set(1) { 1 } }"],
        [new Date(0), "1970-01-01T00:00:00.000Z"],
        [new Date(NaN), "Invalid Date"],
        [new URL("http://x/\u202e"), "URL 'http://x/%E2%80%AE'"],
        [/a\/b/g, "/a\\/b/g"],
        [new Uint8Array([0, 27, 255]), "Uint8Array(3) <00 1b ff>"],
        [new Float64Array([1, 0.5]), "Float64Array(2) [ 1, 0.5 ]"],
        [new TypeError("no\x1b"), "TypeError: no\\x1b"],
        [{ "\x1b": "\x9b" }, "{ '\\x1b': '\\x9b' }"],
        [Object.create(null, { a: { value: 1, enumerable: true } }), "{ a: 1 }"],
      ] as const,
    };
    for (const [value, shown] of values) assert.equal(displayValue(value), shown);
  });

  it("is safe and no longer than allowed, whatever it is given", () => {
    fc.assert(
      fc.property(anything, hostile, fc.integer({ min: 1, max: 400 }), (value, text, limit) => {
        const error = errorOf(text, { value, [text]: value });
        error.stack = `${text}\n    at ${text}`;
        for (const shown of [displayValue(value, { limit }), displayValue(error, { limit })]) {
          assert.doesNotMatch(shown, UNSAFE);
          assert.ok(shown.length <= limit, shown);
        }
        const lines = displayValue({ value, error }, { limit, isMultiline: true });
        assert.doesNotMatch(lines.replaceAll("\n", ""), UNSAFE);
        assert.ok(lines.length <= limit, lines);
      }),
    );
  });

  it("does not look at what is too much to be shown", () => {
    const longTexts = { text: "x".repeat(5_000_000), list: Array(100_000).fill({ a: [1] }) };
    const manyKeys = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`k${i}`, i]));
    let looked = 0;
    const counting = new Map(Array.from({ length: 1_000 }, (_, i) => [
      i,
      {
        get value() {
          return ++looked;
        },
      },
    ]));
    for (const value of [longTexts, manyKeys, counting]) {
      assert.equal(displayValue(value, { limit: 100 }).length, 100);
    }
    assert.ok(looked < 20, `${looked} looks`);
    const ring: Record<string, unknown> = {};
    ring.self = ring;
    assert.equal(displayValue(ring), "{ self: { self: { self: { self: {…} } } } }");
    const broken = {
      get trap(): never {
        throw new Error("trap");
      },
    };
    assert.equal(displayValue(broken), "(cannot be shown)");
    assert.equal(displayValue(broken, { limit: 1 }), "…");
  });

  it("shows an error with its stack, fields and causes on several lines", () => {
    const cause = new RangeError("too far");
    cause.stack = "RangeError: too far\n    at b (b.ts:2:2)";
    const error = Object.assign(new TypeError("no such thing\nat all", { cause }), {
      code: "E_NO",
    });
    error.stack = "TypeError: no such thing\nat all\n    at a (a.ts:1:1)\nnoise\x1b";
    assert.equal(
      displayValue(error, { limit: 1_000, isMultiline: true }),
      [
        "TypeError: no such thing\\nat all",
        "    at all",
        "    at a (a.ts:1:1)",
        "{ code: 'E_NO' }",
        "cause: RangeError: too far",
        "      at b (b.ts:2:2)",
      ].join("\n"),
    );
    const first = new RangeError("first");
    const aggregate = new AggregateError([first, "second"], "both failed");
    first.stack = aggregate.stack = "";
    assert.equal(
      displayValue(aggregate, { limit: 1_000, isMultiline: true }),
      "AggregateError: both failed\n{ errors: [ RangeError: first, 'second' ] }",
    );
    assert.match(displayJson(aggregate), /"errors":\[\{"name":"RangeError","message":"first"/);
    const wide = { first: "x".repeat(50), second: ["y".repeat(50)] };
    assert.equal(
      displayValue(wide, { limit: 1_000, isMultiline: true }),
      `{\n  first: '${wide.first}',\n  second: [ '${wide.second[0]}' ]\n}`,
    );
  });
});

describe("displayJson", () => {
  it("is safe to print, and a parser gets everything back", () => {
    fc.assert(fc.property(fc.jsonValue({ stringUnit: "binary" }), hostile, (value, text) => {
      const shown = displayJson({ value, text });
      assert.doesNotMatch(shown, UNSAFE);
      assert.deepEqual(JSON.parse(shown), JSON.parse(JSON.stringify({ value, text })));
    }));
  });

  it("has a form for everything that travels in a job", () => {
    const error = Object.assign(new TypeError("no"), { code: 5 });
    error.stack = "stack";
    const value = {
      bytes: new Uint8Array([1, 2, 255]),
      big: 2n ** 70n,
      numbers: [NaN, Infinity, -0],
      map: new Map([["a", new Set([1])]]),
      date: new Date(0),
      url: new URL("http://x/"),
      pattern: /a/g,
      floats: new Float32Array([0.5]),
      error,
    };
    assert.deepEqual(JSON.parse(displayJson(value)), {
      bytes: "AQL/",
      big: "1180591620717411303424",
      numbers: ["NaN", "Infinity", 0],
      map: [["a", [1]]],
      date: "1970-01-01T00:00:00.000Z",
      url: "http://x/",
      pattern: "/a/g",
      floats: [0.5],
      error: { name: "TypeError", message: "no", stack: "stack", code: 5 },
    });
    assert.equal(displayJson(undefined), "null");
  });
});
