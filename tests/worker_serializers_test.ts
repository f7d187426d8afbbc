import assert from "node:assert/strict";
import type { JobContext } from "../mod.ts";
import { scenarios } from "./_worker.ts";

scenarios("Serializers of the program's own", (scenario) => {
  const jobSerializer = (record: unknown) => new TextEncoder().encode(JSON.stringify(record));
  const jobDeserializer = (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes));
  const json = { jobSerializer, jobDeserializer };
  const add = (_ctx: JobContext, a: number, b: { c: number }) => ({ sum: a + b.c });

  scenario("carry jobs, results and errors", async (scene) => {
    const arq = await scene.pool(json);
    const job = await arq.enqueueJob("add", [1, { c: 2 }]);
    const bad = await arq.enqueueJob("fail");
    const fail = () => Promise.reject(new RangeError("as JSON"));
    await scene.burst({ functions: { add, fail }, ...json });
    assert.deepEqual(await job.result(), { sum: 3 });
    await assert.rejects(bad.result(), { name: "RangeError", message: "as JSON" });
    assert.equal((await arq.allJobResults()).length, 2);
  });

  scenario("are the pool's where a worker is given one", async (scene) => {
    const arq = await scene.pool(json);
    await arq.enqueueJob("add", [1, { c: 2 }]);
    const worker = await scene.burst({ functions: { add }, connection: arq });
    assert.equal(worker.jobsComplete, 1);
    assert.throws(
      () =>
        scene.worker({
          functions: { add },
          connection: arq,
          jobSerializer: () => new Uint8Array(),
        }),
      /jobSerializer is the pool's where connection is one: give it to createPool/,
    );
    assert.throws(
      () => scene.worker({ functions: { add }, connection: arq, expiresExtra: 5_000 }),
      /expiresExtra is the pool's where connection is one: give it to createPool/,
    );
  });

  scenario("that differ from the client's fail the job, and the worker goes on", async (scene) => {
    const job = await scene.arq.enqueueJob("add", [1, { c: 2 }], { deferUntil: 1 });
    const arq = await scene.pool(json);
    const good = await arq.enqueueJob("add", [1, { c: 2 }]);
    const worker = await scene.burst({ functions: { add }, ...json });
    assert.equal(String(worker), "<Worker j_complete=1 j_failed=1 j_retried=0 j_ongoing=0>");
    assert.deepEqual(await good.result(), { sum: 3 });
    const told =
      /^DeserializationError: .*; do all clients and workers have the same jobSerializer/;
    assert.match(String((await arq.job(job.jobId).resultInfo())?.result), told);
    await assert.rejects(job.result(), (error) => told.test(String(error)));
  });

  scenario("that always throw still let every job end", async (scene) => {
    const broken = () => {
      throw new Error("broken serializer");
    };
    const job = await scene.arq.enqueueJob("add", [1, { c: 2 }]);
    const worker = await scene.burst({ functions: { add }, jobSerializer: broken });
    assert.equal(worker.jobsFailed, 1);
    await assert.rejects(job.result(), /broken serializer/);
  });
});
