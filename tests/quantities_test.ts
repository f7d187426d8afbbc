import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  countText,
  distanceText,
  durationText,
  memoryText,
  pluralText,
  shortCountText,
  timeText,
} from "../quantities.ts";

/** Compares what a function makes of each value. */
function expectTexts(text: (value: number) => string, cases: readonly [number, string][]): void {
  assert.deepEqual(cases.map(([value]) => [value, text(value)]), cases);
}

describe("durationText", () => {
  it("says two units at most, and never 60 of one", () => {
    expectTexts(durationText, [
      [0, "0ms"],
      [0.4, "<1ms"],
      [999.4, "999ms"],
      [999.5, "1s"],
      [1_254, "1.25s"],
      [9_994, "9.99s"],
      [9_995, "10s"],
      [59_499, "59s"],
      [59_500, "1m"],
      [250_000, "4m 10s"],
      [3_599_500, "1h"],
      [11_110_000, "3h 5m"],
      [86_405_000, "1d"],
      [187_200_000, "2d 4h"],
      [86_400_000 * 1_234, "1,234d"],
      [-1_500, "-1.5s"],
      [NaN, "–"],
      [Infinity, "–"],
    ]);
  });
});

describe("distanceText", () => {
  it("tells how long ago, or how soon", () => {
    const now = new Date("2032-01-28T12:00:00Z");
    expectTexts((ms) => distanceText(new Date(now.getTime() + ms), now), [
      [0, "now"],
      [-999, "now"],
      [5_999, "in 5s"],
      [-1_000, "1s ago"],
      [-200_000, "3m 20s ago"],
    ]);
  });
});

describe("counts, sizes and instants", () => {
  it("are short and have units", () => {
    expectTexts(countText, [[0, "0"], [1_234_567, "1,234,567"]]);
    expectTexts(shortCountText, [[99_999, "99,999"], [100_000, "100K"], [1_234_567, "1.2M"]]);
    expectTexts((n) => pluralText(n, "job"), [[0, "0 jobs"], [1, "1 job"], [2_000, "2,000 jobs"]]);
    expectTexts(memoryText, [
      [0, "0 B"],
      [1_023, "1023 B"],
      [1_536, "1.5 KiB"],
      [50_646_221, "48.3 MiB"],
      [2 ** 60, "1048576 TiB"],
    ]);
    assert.equal(timeText(new Date(999), "UTC"), "1970-01-01 00:00:00");
    assert.equal(timeText(new Date(0), "Asia/Tokyo"), "1970-01-01 09:00:00");
  });
});
