/** Random sequences of everything that can happen to a queue, against a model and every store. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { SqliteStore } from "../sqlite_store.ts";
import type { Claim, Store } from "../store.ts";
import { bytes, eventually, openTestStore } from "./_helpers.ts";
import { fc } from "./_properties.ts";
import { randomPrefix } from "./_redis.ts";
import { Folder } from "./_sqlite.ts";
import { type Handle, StoreModel } from "./_store_model.ts";

const LEASE_MS = 60_000;
const SHORT_LEASE_MS = 15;
const DAY_MS = 86_400_000;
const QUEUE = "queue";
const IDS = ["a", "b", "c", "d"];
const TEXT = new TextDecoder();

type Action =
  | { kind: "enqueue"; id: number; due: number; isDeferred: boolean; expiresMs: number }
  | { kind: "claim"; limit: number }
  | { kind: "crash"; limit: number }
  | { kind: "renew"; which: number }
  | { kind: "finish"; which: number; success: boolean; keepMs: number }
  | { kind: "giveBack"; which: number; hasBegun: boolean; isRelease: boolean; isDeferred: boolean }
  | { kind: "releaseUnknown"; known: number }
  | { kind: "abort"; id: number }
  | { kind: "step"; ms: number };

/** A store, and how its time is made to pass. */
interface System {
  readonly store: Store;
  /** Lets leases of `SHORT_LEASE_MS` end; returns how far the clock was moved. */
  outlive(jobIds: readonly string[]): Promise<number>;
  /** Moves the clock, where the test has it in hand. */
  step?(ms: number): void;
}

const id = fc.nat(IDS.length - 1);
const which = fc.nat(20);
const limit = fc.integer({ min: 1, max: 4 });
const ACTIONS: readonly fc.Arbitrary<Action>[] = [
  fc.record({
    kind: fc.constant("enqueue"),
    id,
    due: fc.nat(9),
    isDeferred: fc.boolean(),
    expiresMs: fc.constantFrom(DAY_MS, DAY_MS, 50_000),
  }),
  fc.record({ kind: fc.constant("claim"), limit }),
  fc.record({ kind: fc.constant("crash"), limit }),
  fc.record({ kind: fc.constant("renew"), which }),
  fc.record({
    kind: fc.constant("finish"),
    which,
    success: fc.boolean(),
    keepMs: fc.constantFrom(0, 40_000, Infinity),
  }),
  fc.record({
    kind: fc.constant("giveBack"),
    hasBegun: fc.boolean(),
    which,
    isRelease: fc.boolean(),
    isDeferred: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("releaseUnknown"), known: fc.nat(3) }),
  fc.record({ kind: fc.constant("abort"), id }),
];
const STEP: fc.Arbitrary<Action> = fc.record({
  kind: fc.constant("step"),
  ms: fc.constantFrom(1_000, 30_000, LEASE_MS, LEASE_MS + 5, DAY_MS),
});

/** One sequence: does each action on the store and on the model, and compares what they say. */
class Run {
  readonly #model = new StoreModel();
  readonly #handles: { claim: Claim; handle: Handle }[] = [];
  /** Makes scores, payloads and records differ. */
  #count = 0;

  constructor(readonly system: System) {}

  async act(action: Action): Promise<void> {
    const n = ++this.#count;
    switch (action.kind) {
      case "enqueue":
        return await this.#enqueue(action, n);
      case "claim":
        return void await this.#claim(action.limit, LEASE_MS);
      case "crash":
        return await this.#crash(action.limit);
      case "releaseUnknown":
        return await this.#releaseUnknown(action.known);
      case "abort":
        return await this.#abort(IDS[action.id] ?? "", `aborted ${n}`);
      case "step":
        this.system.step?.(action.ms);
        this.#model.now += action.ms;
        return;
    }
    const held = this.#handles.at(-1 - action.which % (this.#handles.length || 1));
    if (held === undefined) return;
    if (action.kind === "renew") await this.#renew(held);
    else if (action.kind === "finish") await this.#finish(held, action, `result ${n}`);
    else await this.#giveBack(held, action, n);
  }

  async #enqueue(action: Action & { kind: "enqueue" }, n: number): Promise<void> {
    const jobId = IDS[action.id] ?? "";
    const when = action.isDeferred
      ? { deferMs: 45_000 + n }
      : { dueAt: 1_000 * (action.due + 1) + n };
    const score = action.isDeferred ? this.#model.now + 45_000 + n : when.dueAt ?? NaN;
    const payload = `payload ${n}`;
    const job = { jobId, payload: bytes(payload), idKind: "given" as const, ...when };
    const { expiresMs } = action;
    const accepted = await this.system.store.enqueue(QUEUE, [{ ...job, expiresMs }], DAY_MS);
    assert.deepEqual(accepted, [this.#model.enqueue(jobId, payload, score, expiresMs)]);
  }

  async #claim(limit: number, leaseMs: number): Promise<string[]> {
    const ghosts = [...this.#model.jobs.keys()].filter((jobId) => this.#model.isGhost(jobId));
    const orphans = this.#model.orphans().filter((jobId) => !ghosts.includes(jobId));
    const first = Math.min(limit, orphans.length);
    const due = this.#model.due().filter((jobId) => !ghosts.includes(jobId))
      .slice(0, limit - first);
    const { claims, queued } = await this.system.store.claim(QUEUE, {
      holder: "h",
      limit,
      leaseMs,
    });
    await this.#forgetRemoved(ghosts);
    const ids = claims.map(({ jobId }) => jobId);
    assert.ok(ids.slice(0, first).every((jobId) => orphans.includes(jobId)), "orphans first");
    assert.equal(new Set(ids).size, first + due.length);
    assert.deepEqual(ids.slice(first), due);
    assert.equal(queued, this.#model.jobs.size);
    for (const claim of claims) this.#compareClaim(claim, leaseMs);
    return ids;
  }

  /** A claim removes the ghosts on its way; which these are is its own affair. */
  async #forgetRemoved(ghosts: readonly string[]): Promise<void> {
    const entries = await this.system.store.queueEntries(QUEUE);
    for (const ghost of ghosts) {
      if (!entries.some(({ jobId }) => jobId === ghost)) this.#model.jobs.delete(ghost);
    }
  }

  #compareClaim(claim: Claim, leaseMs: number): void {
    const { jobId, token, starts, handbacks, abortAsked } = claim;
    const job = this.#model.claim(jobId, token, leaseMs);
    const { lease: { score } } = job;
    const payload = this.#model.hasPayload(job) ? job.payload : null;
    assert.deepEqual(
      { starts, handbacks, abortAsked, payload: claim.payload && TEXT.decode(claim.payload) },
      { starts: job.starts, handbacks: job.handbacks, abortAsked: job.abortAsked, payload },
    );
    if (this.system.step || score < 1e6) assert.equal(Number(claim.score), score);
    this.#handles.push({ claim, handle: { jobId, token, score } });
  }

  async #crash(limit: number): Promise<void> {
    const ids = await this.#claim(limit, SHORT_LEASE_MS);
    this.#model.now += await this.system.outlive(ids);
    for (const jobId of ids) {
      const lease = this.#model.jobs.get(jobId)?.lease;
      if (lease && !this.system.step) lease.until = this.#model.now - 10;
    }
  }

  async #renew({ claim, handle }: { claim: Claim; handle: Handle }): Promise<void> {
    const renewed = await this.system.store.renew(QUEUE, [claim], LEASE_MS);
    assert.deepEqual(renewed, [this.#model.renew(handle, LEASE_MS)]);
  }

  async #finish(
    { claim: lease, handle }: { claim: Claim; handle: Handle },
    { success, keepMs }: Action & { kind: "finish" },
    record: string,
  ): Promise<void> {
    const end = {
      lease,
      success,
      record: bytes(record),
      keepMs: keepMs === Infinity ? "forever" as const : keepMs,
      lockTailMs: 0,
    };
    const settled = await this.system.store.finish(QUEUE, [end]);
    assert.deepEqual(settled, [this.#model.finish(handle, success, record, keepMs)]);
  }

  async #giveBack(
    { claim: lease, handle }: { claim: Claim; handle: Handle },
    { hasBegun, isRelease, isDeferred }: Action & { kind: "giveBack" },
    n: number,
  ): Promise<void> {
    const kind = hasBegun && isRelease ? "release" : "retry";
    const deferMs = isDeferred ? 45_000 + n : undefined;
    const starts = hasBegun ? lease.starts : lease.starts - 1;
    const settled = await this.system.store.giveBack(QUEUE, [{ lease, kind, deferMs, starts }]);
    assert.deepEqual(settled, [this.#model.giveBack(handle, kind, deferMs, starts)]);
  }

  async #releaseUnknown(count: number): Promise<void> {
    const known = this.#handles.slice(-count || Infinity).map(({ claim }) => claim);
    const released = await this.system.store.releaseUnknown(QUEUE, "h", known);
    assert.equal(released, this.#model.releaseUnknown(known));
  }

  async #abort(jobId: string, record: string): Promise<void> {
    const reply = await this.system.store.abort(QUEUE, jobId, bytes(record), 40_000);
    assert.equal(reply, this.#model.abort(jobId, record, 40_000));
  }

  /** Compares all that can be seen from outside. */
  async compare(): Promise<void> {
    const { store } = this.system;
    const snapshots = await Promise.all(IDS.map((jobId) => store.lookUp(QUEUE, jobId, true)));
    for (const [i, jobId] of IDS.entries()) {
      const job = this.#model.jobs.get(jobId);
      const { result, payload, hasPayload, locked, score } = snapshots[i] ?? assert.fail();
      assert.equal(result && TEXT.decode(result), this.#model.result(jobId));
      assert.equal(hasPayload, this.#model.hasPayload(job));
      assert.equal(payload && TEXT.decode(payload), hasPayload ? job?.payload : undefined);
      assert.equal(locked, this.#model.isLocked(job));
      assert.equal(score === undefined, job === undefined);
      if (job && this.system.step) assert.equal(score, this.#model.score(job));
    }
    const asked = IDS.filter((jobId) => this.#model.jobs.get(jobId)?.abortAsked);
    assert.deepEqual([...await store.findAborts(IDS)].sort(), asked);
    const entries = await store.queueEntries(QUEUE);
    assert.deepEqual(entries.map(({ jobId }) => jobId).sort(), [...this.#model.jobs.keys()].sort());
  }
}

/** Checks that a store does what the model says, for many random sequences. */
async function check(open: () => Promise<System>, hasClock: boolean, numRuns: number) {
  const action = fc.oneof(...ACTIONS, ...(hasClock ? [STEP] : []));
  const sequence = fc.array(action, { minLength: 1, maxLength: 60, size: "max" });
  await fc.assert(
    fc.asyncProperty(sequence, async (actions) => {
      const system = await open();
      await using _ = system.store;
      const run = new Run(system);
      for (const action of actions) {
        await run.act(action);
        await run.compare();
      }
    }),
    { numRuns, endOnFailure: false },
  );
}

async function openSqlite(path: string): Promise<System> {
  const clock = { now: new StoreModel().now };
  const target = { path, prefix: randomPrefix(), timeoutMs: 5_000 };
  const store = new SqliteStore(target, () => clock.now);
  await store.connect();
  const step = (ms: number) => void (clock.now += ms);
  const outlive = () => {
    step(2 * SHORT_LEASE_MS);
    return Promise.resolve(2 * SHORT_LEASE_MS);
  };
  return { store, step, outlive };
}

async function openRedis(): Promise<System> {
  const prefix = randomPrefix();
  const inner = await openTestStore({ prefix });
  const queueName = `${prefix}${QUEUE}`;
  // The queue's name is the whole key in Redis, so it carries the prefix.
  const store = new Proxy(inner, {
    get(target, key) {
      const value = Reflect.get(target, key, target);
      if (typeof value !== "function") return value;
      return (...args: unknown[]) =>
        Reflect.apply(value, target, args.map((arg) => arg === QUEUE ? queueName : arg));
    },
  });
  const hasEnded = async (jobId: string) => {
    const { locked, score, now } = await store.lookUp(QUEUE, jobId, false);
    return !locked && (score === undefined || score < now);
  };
  const outlive = async (ids: readonly string[]) => {
    for (const jobId of ids) await eventually(() => hasEnded(jobId), `the lease of ${jobId} ends`);
    return 0;
  };
  return { store, outlive };
}

describe("A store does what the model says", () => {
  const folder = new Folder();
  after(() => folder[Symbol.dispose]());

  it("SQLite in memory", () => check(() => openSqlite(":memory:"), true, 300));
  it("SQLite in a file", () => check(() => openSqlite(folder.file()), true, 100));
  it("Redis", () => check(openRedis, false, 60));
});
