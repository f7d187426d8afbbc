/** The part of the conformance suite that is about operators. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { JobList, ListedJob, PageQuery } from "../store.ts";
import { bytes, endOf, eventually, newJob, only } from "./_helpers.ts";
import { fc } from "./_properties.ts";
import {
  type Bench,
  idsOf,
  isAbout,
  listen,
  MINUTE_MS,
  type OpenBench,
  recorder,
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
      const reply = await b.store.claim(b.queue, {
        holder: "holder",
        limit: 10,
        leaseMs: MINUTE_MS,
      });
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
      const other = await b.store.claim(`${b.queue}-other`, {
        holder: "holder",
        limit: 10,
        leaseMs: MINUTE_MS,
      });
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

    it("takes along what a job has told of its progress, but only with the job", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      const { starts } = claim;
      const report = { lease: claim, starts, nth: 1, value: bytes("half") };
      await b.store.report(b.queue, [report], MINUTE_MS);
      assert.equal(await b.store.inspection.remove(`${b.queue}-other`, "a"), "not_found");
      assert.equal((await b.store.readProgress("a"))?.nth, 1);
      await b.finish(claim);
      assert.equal(await remove(b, "a"), "removed");
      assert.equal(await b.store.readProgress("a"), undefined);
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

/** All of a list, read in pages. */
async function readList(
  b: Bench,
  list: JobList,
  more: Partial<PageQuery> = {},
  onPage: (jobs: readonly ListedJob[]) => Promise<unknown> = () => Promise.resolve(),
): Promise<ListedJob[]> {
  const jobs: ListedJob[] = [];
  let after: string | undefined;
  do {
    const page = await b.store.inspection.page(b.queue, { list, limit: 2, ...more, after });
    jobs.push(...page.jobs);
    after = page.next;
    await onPage(page.jobs);
  } while (after !== undefined);
  return jobs;
}

/** Runs a due job to its end, a millisecond after the one before. */
async function end(b: Bench, jobId: string, more: Parameters<typeof endOf>[1] = {}): Promise<void> {
  await b.finish(await b.start(jobId), more);
  const { now } = await b.lookUp("nobody");
  await eventually(async () => (await b.lookUp("nobody")).now > now, "the clock goes on");
}

/** Lists of jobs and single ones. */
export function describeLists(name: string, bench: OpenBench): void {
  describe(`${name}: lists`, () => {
    it("have each job in one list, with what is known of it", async () => {
      await using b = await bench();
      await end(b, "good");
      await end(b, "bad", { success: false });
      await b.giveBack(await b.start("retried"), { deferMs: 60_000, starts: 3 });
      await b.start("running");
      await b.enqueue(newJob("due", { dueAt: 5_000 }));
      const lists = ["in_progress", "queued", "deferred", "failed", "complete"] as const;
      const read = await Promise.all(lists.map((list) => readList(b, list)));
      assert.deepEqual(read.map(idsOf), [["running"], ["due"], ["retried"], ["bad"], ["good"]]);
      const [running, due, retried, bad] = read.map(only);
      assert.deepEqual([running?.locked, due?.locked], [true, false]);
      assert.deepEqual([running?.starts, due?.starts, retried?.starts], [1, 0, 3]);
      assert.equal(due?.at, 5_000);
      assert.deepEqual(new Uint8Array(due?.payload ?? []), newJob("due").payload);
      assert.equal(due?.result, null);
      assert.deepEqual(new Uint8Array(bad?.result ?? []), bytes("result of bad"));
      const { now } = await b.lookUp("nobody");
      isAbout(running?.at ?? NaN, now, "the running job's due time");
      isAbout(retried?.at ?? NaN, now + 60_000, "the deferred job's due time");
      isAbout(bad?.at ?? NaN, now, "the end");
    });

    it("are read in pages of any size, by due time, each job once, whatever its id", async () => {
      await using b = await bench();
      const id = fc.oneof(fc.string({ minLength: 1 }), fc.constantFrom("1:2", ":", "é", "\0", "_"));
      const entry = fc.record({ jobId: id, dueAt: fc.integer({ min: 1, max: 3 }) });
      const entries = fc.uniqueArray(entry, { maxLength: 15, selector: ({ jobId }) => jobId });
      await fc.assert(
        fc.asyncProperty(entries, fc.integer({ min: 1, max: 6 }), async (jobs, limit) => {
          await b.enqueue(...jobs.map((job) => newJob(job.jobId, { ...job, idKind: "given" })));
          const listed = await readList(b, "queued", { limit });
          assert.deepEqual(idsOf(listed).sort(), idsOf(jobs).sort());
          assert.deepEqual(listed.map(({ at }) => at), jobs.map(({ dueAt }) => dueAt).sort());
          for (const { jobId } of jobs) await b.store.inspection.remove(b.queue, jobId);
        }),
        { numRuns: 25 },
      );
    });

    it("go on where they were although the jobs that were read have gone", async () => {
      await using b = await bench();
      const ids = ["a", "b", "c", "d", "e", "f", "g"];
      await b.enqueue(...ids.map((id) => newJob(id, { dueAt: 5_000 }))); // all at one time
      const removeAll = async (jobs: readonly ListedJob[]) => {
        for (const { jobId } of jobs) await b.store.inspection.remove(b.queue, jobId);
      };
      assert.deepEqual(idsOf(await readList(b, "queued", {}, removeAll)), ids);
      assert.equal(await b.isEmpty(), true);
    });

    it("have ended jobs with the newest or the oldest first, and of a span of time", async () => {
      await using b = await bench();
      for (const id of ["a", "b", "c", "d", "e"]) await end(b, id, { success: false });
      assert.deepEqual(idsOf(await readList(b, "failed")), ["e", "d", "c", "b", "a"]);
      const oldestFirst = await readList(b, "failed", { oldestFirst: true });
      assert.deepEqual(idsOf(oldestFirst), ["a", "b", "c", "d", "e"]);
      const [, since = NaN, , until = NaN] = oldestFirst.map(({ at }) => at);
      assert.deepEqual(idsOf(await readList(b, "failed", { since, until })), ["d", "c", "b"]);
      const span = { since, until, oldestFirst: true, limit: 1 };
      assert.deepEqual(idsOf(await readList(b, "failed", span)), ["b", "c", "d"]);
      const { count } = await b.store.inspection.countFailed(b.queue, since);
      assert.equal(count, 4);
      assert.equal((await b.store.inspection.countFailed(b.queue, undefined)).count, 5);
    });

    it("leave out results that were not kept or have expired, and note an aborted job", async () => {
      await using b = await bench();
      await end(b, "kept");
      await end(b, "not kept", { keepMs: 0 });
      await end(b, "short", { keepMs: 20 });
      await end(b, "for ever", { keepMs: "forever" });
      await b.enqueue(newJob("aborted"));
      await b.store.abort(b.queue, "aborted", bytes("aborted"), MINUTE_MS);
      await eventually(async () => !await b.resultOf("short"), "the result expires");
      assert.deepEqual(idsOf(await readList(b, "complete")), ["for ever", "kept"]);
      assert.deepEqual(idsOf(await readList(b, "failed")), ["aborted"]);
    });

    it("show an orphan and a retry where they are due, and a job without data as it is", async () => {
      await using b = await bench();
      await b.giveBack(await b.start("retried"), {});
      await b.claim();
      await b.start("orphan", SHORT_LEASE_MS);
      await b.outlive("orphan");
      await b.enqueue(newJob("expired", { expiresMs: 5 }));
      await eventually(async () => !(await b.lookUp("expired")).hasPayload, "the data expires");
      const queued = await readList(b, "queued");
      assert.deepEqual(idsOf(queued).sort(), ["expired", "orphan"]);
      assert.equal(queued.find(({ jobId }) => jobId === "expired")?.payload, null);
      assert.deepEqual(idsOf(await readList(b, "in_progress")), ["retried"]);
    });

    it("are empty for a queue that nobody has used, and refuse what is no position", async () => {
      await using b = await bench();
      for (const list of ["in_progress", "queued", "deferred", "failed", "complete"] as const) {
        assert.deepEqual(await readList(b, list), []);
        for (const after of ["", "x", "NaN_", "5", "5_%", "inf_%"]) {
          const query = { list, after, limit: 1 };
          await assert.rejects(b.store.inspection.page(b.queue, query), RangeError, after);
        }
      }
    });

    it("are of one queue alone", async () => {
      await using b = await bench();
      await end(b, "ended");
      await b.enqueue(newJob("due"));
      const query = { list: "complete", limit: 10 } as const;
      const other = await b.store.inspection.page(`${b.queue}-other`, query);
      assert.deepEqual(other, { jobs: [], next: undefined });
    });
  });

  describe(`${name}: view`, () => {
    it("tells payload, result, lease, starts and due time of one job", async () => {
      await using b = await bench();
      await end(b, "ended");
      await b.start("running");
      await b.enqueue(newJob("due", { dueAt: 5_000 }));
      const view = (id: string) => b.store.inspection.view(b.queue, id);
      const due = await view("due");
      assert.deepEqual({ ...due, now: 0, payload: new Uint8Array(due.payload ?? []) }, {
        payload: newJob("due").payload,
        result: null,
        locked: false,
        starts: 0,
        score: 5_000,
        now: 0,
      });
      isAbout(due.now, Date.now(), "the store's time");
      const running = await view("running");
      assert.deepEqual([running.locked, running.starts], [true, 1]);
      const ended = await view("ended");
      assert.deepEqual(new Uint8Array(ended.result ?? []), bytes("result of ended"));
      assert.deepEqual([ended.payload, ended.score], [null, undefined]);
      assert.deepEqual({ ...await view("nobody"), now: 0 }, {
        payload: null,
        result: null,
        locked: false,
        starts: 0,
        score: undefined,
        now: 0,
      });
    });
  });
}

/** Enqueueing failures again. */
export function describeRetrying(name: string, bench: OpenBench): void {
  const retrial = (jobId: string, more: { result?: Uint8Array } = {}) => ({
    jobId,
    result: bytes(`result of ${jobId}`),
    payload: bytes(`again ${jobId}`),
    ...more,
  });

  describe(`${name}: retry`, () => {
    it("enqueues jobs in place of their results, due at once, as new ones", async () => {
      await using b = await bench();
      const { heard, listener } = recorder();
      await using _ = await b.store.onFinished("a", listener);
      await end(b, "a", { success: false, lockTailMs: MINUTE_MS });
      await eventually(() => heard.length > 0, "the old end is told"); // or it may come last
      await b.giveBack(await b.start("b"), { kind: "release", starts: 4 });
      await b.finish(only(await b.claim()), { success: false });
      using line = b.store.openWakeLine(b.queue);
      const state = listen(line);
      await b.settle();
      assert.equal(state.isWoken, false);
      const retrials = [retrial("a"), retrial("b")];
      assert.deepEqual(await b.store.inspection.retry(b.queue, retrials, MINUTE_MS), [true, true]);
      await eventually(() => state.isWoken, "a worker is woken");
      assert.equal(await b.resultOf("a"), undefined);
      assert.deepEqual(await readList(b, "failed"), []);
      const claims = await b.claim();
      assert.deepEqual(idsOf(claims).sort(), ["a", "b"]);
      assert.deepEqual(claims.map(({ starts, handbacks }) => [starts, handbacks]), [[1, 0], [
        1,
        0,
      ]]);
      const texts = claims.map(({ payload }) => new TextDecoder().decode(payload ?? undefined));
      assert.deepEqual(texts.sort(), ["again a", "again b"]);
      await b.store.finish(b.queue, claims.map((claim) => endOf(claim, { record: bytes("new") })));
      assert.equal(await b.resultOf("a"), "new");
      await eventually(() => heard.length > 1, "the new end is told");
      assert.deepEqual(heard, ["result of a", "new"]);
    });

    it("refuses where the result is another by now, has gone, or the id is in use", async () => {
      await using b = await bench();
      await end(b, "other", { success: false, record: bytes("another result") });
      await end(b, "twice", { success: false });
      const retrials = ["other", "nobody", "twice", "twice"].map((id) => retrial(id));
      const replies = await b.store.inspection.retry(b.queue, retrials, MINUTE_MS);
      assert.deepEqual(replies, [false, false, true, false]);
      assert.equal(await b.resultOf("other"), "another result");
      assert.equal(only(await b.claim()).jobId, "twice");
      assert.deepEqual(await b.store.inspection.retry(b.queue, [], MINUTE_MS), []);
    });

    it("lets the job expire when it is told", async () => {
      await using b = await bench();
      await end(b, "a", { success: false });
      await b.store.inspection.retry(b.queue, [retrial("a")], 30);
      await eventually(async () => !(await b.lookUp("a")).hasPayload, "it expires");
    });

    it("has one winner where many race", async () => {
      await using b = await bench();
      await using other = await bench(b.store.prefix);
      await end(b, "a", { success: false });
      const calls = Array.from(
        { length: 20 },
        (_, i) => (i % 2 ? b : other).store.inspection.retry(b.queue, [retrial("a")], MINUTE_MS),
      );
      const wins = (await Promise.all(calls)).flat().filter(Boolean);
      assert.equal(wins.length, 1);
      assert.deepEqual(idsOf(await b.claim()), ["a"]);
    });
  });
}
