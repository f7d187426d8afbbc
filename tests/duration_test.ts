import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Duration, durationMs, type Instant, instantMs } from "../duration.ts";
import { fc } from "./_properties.ts";

/** Asserts that `durationMs` refuses `value` with this class and message. */
function refusesDuration(value: unknown, name: string, message: RegExp, min = 0): void {
  assert.throws(() => durationMs("deferBy", value as Duration, min), { name, message });
}

/** Asserts that `instantMs` refuses `value` with this class and message. */
function refusesInstant(value: unknown, name: string, message: RegExp): void {
  assert.throws(() => instantMs("deferUntil", value as Instant), { name, message });
}

describe("durationMs", () => {
  it("takes a number as milliseconds and rounds it", () => {
    assert.equal(durationMs("timeout", 0), 0);
    assert.equal(durationMs("timeout", 1500), 1500);
    assert.equal(durationMs("timeout", 0.6), 1);
  });

  it("adds up the parts of an object", () => {
    const parts = { days: 1, hours: 2, minutes: 3, seconds: 4, milliseconds: 5 };
    assert.equal(durationMs("timeout", parts), 93_784_005);
    assert.equal(durationMs("timeout", { seconds: 1.5 }), 1500);
    assert.equal(durationMs("timeout", { minutes: 1, seconds: undefined }), 60_000);
  });

  it("adds up any parts as milliseconds do", () => {
    const amount = fc.integer({ min: 0, max: 10_000 });
    const parts = fc.record({ hours: amount, minutes: amount, seconds: amount });
    fc.assert(
      fc.property(parts, ({ hours, minutes, seconds }) => {
        const expected = ((hours * 60 + minutes) * 60 + seconds) * 1000;
        assert.equal(durationMs("timeout", { hours, minutes, seconds }), expected);
      }),
    );
  });

  it("takes a Temporal.Duration up to days", () => {
    assert.equal(durationMs("timeout", Temporal.Duration.from("PT1M30.25S")), 90_250);
    assert.equal(durationMs("timeout", Temporal.Duration.from("P1DT1H")), 90_000_000);
    assert.equal(durationMs("timeout", Temporal.Duration.from({ microseconds: 1600 })), 2);
  });

  it("refuses a Temporal.Duration with parts of no fixed length", () => {
    for (const text of ["P1Y", "P1M", "P1W"]) {
      const message = /^deferBy must not have years, months or weeks, got P1[YMW]$/;
      refusesDuration(Temporal.Duration.from(text), "RangeError", message);
    }
  });

  it("refuses what is no duration, with the option and the value", () => {
    refusesDuration("5", "TypeError", /^deferBy must be milliseconds or an object .* got "5"$/);
    refusesDuration(null, "TypeError", /^deferBy must be milliseconds .* got null$/);
    refusesDuration(undefined, "TypeError", /got undefined$/);
    refusesDuration([5], "TypeError", /got \[5\]$/);
    refusesDuration(5n, "TypeError", /got 5$/);
    refusesDuration(true, "TypeError", /got true$/);
  });

  it("refuses a point in time and an empty object instead of taking them as 0", () => {
    refusesDuration(new Date(0), "TypeError", /^deferBy must be milliseconds/);
    refusesDuration(Temporal.Instant.fromEpochMilliseconds(0), "TypeError", /1970-01-01/);
    refusesDuration({}, "TypeError", /got \{\}$/);
  });

  it("refuses an unknown unit and lists the known ones", () => {
    const message = /^deferBy has an unknown unit "second"; use days, hours, minutes, seconds, mil/;
    refusesDuration({ second: 5 }, "TypeError", message);
    refusesDuration({ constructor: 5 }, "TypeError", /unknown unit "constructor"/);
  });

  it("refuses a part that is no number", () => {
    refusesDuration({ seconds: "5" }, "TypeError", /^deferBy\.seconds must be a number, got "5"$/);
    refusesDuration({ hours: 5n }, "TypeError", /^deferBy\.hours must be a number, got 5$/);
  });

  it("refuses what is not finite, and less than the minimum", () => {
    refusesDuration(NaN, "RangeError", /^deferBy must be a finite duration, got NaN$/);
    refusesDuration(Infinity, "RangeError", /got Infinity$/);
    refusesDuration({ days: 1e300 }, "RangeError", /^deferBy must be a finite duration/);
    refusesDuration(-5, "RangeError", /^deferBy must be 0 or more, got -5$/);
    refusesDuration({ seconds: -1 }, "RangeError", /must be 0 or more/);
    const inMs = /^deferBy must be 100 ms or more, got 30 \(milliseconds\)$/;
    refusesDuration(30, "RangeError", inMs, 100);
    const asParts = /^deferBy must be 100 ms or more, got \{"seconds":0.03\}$/;
    refusesDuration({ seconds: 0.03 }, "RangeError", asParts, 100);
  });
});

describe("instantMs", () => {
  const epochMs = Date.UTC(2026, 2, 1, 12);

  it("takes every form of an instant", () => {
    const instant = Temporal.Instant.fromEpochMilliseconds(epochMs);
    assert.equal(instantMs("deferUntil", epochMs), epochMs);
    assert.equal(instantMs("deferUntil", new Date(epochMs)), epochMs);
    assert.equal(instantMs("deferUntil", instant), epochMs);
    assert.equal(instantMs("deferUntil", instant.toZonedDateTimeISO("Europe/Paris")), epochMs);
  });

  it("rounds fractions of a millisecond", () => {
    assert.equal(instantMs("deferUntil", 1.5), 2);
  });

  it("refuses what is no point in time", () => {
    const message = /^deferUntil must be a Date, a Temporal\.Instant or epoch milliseconds, got/;
    for (const value of ["2026-03-01", null, undefined, {}, 5n, true]) {
      refusesInstant(value, "TypeError", message);
    }
  });

  it("refuses an invalid date and what is not finite", () => {
    refusesInstant(new Date(NaN), "RangeError", /valid point in time, got Invalid Date$/);
    refusesInstant(NaN, "RangeError", /^deferUntil must be a valid point in time, got NaN$/);
    refusesInstant(-Infinity, "RangeError", /got -Infinity$/);
  });

  it("refuses a number that looks like seconds", () => {
    const message = /^deferUntil is in milliseconds; 1795440000 looks like seconds$/;
    refusesInstant(1_795_440_000, "RangeError", message);
    refusesInstant(1_795_440_000.25, "RangeError", /looks like seconds$/);
    for (const early of [0, 5, 1e8, 1e11]) assert.equal(instantMs("deferUntil", early), early);
    assert.equal(instantMs("deferUntil", new Date(1_795_440_000)), 1_795_440_000);
  });
});
