/** The part of the conformance suite that is about operators. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { bytes, eventually, newJob, only } from "./_helpers.ts";
import {
  type Bench,
  idsOf,
  listen,
  MINUTE_MS,
  type OpenBench,
  SHORT_LEASE_MS,
} from "./_store_bench.ts";

/** Pausing a queue and removing jobs. */
export function describeSteering(name: string, bench: OpenBench): void {
  const remove = (b: Bench, jobId: string) => b.store.inspection.remove(b.queue, jobId);

  describe(`${name}: pause`, () => {
    it("has claims take nothing, orphans neither, and tells the length of the queue", async () => {
      await using b = await bench();
      await b.start("orphan", SHORT_LEASE_MS);
      await b.enqueue(newJob("due"), newJob("deferred", { deferMs: 60_000 }));
      await b.outlive("orphan");
      await b.store.inspection.setPaused(b.queue, true);
      await b.store.inspection.setPaused(b.queue, true);
      const reply = await b.store.claim(b.queue, "holder", 10, MINUTE_MS);
      assert.deepEqual([reply.claims, reply.nextDueMs, reply.queued], [[], undefined, 3]);
      await b.store.inspection.setPaused(b.queue, false);
      assert.deepEqual(idsOf(await b.claim()), ["orphan", "due"]);
    });

    it("lets jobs be enqueued, renewed, given back, aborted and finished", async () => {
      await using b = await bench();
      const [one, two] = [await b.start("one"), await b.start("two")];
      await b.store.inspection.setPaused(b.queue, true);
      assert.deepEqual(await b.enqueue(newJob("new")), [true]);
      assert.deepEqual(await b.store.renew(b.queue, [one], MINUTE_MS), [true]);
      assert.deepEqual(await b.finish(one), ["done"]);
      assert.deepEqual(await b.giveBack(two), ["done"]);
      assert.equal(await b.store.abort(b.queue, "new", bytes("x"), MINUTE_MS), "aborted");
      await b.store.inspection.setPaused(b.queue, false);
      assert.deepEqual(idsOf(await b.claim()), ["two"]);
    });

    it("is one queue's own, also before anything was enqueued", async () => {
      await using b = await bench();
      await b.store.inspection.setPaused(`${b.queue}-other`, true);
      await b.store.enqueue(`${b.queue}-other`, [newJob("elsewhere")], MINUTE_MS);
      await b.enqueue(newJob("a"));
      assert.deepEqual(idsOf(await b.claim()), ["a"]);
      const other = await b.store.claim(`${b.queue}-other`, "holder", 10, MINUTE_MS);
      assert.deepEqual(other.claims, []);
    });

    it("ends with a wake-up", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a"));
      await b.store.inspection.setPaused(b.queue, true);
      using line = b.store.openWakeLine(b.queue);
      const first = listen(line);
      await eventually(() => first.isWoken, "woken by the job");
      await b.claim();
      const second = listen(line);
      await b.settle();
      assert.equal(second.isWoken, false);
      await b.store.inspection.setPaused(b.queue, false);
      await eventually(() => second.isWoken, "woken by the end of the pause");
    });
  });

  describe(`${name}: remove`, () => {
    it("removes a job that is due, deferred, to be retried or an orphan, with all that is known of it", async () => {
      await using b = await bench();
      await b.giveBack(await b.start("retried"), { deferMs: 60_000 });
      await b.start("orphan", SHORT_LEASE_MS);
      await b.outlive("orphan");
      await b.enqueue(newJob("due"), newJob("deferred", { deferMs: 60_000 }));
      const ids = ["retried", "orphan", "due", "deferred"];
      for (const id of ids) assert.equal(await remove(b, id), "removed", id);
      assert.equal(await b.isEmpty(), true);
      assert.deepEqual(await b.claim(), []);
      await b.enqueue(...ids.map((id) => newJob(id, { idKind: "given" })));
      assert.deepEqual((await b.claim()).map(({ starts }) => starts), [1, 1, 1, 1]);
    });

    it("refuses a running job, whose end is recorded then", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      assert.equal(await remove(b, "a"), "running");
      assert.deepEqual(await b.finish(claim), ["done"]);
      assert.equal(await b.resultOf("a"), "result of a");
    });

    it("removes a result, so that the id is free", async () => {
      await using b = await bench();
      await b.finish(await b.start("a"));
      assert.equal(await remove(b, "a"), "removed");
      assert.equal(await b.resultOf("a"), undefined);
      assert.deepEqual(await b.enqueue(newJob("a", { idKind: "given" })), [true]);
    });

    it("refuses the late success of a job that was removed", async () => {
      await using b = await bench();
      const late = await b.start("a", SHORT_LEASE_MS);
      await b.outlive("a");
      await remove(b, "a");
      assert.deepEqual(await b.finish(late), ["refused"]);
      assert.equal(await b.resultOf("a"), undefined);
    });

    it("finds nothing where there is nothing, and leaves a job of another queue alone", async () => {
      await using b = await bench();
      assert.equal(await remove(b, "nobody"), "not_found");
      await b.enqueue(newJob("a"));
      assert.equal(await b.store.inspection.remove(`${b.queue}-other`, "a"), "not_found");
      assert.equal(only(await b.claim()).jobId, "a");
    });
  });
}
