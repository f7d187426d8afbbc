/** The part of the conformance suite that is about counts, workers and queues. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { WorkerReport } from "../store.ts";
import { eventually, newJob } from "./_helpers.ts";
import { isAbout, MINUTE_MS, type OpenBench, SHORT_LEASE_MS } from "./_store_bench.ts";

/** A report without counts. */
function report(workerId: string, more: Partial<WorkerReport> = {}): WorkerReport {
  const nothing = new Map<string, number>();
  const record = `{"of":"${workerId} é\\u0000"}`;
  return {
    workerId,
    record,
    ttlMs: MINUTE_MS,
    reportId: "",
    minute: nothing,
    totals: nothing,
    ...more,
  };
}

/** Numbers, workers and names of queues. */
export function describeNumbers(name: string, bench: OpenBench): void {
  describe(`${name}: numbers`, () => {
    it("count due, deferred and running jobs, and tell the oldest due time", async () => {
      await using b = await bench();
      const { inspection } = b.store;
      const empty = await inspection.numbers(b.queue, 1);
      isAbout(empty.now, Date.now(), "the store's time");
      assert.deepEqual({ ...empty, now: 0 }, {
        now: 0,
        paused: false,
        due: 0,
        deferred: 0,
        inProgress: 0,
        oldestDueAt: undefined,
        totals: new Map(),
        minutes: [],
      });
      await b.start("running");
      await b.start("orphan", SHORT_LEASE_MS);
      await b.outlive("orphan");
      await b.enqueue(newJob("old", { dueAt: 5_000 }), newJob("due"));
      await b.enqueue(...[1, 2, 3].map((n) => newJob(`j${n}`, { deferMs: n * 60_000 })));
      await inspection.setPaused(b.queue, true);
      const { due, deferred, inProgress, oldestDueAt, paused } = await inspection.numbers(
        b.queue,
        1,
      );
      assert.deepEqual([due, deferred, inProgress, oldestDueAt, paused], [3, 3, 1, 5_000, true]);
      assert.equal((await inspection.numbers(`${b.queue}-other`, 1)).due, 0);
    });

    it("count right where many jobs are due and many are not", async () => {
      await using b = await bench();
      const count = async () => {
        const { due, deferred } = await b.store.inspection.numbers(b.queue, 1);
        return [due, deferred];
      };
      const jobs = (from: number, to: number, more = {}) =>
        Array.from({ length: to - from }, (_, i) => newJob(`j${from + i}`, more));
      await b.enqueue(...jobs(0, 1_500));
      assert.deepEqual(await count(), [1_500, 0]);
      await b.enqueue(...jobs(1_500, 1_510, { deferMs: 60_000 }));
      assert.deepEqual(await count(), [1_500, 10]);
      await b.enqueue(...jobs(1_510, 2_900, { deferMs: 60_000 }));
      assert.deepEqual(await count(), [1_500, 1_400]);
    });

    it("add up counts of reports, each once, of this minute and of all times", async () => {
      await using b = await bench();
      const { inspection } = b.store;
      const minute = new Map([["complete", 2], ["run10", 3]]);
      const totals = new Map([["complete:f", 2], ["complete:é:\0 x", 1]]);
      const first = report("w", { reportId: "1", minute, totals });
      await inspection.report(b.queue, first);
      await inspection.report(b.queue, report("w", { reportId: "2", minute, totals }));
      await inspection.report(b.queue, report("w"));
      const { minutes, totals: all, now } = await inspection.numbers(b.queue, 2);
      const counted = new Map<string, number>();
      for (const { minute, counts } of minutes) { // the minute may have changed between the two
        assert.ok(Math.abs(minute - now / 60_000) <= 2);
        for (const [name, count] of counts) counted.set(name, (counted.get(name) ?? 0) + count);
      }
      assert.deepEqual(counted, new Map([["complete", 4], ["run10", 6]]));
      assert.deepEqual(all, new Map([["complete:f", 4], ["complete:é:\0 x", 2]]));
      assert.deepEqual((await inspection.numbers(`${b.queue}-other`, 2)).totals, new Map());
    });
  });

  describe(`${name}: workers`, () => {
    const idsOf = async (b: Awaited<ReturnType<OpenBench>>) =>
      (await b.store.inspection.workers(b.queue)).map(({ workerId }) => workerId).sort();

    it("are those that have reported, with their last report, until they go", async () => {
      await using b = await bench();
      const { inspection } = b.store;
      assert.deepEqual(await inspection.workers(b.queue), []);
      await inspection.report(b.queue, report("a", { record: "old" }));
      await inspection.report(b.queue, report("a"));
      await inspection.report(b.queue, report("b"));
      await inspection.report(`${b.queue}-other`, report("c"));
      assert.deepEqual(await idsOf(b), ["a", "b"]);
      const found = (await inspection.workers(b.queue)).find(({ workerId }) => workerId === "a");
      assert.equal(found?.record, report("a").record);
      await inspection.report(b.queue, report("a", { ttlMs: 0 }));
      await inspection.report(b.queue, report("a", { ttlMs: 0 }));
      assert.deepEqual(await idsOf(b), ["b"]);
    });

    it("are gone when they have not reported in time", async () => {
      await using b = await bench();
      await b.store.inspection.report(b.queue, report("dead", { ttlMs: 60 }));
      await b.store.inspection.report(b.queue, report("alive"));
      await eventually(async () => String(await idsOf(b)) === "alive", "the dead one is gone");
    });
  });

  describe(`${name}: queue names`, () => {
    it("are those that clients or workers of the prefix have used", async () => {
      await using b = await bench();
      await using other = await bench();
      const { inspection } = b.store;
      assert.deepEqual(await inspection.queueNames(), []);
      await b.enqueue(newJob("a"), newJob("b"));
      await b.enqueue(newJob("c"));
      await other.enqueue(newJob("a"));
      await inspection.report(`${b.queue}-é`, report("w"));
      // A use is noted in passing.
      const names = await eventually(async () => {
        const names = await inspection.queueNames();
        return names.length >= 2 && [...names].sort();
      }, "both are noted");
      assert.deepEqual(names, [b.queue, `${b.queue}-é`]);
    });
  });
}
