/** What a claim costs Redis: it must not grow with the queue, the suspects or the leases. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { newJob, only } from "./_helpers.ts";
import { startRedis } from "./_redis.ts";
import { LEASE_MS, Scene } from "./_redis_scene.ts";

describe("A claim on Redis", () => {
  it("reads many suspects in a few pages, and leaves the orphans beyond its limit", async () => {
    await using server = await startRedis();
    await using s = await Scene.open(server.url);
    const SUSPECTS = 1_050;
    const orphan = async (id: string, at: number) => {
      await s.call("SET", s.key(`job:${id}`), "payload");
      await s.call("ZADD", s.queue, at, id);
      await s.call("ZADD", s.leases, at, `${at}:${id}`);
    };
    for (let i = 0; i < SUSPECTS; i++) {
      await orphan(`suspect${i}`, 1_000 + i);
      await s.call("SET", s.key(`retry:suspect${i}`), 2);
    }
    for (let i = 0; i < 3; i++) await orphan(`orphan${i}`, 5_000 + i);
    await s.call("CONFIG", "RESETSTAT");
    const suspects = { lastTry: 3, mayTake: false };
    const { claims } = await s.store.claim(s.queue, {
      holder: "holder",
      limit: 1,
      leaseMs: LEASE_MS,
      suspects,
    });
    assert.equal(only(claims).jobId, "orphan0");
    const stats = String(await s.call("INFO", "commandstats"));
    const pages = Number(/cmdstat_zrangebyscore:calls=(\d+)/.exec(stats)?.[1]);
    assert.ok(pages <= 12, `${pages} pages`);
    const others = await s.call("ZRANGE", s.leases, SUSPECTS, SUSPECTS + 1);
    assert.deepEqual(others, ["5001:orphan1", "5002:orphan2"]);
  });

  it("lays many leases out for looking up, not in a row", async () => {
    await using s = await Scene.open();
    await s.enqueue(...Array.from({ length: 30 }, (_, i) => newJob(`job ${i}`)));
    assert.equal((await s.claim(30)).length, 30);
    assert.equal(await s.call("OBJECT", "ENCODING", s.leases), "skiplist");
    assert.equal(await s.call("ZCARD", s.leases), 30);
  });

  it("costs with a million jobs queued what it costs with 10,000", async () => {
    await using server = await startRedis();
    await using s = await Scene.open(server.url);
    const fill = "for i = 1, tonumber(ARGV[1]) do redis.call('ZADD', KEYS[1], i, 'j' .. i) end";
    const queues = { small: `${s.store.prefix}small`, large: `${s.store.prefix}large` };
    await s.call("EVAL", fill, 1, queues.small, 10_000);
    await s.call("EVAL", fill, 1, queues.large, 1_000_000);
    const costs: Record<keyof typeof queues, number[]> = { small: [], large: [] };
    for (let i = 0; i < 200; i++) {
      for (const name of ["small", "large"] as const) {
        const start = performance.now();
        const { claims } = await s.store.claim(queues[name], {
          holder: "h",
          limit: 10,
          leaseMs: LEASE_MS,
        });
        costs[name].push(performance.now() - start);
        assert.equal(claims.length, 10);
      }
    }
    const median = (values: number[]) => values.sort((a, b) => a - b)[values.length / 2] ?? NaN;
    const [small, large] = [median(costs.small), median(costs.large)];
    assert.ok(large < 3 * small, `10,000 queued: ${small} ms, a million: ${large} ms`);
  });
});
