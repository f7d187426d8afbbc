/** A part of the conformance suite: what is read of jobs, and the store's own life. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { QueueConnectionError } from "../errors.ts";
import { bytes, endOf, eventually, newJob, only, rejection } from "./_helpers.ts";
import { idsOf, isAbout, MINUTE_MS, type OpenBench, recorder } from "./_store_bench.ts";

/** Reading, listening, signs of life, and the store's own life. */
export function describeReading(name: string, bench: OpenBench): void {
  describe(`${name}: reading`, () => {
    it("looks a job up, with its payload only if asked", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a", { dueAt: 7_000 }));
      const without = await b.lookUp("a");
      assert.deepEqual({ ...without, now: 0 }, {
        result: undefined,
        payload: undefined,
        hasPayload: true,
        locked: false,
        score: 7_000,
        now: 0,
      });
      isAbout(without.now, Date.now(), "the store's time");
      const { payload } = await b.lookUp("a", true);
      assert.deepEqual(new Uint8Array(payload ?? []), newJob("a").payload);
      const nobody = await b.lookUp("nobody", true);
      assert.deepEqual([nobody.payload, nobody.hasPayload, nobody.score], [
        undefined,
        false,
        undefined,
      ]);
    });

    it("lists a queue by score, running and deferred jobs too, expired ones without payload", async () => {
      await using b = await bench();
      await b.enqueue(newJob("expired", { expiresMs: 5, dueAt: 3 }));
      await b.enqueue(newJob("deferred", { deferMs: 60_000 }), newJob("running", { dueAt: 2 }));
      await b.claim(1);
      await eventually(async () => !(await b.lookUp("expired")).hasPayload, "the job expires");
      const entries = await b.store.queueEntries(b.queue);
      assert.deepEqual(idsOf(entries), ["expired", "running", "deferred"]);
      assert.equal(entries[0]?.payload, undefined);
      assert.deepEqual(new Uint8Array(entries[1]?.payload ?? []), newJob("running").payload);
      const scores = entries.map(({ score }) => score);
      assert.deepEqual(scores, [...scores].sort((x, y) => x - y));
      assert.deepEqual(await b.store.queueEntries(`${b.queue}-other`), []);
    });

    it("lists all results of its prefix, each once", async () => {
      await using b = await bench();
      await using other = await bench();
      const ids = Array.from({ length: 700 }, (_, i) => `j${i}:*`);
      await b.enqueue(...ids.map((id) => newJob(id)));
      for (let claims = await b.claim(350); claims.length > 0; claims = await b.claim(350)) {
        await b.store.finish(b.queue, claims.map((claim) => endOf(claim)));
      }
      await other.finish(await other.start("foreign"));
      const found: [string, string][] = [];
      for await (const { jobId, record } of b.store.results()) {
        found.push([jobId, new TextDecoder().decode(record)]);
      }
      assert.deepEqual(found.sort(), ids.map((id) => [id, `result of ${id}`]).sort());
    });

    it("tells every listener of a job's end until it is disposed", async () => {
      await using b = await bench();
      await using elsewhere = await bench(b.store.prefix);
      const [first, second, third, gone] = [recorder(), recorder(), recorder(), recorder()];
      await using _first = await b.store.onFinished("a", first.listener);
      await using _second = await b.store.onFinished("a", second.listener);
      await using _third = await b.store.onFinished("b", third.listener);
      const disposed = await b.store.onFinished("a", gone.listener);
      await disposed[Symbol.asyncDispose]();
      await elsewhere.finish(await elsewhere.start("a"));
      await eventually(() => first.heard.length && second.heard.length, "both are told");
      await b.settle();
      assert.deepEqual(first.heard, ["result of a"]);
      assert.deepEqual(second.heard, ["result of a"]);
      assert.deepEqual([third.heard, gone.heard], [[], []]);
    });

    it("tells of the ends of jobs with ids of any kind, and does not mix them up", async () => {
      await using b = await bench();
      const ids = ["a", "a@1", "a@2", "a@", "@a", "é@1:2", "12:x", "*", "a b\n"];
      const heard: string[] = [];
      for (const id of ids) {
        await b.store.onFinished(id, (record) => {
          heard.push(`${id}: ${new TextDecoder().decode(record)}`);
        });
      }
      await b.enqueue(...ids.map((id, i) => newJob(id, { dueAt: i + 1 })));
      const claims = await b.claim(20);
      await b.store.finish(b.queue, claims.map((claim) => endOf(claim)));
      await eventually(() => heard.length >= ids.length, "all are told");
      await b.settle();
      assert.deepEqual(heard.sort(), ids.map((id) => `${id}: result of ${id}`).sort());
    });

    it("tells of an end whose result is large or not kept", async () => {
      await using b = await bench();
      const { heard, listener } = recorder();
      await using _large = await b.store.onFinished("large", () => heard.push("large"));
      await using _brief = await b.store.onFinished("brief", listener);
      await b.finish(await b.start("large"), { record: new Uint8Array(200_000) });
      await eventually(() => heard.length === 1, "told of the large result");
      await b.finish(await b.start("brief"), { keepMs: 0 });
      await eventually(() => heard.length === 2, "told of the result that is not kept");
      assert.deepEqual(heard, ["large", "result of brief"]);
    });

    it("misses no end once onFinished has resolved", async () => {
      await using b = await bench();
      const ids = Array.from({ length: 30 }, (_, i) => `j${i}`);
      await b.enqueue(...ids.map((id) => newJob(id)));
      const claims = await b.claim(30);
      const told = new Set<string>();
      await Promise.all(claims.map(async (claim) => {
        await b.store.onFinished(claim.jobId, () => told.add(claim.jobId));
        await b.finish(claim);
      }));
      await eventually(() => told.size === 30, "all are told");
    });
  });

  describe(`${name}: health`, () => {
    it("writes, reads and removes a sign of life", async () => {
      await using b = await bench();
      const key = `${b.queue}:health-check`;
      assert.equal(await b.store.readHealth(key), undefined);
      await b.store.writeHealth(key, "ché €", MINUTE_MS);
      await b.store.writeHealth(key, "alive €", MINUTE_MS);
      assert.equal(await b.store.readHealth(key), "alive €");
      await b.store.removeHealth(key);
      await b.store.removeHealth(key);
      assert.equal(await b.store.readHealth(key), undefined);
    });

    it("lets a sign of life expire", async () => {
      await using b = await bench();
      await b.store.writeHealth(`${b.queue}:h`, "alive", 60);
      await eventually(async () => !await b.store.readHealth(`${b.queue}:h`), "it expires");
    });
  });

  describe(`${name}: the store itself`, () => {
    it("describes itself in one line and accepts its own queue", async () => {
      await using b = await bench();
      const { info, warning } = await b.store.describe();
      assert.match(info, /^\S.*$/);
      assert.equal(warning, undefined);
      b.store.checkQueueName(b.queue);
      using _ = b.store.onReconnect(() => {});
    });

    it("refuses calls after close, closes twice, and can be connected again", async () => {
      await using b = await bench();
      await b.enqueue(newJob("a", { deferMs: 60_000 }));
      using _keep = (await bench(b.store.prefix)).store.openWakeLine(b.queue); // a store in memory stays
      assert.equal(b.store.isOpen, true);
      await b.store.close();
      await b.store.close();
      assert.equal(b.store.isOpen, false);
      assert.ok(await rejection(b.lookUp("a")) instanceof QueueConnectionError);
      assert.ok(await rejection(b.claim()) instanceof QueueConnectionError);
      await b.store.connect();
      assert.equal(b.store.isOpen, true);
      assert.equal((await b.lookUp("a")).hasPayload, true);
      const { heard, listener } = recorder();
      await using _ = await b.store.onFinished("a", listener);
      await b.store.abort(b.queue, "a", bytes("aborted"), MINUTE_MS);
      await eventually(() => heard.length > 0, "told after connecting again");
    });

    it("keeps stores with different prefixes apart", async () => {
      await using one = await bench();
      await using two = await bench();
      await one.enqueue(newJob("a", { idKind: "given" }));
      assert.deepEqual(await two.enqueue(newJob("a", { idKind: "given", dueAt: 77 })), [true]);
      const claim = only(await one.claim());
      await one.store.abort(one.queue, "a", bytes("aborted"), MINUTE_MS);
      assert.deepEqual([...await two.store.findAborts(["a"])], []);
      const { heard, listener } = recorder();
      await using _ = await two.store.onFinished("a", listener);
      await one.finish(claim);
      await two.settle();
      assert.deepEqual(heard, []);
      assert.equal((await two.lookUp("a")).score, 77);
    });
  });
}
