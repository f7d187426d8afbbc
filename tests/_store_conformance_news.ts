/** The part of the conformance suite that is about watching jobs. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Claim, JobNews } from "../store.ts";
import { bytes, eventually, newJob, only } from "./_helpers.ts";
import { randomPrefix } from "./_redis.ts";
import { type Bench, isAbout, LEASE_MS, type OpenBench, SHORT_LEASE_MS } from "./_store_bench.ts";

const WATCH_MS = 30_000;

/** Reports a value, numbered `nth`. */
function report(b: Bench, lease: Claim, nth: number, value: string): Promise<void> {
  const { starts } = lease;
  return b.store.report(b.queue, [{ lease, starts, nth, value: bytes(value) }], LEASE_MS);
}

function observe(b: Bench, jobId: string, watchMs = WATCH_MS) {
  return b.store.observe(b.queue, jobId, watchMs, true);
}

/** A piece of news without its time, the value as text. */
function shown(news: JobNews): unknown {
  if (!("at" in news)) return news.kind;
  const { at: _, ...rest } = news;
  return "value" in rest ? { ...rest, value: new TextDecoder().decode(rest.value) } : rest;
}

/** Listens to the steps of a job. */
async function hear(b: Bench, jobId: string) {
  const heard: JobNews[] = [];
  const line = await b.store.onNews(b.queue, jobId, (news) => heard.push(news));
  return {
    heard,
    shown: () => heard.map(shown),
    [Symbol.asyncDispose]: () => line[Symbol.asyncDispose](),
  };
}

/** Watching jobs. */
export function describeNews(name: string, bench: OpenBench): void {
  describe(`${name}: watching`, () => {
    it("tells the steps of an observed job in order, with the store's time", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a:1,ü"));
      await using line = await hear(b, "a:1,ü");
      const { now, score, starts, progress, payload } = await observe(b, "a:1,ü");
      assert.deepEqual([starts, progress], [0, undefined]);
      assert.deepEqual(new Uint8Array(payload ?? []), newJob("a:1,ü").payload);
      isAbout(score ?? NaN, now, "the score");
      const first = only(await b.claim());
      await report(b, first, 1, "half, of: it");
      await b.giveBack(first, { deferMs: 0 });
      const second = only(await b.claim());
      await report(b, second, 1, "");
      await eventually(() => line.heard.length >= 5, "all is told");
      const retried = line.heard[2];
      assert.ok(retried?.kind === "retried");
      isAbout(retried.dueAt, now, "when it is due again");
      assert.deepEqual(line.shown(), [
        { kind: "started", starts: 1 },
        { kind: "progress", starts: 1, nth: 1, value: "half, of: it" },
        { kind: "retried", starts: 1, dueAt: retried.dueAt },
        { kind: "started", starts: 2 },
        { kind: "progress", starts: 2, nth: 1, value: "" },
      ]);
      for (const news of line.heard) isAbout("at" in news ? news.at : NaN, now, news.kind);
    });

    it("tells of leases that were released because their claim's reply was lost", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a", { dueAt: 10 }));
      await using line = await hear(b, "a");
      await observe(b, "a");
      only(await b.claim(1, LEASE_MS, "me"));
      assert.equal(await b.store.releaseUnknown(b.queue, "me", []), 1);
      await eventually(() => line.heard.length === 2, "both are told");
      assert.deepEqual(line.shown(), [
        { kind: "started", starts: 1 },
        { kind: "retried", starts: 1, dueAt: 10 },
      ]);
    });

    it("tells of no job that nobody observes, or not any more, or not yet", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a"), newJob("b"), newJob("c"));
      await using a = await hear(b, "a");
      await using c = await hear(b, "c");
      await using late = await hear(b, "b");
      const { now } = await observe(b, "b", 1);
      await eventually(async () => (await b.lookUp("b")).now > now + 1, "the watch of b ends");
      await observe(b, "a");
      const claims = await b.claim();
      await Promise.all(claims.map((claim) => report(b, claim, 1, "x")));
      await eventually(() => a.heard.length === 2, "a is told of");
      await b.settle();
      assert.deepEqual([late.heard, c.heard], [[], []]);
      await observe(b, "c");
      await report(b, only(claims.filter(({ jobId }) => jobId === "c")), 2, "y");
      await eventually(() => c.heard.length === 1, "c is told of from now on");
    });

    it("keeps the last report, and takes none from whoever has lost the lease", async () => {
      await using b = await bench();
      const late = await b.start("a", SHORT_LEASE_MS);
      await report(b, late, 1, "one");
      await report(b, late, 2, "two");
      const read = async () => {
        const { starts, nth, value } = await b.store.readProgress("a") ?? assert.fail();
        return [starts, nth, new TextDecoder().decode(value)];
      };
      assert.deepEqual(await read(), [1, 2, "two"]);
      const { progress, starts, now } = await observe(b, "a");
      assert.deepEqual([progress?.nth, starts], [2, 1]);
      isAbout(progress?.at ?? NaN, now, "the report");
      await b.outlive("a");
      only(await b.claim(1, LEASE_MS, "other"));
      await report(b, late, 3, "three");
      assert.deepEqual(await read(), [1, 2, "two"]);
      assert.equal(await b.store.readProgress("b"), undefined);
    });

    it("forgets the reports of an earlier incarnation, and not those of the last", async () => {
      await using b = await bench();
      const given = newJob("a", { idKind: "given" });
      await b.enqueue(given);
      const claim = only(await b.claim());
      await report(b, claim, 1, "one");
      await b.finish(claim, { keepMs: 0 });
      assert.ok(await b.store.readProgress("a"));
      await b.enqueue(given);
      assert.equal(await b.store.readProgress("a"), undefined);
    });

    it("starts an expired job silently, for it is not run", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a", { expiresMs: 20 }));
      await using line = await hear(b, "a");
      await observe(b, "a");
      await eventually(async () => !(await b.lookUp("a")).hasPayload, "it expires");
      const claim = only(await b.claim());
      await report(b, claim, 1, "x");
      await eventually(() => line.heard.length > 0, "news");
      assert.equal(line.heard[0]?.kind, "progress");
    });

    it("tells every listener, until it leaves", async () => {
      await using b = await bench();
      const claim = await b.start("a");
      await observe(b, "a");
      await using first = await hear(b, "a");
      const second = await hear(b, "a");
      await report(b, claim, 1, "x");
      await eventually(() => first.heard.length + second.heard.length === 2, "both hear");
      await second[Symbol.asyncDispose]();
      await second[Symbol.asyncDispose]();
      await report(b, claim, 2, "y");
      await eventually(() => first.heard.length === 2, "the first hears");
      assert.equal(second.heard.length, 1);
    });

    it("tells other clients, of their own prefix alone", async () => {
      const prefix = randomPrefix();
      await using b = await bench(prefix);
      await using other = await bench(prefix);
      await using stranger = await bench();
      await b.enqueue(newJob("a"));
      await using line = await hear(other, "a");
      await using nothing = await hear(stranger, "a");
      await observe(other, "a");
      await report(b, only(await b.claim()), 1, "x");
      await eventually(() => line.heard.length === 2, "the other client hears");
      assert.deepEqual(nothing.heard, []);
    });
  });
}
