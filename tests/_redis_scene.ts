/** A queue on a real Redis, seen from both sides: through the store, and raw. */
import assert from "node:assert/strict";
import type { Claim, Store } from "../store.ts";
import { endOf, newJob, only, openRawRedis, openTestStore, type RawRedis } from "./_helpers.ts";

/** A lease that does not end within a test. */
export const LEASE_MS = 30_000;
/** How long jobs may wait beyond their due time. */
export const DAY_MS = 86_400_000;

/** A store, raw commands beside it, and the names of its keys. */
export class Scene implements AsyncDisposable {
  readonly queue: string;
  readonly leases: string;

  constructor(readonly store: Store, readonly redis: RawRedis) {
    this.queue = this.key("queue");
    this.leases = `${this.queue}:leases`;
  }

  static async open(url?: string): Promise<Scene> {
    return new Scene(await openTestStore({ url }), await openRawRedis(url));
  }

  key(name: string): string {
    return this.store.prefix + name;
  }

  call(...args: (string | number)[]) {
    return this.redis.call(...args);
  }

  enqueue(...jobs: ReturnType<typeof newJob>[]) {
    return this.store.enqueue(this.queue, jobs, DAY_MS);
  }

  async claim(limit = 10): Promise<readonly Claim[]> {
    return (await this.store.claim(this.queue, { holder: "holder", limit, leaseMs: LEASE_MS }))
      .claims;
  }

  async start(jobId: string): Promise<Claim> {
    await this.enqueue(newJob(jobId));
    return only(await this.claim(1));
  }

  finish(claim: Claim, more?: Parameters<typeof endOf>[1]) {
    return this.store.finish(this.queue, [endOf(claim, more)]);
  }

  score(jobId: string) {
    return this.call("ZSCORE", this.queue, jobId);
  }

  async now(): Promise<number> {
    return (await this.store.lookUp(this.queue, "nobody", false)).now;
  }

  /** How long a key lives, checked to lie within two seconds below `wanted`. */
  async expiresIn(key: string, wanted: number): Promise<void> {
    const ttl = Number(await this.call("PTTL", key));
    assert.ok(ttl <= wanted && ttl > wanted - 2_000, `${key} lives ${ttl} ms, not ${wanted}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    await this.redis[Symbol.asyncDispose]();
  }
}
