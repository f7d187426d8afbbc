/** What operators see in Redis: what it costs, how much it grows, and what others may have written. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, it } from "node:test";
import { type ArqClient, createPool } from "../client.ts";
import type { JobFilter } from "../inspection.ts";
import { encodeJob, encodeResult } from "../serializer.ts";
import { inspectionScripts } from "../redis_inspection_scripts.ts";
import { Worker } from "../worker.ts";
import { bytes, endOf, eventually, newJob, openRawRedis, type RawRedis } from "./_helpers.ts";
import { randomPrefix, type RedisServer, startRedis } from "./_redis.ts";

const DAY_MS = 86_400_000;
const PAYLOAD = encodeJob({ t: null, f: "echo", a: [1], k: {}, et: 1_700_000_000_000 });

let server: RedisServer;
before(async () => {
  server = await startRedis();
});
after(() => server.stop());

/** A pool on the file's server, and raw commands beside it. */
class Site implements AsyncDisposable {
  readonly queue: string;

  private constructor(readonly arq: ArqClient, readonly raw: RawRedis) {
    this.queue = arq.defaultQueueName;
  }

  static async open(): Promise<Site> {
    const arq = await createPool(server.url, { prefix: randomPrefix() });
    return new Site(arq, await openRawRedis(server.url));
  }

  get store() {
    return this.arq.store;
  }

  ops(name: string): string {
    return `${this.queue}:ops:${name}`;
  }

  /** Runs a Lua script on the queue; its second argument is the prefix. */
  eval(script: string, key: string, ...args: (string | number | Uint8Array)[]) {
    return this.raw.call("EVAL", script, 1, key, this.store.prefix, ...args);
  }

  report(counts: Record<string, number> = {}, more: { reportId?: string; ttlMs?: number } = {}) {
    const minute = new Map(Object.entries(counts));
    const totals = new Map(Object.entries(counts).map(([name, count]) => [`${name}:f`, count]));
    const reportId = more.reportId ?? crypto.randomUUID();
    const report = { workerId: "w", record: "{}", ttlMs: 60_000, reportId, minute, totals };
    return this.store.inspection.report(this.queue, { ...report, ...more });
  }

  /** What commands Redis ran for something, and for how many microseconds in all. */
  async cost(what: () => Promise<unknown>) {
    const costs = [];
    for (let i = 0; i < 5; i++) costs.push(await this.#costOnce(what));
    const usec = Math.min(...costs.slice(1).map((cost) => cost.usec)); // without what others do
    return { commands: costs[4]?.commands ?? {}, usec }; // the script is known by then
  }

  async #costOnce(what: () => Promise<unknown>) {
    await this.raw.call("CONFIG", "RESETSTAT");
    await what();
    const stats = String(await this.raw.call("INFO", "commandstats"));
    const counts = [...stats.matchAll(/^cmdstat_([^:]+):calls=(\d+),usec=(\d+)/gm)]
      .filter(([, name = ""]) => !/^(config|info)/.test(name));
    const usec = counts.find(([, name]) => name === "evalsha")?.[3];
    return {
      commands: Object.fromEntries(counts.map(([, name, calls]) => [name, Number(calls)])),
      usec: Number(usec),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.arq.close();
    await this.raw[Symbol.asyncDispose]();
  }
}

/** Enqueues jobs by hand, all due at one time; the first thousand have data. */
const FILL = `
  for i = 1, tonumber(ARGV[2]) do
    if i <= 1000 then redis.call('SET', ARGV[1] .. 'job:j' .. i, ARGV[4], 'PX', 600000) end
    redis.call('ZADD', KEYS[1], ARGV[3], 'j' .. i)
  end`;
/** Notes ends by hand; those with an odd number have a result. */
const NOTE = `
  for i = 1, tonumber(ARGV[2]) do
    redis.call('ZADD', KEYS[1], i, 'e' .. i)
    if i % 2 == 1 then redis.call('SET', ARGV[1] .. 'result:e' .. i, ARGV[3], 'PX', 600000) end
  end`;

describe("What operators ask for", () => {
  it("costs the same at 1,000 and at 100,000 jobs", async () => {
    await using few = await Site.open();
    await using many = await Site.open();
    const start = Date.now() - 500_000_000;
    await few.eval(FILL, few.queue, 1_000, start, PAYLOAD);
    await many.eval(FILL, many.queue, 100_000, start, PAYLOAD);
    const middle = async ({ arq }: Site, at: number) => {
      const after = `${start}_${Buffer.from(`j${at}`).toString("base64url")}`;
      return await arq.jobs({ status: "queued", limit: 100, cursor: `queued.${after}` });
    };
    const questions = {
      stats: ({ arq }: Site) => arq.stats(),
      first: ({ arq }: Site) => arq.jobs({ status: "queued", limit: 100 }),
      all: ({ arq }: Site) => arq.jobs({ limit: 100 }),
    };
    for (const [name, ask] of Object.entries(questions)) {
      const [small, large] = [await few.cost(() => ask(few)), await many.cost(() => ask(many))];
      assert.deepEqual(large.commands, small.commands, name);
      assert.ok(large.usec < 3 * small.usec + 1_000, `${name}: ${large.usec} and ${small.usec} µs`);
    }
    const small = await few.cost(() => middle(few, 500));
    const large = await many.cost(() => middle(many, 50_000));
    assert.deepEqual(large.commands, small.commands);
    assert.ok(large.usec < 3 * small.usec + 1_000, `a page: ${large.usec} and ${small.usec} µs`);
    await many.raw.call("ZREM", many.queue, "j50000"); // its place is found among those of its time
    const gone = await many.cost(() => middle(many, 50_000));
    assert.ok((gone.commands.zrange ?? 0) <= 20, `${gone.commands.zrange} steps`);
    assert.equal((await middle(many, 50_000)).jobs[0]?.jobId, "j50001");
  });

  it("keeps an idle worker at three commands a second", async () => {
    await using site = await Site.open();
    const worker = new Worker({ functions: { echo: () => {} }, connection: site.arq });
    const running = worker.run();
    await eventually(async () => (await site.arq.workers()).length === 1, "the worker is there");
    const { port } = new URL(server.url);
    const socket = connect(Number(port), "127.0.0.1");
    let text = "";
    socket.on("data", (data) => text += data);
    const startedAt = performance.now();
    socket.write("MONITOR\r\n");
    await new Promise((resolve) => setTimeout(resolve, 3_000)); // it is a rate that is measured
    socket.destroy();
    const seconds = (performance.now() - startedAt) / 1_000;
    await worker.close();
    await running;
    const sent = text.split("\r\n").filter((line) =>
      /^\+\d/.test(line) && !/\[\d+ lua\]/.test(line)
    );
    assert.ok(sent.length >= 2, text);
    assert.ok(
      sent.length <= 3 * seconds,
      `${sent.length} commands in ${seconds} s:\n${sent.join("\n")}`,
    );
  });
});

describe("What operators see", () => {
  it("keeps so many ends and no more, and drops those without a result", async () => {
    await using site = await Site.open();
    for (const [list, most] of [["complete", 10_000], ["failed", 100_000]] as const) {
      await site.eval(NOTE, site.ops(list), most + 2_000, "x");
    }
    await site.report();
    const count = async (list: string) => Number(await site.raw.call("ZCARD", site.ops(list)));
    // The oldest are looked at a hundred at a time, and half of these have a result.
    assert.equal(await count("complete"), 10_000 - 50);
    assert.equal(await count("failed"), 100_000 - 50);
    const oldest = await site.raw.call("ZRANGE", site.ops("complete"), 0, 0, "WITHSCORES");
    assert.equal((oldest as string[])[0], "e2001");
    await site.raw.call("DEL", site.ops("complete"));
    await site.eval(
      NOTE.replaceAll("'e'", "'x'").replace("i % 2 == 1", "false"),
      site.ops("complete"),
      9_000,
    );
    for (let i = 0; i < 9; i++) await site.report();
    assert.equal(await count("complete"), 0, "each report drops up to a thousand");
  });

  it("sorts in what has succeeded when somebody looks, the newest ten thousand of it", async () => {
    await using site = await Site.open();
    const lineUp = `
      for i = 1, 12000 do
        redis.call('RPUSH', KEYS[1], i .. ':e' .. i)
        redis.call('SET', ARGV[1] .. 'result:e' .. i, 'x', 'PX', 600000)
      end`;
    await site.eval(lineUp, site.ops("succeeded"));
    const list = { list: "complete", limit: 2 } as const;
    const { jobs } = await site.store.inspection.page(site.queue, list);
    assert.deepEqual(jobs.map(({ jobId, at }) => [jobId, at]), [["e12000", 12_000], [
      "e11999",
      11_999,
    ]]);
    assert.equal(await site.raw.call("ZCARD", site.ops("complete")), 10_000);
    assert.equal(await site.raw.call("EXISTS", site.ops("succeeded")), 0);
  });

  it("keeps of what has succeeded twenty thousand at the most, though nobody looks", async () => {
    await using site = await Site.open();
    const lineUp = "for i = 1, 20000 do redis.call('RPUSH', KEYS[1], i .. ':e' .. i) end";
    await site.eval(lineUp, site.ops("succeeded"));
    await site.store.enqueue(site.queue, [newJob("a")], DAY_MS);
    const { claims } = await site.store.claim(site.queue, {
      holder: "h",
      limit: 1,
      leaseMs: 30_000,
    });
    await site.store.finish(site.queue, claims.map((claim) => endOf(claim)));
    assert.equal(await site.raw.call("LLEN", site.ops("succeeded")), 10_000);
    assert.match(String(await site.raw.call("LINDEX", site.ops("succeeded"), -1)), /^\d{13}:a$/);
  });

  it("keeps what has succeeded for a week after the last report", async () => {
    await using site = await Site.open();
    const key = site.ops("succeeded");
    const days = async () => Math.round(Number(await site.raw.call("PTTL", key)) / DAY_MS);
    await site.store.enqueue(site.queue, [newJob("a")], DAY_MS);
    const { claims } = await site.store.claim(site.queue, {
      holder: "h",
      limit: 1,
      leaseMs: 30_000,
    });
    await site.store.finish(site.queue, claims.map((claim) => endOf(claim)));
    assert.equal(await days(), 7);
    await site.raw.call("PEXPIRE", key, DAY_MS);
    await site.report();
    assert.equal(await days(), 7);
  });

  it("shows what has succeeded also where something else stands in its way", async () => {
    await using site = await Site.open();
    await site.raw.call("SET", site.ops("succeeded"), "no list");
    await site.store.enqueue(site.queue, [newJob("a")], DAY_MS);
    const { claims } = await site.store.claim(site.queue, {
      holder: "h",
      limit: 1,
      leaseMs: 30_000,
    });
    const ends = claims.map((claim) => endOf(claim));
    assert.deepEqual(await site.store.finish(site.queue, ends), ["done"]);
    assert.deepEqual(
      (await site.store.inspection.page(site.queue, { list: "complete", limit: 9 })).jobs,
      [],
    );
  });

  it("is listed and counted as queued while a Python worker runs it", async () => {
    await using site = await Site.open();
    const job = await site.arq.enqueueJob("echo", [1]);
    const lock = `${site.store.prefix}in-progress:${job.jobId}`;
    await site.raw.call("SET", lock, "1", "PX", 60_000);
    const listed = async (filter: JobFilter) =>
      (await site.arq.jobs(filter)).jobs.map(({ jobId, status }) => [jobId, status]);
    assert.deepEqual(await listed({}), [[job.jobId, "queued"]]);
    assert.deepEqual(await listed({ status: "queued" }), [[job.jobId, "queued"]]);
    assert.deepEqual(await listed({ status: "in_progress" }), []);
    const { due, inProgress } = await site.arq.stats();
    assert.deepEqual([due, inProgress], [1, 0]);
    assert.equal((await site.arq.jobView(job.jobId))?.status, "in_progress");
  });

  it("has an expiry, whatever it is", async () => {
    await using site = await Site.open();
    await site.store.enqueue(site.queue, [newJob("a"), newJob("b"), newJob("c")], DAY_MS);
    const { claims } = await site.store.claim(site.queue, {
      holder: "h",
      limit: 2,
      leaseMs: 30_000,
    });
    const ends = claims.map((claim, i) => endOf(claim, { success: i === 0 }));
    await site.store.finish(site.queue, ends);
    await site.store.abort(site.queue, "c", bytes("x"), 60_000);
    await site.report({ complete: 1, run10: 1 });
    const keys = await site.raw.call("KEYS", `${site.store.prefix}*ops:*`) as string[];
    const names = keys.map((key) => key.slice(site.store.prefix.length));
    const minute = names.find((name) => name.includes(":minute:"));
    assert.deepEqual(names.filter((name) => name !== minute).sort(), [
      "ops:queues",
      "queue:ops:failed",
      "queue:ops:succeeded",
      "queue:ops:totals",
      "queue:ops:worker:w",
      "queue:ops:workers",
    ]);
    for (const key of keys) {
      const ttl = Number(await site.raw.call("PTTL", key));
      assert.ok(ttl > 0 && ttl <= 30 * DAY_MS, `${key} lives ${ttl} ms`);
    }
  });

  it("forgets queues that nobody has used for days, and keeps ten thousand", async () => {
    await using site = await Site.open();
    const key = `${site.store.prefix}ops:queues`;
    const now = (await site.store.lookUp(site.queue, "", false)).now;
    await site.raw.call("ZADD", key, now - 8 * DAY_MS, "old", now - 6 * DAY_MS, "recent");
    assert.deepEqual(await site.arq.queueNames(), ["recent"]);
    const fill = "for i = 1, 10500 do redis.call('ZADD', KEYS[1], ARGV[2], 'q' .. i) end";
    await site.eval(fill, key, now - 1_000);
    await site.report();
    const names = await site.arq.queueNames();
    assert.equal(names.length, 10_000);
    assert.ok(names.includes(site.queue) && !names.includes("old"));
  });

  it("is counted once where a report is sent again, and a retry is told as done", async () => {
    await using site = await Site.open();
    await site.report({ complete: 2 }, { reportId: "one" });
    await site.report({ complete: 2 }, { reportId: "one" });
    const [minute] = (await site.store.inspection.numbers(site.queue, 2)).minutes;
    assert.deepEqual(minute?.counts, new Map([["complete", 2]]));

    const record = { t: 1, f: "f", a: [], k: {}, et: 1, s: false, r: new Error("x"), st: 1, ft: 1 };
    const result = encodeResult({ ...record, q: site.queue, id: "a" });
    const retrial = { jobId: "a", result, payload: PAYLOAD };
    await site.raw.call("SET", `${site.store.prefix}result:a`, result);
    assert.deepEqual(await site.store.inspection.retry(site.queue, [retrial], DAY_MS), [true]);
    assert.deepEqual(await site.store.inspection.retry(site.queue, [retrial], DAY_MS), [false]);
    const keys = [site.queue, `${site.queue}:wake`, "abort", `${site.queue}:leases`];
    const again = (script: string, ...args: (string | Uint8Array)[]) =>
      site.raw.call("EVAL", script, keys.length, ...keys, site.store.prefix, "1", ...args);
    const { retry, remove } = inspectionScripts;
    assert.equal(await again(retry.source, String(DAY_MS), "a", "no sha", PAYLOAD), "1");
    assert.equal(await again(retry.source, String(DAY_MS), "a", "no sha", bytes("other")), "0");
    assert.equal(await again(remove.source, "a"), "removed");
    assert.equal(await again(remove.source, "a"), "removed");
  });
});

describe("What nobody should have written", () => {
  const OPS = ["paused", "complete", "failed", "workers", "totals", "watched", "worker:w"];

  it("of a wrong type, under any key, loses no job and spoils that key alone", async () => {
    await using site = await Site.open();
    const minute = Math.floor(Date.now() / 60_000);
    for (const name of [...OPS.slice(1), `minute:${minute}`, `minute:${minute + 1}`]) {
      await site.raw.call("RPUSH", site.ops(name), "rubbish");
    }
    await site.raw.call("SET", `${site.store.prefix}ops:queues`, "rubbish");
    const worker = new Worker({
      functions: { echo: (_ctx: unknown, value: unknown) => value },
      connection: site.arq,
    });
    const running = worker.run();
    assert.equal(await site.arq.call("echo", [1], { timeout: 5_000 }), 1);
    const failing = site.arq.call("nobody", [], { timeout: 5_000 });
    await assert.rejects(failing, { name: "JobExecutionFailed" });
    for (const status of ["failed", "complete", "queued", "deferred", "in_progress"] as const) {
      assert.deepEqual(await site.arq.jobs({ status }), { jobs: [], cursor: undefined });
    }
    assert.deepEqual(await site.arq.queueNames(), []);
    assert.deepEqual(await site.arq.workers({ queueName: site.queue }), []);
    assert.deepEqual(await site.arq.cronJobs({ queueName: site.queue }), []);
    assert.equal(await site.arq.retryJobs(), 0);
    const { due, functions, minutes } = await site.arq.stats();
    assert.deepEqual([due, functions], [0, []]);
    assert.ok(minutes.every(({ complete }) => complete === 0));
    await worker.close();
    await running;
  });

  it("into counts and records is left out", async () => {
    await using site = await Site.open();
    await site.report({ complete: 3 });
    const rubbish = ["complete:g", "-5", "failed:g", "1e400", "constructor:f", "7", "", "x"];
    await site.raw.call("HSET", site.ops("totals"), ...rubbish);
    const { functions } = await site.arq.stats();
    assert.deepEqual(functions.map(({ functionName, complete }) => [functionName, complete]), [
      ["f", 3],
    ]);
    const good = { runtime: "deno 2", pid: 1, functions: ["f"], maxJobs: 1, jobsOngoing: 0 };
    const counters = { jobsComplete: 0, jobsFailed: 0, jobsRetried: 0, memoryBytes: 1 };
    const whole = { ...good, ...counters, running: [], startedAt: 1, seenAt: 1, cronJobs: [] };
    const records = [
      "",
      "null",
      "[]",
      '{"__proto__": {"pid": 1}}',
      JSON.stringify({ ...whole, functions: [1] }),
      JSON.stringify({ ...whole, startedAt: 9e15 }),
      JSON.stringify({ ...whole, running: [{}] }),
      JSON.stringify({ ...whole, cronJobs: "x" }),
      JSON.stringify(whole),
    ];
    for (const [i, record] of records.entries()) {
      await site.raw.call("SET", site.ops(`worker:${i}`), record);
      await site.raw.call("ZADD", site.ops("workers"), Date.now() + 60_000, String(i));
    }
    await site.raw.call("ZADD", site.ops("workers"), "inf", "without a record");
    const workers = await site.arq.workers({ queueName: site.queue });
    assert.deepEqual(workers.map(({ workerId }) => workerId), ["8"]);
  });

  it("as ids, scores and results is listed as what it is, page by page to the end", async () => {
    await using site = await Site.open();
    const ids = Array.from({ length: 40 }, (_, i) => Uint8Array.of(0xff, i, 0xfe));
    for (const id of ids) {
      await site.raw.call("ZADD", site.queue, 5, id);
      await site.raw.call("ZADD", site.ops("failed"), 5, id);
      await site.raw.call("ZADD", `${site.queue}:leases`, "inf", id);
    }
    await site.raw.call("ZADD", site.queue, "-inf", "first", "inf", "last");
    await site.raw.call("ZADD", site.ops("failed"), "inf", "bad", "-inf", "other", 7, "good");
    await site.raw.call("HSET", `${site.store.prefix}job:first`, "a", "b");
    await site.raw.call("SET", `${site.store.prefix}job:last`, "rubbish");
    await site.raw.call("HSET", `${site.store.prefix}result:other`, "a", "b");
    await site.raw.call("SET", `${site.store.prefix}result:bad`, "rubbish");
    const record = { t: 1, f: "f", a: [], k: {}, et: 1, s: true, r: 1, st: 1, ft: 1, id: "good" };
    const success = encodeResult({ ...record, q: site.queue });
    await site.raw.call("SET", `${site.store.prefix}result:good`, success);
    const listed: (readonly [string, string, string | null])[] = [];
    let cursor: string | undefined;
    let pages = 0;
    do {
      const page = await site.arq.jobs({ limit: 3, cursor });
      listed.push(
        ...page.jobs.map(({ jobId, status, problem }) => [jobId, status, problem] as const),
      );
      cursor = page.cursor;
      assert.ok(++pages < 60, "it goes round in circles");
    } while (cursor !== undefined);
    assert.equal(listed.filter(([, status]) => status === "queued").length, 41);
    const named = listed.filter(([jobId]) => /^[a-z]+$/.test(jobId));
    assert.deepEqual(named, [
      ["first", "queued", "Its key holds no text"],
      ["last", "deferred", named[1]?.[2] ?? null],
      ["bad", "failed", named[2]?.[2] ?? null],
      ["other", "failed", "Cannot read the result: its key holds no text"],
    ]);
    assert.match(named[1]?.[2] ?? "", /^Cannot read the job: /);
    assert.match(named[2]?.[2] ?? "", /^Cannot read the result: /);
    assert.equal(await site.arq.retryJobs(), 0);
    await assert.rejects(site.arq.retryJob("bad"), { name: "DeserializationError" });
    assert.equal((await site.arq.jobView("first"))?.problem, "Its key holds no text");
    assert.equal(await site.arq.removeJob("first"), true);
  });
});
