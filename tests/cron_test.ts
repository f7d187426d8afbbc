import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { cron, type CronJob, nextCron } from "../cron.ts";
import type { Func, JobContext } from "../functions.ts";
import { refuses, report, slots } from "./_cron.ts";

describe("cron", () => {
  it("fills in arq's defaults", () => {
    assert.deepEqual(cron(report, { hour: 9 }), {
      name: "cron:report",
      fn: report,
      options: { timeout: undefined, keepResult: 0, maxTries: 1, isolate: undefined },
      schedule: { pattern: "0 * 9 * * *", millisecond: [123], timezone: undefined },
      unique: true,
      jobId: undefined,
      runAtStartup: false,
    });
  });

  it("keeps every option, given in one object or beside a cron string", () => {
    const options = {
      name: "nightly",
      jobId: "the-one",
      unique: false,
      runAtStartup: true,
      timeout: { minutes: 5 },
      keepResult: "forever",
      maxTries: 3,
      isolate: { maxProcesses: 1 },
      timezone: "Europe/London",
    } as const;
    const expected = {
      name: "nightly",
      fn: report,
      options: {
        timeout: { minutes: 5 },
        keepResult: "forever",
        maxTries: 3,
        isolate: { maxProcesses: 1 },
      },
      unique: false,
      jobId: "the-one",
      runAtStartup: true,
    };
    assert.deepEqual(cron(report, { ...options, hour: [18, 9], weekday: "sun" }), {
      ...expected,
      schedule: { pattern: "0 * 9,18 * * SUN", millisecond: [123], timezone: "Europe/London" },
    });
    assert.deepEqual(cron(report, "*/5 9-17 * * mon-fri", options), {
      ...expected,
      schedule: {
        pattern: "*/5 9-17 * * mon-fri",
        millisecond: [123],
        timezone: "Europe/London",
      },
    });
  });

  it("makes schedules that nextCron takes, with a worker's time zone where they have none", () => {
    const own = cron(report, { hour: 12, minute: 0, timezone: "Asia/Tokyo" });
    const open = cron(report, "0 12 * * *");
    const at = ({ schedule }: CronJob) =>
      slots("2026-07-01T00:00:00Z", {
        ...schedule,
        timezone: schedule.timezone ?? "America/New_York",
      }, 1)[0];
    assert.equal(at(own), "2026-07-01T03:00:00.123Z");
    assert.equal(at(open), "2026-07-01T16:00:00.123Z");
  });

  it("reads a list once, so that neither a generator nor a later change matters", () => {
    function* hours(): Generator<number> {
      yield* [9, 17];
    }
    const minute = [30];
    const { schedule } = cron(report, { hour: hours(), minute, timezone: "UTC" });
    minute.push(45);
    assert.deepEqual(slots("2026-07-01T00:00:00Z", schedule, 3), [
      "2026-07-01T09:30:00.123Z",
      "2026-07-01T17:30:00.123Z",
      "2026-07-02T09:30:00.123Z",
    ]);
  });

  it("names a module's function by the part after #", () => {
    const job = cron("file:///app/tasks.ts#cleanUp", "@hourly");
    assert.equal(job.name, "cron:cleanUp");
    assert.equal(job.fn, "file:///app/tasks.ts#cleanUp");
    assert.equal(cron("file:///app/tasks.ts", "@hourly", { name: "tidy" }).name, "tidy");
  });

  it("refuses a function without a name unless it is given one", () => {
    const error = { name: "TypeError", message: /^cron needs the option name/ };
    assert.throws(() => cron(() => {}, "@hourly"), error);
    assert.throws(() => cron("file:///app/tasks.ts", "@hourly"), error);
    assert.throws(() => cron("file:///app/tasks.ts#", "@hourly"), error);
    assert.equal(cron(() => {}, "@hourly", { name: "quiet" }).name, "quiet");
  });

  it("names the field, the value and the range of a number out of range", () => {
    const ranges = {
      month: [1, 12],
      day: [1, 31],
      hour: [0, 23],
      minute: [0, 59],
      second: [0, 59],
      millisecond: [0, 999],
    };
    for (const [field, [min = 0, max = 0]] of Object.entries(ranges)) {
      for (const value of [min - 1, max + 1, Infinity]) {
        const whole = value === Infinity ? "a whole number, " : "";
        const message = `${field} must be ${whole}${min} to ${max}, got ${value}`;
        refuses({ [field]: value }, { name: "RangeError", message });
        refuses({ [field]: [min, value] }, { name: "RangeError", message });
      }
      const lowest = cron(report, { [field]: [min, max] });
      assert.ok(nextCron(new Date(0), lowest.schedule) instanceof Date);
    }
  });

  it("refuses fractions, NaN, text and empty lists", () => {
    const whole = "must be a whole number, 0 to 59, got";
    refuses({ minute: 1.5 }, { name: "RangeError", message: `minute ${whole} 1.5` });
    refuses({ minute: NaN }, { name: "RangeError", message: `minute ${whole} NaN` });
    refuses({ hour: "9" }, { name: "TypeError", message: 'hour must be 0 to 23, got "9"' });
    refuses({ hour: null }, { name: "TypeError", message: "hour must be 0 to 23, got null" });
    refuses({ day: ["1"] }, { name: "TypeError", message: 'day must be 1 to 31, got "1"' });
    const empty = "must have a value, got an empty list";
    refuses({ minute: [] }, { name: "RangeError", message: `minute ${empty}` });
    refuses({ weekday: new Set() }, { name: "RangeError", message: `weekday ${empty}` });
  });

  it("takes exactly cron's and arq's names of weekdays", () => {
    for (const name of ["tu", "thur", "monday", "MON", "", "constructor"]) {
      const message = "weekday must be 0 to 6 or one of mon, tue, wed, thu, fri, sat, sun, " +
        `got "${name}"`;
      refuses({ weekday: name }, { name: "RangeError", message });
    }
    refuses({ weekday: 7 }, { name: "RangeError", message: /^weekday must be 0 to 6 .* got 7$/ });
  });

  it("refuses dates that never come", () => {
    const never = /^No date matches the cron string "/;
    refuses({ month: 2, day: 30 }, { name: "RangeError", message: never });
    refuses({ month: [4, 6, 9, 11], day: 31 }, { name: "RangeError", message: never });
    refuses({ pattern: "0 0 30 2 *" }, { name: "RangeError", message: never });
    assert.throws(() => cron(report, "0 0 31 4 *"), { name: "RangeError", message: never });
  });

  it("refuses what is not a cron string of 5 or 6 fields", () => {
    const bad = ["", "* * * *", "60 * * * *", "a b c d e", "*/0 * * * *", "@reboot", "5/5 * * * *"];
    const notCron = [...bad, "0 0 9 1 1 * 2027", "2026-01-01T00:00:00", "tomorrow: noon"];
    for (const pattern of notCron) {
      const error = { name: "RangeError", message: / is not a cron string/ };
      assert.throws(() => cron(report, pattern), error, pattern);
      assert.throws(() => nextCron(new Date(0), pattern), error, pattern);
    }
  });

  it("refuses an unknown time zone by its name", () => {
    for (const timezone of ["Mars/Phobos", "", "Europe/Londn"]) {
      const message = 'timezone must be an IANA name such as "Europe/London", ' +
        `got ${JSON.stringify(timezone)}`;
      refuses({ hour: 9, timezone }, { name: "RangeError", message });
    }
  });

  it("refuses unknown options by their name, at compile time too", () => {
    const unknown = (key: string) => ({ name: "TypeError", message: new RegExp(`"${key}"`) });
    // @ts-expect-error: no such field
    assert.throws(() => cron(report, { hours: 9 }), unknown("hours"));
    // @ts-expect-error: Python's field
    assert.throws(() => cron(report, { microsecond: 5 }), unknown("microsecond"));
    // @ts-expect-error: fields don't go beside a cron string
    assert.throws(() => cron(report, "@daily", { hour: 9 }), unknown("hour"));
    // @ts-expect-error: nextCron takes no job options
    assert.throws(() => nextCron(new Date(0), { hour: 9, unique: true }), unknown("unique"));
  });

  it("suggests the option that was meant, be it of the job or of its schedule", () => {
    const meant = (message: string) => ({ name: "TypeError", message: `cron: ${message}` });
    const python: object = { run_at_startup: true };
    const runAtStartup = meant('unknown option "run_at_startup"; did you mean "runAtStartup"?');
    assert.throws(() => cron(report, python), runAtStartup);
    assert.throws(() => cron(report, "@daily", python), runAtStartup);
    const slip: object = { hour: 9, minutes: 5 };
    const minute = meant('unknown option "minutes"; did you mean "minute"?');
    assert.throws(() => cron(report, slip), minute);
  });

  it("refuses values of the wrong type, at compile time too", () => {
    const typeError = (message: RegExp) => ({ name: "TypeError", message });
    // @ts-expect-error: text for a number
    assert.throws(() => cron(report, { hour: "9" }), typeError(/^hour/));
    // @ts-expect-error: not a name of the day
    assert.throws(() => cron(report, { weekday: "tuesday" }), { message: /^weekday/ });
    // @ts-expect-error: names are for weekdays
    assert.throws(() => cron(report, { month: ["jan"] }), typeError(/^month/));
    // @ts-expect-error: a flag
    assert.throws(() => cron(report, { unique: "yes" }), typeError(/^unique must be true or/));
    // @ts-expect-error: a flag
    assert.throws(() => cron(report, { runAtStartup: 1 }), typeError(/^runAtStartup must be/));
    // @ts-expect-error: an id is text
    assert.throws(() => cron(report, { jobId: 5 }), typeError(/^jobId must be a text/));
    // @ts-expect-error: a cron job must know when to run
    assert.throws(() => cron(report), typeError(/^cron takes fields or a cron string/));
    const date = new Date("2030-01-01") as never; // taken for fields, it would be every minute
    assert.throws(() => cron(report, date), typeError(/^cron takes fields or .*, got Tue Jan/));
    assert.throws(() => nextCron(new Date(0), date), typeError(/^nextCron takes fields or/));
    const nine = Temporal.PlainTime.from("09:00");
    assert.throws(() => cron(report, nine), typeError(/^cron takes fields or .*, got "09:00:00"/));
    assert.throws(() => nextCron(new Date(0), nine), typeError(/^nextCron takes fields or/));
    // @ts-expect-error: the time zone is one of the options
    assert.throws(() => cron(report, "@daily", "UTC"), typeError(/^cron takes an object .*"UTC"/));
    // @ts-expect-error: a cron job runs a function
    assert.throws(() => cron(5, "@daily"), typeError(/^cron takes a function/));
    // @ts-expect-error: a cron job has no arguments to pass
    cron((_ctx: JobContext, _url: string) => {}, "@daily", { name: "fetch" });
  });

  it("refuses options out of range", () => {
    const rangeError = (message: RegExp) => ({ name: "RangeError", message });
    assert.throws(() => cron(report, { maxTries: 0 }), rangeError(/^maxTries must be .* got 0$/));
    assert.throws(
      () => cron(report, { maxTries: 1.5 }),
      rangeError(/^maxTries must be a whole number of 1 or more, got 1.5$/),
    );
    assert.throws(() => cron(report, { timeout: 0 }), rangeError(/^timeout/));
    assert.throws(() => cron(report, { keepResult: -1 }), rangeError(/^keepResult/));
    assert.throws(() => cron(report, { jobId: "" }), /^TypeError: jobId must be a text/);
    assert.throws(
      () => cron(report, { jobId: "half \ud83d" }),
      /^TypeError: jobId must not have a lone/,
    );
    assert.throws(() => cron(report, { name: "" }), /^TypeError: name must be a text/);
  });

  it("carries the state's type and fits Func", () => {
    interface State {
      readonly db: string;
    }
    function query(ctx: JobContext<State>): string {
      return ctx.db;
    }
    const jobs: CronJob<State>[] = [
      cron(query, "@daily"),
      cron(report, "@daily"),
      cron("file:///app/tasks.ts#query", "@daily"),
      cron((ctx) => ctx.db, "@daily", { name: "inline" }),
    ];
    const funcs: Func[] = jobs;
    assert.equal(funcs[0]?.fn, query);
    // @ts-expect-error: a worker without that state cannot run it
    const wrong: CronJob<unknown> = cron(query, "@daily");
    assert.equal(wrong.name, "cron:query");
  });
});
