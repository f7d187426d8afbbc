import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { LIMITS_MS, readMinutes, readTotals, Tally } from "../tally.ts";
import { fc } from "./_properties.ts";

/** What a tally hands out. */
function take(tally: Tally) {
  return tally.take() ?? assert.fail("Nothing was counted");
}

describe("a tally", () => {
  it("adds up outcomes and times by function, and hands them out once", () => {
    const tally = new Tally();
    assert.equal(tally.take(), undefined);
    tally.add("f", "complete", 0, 7);
    tally.add("f", "complete", 12, 8);
    tally.add("f:x\n", "failed", 1e12, -5);
    const { minute, totals } = take(tally);
    assert.equal(tally.take(), undefined);
    assert.deepEqual(Object.fromEntries(minute), {
      complete: 2,
      failed: 1,
      runMs: 1e12 + 12,
      waitMs: 15,
      run1: 1,
      run15: 1,
      runInfinity: 1,
      wait1: 1,
      wait7: 1,
      wait10: 1,
    });
    const { value, unreadable } = readTotals(totals);
    assert.equal(unreadable, 0);
    assert.deepEqual(value.map((each) => [each.functionName, each.complete, each.failed]), [
      ["f", 2, 0],
      ["f:x\n", 0, 1],
    ]);
    const { count, sumMs, buckets } = value[0]?.runTime ?? assert.fail();
    assert.deepEqual([count, sumMs], [2, 12]);
    assert.deepEqual(buckets.slice(0, 8).map((bucket) => bucket.count), [1, 1, 1, 1, 1, 1, 2, 2]);
    assert.deepEqual(buckets.at(-1), { leMs: Infinity, count: 2 });
  });

  it("has growing limits, neighbours of which are a factor of two apart at most", () => {
    for (const [i, limit] of LIMITS_MS.slice(1, -1).entries()) {
      const before = LIMITS_MS[i] ?? NaN;
      assert.ok(limit > before && limit <= 2 * before, `${before} and ${limit}`);
    }
  });

  it("gives percentiles that lie between the same limits as the real ones", () => {
    const times = fc.array(fc.integer({ min: 0, max: 99_999_999 }), {
      minLength: 1,
      maxLength: 60,
    });
    fc.assert(fc.property(times, (all) => {
      const tally = new Tally();
      for (const ms of all) tally.add("f", "complete", ms, ms);
      const { all: { runTime, waitTime } } = readMinutes([take(tally).minute]).value;
      assert.ok(runTime);
      assert.deepEqual(runTime, waitTime);
      const sorted = [...all].sort((a, b) => a - b);
      for (
        const [share, given] of [[0.5, runTime.p50Ms], [0.9, runTime.p90Ms], [0.99, runTime.p99Ms]]
      ) {
        const real = sorted[Math.ceil((share as number) * all.length) - 1] as number;
        const high = LIMITS_MS.findIndex((limit) => real <= limit);
        assert.ok(
          (given as number) <= (LIMITS_MS[high] as number),
          `${share}: ${given} of ${sorted}`,
        );
        assert.ok(
          (given as number) >= (LIMITS_MS[high - 1] ?? 0),
          `${share}: ${given} of ${sorted}`,
        );
      }
    }));
  });

  it("has no percentiles without a measurement, and the last limit beyond it", () => {
    const { each, all } = readMinutes([new Map(), new Map([["runInfinity", 5]])]).value;
    assert.deepEqual(each[0]?.runTime, null);
    assert.deepEqual(all.runTime, { p50Ms: 1e8, p90Ms: 1e8, p99Ms: 1e8 });
    assert.equal(all.waitTime, null);
  });

  it("leaves out what is no count, and says how much that was", () => {
    const minute = new Map([
      ["complete", NaN],
      ["failed", -1],
      ["retried", 1.5],
      ["run4", 3],
      ["constructor", 1],
      ["aborted", 2],
    ]);
    const { value, unreadable } = readMinutes([minute]);
    const { complete, failed, aborted, retried, runTime } = value.all;
    assert.deepEqual([complete, failed, aborted, retried, runTime], [0, 0, 2, 0, null]);
    assert.equal(unreadable, 5);
    const totals = readTotals(new Map([["complete", 3], ["x:f", 3], ["complete:g", 1]]));
    assert.deepEqual(totals.value.map((each) => each.functionName), ["", "g"]);
    assert.equal(totals.unreadable, 1);
  });
});
