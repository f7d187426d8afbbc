import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Step, StepBuffer } from "../step_buffer.ts";

const started = (starts: number): Step => ({ kind: "started", at: 0, starts });
const progress = (starts: number): Step => ({
  kind: "progress",
  at: 0,
  starts,
  value: new Uint8Array([starts]),
});

async function drain(buffer: StepBuffer): Promise<string[]> {
  const steps = [];
  for (let step = await buffer.next(); step; step = await buffer.next()) {
    steps.push(`${step.kind} ${"starts" in step ? step.starts : ""}`);
  }
  return steps;
}

describe("StepBuffer", () => {
  it("keeps steps in order, of progress the last where it came", async () => {
    const buffer = new StepBuffer();
    for (const step of [started(1), progress(1), progress(2), started(2), progress(3)]) {
      buffer.push(step);
    }
    buffer.end();
    assert.deepEqual(await drain(buffer), ["started 1", "started 2", "progress 3"]);
  });

  it("holds a thousand steps, the newest, of a job that is retried for ever", async () => {
    const buffer = new StepBuffer();
    for (let n = 1; n <= 1_500; n++) buffer.push(started(n));
    buffer.end();
    const steps = await drain(buffer);
    assert.deepEqual([steps.length, steps[0], steps.at(-1)], [
      1_000,
      "started 501",
      "started 1500",
    ]);
  });

  it("serves readers that wait in their order, and tells all of the end", async () => {
    const buffer = new StepBuffer();
    const reading = [buffer.next(), buffer.next(), buffer.next()];
    buffer.push(started(1));
    buffer.push(started(2));
    buffer.end();
    const steps = await Promise.all(reading);
    assert.deepEqual(steps, [started(1), started(2), undefined]);
  });

  it("fails after the steps that are there, unless they are cleared", async () => {
    const [kept, cleared] = [new StepBuffer(), new StepBuffer()];
    for (const buffer of [kept, cleared]) {
      buffer.push(started(1));
      if (buffer === cleared) buffer.clear();
      buffer.fail(new Error("away"));
      buffer.end();
    }
    assert.deepEqual(await kept.next(), started(1));
    await assert.rejects(kept.next(), /away/);
    await assert.rejects(cleared.next(), /away/);
  });
});
