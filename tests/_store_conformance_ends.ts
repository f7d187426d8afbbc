/** A part of the conformance suite: how jobs end, and how others hear of it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { bytes, endOf, eventually, newJob, only } from "./_helpers.ts";
import {
  idsOf,
  isAbout,
  LEASE_MS,
  listen,
  MINUTE_MS,
  type OpenBench,
  recorder,
  SHORT_LEASE_MS,
} from "./_store_bench.ts";

/** Recording an end, and putting a job back. */
export function describeEnds(name: string, bench: OpenBench): void {
  describe(`${name}: finish`, () => {
    it("records the end and leaves nothing else of the job", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      assert.deepEqual(await b.finish(claim), ["done"]);
      const { result, hasPayload, locked, score } = await b.lookUp("a");
      assert.deepEqual(new Uint8Array(result ?? []), bytes("result of a"));
      assert.deepEqual({ hasPayload, locked, score }, {
        hasPayload: false,
        locked: false,
        score: undefined,
      });
      assert.equal(await b.isEmpty(), true);
      assert.deepEqual(await b.claim(), []);
    });

    it("takes many ends in one call, failures too, and answers each", async () => {
      await using b = await bench();
      await b.enqueue(...Array.from({ length: 1_200 }, (_, i) => newJob(`j${i}`)));
      const claims = [];
      for (let batch = await b.claim(400); batch.length > 0; batch = await b.claim(400)) {
        claims.push(...batch);
      }
      assert.equal(claims.length, 1_200);
      const [first] = claims;
      assert.ok(first);
      await b.finish(first);
      const ends = claims.map((claim, i) => endOf(claim, { success: i % 2 === 0 ? false : true }));
      const settled = await b.store.finish(b.queue, ends);
      assert.equal(settled.length, 1_200);
      assert.ok(settled.slice(1).every((end) => end === "done"));
      assert.equal(await b.resultOf("j1199"), "result of j1199");
      assert.deepEqual(await b.store.finish(b.queue, []), []);
    });

    it("keeps the result for as long as it is told: not at all, a while, for ever", async () => {
      await using b = await bench();
      await b.finish(await b.start("none"), { keepMs: 0 });
      await b.finish(await b.start("while"), { keepMs: MINUTE_MS });
      await b.finish(await b.start("moment"), { keepMs: 50 });
      await b.finish(await b.start("ever"), { keepMs: "forever" });
      assert.equal(await b.resultOf("none"), undefined);
      assert.equal(await b.resultOf("while"), "result of while");
      await eventually(async () => !await b.resultOf("moment"), "the result expires");
      assert.equal(await b.resultOf("ever"), "result of ever");
    });

    it("records one end only", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      const { heard, listener } = recorder();
      await using _ = await b.store.onFinished("a", listener);
      await b.finish(claim);
      const second = { record: bytes("second") };
      assert.deepEqual(await b.finish(claim, second), ["refused"]);
      assert.deepEqual(await b.finish(claim, { ...second, success: false }), ["refused"]);
      const twice = await b.start("b");
      const ends = [endOf(twice), endOf(twice, second)];
      assert.equal((await b.store.finish(b.queue, ends))[0], "done");
      assert.equal(await b.resultOf("a"), "result of a");
      assert.equal(await b.resultOf("b"), "result of b");
      await eventually(() => heard.length > 0, "the end is told"); // from node to node on a Cluster
      await b.settle();
      assert.deepEqual(heard, ["result of a"]);
    });

    it("does no harm when it is repeated after a lost reply", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      await b.finish(claim);
      await b.finish(claim);
      assert.equal(await b.resultOf("a"), "result of a");
      const release = await b.start("b");
      await b.giveBack(release, { kind: "release" });
      await b.giveBack(release, { kind: "release" });
      const { starts, handbacks } = only(await b.claim());
      assert.deepEqual([starts, handbacks], [2, 1]);
    });

    it("accepts a late success even though another worker holds the job", async () => {
      await using b = await bench();
      const late = await b.start("a", SHORT_LEASE_MS, "late");
      await b.outlive("a");
      const other = only(await b.claim(1, LEASE_MS, "other"));
      assert.deepEqual(await b.finish(late), ["done"]);
      assert.deepEqual(await b.store.renew(b.queue, [other], LEASE_MS), [false]);
      assert.deepEqual(await b.finish(other, { record: bytes("other") }), ["refused"]);
      assert.equal(await b.resultOf("a"), "result of a");
      assert.equal(await b.isEmpty(), true);
    });

    it("refuses late failures, retries and releases once another worker holds the job", async () => {
      await using b = await bench();
      const late = await b.start("a", SHORT_LEASE_MS, "late");
      await b.outlive("a");
      const other = only(await b.claim(1, LEASE_MS, "other"));
      assert.deepEqual(await b.finish(late, { success: false }), ["refused"]);
      assert.deepEqual(await b.giveBack(late, { kind: "retry" }), ["refused"]);
      assert.deepEqual(await b.giveBack(late, { kind: "release" }), ["refused"]);
      assert.equal(await b.resultOf("a"), undefined);
      assert.deepEqual(await b.store.renew(b.queue, [other], LEASE_MS), [true]);
      assert.deepEqual(await b.finish(other), ["done"]);
    });

    it("refuses a late success once the job was finished or given back by its new owner", async () => {
      await using b = await bench();
      for (const id of ["finished", "returned"]) {
        const late = await b.start(id, SHORT_LEASE_MS, "late");
        await b.outlive(id);
        const other = only(await b.claim(1, LEASE_MS, "other"));
        if (id === "finished") await b.finish(other, { record: bytes("first") });
        else await b.giveBack(other, { deferMs: 60_000 });
        assert.deepEqual(await b.finish(late), ["refused"], id);
      }
      assert.equal(await b.resultOf("finished"), "first");
      assert.equal(await b.resultOf("returned"), undefined);
    });

    it("refuses a late success of a job whose id another job has by now", async () => {
      await using b = await bench();
      const late = await b.start("a", SHORT_LEASE_MS, "late");
      await b.outlive("a");
      assert.equal(await b.store.inspection.remove(b.queue, "a"), "removed");
      await b.enqueue(newJob("a", { dueAt: 20, idKind: "given" }));
      const other = only(await b.claim(1, LEASE_MS, "other"));
      assert.deepEqual([Number(other.score), other.starts], [20, 1]);
      assert.deepEqual(await b.finish(late), ["refused"]);
      assert.deepEqual(await b.finish(other, { record: bytes("other") }), ["done"]);
      assert.equal(await b.resultOf("a"), "other");
    });

    it("keeps the id of a slot locked for a while after the end, and tells it is complete", async () => {
      await using b = await bench();
      await b.finish(await b.start("a"), { lockTailMs: MINUTE_MS });
      const { locked, result } = await b.lookUp("a");
      assert.equal(locked, true);
      assert.ok(result);
      await b.finish(await b.start("brief"), { lockTailMs: 50 });
      await eventually(async () => !(await b.lookUp("brief")).locked, "the lock ends");
    });
  });

  describe(`${name}: giveBack`, () => {
    it("puts a retry without delay back to its old place in the queue", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a", { dueAt: 100 }), newJob("b", { dueAt: 200 }));
      const claim = only(await b.claim(1));
      assert.deepEqual(await b.giveBack(claim), ["done"]);
      assert.equal((await b.lookUp("a")).locked, false);
      const again = await b.claim();
      assert.deepEqual(idsOf(again), ["a", "b"]);
      assert.equal(Number(again[0]?.score), 100);
    });

    it("forgets a start that never came to be", async () => {
      await using b = await bench();
      await b.giveBack(await b.start("a"), { starts: 0 });
      assert.equal((await b.lookUp("a")).locked, false);
      const { starts, handbacks } = only(await b.claim());
      assert.deepEqual([starts, handbacks], [1, 0]);
    });

    it("puts a retry with a delay so far into the future", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      assert.deepEqual(await b.giveBack(claim, { deferMs: 60_000 }), ["done"]);
      const { score, now, locked } = await b.lookUp("a");
      isAbout(score ?? NaN, now + 60_000, "the new due time");
      assert.equal(locked, false);
      assert.deepEqual(await b.claim(), []);
    });

    it("runs a delayed retry when its time has come", async () => {
      await using b = await bench();
      await b.giveBack(await b.start("a"), { deferMs: 60 });
      const [again] = await eventually(async () => {
        const claims = await b.claim();
        return claims.length > 0 && claims;
      }, "the retry is due");
      assert.equal(again?.starts, 2);
    });

    it("remembers the number of starts it is told", async () => {
      await using b = await bench();
      await b.giveBack(await b.start("a"), { starts: 7 });
      assert.equal(only(await b.claim()).starts, 8);
    });

    it("forgets hand-backs where no start is left", async () => {
      await using b = await bench();
      await b.giveBack(await b.start("a"), { kind: "release" });
      const again = only(await b.claim());
      assert.deepEqual([again.starts, again.handbacks], [2, 1]);
      await b.giveBack(again, { starts: 0 });
      const anew = only(await b.claim());
      assert.deepEqual([anew.starts, anew.handbacks], [1, 0]);
    });

    it("says so where the job expires before it is due again", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a", { expiresMs: 5_000 }), newJob("b", { expiresMs: 5_000 }));
      const [first, second] = await b.claim();
      assert.ok(first && second);
      assert.deepEqual(await b.giveBack(first, { deferMs: 60_000 }), ["expires_first"]);
      assert.deepEqual(await b.giveBack(second, { deferMs: 1_000 }), ["done"]);
    });

    it("settles several jobs in one call", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a", { dueAt: 1 }), newJob("b", { dueAt: 2 }));
      const [first, second] = await b.claim();
      assert.ok(first && second);
      await b.finish(first);
      const back = [first, second].map((lease) => ({ lease, kind: "release" as const, starts: 1 }));
      assert.deepEqual(await b.store.giveBack(b.queue, back), ["refused", "done"]);
      assert.deepEqual(await b.store.giveBack(b.queue, []), []);
    });

    it("does not announce an end", async () => {
      await using b = await bench();
      const { heard, listener } = recorder();
      await using _ = await b.store.onFinished("a", listener);
      await b.giveBack(await b.start("a"));
      await b.settle();
      assert.deepEqual(heard, []);
    });
  });
}

/** Waking idle workers. */
export function describeWakeLines(name: string, bench: OpenBench): void {
  describe(`${name}: wake line`, () => {
    it("wakes by enqueueing, by a hand-back, and by passing a wake-up on", async () => {
      await using b = await bench();
      using line = b.store.openWakeLine(b.queue);
      const woken = async (what: string, act: () => Promise<unknown>) => {
        const state = listen(line);
        await b.settle();
        assert.equal(state.isWoken, false, `woken before ${what}`);
        await act();
        await eventually(() => state.isWoken, `woken by ${what}`);
      };
      await woken("enqueueing", () => b.enqueue(newJob("a")));
      const claim = only(await b.claim());
      await woken("a release", () => b.giveBack(claim, { kind: "release" }));
      const again = only(await b.claim());
      await woken("a retry", () => b.giveBack(again));
      await b.claim();
      await woken("wake", () => b.store.wake(b.queue));
    });

    it("wakes for a job that becomes the next due, and for no later one", async () => {
      await using b = await bench();
      using line = b.store.openWakeLine(b.queue);
      const first = listen(line);
      await b.enqueue(newJob("next", { deferMs: 60_000 }));
      await eventually(() => first.isWoken, "woken for the first deferred job");
      const second = listen(line);
      await b.enqueue(newJob("later", { deferMs: 90_000 }));
      await b.settle();
      assert.equal(second.isWoken, false);
      await b.enqueue(newJob("sooner", { deferMs: 30_000 }));
      await eventually(() => second.isWoken, "woken for a sooner one");
    });

    it("wakes the next worker when a claim leaves due work, and nobody otherwise", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a"), newJob("b"), newJob("c"));
      using line = b.store.openWakeLine(b.queue);
      await b.claim(2);
      const chained = listen(line);
      await eventually(() => chained.isWoken, "woken by a claim that left work");
      await b.claim(2);
      const idle = listen(line);
      await b.settle();
      assert.equal(idle.isWoken, false);
    });

    it("wakes one of several workers by one wake-up", async () => {
      await using b = await bench();
      await using other = await bench(b.store.prefix);
      using one = b.store.openWakeLine(b.queue);
      using two = other.store.openWakeLine(b.queue);
      const states = [listen(one), listen(two)];
      const count = () => states.filter(({ isWoken }) => isWoken).length;
      await b.settle();
      await b.enqueue(newJob("a"));
      await eventually(() => count() > 0, "one is woken");
      await b.settle();
      assert.equal(count(), 1);
      await b.store.wake(b.queue);
      await eventually(() => count() === 2, "the other is woken");
    });

    it("resolves to false after some seconds without work", async () => {
      await using b = await bench();
      using line = b.store.openWakeLine(b.queue);
      assert.equal(await line.wait(), false);
    });
  });
}

/** Aborting jobs. */
export function describeAborts(name: string, bench: OpenBench): void {
  describe(`${name}: abort`, () => {
    const record = bytes("aborted");

    it("ends a job that nobody runs at once, due or deferred", async () => {
      await using b = await bench();
      await b.enqueue(newJob("due"), newJob("deferred", { deferMs: 60_000 }));
      for (const id of ["due", "deferred"]) {
        const { heard, listener } = recorder();
        await using _ = await b.store.onFinished(id, listener);
        assert.equal(await b.store.abort(b.queue, id, record, MINUTE_MS), "aborted");
        assert.equal(await b.resultOf(id), "aborted");
        await eventually(() => heard.length === 1, "the listener is told");
        assert.deepEqual(heard, ["aborted"]);
      }
      assert.equal(await b.isEmpty(), true);
      assert.deepEqual(await b.claim(), []);
    });

    it("keeps the result of an aborted job for as long as it is told", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a"));
      await b.store.abort(b.queue, "a", record, 100);
      await eventually(async () => !await b.resultOf("a"), "the result expires");
    });

    it("asks for a running job to be aborted, until it ends", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      await b.start("b");
      assert.equal(await b.store.abort(b.queue, "a", record, MINUTE_MS), "asked");
      assert.equal(await b.store.abort(b.queue, "a", record, MINUTE_MS), "asked");
      assert.equal(await b.resultOf("a"), undefined);
      assert.deepEqual([...await b.store.findAborts(["a", "b", "c"])], ["a"]);
      assert.deepEqual([...await b.store.findAborts([])], []);
      await b.finish(claim, { success: false, record });
      assert.deepEqual([...await b.store.findAborts(["a"])], []);
    });

    it("finds no job that never was or is complete, and leaves no trace of the request", async () => {
      await using b = await bench();
      await b.finish(await b.start("done"), { lockTailMs: MINUTE_MS });
      for (const id of ["done", "nobody"]) {
        assert.equal(await b.store.abort(b.queue, id, record, MINUTE_MS), "not_found");
      }
      assert.equal(await b.resultOf("done"), "result of done");
      assert.equal(await b.resultOf("nobody"), undefined);
      assert.deepEqual([...await b.store.findAborts(["done", "nobody"])], []);
    });

    it("aborts a job that waits for its retry, or whose worker died", async () => {
      await using b = await bench();
      await b.giveBack(await b.start("retried"), { deferMs: 60_000 });
      await b.start("orphan", SHORT_LEASE_MS);
      await b.outlive("orphan");
      for (const id of ["retried", "orphan"]) {
        assert.equal(await b.store.abort(b.queue, id, record, MINUTE_MS), "aborted");
      }
      assert.deepEqual(await b.claim(), []);
    });
  });
}
