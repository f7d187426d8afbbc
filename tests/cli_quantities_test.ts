import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readCount, readDuration, readInstant, readSince } from "../cli_quantities.ts";

describe("readDuration", () => {
  it("reads what people write, and ISO 8601", () => {
    const texts: readonly (readonly [string, number])[] = [
      ["0s", 0],
      ["500ms", 500],
      ["1.5s", 1_500],
      ["1h30m", 5_400_000],
      ["2d", 172_800_000],
      ["PT10M", 600_000],
      ["P1DT1S", 86_401_000],
    ];
    for (const [text, ms] of texts) assert.equal(readDuration("--x", text), ms);
    assert.equal(readDuration("--x", undefined), undefined);
  });

  it("refuses what could be meant otherwise, with a way out", () => {
    for (const text of ["", "s", "-5s", "1h 30m", "5 minutes", "P1M", "-PT5S", "Infinity"]) {
      assert.throws(() => readDuration("--x", text), /^UsageError: --x must be a duration such/);
    }
    assert.throws(() => readDuration("--x", "30"), /2d, got "30"; did you mean 30s\?$/);
  });
});

describe("readInstant and readSince", () => {
  it("read a time, or how long ago it was", () => {
    assert.deepEqual(readInstant("--x", "2032-01-28T12:00Z"), new Date("2032-01-28T12:00Z"));
    assert.deepEqual(readInstant("--x", "2032-01-28T12:00+02:00"), new Date("2032-01-28T10:00Z"));
    // Without a zone in the system's, a date too.
    assert.deepEqual(readSince("--x", "2032-01-28T12:30", 0), new Date("2032-01-28T12:30"));
    assert.deepEqual(readSince("--x", "2032-01-28", 0), new Date("2032-01-28T00:00"));
    assert.deepEqual(readSince("--x", "1h30m", 10_000_000), new Date(4_600_000));
    assert.deepEqual(readSince("--x", "99999999999d", 0), new Date(-8.64e15)); // since ever
    assert.equal(readSince("--x", undefined), undefined);
  });

  it("refuse anything else", () => {
    assert.throws(() => readInstant("--x", "5m"), /--x must be a time such as .*, got "5m"$/);
    for (const text of ["2032-13-01", "2032-02-30T00:00Z", "2032-01-28 (noon)"]) {
      assert.throws(() => readInstant("--x", text), /must be a time/);
    }
    assert.throws(() => readSince("--x", "yesterday"), /a duration such as 30m, or a time such as/);
    assert.throws(() => readSince("--x", "2032-99"), /must be a time/);
  });
});

describe("readCount", () => {
  it("reads whole numbers of a range", () => {
    assert.equal(readCount("--x", "5", 1), 5);
    assert.equal(readCount("--x", undefined, 1), undefined);
    for (const text of ["0", "-1", "1.5", "1e3", "", "many", "9007199254740993"]) {
      assert.throws(
        () => readCount("--x", text, 1),
        /--x must be a whole number of 1 or more, got/,
      );
    }
    assert.throws(() => readCount("--x", "11", 1, 10), /from 1 to 10, got "11"/);
  });
});
