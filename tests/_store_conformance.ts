/**
 * What every store must do, sentence by sentence of the `Store` interface. It runs unchanged
 * against each of them, so it knows nothing of what is behind the interface.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Claim } from "../store.ts";
import { bytes, endOf, eventually, newJob, only } from "./_helpers.ts";
import { fc } from "./_properties.ts";
import { randomPrefix } from "./_redis.ts";
import {
  Bench,
  idsOf,
  isAbout,
  LEASE_MS,
  MINUTE_MS,
  type OpenBench,
  type OpenStore,
  SHORT_LEASE_MS,
} from "./_store_bench.ts";
import { describeAborts, describeEnds, describeWakeLines } from "./_store_conformance_ends.ts";
import { describeNews } from "./_store_conformance_news.ts";
import { describeNumbers } from "./_store_conformance_numbers.ts";
import { describeLists, describeRetrying, describeSteering } from "./_store_conformance_ops.ts";
import { describeReading } from "./_store_conformance_reading.ts";

/** Declares the suite for one store. */
export function conformance(name: string, open: OpenStore): void {
  const bench: OpenBench = async (prefix = randomPrefix()) => new Bench(await open(prefix));

  describe(`${name}: enqueue`, () => {
    it("accepts random, given and slot ids", async () => {
      await using b = await bench();
      const { now } = await b.lookUp("a");
      const jobs = [
        newJob("a"),
        newJob("b", { idKind: "given" }),
        newJob("c", { idKind: "slot", dueAt: now }),
      ];
      assert.deepEqual(await b.enqueue(...jobs), [true, true, true]);
      const entries = await b.store.queueEntries(b.queue);
      assert.deepEqual(idsOf(entries).sort(), ["a", "b", "c"]);
    });

    it("accepts an empty list", async () => {
      await using b = await bench();
      assert.deepEqual(await b.enqueue(), []);
    });

    it("leaves a job whose id is taken as it is", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a", { idKind: "given", dueAt: 5_000 }));
      const again = newJob("a", { idKind: "given", payload: bytes("other"), deferMs: 1 });
      assert.deepEqual(await b.enqueue(again), [false]);
      const { payload, score } = await b.lookUp("a", true);
      assert.deepEqual(new Uint8Array(payload ?? []), newJob("a").payload);
      assert.equal(score, 5_000);
    });

    it("takes an id as taken while its job runs and while its result is kept", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      assert.deepEqual(await b.enqueue(newJob("a", { idKind: "given" })), [false]);
      await b.finish(claim);
      assert.deepEqual(await b.enqueue(newJob("a", { idKind: "given" })), [false]);
      await b.finish(await b.start("brief"), { keepMs: 50 });
      await eventually(
        async () => (await b.enqueue(newJob("brief", { idKind: "given" })))[0],
        "the id is free again",
      );
    });

    it("takes an id as taken while its job runs although its data has expired", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a", { expiresMs: 40 }));
      only(await b.claim());
      await eventually(async () => !(await b.lookUp("a")).hasPayload, "the data expires");
      assert.deepEqual(await b.enqueue(newJob("a", { idKind: "given" })), [false]);
    });

    it("gives an id that occurs twice in one call to the first", async () => {
      await using b = await bench();
      const jobs = ["a", "b", "a"].map((id, i) =>
        newJob(id, { idKind: "given", payload: bytes(String(i)) })
      );
      assert.deepEqual(await b.enqueue(...jobs), [true, true, false]);
      const { payload } = await b.lookUp("a", true);
      assert.deepEqual(new Uint8Array(payload ?? []), bytes("0"));
    });

    it("has one winner when many race for an id", async () => {
      await using b = await bench();
      await using other = await bench(b.store.prefix);
      const job = newJob("a", { idKind: "given" });
      const calls = Array.from({ length: 40 }, (_, i) => (i % 2 ? b : other).enqueue(job));
      const wins = (await Promise.all(calls)).filter(([isNew]) => isNew);
      assert.equal(wins.length, 1);
    });

    it("refuses a slot that is locked or more than a minute late", async () => {
      await using b = await bench();
      const { now } = await b.lookUp("a");
      const slot = (id: string, dueAt: number) => newJob(id, { idKind: "slot", dueAt });
      assert.deepEqual(
        await b.enqueue(slot("late", now - 62_000), slot("recent", now - 50_000)),
        [false, true],
      );
      await b.finish(only(await b.claim()), { keepMs: 0, lockTailMs: MINUTE_MS });
      assert.deepEqual(await b.enqueue(slot("recent", now)), [false]);
      assert.equal((await b.lookUp("recent")).locked, true);
      await b.enqueue(slot("brief", now - 50_000));
      await b.finish(only(await b.claim()), { keepMs: 0, lockTailMs: 50 });
      await eventually(
        async () => (await b.enqueue(slot("brief", now)))[0],
        "the slot's lock ends",
      );
    });

    it("accepts one job for a slot that its id does not name, until the slot is too late", async () => {
      await using b = await bench();
      const { now } = await b.lookUp("a");
      const slot = (slotId: string, dueAt: number) =>
        b.enqueue(newJob("only", { idKind: "slot", slotId, dueAt }));
      const run = async () => void await b.finish(only(await b.claim()), { keepMs: 0 });
      assert.deepEqual(await slot("a,b:1", now), [true]);
      assert.deepEqual(await slot("a,b:2", now), [false], "one job at a time");
      await run();
      assert.deepEqual(await slot("a,b:1", now), [false], "its job has run");
      assert.deepEqual(await slot("a,b:2", now), [true]);
      await run();
      assert.deepEqual(await slot("a,b:0", now - 62_000), [false], "too late");
      const last = (await b.lookUp("a")).now - 60_000 + 1_500; // soon too late
      assert.deepEqual(await slot("a,b:3", last), [true]);
      await run();
      await eventually(async () => !(await b.lookUp("a,b:3")).locked, "its lock ends");
      assert.equal((await b.lookUp("a,b:1")).locked, true);
      assert.deepEqual(await slot("a,b:3", last), [false], "too late by now");
    });

    it("sets when a job is due: now, in a while, or at an instant, which wins", async () => {
      await using b = await bench();
      const { now } = await b.lookUp("a");
      await b.enqueue(
        newJob("now"),
        newJob("while", { deferMs: 5_000 }),
        newJob("instant", { dueAt: now + 9_000, deferMs: 5_000 }),
      );
      const score = async (id: string) => (await b.lookUp(id)).score ?? NaN;
      isAbout(await score("now"), now, "now");
      isAbout(await score("while"), now + 5_000, "in a while");
      assert.equal(await score("instant"), now + 9_000);
      assert.deepEqual(idsOf(await b.claim()), ["now"]);
    });

    it("runs a job that was due long ago, before the epoch too", async () => {
      await using b = await bench();
      await b.enqueue(newJob("old", { dueAt: 86_400 }), newJob("ancient", { dueAt: -5 }));
      const claims = await b.claim();
      assert.deepEqual(idsOf(claims), ["ancient", "old"]);
      assert.ok(claims.every(({ payload, score }) => payload && Number(score) >= 1));
    });

    it("accepts a job for any time to come", async () => {
      await using b = await bench();
      const times = [{ dueAt: 8.64e15 }, { dueAt: 1e300 }, { deferMs: Number.MAX_SAFE_INTEGER }];
      const far = times.map((time, i) => newJob(`j${i}`, { ...time, idKind: "given" }));
      const isNew = await b.enqueue(newJob("a", { idKind: "given" }), ...far);
      assert.deepEqual(isNew, [true, true, true, true]);
      const claim = only(await b.claim());
      assert.equal(claim.jobId, "a");
      await b.giveBack(claim, { deferMs: Number.MAX_SAFE_INTEGER });
      const scores = (await b.store.queueEntries(b.queue)).map(({ score }) => score);
      assert.deepEqual(scores, [8.64e15, 8.64e15, 8.64e15, 8.64e15]); // The last that a date can hold.
    });

    it("lets a job expire after `expiresMs`, or `extraMs` after it is due", async () => {
      await using b = await bench();
      const jobs = [
        newJob("own", { expiresMs: 30 }),
        newJob("extra"),
        newJob("later", { deferMs: 60_000 }),
      ];
      await b.store.enqueue(b.queue, jobs, 60);
      for (const id of ["own", "extra"]) {
        await eventually(async () => !(await b.lookUp(id)).hasPayload, `${id} expires`);
      }
      assert.equal((await b.lookUp("later")).hasPayload, true);
    });

    it("forgets starts, hand-backs and abort requests of an earlier job with the id", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      await b.store.abort(b.queue, "a", bytes("aborted"), MINUTE_MS);
      await b.giveBack(claim, { kind: "release" });
      await b.finish(only(await b.claim()), { keepMs: 0 });
      await b.enqueue(newJob("a", { idKind: "given" }));
      const { starts, handbacks, abortAsked } = only(await b.claim());
      assert.deepEqual({ starts, handbacks, abortAsked }, {
        starts: 1,
        handbacks: 0,
        abortAsked: false,
      });
    });
  });

  describe(`${name}: claim`, () => {
    it("takes due jobs by score, up to the limit, with the bytes that were enqueued", async () => {
      await using b = await bench();
      await b.enqueue(...[30, 10, 20].map((dueAt) => newJob(`j${dueAt}`, { dueAt })));
      const first = await b.claim(2);
      assert.deepEqual(idsOf(first), ["j10", "j20"]);
      assert.deepEqual(first.map(({ score }) => Number(score)), [10, 20]);
      assert.deepEqual(new Uint8Array(first[0]?.payload ?? []), newJob("j10").payload);
      assert.deepEqual(idsOf(await b.claim(2)), ["j30"]);
      assert.deepEqual(await b.claim(2), []);
    });

    it("keeps ids and payloads of any kind, and gives every job to exactly one claim", async () => {
      await using b = await bench();
      const id = fc.oneof(
        fc.string({ minLength: 1 }),
        fc.string({ minLength: 1, unit: "grapheme" }),
      );
      const entry = fc.record({
        jobId: fc.oneof(id, fc.constantFrom("1:2", ":", "a:b\n", "*", "\0")),
        payload: fc.uint8Array({ maxLength: 300 }),
        dueAt: fc.integer({ min: 1, max: 1_000_000 }),
      });
      const entries = fc.uniqueArray(entry, { maxLength: 12, selector: ({ jobId }) => jobId });
      await fc.assert(
        fc.asyncProperty(entries, fc.integer({ min: 1, max: 5 }), async (jobs, limit) => {
          await b.enqueue(...jobs.map((job) => ({ ...job, idKind: "given" as const })));
          const claims: Claim[] = [];
          for (let left = jobs.length; left > 0; left -= limit) {
            claims.push(...await b.claim(limit));
          }
          assert.deepEqual(
            Object.fromEntries(claims.map((c) => [c.jobId, [...c.payload ?? []]])),
            Object.fromEntries(jobs.map((job) => [job.jobId, [...job.payload]])),
          );
          const scores = claims.map(({ score }) => Number(score));
          assert.deepEqual(scores, jobs.map(({ dueAt }) => dueAt).sort((x, y) => x - y));
          const ends = claims.map((claim) => endOf(claim, { keepMs: 0 }));
          assert.ok((await b.store.finish(b.queue, ends)).every((end) => end === "done"));
          assert.equal(await b.isEmpty(), true);
        }),
        { numRuns: 40 },
      );
    });

    it("never gives a job to two claimers", async () => {
      await using b = await bench();
      await using other = await bench(b.store.prefix);
      const ids = Array.from({ length: 300 }, (_, i) => `j${i}`);
      await b.enqueue(...ids.map((id) => newJob(id)));
      const calls = Array.from(
        { length: 60 },
        (_, i) => (i % 2 ? b : other).claim(7, LEASE_MS, `h${i}`),
      );
      const taken = (await Promise.all(calls)).flat();
      assert.equal(taken.length, 300);
      assert.deepEqual(idsOf(taken).sort(), ids.sort());
      const owners = new Set(taken.map(({ token, jobId }) => `${token} ${jobId}`));
      assert.equal(owners.size, 300);
    });

    it("sets tokens that start with the holder, and a lease that shows in the job", async () => {
      await using b = await bench();
      const claim = await b.start("a", LEASE_MS, "me");
      assert.ok(claim.token.startsWith("me"));
      const { locked, score, now } = await b.lookUp("a");
      assert.equal(locked, true);
      isAbout(score ?? NaN, now + LEASE_MS, "the lease's end");
    });

    it("takes orphans of an ended lease first, with their original score", async () => {
      await using b = await bench();
      await b.enqueue(newJob("orphan", { dueAt: 5_000 }));
      const dead = only(await b.claim(1, SHORT_LEASE_MS, "dead"));
      await b.enqueue(newJob("older", { dueAt: 1_000 }));
      await b.outlive("orphan");
      const orphan = only(await b.claim(1));
      assert.equal(orphan.jobId, "orphan");
      assert.equal(Number(orphan.score), 5_000);
      assert.equal(orphan.starts, 2);
      assert.equal(orphan.handbacks, 0);
      assert.notEqual(orphan.token, dead.token);
      assert.deepEqual(idsOf(await b.claim()), ["older"]);
    });

    it("gives one orphan at a time that begins its last try, and the others with it", async () => {
      await using b = await bench();
      await b.enqueue(newJob("s1", { dueAt: 1_000 }), newJob("s2", { dueAt: 2_000 }));
      for (const next of ["orphan", "due"]) {
        const claims = await b.claim(10, SHORT_LEASE_MS); // by a worker that dies
        for (const { jobId } of claims) await b.outlive(jobId);
        await b.enqueue(newJob(next, { dueAt: 500 }));
      }
      const take = async (mayTake: boolean) => {
        const suspects = { lastTry: 3, mayTake };
        const { claims } = await b.store.claim(b.queue, {
          holder: "holder",
          limit: 10,
          leaseMs: LEASE_MS,
          suspects,
        });
        return claims.map(({ jobId, starts, isSuspect }) => `${jobId} ${starts} ${isSuspect}`);
      };
      assert.deepEqual(await take(false), ["orphan 2 false", "due 1 false"]);
      const first = await take(true);
      assert.equal(first.length, 1);
      assert.deepEqual(await take(false), []);
      const both = [...first, ...await take(true)].sort();
      assert.deepEqual(both, ["s1 3 true", "s2 3 true"]);
    });

    it("gives one such orphan to a claim of any size", async () => {
      await using b = await bench();
      await b.enqueue(...["s1", "s2", "s3", "s4"].map((id) => newJob(id)));
      for (const { jobId } of await b.claim(10, SHORT_LEASE_MS)) await b.outlive(jobId);
      await b.enqueue(...Array.from({ length: 100 }, (_, i) => newJob(`due ${i}`)));
      const suspects = { lastTry: 2, mayTake: true };
      const { claims } = await b.store.claim(b.queue, {
        holder: "holder",
        limit: 100,
        leaseMs: LEASE_MS,
        suspects,
      });
      assert.equal(claims.length, 100);
      assert.equal(claims.filter(({ isSuspect }) => isSuspect).length, 1);
    });

    it("counts starts, and those that ended in a hand-back", async () => {
      await using b = await bench();
      const counts: number[][] = [];
      let claim = await b.start("a");
      for (const kind of ["release", "retry", "release"] as const) {
        await b.giveBack(claim, { kind });
        claim = only(await b.claim());
        counts.push([claim.starts, claim.handbacks]);
      }
      assert.deepEqual(counts, [[2, 1], [3, 1], [4, 2]]);
    });

    it("hands out an expired job without payload, so that its end can be recorded", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a", { expiresMs: 5 }));
      await eventually(async () => !(await b.lookUp("a")).hasPayload, "the job expires");
      const claim = only(await b.claim());
      assert.equal(claim.payload, null);
      assert.deepEqual(await b.finish(claim, { success: false }), ["done"]);
      assert.equal(await b.resultOf("a"), "result of a");
      assert.equal(await b.isEmpty(), true);
    });

    it("tells of an abort that was asked for before the start", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      await b.store.abort(b.queue, "a", bytes("aborted"), MINUTE_MS);
      await b.giveBack(claim);
      assert.equal(only(await b.claim()).abortAsked, true);
    });

    it("tells the time, the queue's length, and when the next job or lease is due", async () => {
      await using b = await bench();
      const empty = await b.store.claim(b.queue, { holder: "h", limit: 10, leaseMs: 8_000 });
      assert.equal(empty.nextDueMs, undefined);
      assert.equal(empty.queued, 0);
      isAbout(empty.now, Date.now(), "the store's time");
      await b.enqueue(newJob("due"), newJob("deferred", { deferMs: 20_000 }));
      const first = await b.store.claim(b.queue, { holder: "h", limit: 10, leaseMs: 8_000 });
      assert.equal(first.queued, 2);
      isAbout(first.nextDueMs ?? NaN, 8_000, "the end of the lease");
      await b.finish(only(first.claims));
      const second = await b.store.claim(b.queue, { holder: "h", limit: 10, leaseMs: 8_000 });
      assert.equal(second.queued, 1);
      isAbout(second.nextDueMs ?? NaN, 20_000, "the deferred job");
    });
  });

  describe(`${name}: leases`, () => {
    it("renews a lease for as long as its worker asks", async () => {
      await using b = await bench();
      const leaseMs = 1_500; // On a busy machine a shorter one may end between two renewals.
      const claim = await b.start("a", leaseMs);
      const { now } = await b.lookUp("a");
      await eventually(async () => {
        assert.deepEqual(await b.store.renew(b.queue, [claim], leaseMs), [true]);
        assert.deepEqual(await b.claim(), []);
        return (await b.lookUp("a")).now > now + 1.2 * leaseMs;
      }, "a lease passes");
      assert.deepEqual(await b.finish(claim), ["done"]);
    });

    it("tells which leases are lost: taken by another, finished or given back", async () => {
      await using b = await bench();
      const lost = await b.start("lost", SHORT_LEASE_MS);
      await b.outlive("lost");
      const taken = only(await b.claim(1, LEASE_MS, "other"));
      const finished = await b.start("finished");
      await b.finish(finished);
      const returned = await b.start("returned");
      await b.giveBack(returned, { deferMs: 60_000 });
      const leases = [lost, taken, finished, returned];
      assert.deepEqual(await b.store.renew(b.queue, leases, LEASE_MS), [false, true, false, false]);
      assert.deepEqual(await b.store.renew(b.queue, [], LEASE_MS), []);
    });

    it("releases leases whose claim's reply was lost, and no others", async () => {
      await using b = await bench();
      await b.enqueue(...["known", "unknown"].map((id, i) => newJob(id, { dueAt: 10 + i })));
      const [known] = await b.claim(2, LEASE_MS, "me");
      await b.start("foreign", LEASE_MS, "me2");
      assert.ok(known);
      assert.equal(await b.store.releaseUnknown(b.queue, "me", [known]), 1);
      assert.equal(await b.store.releaseUnknown(b.queue, "me", [known]), 0);
      const again = only(await b.claim());
      assert.equal(again.jobId, "unknown");
      assert.deepEqual([Number(again.score), again.starts, again.handbacks], [11, 2, 1]);
      assert.deepEqual(await b.finish(known), ["done"]);
    });
  });

  describeEnds(name, bench);
  describeWakeLines(name, bench);
  describeAborts(name, bench);
  describeReading(name, bench);
  describeSteering(name, bench);
  describeNews(name, bench);
  describeLists(name, bench);
  describeRetrying(name, bench);
  describeNumbers(name, bench);
}
