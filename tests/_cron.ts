/** What tests of schedules have in common. */
import assert from "node:assert/strict";
import { cron, type CronFields, type CronSchedule, nextCron } from "../cron.ts";
import type { JobContext } from "../functions.ts";

export function report(_ctx: JobContext): void {}

/** The first `count` slots after `previous`, as ISO strings. */
export function slots(previous: string, schedule: string | CronSchedule, count: number): string[] {
  const found: string[] = [];
  let last = new Date(previous);
  while (found.length < count) {
    last = nextCron(last, schedule);
    found.push(last.toISOString());
  }
  return found;
}

/** Asserts that both `cron` and `nextCron` refuse `when` in the same words. */
export function refuses(when: unknown, error: { name: string; message: string | RegExp }): void {
  assert.throws(() => cron(report, when as CronFields), error);
  assert.throws(() => nextCron(new Date(0), when as CronFields), error);
}
