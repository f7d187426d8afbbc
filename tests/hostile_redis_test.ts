/** What nobody should have written into Redis: it spoils its own job at the most. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type ArqClient, createPool } from "../client.ts";
import { ArqError } from "../errors.ts";
import { Worker } from "../worker.ts";
import { hostileBytes, hostileCounts } from "./_hostile.ts";
import { openRawRedis, type RawRedis, within } from "./_helpers.ts";
import { fc } from "./_properties.ts";
import { fromHex } from "./_records.ts";
import { randomPrefix, type RedisServer, startRedis } from "./_redis.ts";
import { until } from "./_worker.ts";

const CALL = { timeout: 10_000 };
const POLL_MS = 20;
const echo = (_ctx: unknown, value: unknown) => value;

type Words = (string | Uint8Array)[];

/** What stands under a key: a text, or something of a type that has no business there. */
function planting(value: fc.Arbitrary<string | Uint8Array>): fc.Arbitrary<Words | undefined> {
  return fc.oneof(
    { weight: 4, arbitrary: fc.constant(undefined) },
    { weight: 6, arbitrary: value.map((text) => ["SET", text]) },
    { weight: 1, arbitrary: fc.constantFrom<Words>(["HSET", "a", "b"], ["RPUSH", "a"]) },
    { weight: 1, arbitrary: fc.constantFrom<Words>(["SADD", "a"], ["ZADD", "1", "a"]) },
  );
}

const hostileJob = fc.record({
  score: fc.constantFrom("1", "-inf", "0", "-1e300", "1.5", "1700000000000"),
  job: planting(hostileBytes),
  result: planting(hostileBytes),
  retry: planting(hostileCounts),
  handbacks: planting(hostileCounts),
  progress: planting(hostileBytes),
  "in-progress": planting(fc.constantFrom("1", "a token")),
  lease: fc.constantFrom(undefined, "1:", "2:", "no number:", "1:2:"),
});

/** A place on the file's server, with a worker. */
class Site implements AsyncDisposable {
  readonly prefix = randomPrefix();
  claims = 0;
  readonly #worker: Worker;
  readonly #running: Promise<void>;

  private constructor(readonly arq: ArqClient, readonly raw: RawRedis, prefix: string) {
    this.prefix = prefix;
    const { store } = arq;
    const claim = store.claim.bind(store);
    store.claim = (...args) => {
      this.claims++;
      return claim(...args);
    };
    this.#worker = new Worker({
      functions: { echo },
      connection: arq,
      pollDelay: POLL_MS,
      lease: 300,
      maxTries: 3,
    });
    this.#running = this.#worker.run();
  }

  static async open(
    server: RedisServer,
    plant: (raw: RawRedis, prefix: string) => Promise<unknown> = () => Promise.resolve(),
  ): Promise<Site> {
    const prefix = randomPrefix();
    const raw = await openRawRedis(server.url);
    await plant(raw, prefix);
    return new Site(await createPool(server.url, { prefix }), raw, prefix);
  }

  /** Fails unless the worker runs jobs. */
  async isAtWork(): Promise<void> {
    const value = crypto.randomUUID();
    assert.equal(await this.arq.call("echo", [value], CALL), value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await within(5_000, "the worker ends", this.#worker.close());
    await this.#running;
    await this.arq.close();
    await this.raw[Symbol.asyncDispose]();
  }
}

/** Fails unless the call resolves, or rejects with an error of this library's own. */
async function endsInOrder(what: string, call: Promise<unknown>): Promise<void> {
  try {
    await within(5_000, what, call);
  } catch (error) {
    // An error that came out of a result is the job's own.
    assert.ok(error instanceof ArqError || what.startsWith("result"), `${what}: ${error}`);
  }
}

describe("Hostile data in Redis", () => {
  let server: RedisServer;
  before(async () => {
    server = await startRedis();
  });
  after(() => server.stop());

  it("under the keys of jobs spoils no other job, no reader and no prototype", async () => {
    const plan = fc.array(hostileJob, { minLength: 20, maxLength: 40 });
    const prototype = Object.getOwnPropertyNames(Object.prototype);
    await fc.assert(
      fc.asyncProperty(plan, async (jobs) => {
        await using site = await Site.open(server, async (raw, prefix) => {
          for (const [i, { score, lease, ...keys }] of jobs.entries()) {
            for (const [key, words] of Object.entries(keys)) {
              if (!words) continue;
              const [command = "", ...rest] = words;
              await raw.call(command, `${prefix}${key}:${i}`, ...rest);
              await raw.call(
                "PEXPIRE",
                `${prefix}${key}:${i}`,
                key === "in-progress" ? 200 : 20_000,
              );
            }
            await raw.call("ZADD", `${prefix}queue`, score, String(i));
            if (lease) await raw.call("ZADD", `${prefix}queue:leases`, "1", `${lease}${i}`);
          }
        });
        await site.isAtWork();
        const { arq, raw, prefix } = site;
        const left = async () => await raw.call("ZCARD", `${prefix}queue`) as number;
        await until("every entry has come to its end", async () => await left() === 0);
        await endsInOrder("results", arq.allJobResults());
        await Promise.all(jobs.flatMap((_, i) => {
          const job = arq.job(String(i));
          return [
            endsInOrder(`result ${i}`, job.result({ timeout: 300 })),
            endsInOrder(`info ${i}`, job.info()),
            endsInOrder(`progress ${i}`, arq.store.readProgress(String(i))),
            endsInOrder(`resultInfo ${i}`, job.resultInfo()),
            endsInOrder(`status ${i}`, job.status()),
          ];
        }));
        assert.deepEqual(Object.getOwnPropertyNames(Object.prototype), prototype);
      }),
      { numRuns: 6, endOnFailure: true },
    );
  });

  it("in the queue itself is passed over or ends as failed", async () => {
    await using site = await Site.open(server, async (raw, prefix) => {
      const queue = `${prefix}queue`;
      await raw.call("ZADD", queue, "1", fromHex("fffe")); // no UTF-8
      await raw.call("ZADD", queue, "2", "");
      await raw.call("ZADD", queue, "3", "__proto__");
      await raw.call("ZADD", queue, "4", "x".repeat(1_000_000));
      await raw.call("ZADD", queue, "5", "\0\r\n");
      await raw.call(
        "ZADD",
        `${queue}:leases`,
        "1",
        "no lease",
        "2",
        "x:y",
        "3",
        ":",
        "4",
        fromHex("ff"),
      );
    });
    await site.isAtWork();
    await until(
      "only what is good stays",
      async () =>
        await site.raw.call("ZCARD", `${site.prefix}queue`) === 0 &&
        await site.raw.call("ZCARD", `${site.prefix}queue:leases`) === 0,
    );
  });

  it("such as a job that is never due makes a worker ask no more often", async () => {
    await using site = await Site.open(
      server,
      (raw, prefix) => raw.call("ZADD", `${prefix}queue`, "+inf", "never"),
    );
    await site.isAtWork();
    const before = site.claims;
    const startedAt = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 300));
    const ms = performance.now() - startedAt;
    const claims = site.claims - before;
    assert.ok(claims <= ms / POLL_MS + 5, `${claims} claims in ${ms} ms`);
    const [job] = await site.arq.queuedJobs();
    assert.equal(job, undefined, "it has no data");
  });

  for (const key of ["abort", "queue:wake", "queue:ops:watched", "queue:health-check"]) {
    it(`such as ${key} of a wrong type stops no job and keeps its result`, async () => {
      await using site = await Site.open(
        server,
        (raw, prefix) => raw.call("HSET", `${prefix}${key}`, "a", "b"),
      );
      await site.isAtWork();
      const job = await site.arq.enqueueJob("echo", [1], { jobId: "given" });
      assert.equal(await job?.result(CALL), 1);
    });
  }

  for (const key of ["queue", "queue:leases"]) {
    it(`such as ${key} of a wrong type is said in one line, and work goes on when it is gone`, async () => {
      await using site = await Site.open(server);
      await site.isAtWork();
      const { raw, prefix, arq } = site;
      await raw.call("DEL", `${prefix}${key}`);
      await raw.call("SET", `${prefix}${key}`, "something else");
      const wrong = /^Redis at \S+: a key with the queue's name or prefix holds something else/;
      await assert.rejects(
        arq.store.claim(`${prefix}queue`, { holder: "me", limit: 1, leaseMs: 1_000 }),
        { message: wrong },
      );
      await raw.call("DEL", `${prefix}${key}`);
      await site.isAtWork();
    });
  }

  it("published as the steps of a job confuses nobody who watches", async () => {
    await using site = await Site.open(server);
    const { arq, raw, prefix } = site;
    const queue = `${prefix}queue`;
    const kinds: string[] = [];
    const onNews = (news: { readonly kind: string }) => void kinds.push(news.kind);
    await using _watch = await arq.store.onNews(queue, "watched", onNews);
    await arq.store.observe(queue, "watched", 60_000, false);
    const messages = ["", ":", "started,nan,1,,7:watched", "x,1,1,,7:watched", "started:watched"];
    for (const message of [...messages, "progress,1e999,1,1,99999999999:watched"]) {
      await raw.call("PUBLISH", `${queue}:events`, message);
    }
    await raw.call("PUBLISH", `${queue}:events`, fromHex("ff2c3aff"));
    await arq.enqueueJob("echo", [1], { jobId: "watched" });
    await until("the true step", () => kinds.length > 0);
    assert.deepEqual(kinds, ["started"]);
  });

  it("published as news confuses nobody who waits", async () => {
    await using site = await Site.open(server);
    const { arq, raw, prefix } = site;
    await arq.pause(); // until somebody listens
    const job = await arq.enqueueJob("echo", [7], { jobId: "waiting" });
    const result = job?.result(CALL);
    const messages = [
      "",
      ":",
      "nonsense",
      "99999999999999999999:",
      "-1:waiting",
      "7:waiting",
      "7:w",
    ];
    for (let sent = 0; sent === 0;) {
      for (const message of messages) {
        sent = await raw.call("PUBLISH", `${prefix}done:waiting`, message) as number;
      }
      await raw.call("PUBLISH", `${prefix}done:waiting`, fromHex("ff3aff"));
    }
    await arq.resume();
    assert.equal(await result, 7);
  });
});
