/**
 * The bytes and keys of Python's arq, byte for byte where the design says so.
 *
 * `data/arq_wire.json` was dumped from a real server under Python's arq. Payloads and results are
 * compared as bytes, with id and the program's clock injected. What the server's clock decides is
 * compared by structure: scores relative to the time of the call, and times to live, both within some
 * seconds.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it, mock } from "node:test";
import { type ArqClient, createPool } from "../client.ts";
import { cron } from "../cron.ts";
import { JobAborted, SerializationError } from "../errors.ts";
import { type JobContext, Retry } from "../functions.ts";
import { decodeJob } from "../serializer.ts";
import { Worker, type WorkerSettings } from "../worker.ts";
import { eventually, only, openRawRedis, type RawRedis } from "./_helpers.ts";
import { startRedis } from "./_redis.ts";
import { Gate } from "./_worker.ts";

interface WireKey {
  readonly type: string;
  readonly pttl: number;
  readonly hex?: string;
  readonly decoded?: { readonly et: number; readonly st?: number } | string;
  readonly members?: readonly (readonly [string, number])[];
}

interface WireState {
  readonly state: string;
  readonly keys: Readonly<Record<string, WireKey>>;
}

const WIRE = JSON.parse(
  readFileSync(new URL("./data/arq_wire.json", import.meta.url), "utf8"),
) as { readonly states: readonly WireState[] };
const LEASE_MS = 30_000;
const EVERY_SECOND = Array.from({ length: 60 }, (_, second) => second);
const HEALTH_KEY = "arq:queue:health-check";
/** Keys that arq has not; no program of Python's looks at them. */
const OWN_KEYS = /^arq:queue:(wake|leases|ops:.*)$|^arq:(nonce|handbacks|ops):/;

function stateOf(beginning: string): WireState {
  return only(WIRE.states.filter(({ state }) => state.startsWith(beginning)));
}

function keyOf(state: WireState, name: string): WireKey {
  const key = state.keys[name];
  assert.ok(key, `${name} in "${state.state}"`);
  return key;
}

function hexOf(state: WireState, name: string): string {
  return keyOf(state, name).hex ?? assert.fail(`${name} has no bytes`);
}

/** When the job of a state was enqueued, by Python's clock. */
function enqueuedAt(state: WireState, name: string): number {
  const { decoded } = keyOf(state, name);
  assert.ok(typeof decoded === "object");
  return decoded.et;
}

/** Calls `act` while the program's clock stands still at `now`. */
async function atTime<T>(now: number, act: () => Promise<T>): Promise<T> {
  mock.timers.enable({ apis: ["Date"], now });
  try {
    return await act();
  } finally {
    mock.timers.reset();
  }
}

/** An empty server with arq's own names, and raw commands beside the client. */
class Scene implements AsyncDisposable {
  constructor(
    readonly url: string,
    readonly arq: ArqClient,
    readonly redis: RawRedis,
    readonly stop: () => Promise<void>,
  ) {}

  static async open(): Promise<Scene> {
    const server = await startRedis();
    const redis = await openRawRedis(server.url);
    return new Scene(server.url, await createPool(server.url), redis, () => server.stop());
  }

  async hex(key: string): Promise<string> {
    return (await this.redis.bytes(key)).toHex();
  }

  async now(): Promise<number> {
    const [seconds, micros] = await this.redis.call("TIME") as string[];
    return Number(seconds) * 1_000 + Number(micros) / 1_000;
  }

  async score(jobId: string, key = "arq:queue"): Promise<number> {
    return Number(await this.redis.call("ZSCORE", key, jobId));
  }

  worker(settings: Partial<WorkerSettings>): Worker {
    return new Worker({ connection: this.arq, burst: true, ...settings });
  }

  /** Puts the keys of a state there as Python left them. */
  async restore(state: WireState): Promise<void> {
    for (const [key, { hex, members, pttl }] of Object.entries(state.keys)) {
      if (hex !== undefined) await this.redis.call("SET", key, Uint8Array.fromHex(hex));
      for (const [member, score] of members ?? []) {
        await this.redis.call("ZADD", key, score, member);
      }
      if (pttl > 0) await this.redis.call("PEXPIRE", key, pttl);
    }
  }

  /** Compares what is there with a state: names, types, times to live, members; not bytes. */
  async hasKeysOf(state: WireState, except: readonly string[] = []): Promise<void> {
    const found = await this.redis.call("KEYS", "*") as string[];
    const names = (all: readonly string[]) =>
      all.filter((key) => !OWN_KEYS.test(key) && !except.includes(key)).sort();
    assert.deepEqual(names(found), names(Object.keys(state.keys)));
    for (const name of names(found)) {
      const { type, pttl, members } = keyOf(state, name);
      assert.equal(await this.redis.call("TYPE", name), type, name);
      this.#livesAsLong(name, Number(await this.redis.call("PTTL", name)), pttl);
      if (members === undefined) continue;
      const ids = await this.redis.call("ZRANGE", name, 0, -1);
      assert.deepEqual(ids, members.map(([id]) => id), name);
    }
  }

  #livesAsLong(name: string, ttl: number, wanted: number): void {
    const isEqual = wanted === -1 ? ttl === -1 : Math.abs(ttl - wanted) < 4_000;
    assert.ok(isEqual, `${name} lives ${ttl} ms, in arq ${wanted} ms`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.arq.close();
    await this.redis[Symbol.asyncDispose]();
    await this.stop();
  }
}

function isNear(actual: number, wanted: number, what: string): void {
  assert.ok(Math.abs(actual - wanted) < 4_000, `${what}: ${actual} is not near ${wanted}`);
}

describe("Wire format, byte for byte", () => {
  const cases = [
    ["enqueued: add", "a1", { kwargs: { b: 2 } }],
    ["enqueued deferred by 60 s", "a2", { deferBy: { seconds: 60 } }],
    ["enqueued with expires 10 s and job_try 3", "a3", { expires: { seconds: 10 }, jobTry: 3 }],
  ] as const;
  for (const [beginning, jobId, options] of cases) {
    it(`equals arq's where a job is ${beginning}`, async () => {
      await using s = await Scene.open();
      const state = stateOf(beginning);
      const key = `arq:job:${jobId}`;
      const et = enqueuedAt(state, key);
      const now = await s.now();
      await atTime(et, () => s.arq.enqueueJob("add", [1], { jobId, ...options }));
      assert.equal(await s.hex(key), hexOf(state, key));
      await s.hasKeysOf(state);
      const [, score] = only(keyOf(state, "arq:queue").members ?? []);
      isNear(await s.score(jobId) - now, score - et, "score less the time of the call");
    });
  }

  it("equals arq's where a job is complete", async () => {
    await using s = await Scene.open();
    const state = stateOf("complete");
    const { decoded } = keyOf(state, "arq:result:a1");
    assert.ok(typeof decoded === "object" && decoded.st !== undefined);
    const options = { jobId: "a1", kwargs: { b: 2 } };
    await atTime(decoded.et, () => s.arq.enqueueJob("add", [1], options));
    const add = (ctx: JobContext, a: number) => a + Number(ctx.kwargs.b);
    await atTime(decoded.st, () => s.worker({ functions: { add } }).run());
    assert.equal(await s.hex("arq:result:a1"), hexOf(state, "arq:result:a1"));
    await s.hasKeysOf(state, [HEALTH_KEY]);
  });

  it("equals arq's where a job waits for its second try", async () => {
    await using s = await Scene.open();
    const state = stateOf("after Retry(defer=5 s)");
    const et = enqueuedAt(state, "arq:job:r1");
    await atTime(et, () => s.arq.enqueueJob("again", [], { jobId: "r1" }));
    const again = () => {
      throw new Retry({ defer: { seconds: 5 } });
    };
    const now = await s.now();
    await s.worker({ functions: { again }, maxBurstJobs: 1 }).run();
    for (const key of ["arq:job:r1", "arq:retry:r1"]) {
      assert.equal(await s.hex(key), hexOf(state, key), key);
    }
    await s.hasKeysOf(state, [HEALTH_KEY]);
    isNear(await s.score("r1") - now, 5_000, "score less the time of the retry");
  });

  it("equals arq's job data while an abort is asked for; the request is dated back", async () => {
    await using s = await Scene.open();
    const state = stateOf("abort() asked for");
    const et = enqueuedAt(state, "arq:job:ab1");
    await atTime(et, () => s.arq.enqueueJob("slow", [], { jobId: "ab1" }));
    await s.arq.store.claim("arq:queue", { holder: "holder", limit: 1, leaseMs: LEASE_MS });
    const now = await s.now();
    await assert.rejects(s.arq.job("ab1").abort({ timeout: 1 }), { name: "TimeoutError" });
    assert.equal(await s.hex("arq:job:ab1"), hexOf(state, "arq:job:ab1"));
    assert.equal(await s.redis.call("TYPE", "arq:abort"), keyOf(state, "arq:abort").type);
    assert.equal(await s.redis.call("PTTL", "arq:abort"), keyOf(state, "arq:abort").pttl);
    isNear(await s.score("ab1", "arq:abort"), now - 60_000, "abort score");
  });

  it("equals arq's where a job runs, but for token and length of the lease", async () => {
    await using s = await Scene.open();
    const state = stateOf("in progress");
    const et = enqueuedAt(state, "arq:job:s1");
    await atTime(et, () => s.arq.enqueueJob("slow", [], { jobId: "s1" }));
    const now = await s.now();
    await s.arq.store.claim("arq:queue", { holder: "holder", limit: 1, leaseMs: LEASE_MS });
    for (const key of ["arq:job:s1", "arq:retry:s1"]) {
      assert.equal(await s.hex(key), hexOf(state, key), key);
    }
    await s.hasKeysOf(state, [HEALTH_KEY, "arq:in-progress:s1"]);
    assert.equal(await s.redis.call("TYPE", "arq:in-progress:s1"), "string");
    isNear(Number(await s.redis.call("PTTL", "arq:in-progress:s1")), LEASE_MS, "lock");
    isNear(await s.score("s1"), now + LEASE_MS, "score while leased");
  });
});

describe("Wire format, by structure", () => {
  it("writes the sign of life in arq's words, with arq's time to live", async () => {
    await using s = await Scene.open();
    const state = stateOf("complete");
    await using worker = s.worker({ burst: false, functions: { noop: () => 0 } });
    const ended = worker.run();
    await eventually(() => s.redis.call("EXISTS", HEALTH_KEY), "the sign of life is written");
    const form =
      /^[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d j_complete=\d+ j_failed=\d+ j_retried=\d+ j_ongoing=\d+ queued=\d+$/;
    assert.match(String(keyOf(state, HEALTH_KEY).decoded), form);
    assert.match(String(await s.redis.call("GET", HEALTH_KEY)), form);
    isNear(Number(await s.redis.call("PTTL", HEALTH_KEY)), 3_601_000, "sign of life");
    await worker.close();
    await ended;
  });

  it("writes slots of a cron job as arq does: id, data, and the lock after the end", async () => {
    await using s = await Scene.open();
    const state = stateOf("worker with a cron job run every second");
    const theirs = only(Object.keys(state.keys).filter((key) => key.startsWith("arq:job:cron:")));
    const gate = new Gate();
    let runs = 0;
    const tick = () => ++runs === 1 ? undefined : gate.pass(); // so that its job stays
    const cronJobs = [cron(tick, { second: EVERY_SECOND, millisecond: 0, name: "cron:tick" })];
    await using worker = s.worker({ burst: false, cronJobs });
    const ended = worker.run();
    const lock = await eventually(async () => {
      const locks = await s.redis.call("KEYS", "arq:in-progress:cron:*") as string[];
      for (const key of locks) if (await s.redis.call("GET", key) === "1") return key;
    }, "a slot has run");
    assert.match(lock, /^arq:in-progress:cron:tick:\d{10}000$/);
    isNear(Number(await s.redis.call("PTTL", lock)), 60_000, "lock after the end");
    const ours = await eventually(
      async () => (await s.redis.call("KEYS", "arq:job:cron:*") as string[])[0],
      "the next slot is enqueued",
    );
    assert.match(ours, /^arq:job:cron:tick:\d{10}000$/);
    const { et: _ours, ...record } = decodeJob(await s.redis.bytes(ours));
    const { et: _theirs, ...wanted } = decodeJob(Uint8Array.fromHex(hexOf(state, theirs)));
    assert.deepEqual(record, wanted);
    assert.deepEqual(Object.keys(record), ["t", "f", "a", "k"]);
    gate.open();
    await worker.close();
    await ended;
  });
});

describe("Wire format, what Python wrote", () => {
  it("is read: waiting, deferred, running and complete jobs", async () => {
    await using s = await Scene.open();
    const states = [
      ["enqueued: add", "a1", "deferred"], // the file's clock is ahead of ours
      ["in progress", "s1", "in_progress"],
      ["complete", "a1", "complete"],
    ] as const;
    for (const [beginning, jobId, status] of states) {
      const state = stateOf(beginning);
      await s.redis.call("FLUSHALL");
      await s.restore(state);
      const shift = state.keys["arq:queue"] ? Date.now() + 60_000 : undefined;
      if (shift) await s.redis.call("ZADD", "arq:queue", shift, jobId);
      assert.equal(await s.arq.job(jobId).status(), status);
      const info = await s.arq.job(jobId).info();
      assert.ok(info);
      const key = status === "complete" ? `arq:result:${jobId}` : `arq:job:${jobId}`;
      assert.equal(info.enqueueTime.getTime(), enqueuedAt(state, key));
    }
    assert.equal(await s.arq.job("a1").result(), 3);
    assert.deepEqual(only(await s.arq.allJobResults()).args, [1]);
  });

  it("is read as a SerializationError where Python could not store an error", async () => {
    await using s = await Scene.open();
    for (
      const [beginning, jobId] of [["failed: boom", "b1"], ["failed: function", "m1"]] as const
    ) {
      await s.restore(stateOf(beginning));
      await assert.rejects(
        s.arq.job(jobId).result(),
        (error) => error instanceof SerializationError,
      );
      assert.equal((await s.arq.job(jobId).resultInfo())?.success, false);
    }
  });

  it("is no proof of an abort where Python could not store an error", async () => {
    await using s = await Scene.open();
    await s.restore(stateOf("in progress"));
    const aborting = s.arq.job("s1").abort({ pollDelay: 20, timeout: 10_000 });
    await eventually(() => s.redis.call("EXISTS", "arq:abort"), "the request");
    const unreadable = hexOf(stateOf("failed: boom"), "arq:result:b1");
    await s.redis.call("SET", "arq:result:s1", Uint8Array.fromHex(unreadable));
    await s.redis.call("DEL", "arq:job:s1", "arq:in-progress:s1", "arq:queue", "arq:abort");
    assert.equal(await aborting, false);
  });

  it("is heeded: a request to abort a deferred job ends it before it starts", async () => {
    await using s = await Scene.open();
    await s.restore(stateOf("abort() asked for"));
    let started = false;
    const slow = () => started = true;
    await s.worker({ functions: { slow } }).run();
    assert.equal(started, false);
    await assert.rejects(s.arq.job("ab1").result(), (error) => error instanceof JobAborted);
    assert.equal(await s.redis.call("EXISTS", "arq:abort", "arq:queue", "arq:job:ab1"), 0);
  });

  it("is run: a job that Python enqueued, with its result as arq would write it", async () => {
    await using s = await Scene.open();
    const state = stateOf("enqueued: add");
    await s.restore(state);
    await s.redis.call("ZADD", "arq:queue", 1, "a1"); // due now, whatever the file's clock says
    const complete = stateOf("complete");
    const { decoded } = keyOf(complete, "arq:result:a1");
    assert.ok(typeof decoded === "object" && decoded.st !== undefined);
    const add = (ctx: JobContext, a: number) => a + Number(ctx.kwargs.b);
    await atTime(decoded.st, () => s.worker({ functions: { add } }).run());
    const et = enqueuedAt(state, "arq:job:a1").toString(16);
    const wanted = hexOf(complete, "arq:result:a1").replace(decoded.et.toString(16), et);
    assert.equal(await s.hex("arq:result:a1"), wanted);
  });
});
