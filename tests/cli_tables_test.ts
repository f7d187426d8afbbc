import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Column, factLines, fitted, sparkline, tableLines, textWidth } from "../cli_tables.ts";
import { fc } from "./_properties.ts";

const plain = { width: undefined, paint: (_colour: string, text: string) => text };
const tagged = { width: undefined, paint: (colour: string, text: string) => `<${colour}>${text}` };

interface Row {
  readonly name: string;
  readonly count: number;
}

const COLUMNS: readonly Column<Row>[] = [
  { head: "name", isFlexible: true, text: ({ name }) => name },
  {
    head: "count",
    isNumber: true,
    text: ({ count }) => String(count),
    colour: ({ count }) => count > 9 ? "red" : undefined,
  },
  { head: "again", text: ({ name }) => name.slice(0, 3) },
];

describe("tableLines", () => {
  it("aligns columns, also of wide and combining characters", () => {
    const rows = [{ name: "a", count: 5 }, { name: "東京", count: 12 }, {
      name: "e\u0301",
      count: 0,
    }];
    assert.deepEqual(tableLines(COLUMNS, rows, plain), [
      "NAME  COUNT  AGAIN",
      "a         5  a",
      "東京     12  東京",
      "e\u0301         0  e\u0301",
    ]);
    assert.deepEqual(tableLines(COLUMNS, rows.slice(1, 2), tagged), [
      "<dim>NAME  <dim>COUNT  <dim>AGAIN",
      "東京  <red>   12  東京",
    ]);
  });

  it("cuts flexible columns to the terminal's width, and lets no cell break out", () => {
    const rows = [{ name: "x".repeat(100), count: 1 }, { name: "\x1b[2J\nforged", count: 2 }];
    assert.deepEqual(
      tableLines(COLUMNS, rows, { ...plain, width: 40 }),
      [
        "NAME                       COUNT  AGAIN",
        `${"x".repeat(24)}…      1  xxx`,
        "\\x1b[2J\\nforged                2  \\x1b[2",
      ],
    );
    for (const width of [10, 30, 60]) {
      const lines = tableLines(COLUMNS, rows, { ...plain, width });
      const widest = Math.max(...lines.map(textWidth));
      assert.ok(widest <= Math.max(width, 12 + 2 + 5 + 2 + 6), `${widest} of ${width}`);
    }
  });
});

describe("fitted", () => {
  it("is never wider than asked for", () => {
    const texts = fc.string({ unit: "grapheme", maxLength: 60 });
    fc.assert(fc.property(texts, fc.integer({ min: 1, max: 30 }), (text, width) => {
      assert.ok(textWidth(fitted(text, width)) <= width);
    }));
    assert.equal(fitted("東京都", 5), "東京…");
  });
});

describe("factLines", () => {
  it("stands values below each other and leaves out what is not known", () => {
    assert.deepEqual(
      factLines(
        [["job", "a\x1b"], ["result", undefined], ["error", "x\n  at y\x9b", "red"]],
        tagged.paint,
      ),
      ["<dim>job    a\\x1b", "<dim>error  <red>x", "         at y\\x9b"],
    );
  });
});

describe("sparkline", () => {
  it("has a bar for each number", () => {
    assert.equal(sparkline([0, 1, 50, 100]), "▁▂▅█");
    assert.equal(sparkline([0, 0]), "▁▁");
  });
});
