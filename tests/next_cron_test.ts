import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import process from "node:process";
import { describe, it } from "node:test";
import { nextCron } from "../cron.ts";
import { slots } from "./_cron.ts";
import { fc } from "./_properties.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

interface WallClock {
  month: number;
  day: number;
  weekday: number;
  hour: number;
  minute: number;
  second: number;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** Reads a wall clock without help of croner or Temporal; weekdays count from Monday. */
function wallClock(ms: number, timeZone: string): WallClock {
  const format = formats.get(timeZone) ?? new Intl.DateTimeFormat("en-GB", {
    timeZone,
    weekday: "short",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  formats.set(timeZone, format);
  const parts = Object.fromEntries(
    format.formatToParts(ms).map(({ type, value }) => [type, value]),
  );
  return {
    month: Number(parts.month),
    day: Number(parts.day),
    weekday: ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].indexOf(parts.weekday ?? ""),
    hour: Number(parts.hour),
    minute: Number(parts.minute),
    second: Number(parts.second),
  };
}

type NumericFields = { readonly [Field in keyof WallClock]?: number[] };

function matches(fields: NumericFields, clock: WallClock): boolean {
  return (Object.keys(clock) as (keyof WallClock)[]).every((name) =>
    fields[name]?.includes(clock[name]) ?? true
  );
}

/** Every slot in the open interval, found by looking at each minute; each wall clock time once. */
function bruteForce(
  fields: NumericFields & { second: number[]; millisecond: number[]; timezone: string },
  after: number,
  before: number,
): number[] {
  const found: number[] = [];
  const { second, millisecond, timezone } = fields;
  for (let ms = Math.floor(after / MINUTE_MS) * MINUTE_MS; ms < before; ms += MINUTE_MS) {
    const clock = wallClock(ms, timezone);
    if (!matches({ ...fields, second: [0] }, clock)) continue;
    const anHourAgo = wallClock(ms - HOUR_MS, timezone);
    if (clock.hour === anHourAgo.hour) continue;
    found.push(...second.flatMap((s) => millisecond.map((milli) => ms + s * 1000 + milli)));
  }
  return found.filter((ms) => ms > after && ms < before).sort((a, b) => a - b);
}

function valuesIn(min: number, max: number, minLength = 1): fc.Arbitrary<number[]> {
  return fc.uniqueArray(fc.integer({ min, max }), { minLength, maxLength: 8 });
}

function maybe(values: fc.Arbitrary<number[]>): fc.Arbitrary<number[] | undefined> {
  return fc.option(values, { nil: undefined });
}

describe("nextCron", () => {
  it("runs at 9.12, 12.12 and 18.12 as in arq's manual", () => {
    const fields = { hour: new Set([9, 12, 18]), minute: 12, timezone: "UTC" };
    assert.deepEqual(slots("2026-03-01T09:12:00.123Z", fields, 3), [
      "2026-03-01T12:12:00.123Z",
      "2026-03-01T18:12:00.123Z",
      "2026-03-02T09:12:00.123Z",
    ]);
  });

  it("takes second 0 and millisecond 123 when absent, and any of the rest", () => {
    assert.deepEqual(slots("2026-12-31T23:58:30Z", { timezone: "UTC" }, 2), [
      "2026-12-31T23:59:00.123Z",
      "2027-01-01T00:00:00.123Z",
    ]);
  });

  it("takes an undefined field for an absent one", () => {
    const fields = { minute: undefined, second: undefined, millisecond: undefined };
    assert.deepEqual(slots("2026-01-01T00:00:30Z", { ...fields, timezone: "UTC" }, 1), [
      "2026-01-01T00:01:00.123Z",
    ]);
  });

  it("is strictly after previous, to the millisecond", () => {
    const everySecond = { pattern: "* * * * * *", timezone: "UTC" };
    const next = (previous: string) => slots(previous, everySecond, 1)[0];
    assert.equal(next("2026-01-01T12:00:00.122Z"), "2026-01-01T12:00:00.123Z");
    assert.equal(next("2026-01-01T12:00:00.123Z"), "2026-01-01T12:00:01.123Z");
    assert.equal(next("2026-01-01T12:00:00.124Z"), "2026-01-01T12:00:01.123Z");
    assert.equal(next("2026-01-01T12:00:00.000Z"), "2026-01-01T12:00:00.123Z");
  });

  it("visits every millisecond of a list in order, then the next second", () => {
    const fields = { second: [0, 30], millisecond: [999, 0, 500, 0], timezone: "UTC" };
    assert.deepEqual(slots("2026-01-01T11:59:59.999Z", fields, 5), [
      "2026-01-01T12:00:00.000Z",
      "2026-01-01T12:00:00.500Z",
      "2026-01-01T12:00:00.999Z",
      "2026-01-01T12:00:30.000Z",
      "2026-01-01T12:00:30.500Z",
    ]);
  });

  it("works before 1970", () => {
    const fields = { minute: 0, millisecond: 5, timezone: "UTC" };
    assert.deepEqual(slots("1969-12-31T22:00:00.001Z", fields, 3), [
      "1969-12-31T22:00:00.005Z",
      "1969-12-31T23:00:00.005Z",
      "1970-01-01T00:00:00.005Z",
    ]);
  });

  it("counts weekdays from Monday in fields", () => {
    const days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;
    const ofPython = [[1, "tues"], [3, "thurs"]] as const;
    for (const [index, name] of [...days.entries(), ...ofPython]) {
      const expected = [`2026-06-0${index + 1}T00:00:00.123Z`]; // 1 June 2026 is a Monday
      const midnight = { hour: 0, minute: 0, timezone: "UTC" };
      assert.deepEqual(slots("2026-05-31T12:00:00Z", { ...midnight, weekday: name }, 1), expected);
      assert.deepEqual(slots("2026-05-31T12:00:00Z", { ...midnight, weekday: index }, 1), expected);
    }
  });

  it("counts weekdays from Sunday in a cron string", () => {
    for (const [weekday, day] of Object.entries({ 0: 7, 1: 1, 6: 6, 7: 7, SUN: 7, mon: 1 })) {
      const schedule = { pattern: `0 0 * * ${weekday}`, timezone: "UTC" };
      const expected = [`2026-06-0${day}T00:00:00.123Z`];
      assert.deepEqual(slots("2026-05-31T12:00:00Z", schedule, 1), expected);
    }
  });

  it("takes names and numbers of weekdays in one list", () => {
    const fields = { weekday: new Set(["fri", 0] as const), hour: 0, minute: 0, timezone: "UTC" };
    assert.deepEqual(slots("2026-05-31T12:00:00Z", fields, 3), [
      "2026-06-01T00:00:00.123Z",
      "2026-06-05T00:00:00.123Z",
      "2026-06-08T00:00:00.123Z",
    ]);
  });

  it("wants both day and weekday to match, in fields and in a cron string", () => {
    const expected = ["2026-02-13T00:00:00.123Z", "2026-03-13T00:00:00.123Z"];
    const fields = { day: 13, weekday: "fri", hour: 0, minute: 0, timezone: "UTC" } as const;
    assert.deepEqual(slots("2026-01-01T00:00:00Z", fields, 2), expected);
    const pattern = { pattern: "0 0 13 * FRI", timezone: "UTC" };
    assert.deepEqual(slots("2026-01-01T00:00:00Z", pattern, 2), expected);
  });

  it("skips months that lack the day", () => {
    const fields = { day: 31, hour: 9, minute: 0, timezone: "UTC" };
    assert.deepEqual(slots("2026-01-31T09:00:00.123Z", fields, 3), [
      "2026-03-31T09:00:00.123Z",
      "2026-05-31T09:00:00.123Z",
      "2026-07-31T09:00:00.123Z",
    ]);
  });

  it("runs on 29 February of leap years only, 2100 not being one", () => {
    const fields = { month: 2, day: 29, hour: 0, minute: 0, timezone: "UTC" };
    assert.deepEqual(slots("2092-03-01T00:00:00Z", fields, 2), [
      "2096-02-29T00:00:00.123Z",
      "2104-02-29T00:00:00.123Z",
    ]);
  });

  it("reads cron strings of 5 and 6 fields, names, steps, ranges and nicknames", () => {
    const first = (pattern: string, previous = "2026-06-05T17:55:30Z") =>
      slots(previous, { pattern, timezone: "UTC" }, 1)[0];
    assert.equal(first("*/5 9-17 * * mon-fri"), "2026-06-08T09:00:00.123Z");
    assert.equal(first("*/20 * * * * *"), "2026-06-05T17:55:40.123Z");
    assert.equal(first("0 0 1 jan *"), "2027-01-01T00:00:00.123Z");
    assert.equal(first("@daily"), "2026-06-06T00:00:00.123Z");
    assert.equal(first("0 12 L * *"), "2026-06-30T12:00:00.123Z");
  });

  it("takes a bare cron string, and a millisecond beside a cron string", () => {
    assert.deepEqual(slots("2026-06-05T17:55:30Z", "* * * * *", 1), ["2026-06-05T17:56:00.123Z"]);
    const schedule = { pattern: "* * * * *", millisecond: 7 };
    assert.deepEqual(slots("2026-06-05T17:55:30Z", schedule, 1), ["2026-06-05T17:56:00.007Z"]);
  });

  it("reads the schedule in its time zone", () => {
    const noon = { hour: 12, minute: 0 };
    const first = (timezone: string) => slots("2026-07-01T00:00:00Z", { ...noon, timezone }, 1)[0];
    assert.equal(first("Europe/London"), "2026-07-01T11:00:00.123Z");
    assert.equal(first("America/New_York"), "2026-07-01T16:00:00.123Z");
    assert.equal(first("Asia/Kathmandu"), "2026-07-01T06:15:00.123Z");
  });

  it("defaults to the system's time zone, or UTC, and keeps no timer running", () => {
    const module = JSON.stringify(new URL("../cron.ts", import.meta.url).href);
    const code = `import { nextCron } from ${module};` +
      `const next = nextCron(new Date("2026-07-01T00:00:00Z"), { hour: 12, minute: 0 });` +
      `console.log(next.toISOString());`;
    const args = "Deno" in globalThis ? ["eval", "--no-check", code] : ["-e", code];
    const noonIn = (TZ: string) => {
      const env = { ...process.env, TZ };
      const options = { env, encoding: "utf8", timeout: 20_000 } as const;
      return execFileSync(process.execPath, args, options).trim();
    };
    assert.equal(noonIn("Asia/Kathmandu"), "2026-07-01T06:15:00.123Z");
    assert.equal(noonIn(""), "2026-07-01T12:00:00.123Z");
  });

  it("reads neither the clock nor its arguments' later changes", () => {
    const fields = { hour: [9], minute: [0], timezone: "UTC" };
    const previous = new Date("2026-01-01T00:00:00Z");
    const first = nextCron(previous, fields);
    assert.equal(previous.toISOString(), "2026-01-01T00:00:00.000Z");
    assert.deepEqual(fields, { hour: [9], minute: [0], timezone: "UTC" });
    assert.deepEqual(nextCron(previous, fields), first);
  });

  it("refuses a previous that is not a valid date", () => {
    const message = /^previous must be a valid point in time/;
    assert.throws(() => nextCron(new Date(NaN), {}), { name: "RangeError", message });
    // @ts-expect-error: a string is no Date
    assert.throws(() => nextCron("2026-01-01", {}), { name: "TypeError", message: /^previous/ });
  });

  it("refuses a previous after which nothing matches", () => {
    const late = new Date("2999-12-31T23:59:59.999Z");
    const message = 'No date matches the cron string "0 0 0 1 1 *"';
    const fields = { month: 1, day: 1, hour: 0, minute: 0, timezone: "UTC" };
    assert.throws(() => nextCron(late, fields), { name: "RangeError", message });
  });
});

describe("nextCron when clocks change", () => {
  const london = "Europe/London"; // 2026: forward 29 March 01:00 UTC, back 25 October 01:00 UTC
  const newYork = "America/New_York"; // 2026: forward 8 March 07:00 UTC, back 1 November 06:00 UTC

  it("moves a run with one single time to the end of the gap", () => {
    const halfPastOne = { hour: 1, minute: 30, timezone: london };
    assert.deepEqual(slots("2026-03-28T12:00:00Z", halfPastOne, 2), [
      "2026-03-29T01:00:00.123Z",
      "2026-03-30T00:30:00.123Z",
    ]);
    const halfPastTwo = { pattern: "30 2 * * *", timezone: newYork };
    assert.deepEqual(slots("2026-03-07T12:00:00Z", halfPastTwo, 2), [
      "2026-03-08T07:00:00.123Z",
      "2026-03-09T06:30:00.123Z",
    ]);
  });

  it("skips the gap for a run with several times", () => {
    const twice = { hour: [1, 13], minute: 30, timezone: london };
    assert.deepEqual(slots("2026-03-28T14:00:00Z", twice, 2), [
      "2026-03-29T12:30:00.123Z",
      "2026-03-30T00:30:00.123Z",
    ]);
    const halfHourly = { pattern: "*/30 * * * *", timezone: newYork };
    assert.deepEqual(slots("2026-03-08T06:00:00.123Z", halfHourly, 2), [
      "2026-03-08T06:30:00.123Z",
      "2026-03-08T07:00:00.123Z",
    ]);
  });

  it("runs once at an overlap, at the first occurrence", () => {
    const halfPastOne = { hour: 1, minute: 30, timezone: london };
    assert.deepEqual(slots("2026-10-24T12:00:00Z", halfPastOne, 2), [
      "2026-10-25T00:30:00.123Z",
      "2026-10-26T01:30:00.123Z",
    ]);
    assert.deepEqual(slots("2026-10-31T12:00:00Z", { ...halfPastOne, timezone: newYork }, 2), [
      "2026-11-01T05:30:00.123Z",
      "2026-11-02T06:30:00.123Z",
    ]);
  });

  it("runs each time once at an overlap for lists, ranges and steps too", () => {
    const list = { hour: [1, 2], minute: 30, timezone: london };
    assert.deepEqual(slots("2026-10-24T12:00:00Z", list, 3), [
      "2026-10-25T00:30:00.123Z",
      "2026-10-25T02:30:00.123Z",
      "2026-10-26T01:30:00.123Z",
    ]);
    const halfHourly = { pattern: "*/30 * * * *", timezone: newYork };
    assert.deepEqual(slots("2026-11-01T05:00:00.123Z", halfHourly, 2), [
      "2026-11-01T05:30:00.123Z",
      "2026-11-01T07:00:00.123Z",
    ]);
    const everySecond = { pattern: "* * * * * *", timezone: newYork };
    assert.deepEqual(slots("2026-11-01T05:59:59.123Z", everySecond, 1), [
      "2026-11-01T07:00:00.123Z",
    ]);
  });

  it("doesn't run again when previous lies in the repeated hour", () => {
    const halfPastOne = { hour: 1, minute: [15, 30], timezone: london };
    assert.deepEqual(slots("2026-10-25T01:00:00Z", halfPastOne, 1), ["2026-10-26T01:15:00.123Z"]);
  });

  it("knows that Lord Howe Island sets its clocks back by half an hour", () => {
    const quarterly = { minute: [0, 15, 30, 45], timezone: "Australia/Lord_Howe" };
    assert.deepEqual(slots("2026-04-04T14:45:00Z", quarterly, 2), [
      "2026-04-04T14:45:00.123Z", // 01:45, half an hour before 01:30 comes again at 15:00 UTC
      "2026-04-04T15:30:00.123Z", // 02:00
    ]);
  });

  it("agrees with a look at every minute around the changes", () => {
    const changes = [
      { timezone: london, at: "2026-03-29T01:00:00Z" },
      { timezone: london, at: "2026-10-25T01:00:00Z" },
      { timezone: newYork, at: "2026-03-08T07:00:00Z" },
      { timezone: newYork, at: "2026-11-01T06:00:00Z" },
    ];
    const property = fc.property(
      fc.constantFrom(...changes),
      fc.integer({ min: -4 * HOUR_MS, max: 2 * HOUR_MS }),
      maybe(valuesIn(0, 4, 2)),
      valuesIn(0, 59, 2), // with two minutes a run in the gap is skipped, not moved
      ({ timezone, at }, offset, hour, minute) => {
        const previous = Date.parse(at) + offset;
        const fields = { hour, minute, second: [0], millisecond: [123], timezone };
        const expected = bruteForce(fields, previous, previous + 6 * HOUR_MS);
        let last = new Date(previous);
        for (const slot of expected) {
          last = nextCron(last, fields);
          assert.equal(last.toISOString(), new Date(slot).toISOString());
        }
        assert.ok(nextCron(last, fields).getTime() >= previous + 6 * HOUR_MS);
      },
    );
    fc.assert(property, { numRuns: 40 });
  });
});

describe("nextCron for any schedule", () => {
  const instants = fc.integer({
    min: Date.parse("2024-01-01T00:00:00Z"),
    max: Date.parse("2030-01-01T00:00:00Z"),
  });

  it("finds the first match after previous, to the second", () => {
    const property = fc.property(
      instants,
      fc.constantFrom("UTC", "Asia/Kathmandu", "Pacific/Auckland", "America/Sao_Paulo"),
      maybe(valuesIn(0, 23, 4)),
      valuesIn(0, 59, 2),
      valuesIn(0, 59),
      valuesIn(0, 999),
      maybe(valuesIn(0, 6)),
      (previous, timezone, hour, minute, second, millisecond, weekday) => {
        const fields = { hour, minute, second, millisecond, weekday, timezone };
        const next = nextCron(new Date(previous), fields).getTime();
        assert.ok(next > previous);
        assert.ok(matches(fields, wallClock(next, timezone)));
        assert.ok(millisecond.includes(((next % 1000) + 1000) % 1000));
        assert.deepEqual(bruteForce(fields, previous, Math.min(next, previous + 2 * HOUR_MS)), []);
      },
    );
    fc.assert(property, { numRuns: 100 });
  });

  it("finds the first matching day", () => {
    const property = fc.property(
      instants,
      maybe(valuesIn(1, 12)),
      maybe(valuesIn(1, 28)), // every month has these
      maybe(valuesIn(0, 6)),
      (previous, month, day, weekday) => {
        const fields = { month, day, weekday, hour: [0], minute: [0], second: [0] };
        const options = { ...fields, millisecond: 0, timezone: "UTC" };
        let midnight = Math.floor(previous / DAY_MS) * DAY_MS + DAY_MS;
        while (!matches(fields, wallClock(midnight, "UTC"))) midnight += DAY_MS;
        const expected = new Date(midnight).toISOString();
        assert.equal(nextCron(new Date(previous), options).toISOString(), expected);
      },
    );
    fc.assert(property, { numRuns: 60 });
  });

  it("gives the same slot for every previous between two slots", () => {
    const property = fc.property(
      instants,
      fc.double({ min: 0, max: 1, noNaN: true }),
      (at, part) => {
        const fields = {
          weekday: "wed",
          hour: [3, 15],
          minute: 30,
          timezone: "Europe/Paris",
        } as const;
        const from = nextCron(new Date(at), fields);
        const to = nextCron(from, fields);
        const between = from.getTime() + Math.floor(part * (to.getTime() - from.getTime() - 1));
        assert.deepEqual(nextCron(new Date(between), fields), to);
      },
    );
    fc.assert(property, { numRuns: 100 });
  });
});
