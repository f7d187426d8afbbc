import assert from "node:assert/strict";
import { describe, it, mock } from "node:test";
import { Deadlines } from "../deadlines.ts";

/** Runs `scene` with timers and `performance.now` in its hands; `pass` lets time go by. */
function withClock(scene: (pass: (ms: number) => void) => void): void {
  let now = 0;
  mock.timers.enable({ apis: ["setTimeout"] });
  const clock = mock.method(performance, "now", () => now);
  try {
    scene((ms) => {
      for (let i = 0; i < ms; i++) {
        now++;
        mock.timers.tick(1);
      }
    });
  } finally {
    clock.mock.restore();
    mock.timers.reset();
  }
}

describe("Deadlines", () => {
  it("call back each in its time, whatever the order in which they were set", () => {
    withClock((pass) => {
      const deadlines = new Deadlines();
      const late: string[] = [];
      deadlines.set(30, () => late.push("third"));
      deadlines.set(10, () => late.push("first"));
      deadlines.set(20, () => late.push("second"));
      pass(9);
      assert.deepEqual(late, []);
      pass(1);
      assert.deepEqual(late, ["first"]);
      pass(20);
      assert.deepEqual(late, ["first", "second", "third"]);
    });
  });

  it("forget what was done in time", () => {
    withClock((pass) => {
      const deadlines = new Deadlines();
      const late: string[] = [];
      const done = deadlines.set(10, () => late.push("done"));
      deadlines.set(20, () => late.push("late"));
      done();
      pass(30);
      assert.deepEqual(late, ["late"]);
    });
  });

  it("leave nothing behind when cleared, and go on afterwards", () => {
    withClock((pass) => {
      const deadlines = new Deadlines();
      const late: string[] = [];
      deadlines.set(10, () => late.push("cleared"));
      deadlines.clear();
      pass(20);
      assert.equal(late.length, 0);
      deadlines.set(10, () => late.push("set anew"));
      pass(10);
      assert.deepEqual(late, ["set anew"]);
    });
  });

  it("leave a timer behind until they rest, and none for long then", () => {
    const cleared = mock.method(globalThis, "clearTimeout");
    try {
      const deadlines = new Deadlines();
      const done = deadlines.set(60_000, () => assert.fail("it was done in time"));
      const calls = () => cleared.mock.callCount();
      const before = calls();
      deadlines.dropIdleTimer();
      assert.equal(calls(), before, "somebody waits");
      done();
      deadlines.dropIdleTimer();
      assert.equal(calls(), before + 1);
    } finally {
      cleared.mock.restore();
    }
  });

  it("may be 300,000 at once", () => {
    withClock((pass) => {
      const deadlines = new Deadlines();
      let late = 0;
      deadlines.set(20, () => late++);
      for (let i = 0; i < 300_000; i++) deadlines.set(30, () => late++);
      pass(20);
      assert.equal(late, 1);
      pass(10);
      assert.equal(late, 300_001);
    });
  });

  it("take one timer for 30 days, and go on when it ends too early", () => {
    const day = 86_400_000;
    let now = 0;
    const timers: { readonly look: () => void; readonly ms: number }[] = [];
    const clock = mock.method(performance, "now", () => now);
    const arm = (look: () => void, ms: number) => void timers.push({ look, ms });
    const timeouts = mock.method(globalThis, "setTimeout", arm as unknown as typeof setTimeout);
    try {
      let late = 0;
      new Deadlines().set(30 * day, () => late++);
      assert.equal(timers.length, 1);
      const first = timers[0]?.ms ?? 0;
      assert.ok(first > 20 * day && first < 2 ** 31, `a runtime cannot wait for ${first} ms`);
      now = first;
      timers[0]?.look();
      assert.deepEqual([late, timers.length, timers[1]?.ms], [0, 2, 30 * day - first]);
      now = 30 * day;
      timers[1]?.look();
      assert.deepEqual([late, timers.length], [1, 2]);
    } finally {
      timeouts.mock.restore();
      clock.mock.restore();
    }
  });
});
