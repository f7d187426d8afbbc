/** A queue on a Cluster of three primaries, whose slots move and whose nodes go and come. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { createPool, cron, type JobContext, QueueConnectionError, Retry, Worker } from "../mod.ts";
import type { Claim, Store } from "../store.ts";
import { bytes, endOf, eventually, newJob, only, openTestStore, rejection } from "./_helpers.ts";
import { randomPrefix } from "./_redis.ts";
import { ask, ClusterService } from "./_topologies.ts";
import { Gate, until } from "./_worker.ts";

/** Nobody polls within a test: only wake-ups and news can bring anything about. */
const NEVER = 60_000;
const LEASE_MS = 30_000;
const PAGE = readFileSync(new URL("../docs/stores.md", import.meta.url), "utf8");
const LINE = /^ACL SETUSER arq .*$/m.exec(PAGE)?.[0] ?? "";
const CLUSTER_RIGHTS = /A\sCluster\sneeds\s`(.*?)`/s.exec(PAGE)?.[1]?.split(" ") ?? [];

let cluster: ClusterService;
before(async () => {
  cluster = await ClusterService.start();
});
after(() => cluster[Symbol.asyncDispose]());

const taggedPrefix = () => `{${randomPrefix()}}`;

describe("Redis Cluster: slots that move", () => {
  it("let no script do half of its work (rule 30)", async () => {
    await using store = await openTestStore({ url: cluster.url, prefix: taggedPrefix() });
    const queue = `${store.prefix}queue`;
    const claim = async () =>
      only((await store.claim(queue, { holder: "holder", limit: 1, leaseMs: LEASE_MS })).claims);
    await store.enqueue(queue, [newJob("a")], LEASE_MS);
    const lease = await claim();
    await store.giveBack(queue, [{ lease, kind: "release", starts: 1 }]);
    const again = await claim();
    await store.enqueue(queue, [newJob("b")], LEASE_MS);
    await claim();
    await store.abort(queue, "b", bytes("aborted"), 60_000);
    await store.enqueue(queue, [newJob("c")], LEASE_MS);
    // Every key that finishing the job looks at is there now, but for that of its result.
    const slot = await cluster.slotOf(queue);
    const refusals = () => cluster.countErrors("ERR", "TRYAGAIN");
    let finished: ReturnType<Store["finish"]> | undefined;
    await cluster.migrate(slot, {
      meanwhile: async () => {
        const before = await refusals();
        finished = store.finish(queue, [endOf(again)]);
        await eventually(async () => await refusals() > before, "a refused script");
      },
    });
    assert.deepEqual(await finished, ["done"]);
    const { result } = await store.lookUp(queue, "a", false);
    assert.equal(new TextDecoder().decode(result), "result of a");
  });

  it("hide no result from a listing that is under way", async () => {
    await using store = await openTestStore({ url: cluster.url, prefix: taggedPrefix() });
    const queue = `${store.prefix}queue`;
    const ids = Array.from({ length: 2_500 }, (_, i) => `j${i}`);
    await store.enqueue(queue, ids.map((id) => newJob(id)), LEASE_MS);
    const claims: Claim[] = [];
    while (claims.length < ids.length) {
      claims.push(
        ...(await store.claim(queue, { holder: "holder", limit: 500, leaseMs: LEASE_MS })).claims,
      );
    }
    await store.finish(queue, claims.map((claim) => endOf(claim)));
    const slot = await cluster.slotOf(queue);
    const found = new Set<string>();
    for await (const { jobId } of store.results()) {
      if (found.size === 0) await cluster.migrate(slot, { keysAtATime: 500 });
      found.add(jobId);
    }
    assert.equal(found.size, ids.length);
  });
});

describe("Redis Cluster: a worker", () => {
  it("runs all kinds of jobs while its slot moves, with no more rights than documented", async () => {
    const prefix = taggedPrefix();
    const line = LINE.replace("PASSWORD", "secret").replaceAll("arq:", prefix).split(" ");
    for (const node of cluster.nodes) await ask(node, ...line, ...CLUSTER_RIGHTS);
    const connection = cluster.url.replace("//", "//arq:secret@");
    await using arq = await createPool(connection, { prefix });
    const gate = new Gate();
    const slots: number[] = [];
    const functions = {
      double: (_ctx: JobContext, n: number) => 2 * n,
      fail: () => {
        throw new RangeError("no such thing");
      },
      again: (ctx: JobContext) => {
        if (ctx.jobTry < 3) throw new Retry({ defer: 20 });
        return ctx.jobTry;
      },
      wait: (ctx: JobContext) => gate.pass(ctx.signal),
    };
    const tick = cron((ctx) => void slots.push(ctx.score), "* * * * * *", { name: "tick" });
    const settings = { functions, cronJobs: [tick], connection, prefix };
    const workers = [1, 2].map(() => new Worker(settings));
    const ended = workers.map((worker) => worker.run());
    {
      await using _moving = cluster.keepMoving(arq.defaultQueueName);
      const jobs = await arq.enqueueJobs(
        Array.from({ length: 300 }, (_, n) => ({
          name: "double",
          args: [n],
          options: { deferBy: 5 * n },
        })),
      );
      const wait = await arq.enqueueJob("wait");
      await gate.reached();
      assert.equal(await wait.abort({ timeout: 10_000 }), true);
      await assert.rejects(arq.call("fail", [], { timeout: 10_000 }), RangeError);
      assert.equal(await arq.call("again", [], { timeout: 10_000 }), 3);
      for (const [n, job] of jobs.entries()) {
        assert.equal(await job.result({ timeout: 10_000 }), 2 * n);
      }
      await until("two slots", () => slots.length >= 2);
      assert.ok((await arq.allJobResults()).length >= 303);
    }
    for (const worker of workers) await worker.close();
    await Promise.all(ended);
    assert.equal(new Set(slots).size, slots.length, "a slot has run twice");
    const complete = workers.reduce((sum, { jobsComplete }) => sum + jobsComplete, 0);
    assert.equal(complete, 301 + slots.length, "a job has run twice");
  });

  it("is woken and heard of after its slot has moved, and after each node's restart", async () => {
    const prefix = taggedPrefix();
    await using arq = await createPool(cluster.url, { prefix });
    const functions = { echo: (_ctx: JobContext, n: number) => n };
    const worker = new Worker({ functions, connection: cluster.url, prefix, pollDelay: NEVER });
    const ended = worker.run();
    const call = async (n: number) =>
      assert.equal(await arq.call("echo", [n], { pollDelay: NEVER, timeout: 10_000 }), n);
    await call(0);
    const slot = await cluster.slotOf(arq.defaultQueueName);
    for (const n of [1, 2]) {
      await cluster.migrate(slot);
      await call(n);
    }
    for (const [n, node] of cluster.nodes.entries()) {
      await node.restart();
      await cluster.isUp();
      await call(n);
    }
    await worker.close();
    await ended;
  });

  it("needs a hash tag in its prefix and queue, and says so", async () => {
    const { url } = cluster;
    const { message } = await rejection(createPool(url));
    assert.match(message, /^On a Cluster the prefix needs a hash tag, such as "\{arq\}:"/);
    const settings = { functions: { one: () => 1 }, connection: url, prefix: "{arq}:" };
    assert.throws(
      () => new Worker({ ...settings, queueName: "other" }),
      /the queue's name needs the prefix's tag \{arq\}, got "other"/,
    );
  });

  it("is told in words that a node takes it for a single server, or that a part is down", async () => {
    const [node, , last] = cluster.nodes;
    const prefix = "{somebody}:";
    await using single = await createPool(String(node?.url), { prefix });
    await using untagged = await createPool(String(node?.url), { prefix: "untagged:" });
    await using arq = await createPool(`${cluster.url}?timeout=1000`, { prefix });
    const refusal = async (call: Promise<unknown>) => {
      const error = await rejection(call);
      assert.ok(error instanceof QueueConnectionError, String(error));
      return error.message;
    };
    const advice = /: it is a node of a Cluster; connect with redis\+cluster:\/\/ and a hash tag/;
    assert.match(await refusal(untagged.enqueueJob("f")), advice);
    const slot = await cluster.slotOf(prefix);
    while (await cluster.ownerOf(slot) !== 1) await cluster.migrate(slot);
    assert.match(await refusal(single.enqueueJob("f")), advice);
    last?.kill("SIGKILL");
    const words = /^Redis at \S+: a part of the Cluster is down \(CLUSTERDOWN /;
    const told = () => arq.enqueueJob("f").then(String, (error: Error) => error.message);
    await eventually(async () => words.test(await told()), "the error in words", 20_000);
    await last?.restart();
    await eventually(() => arq.enqueueJob("f").catch(() => false), "it is served", 20_000);
  });
});
