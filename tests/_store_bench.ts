/** One store with one queue, and the calls that the conformance tests make on it. */
import assert from "node:assert/strict";
import type { Claim, FinishListener, GiveBack, NewJob, Store, WakeLine } from "../store.ts";
import { endOf, eventually, newJob, only } from "./_helpers.ts";

/** Opens a connected store; stores with equal prefixes share what is in them. */
export type OpenStore = (prefix: string) => Promise<Store>;

/** A lease that does not end within a test. */
export const LEASE_MS = 30_000;
/** A lease that a test sees ending. */
export const SHORT_LEASE_MS = 100;
/** How long results are kept where a test does not care. */
export const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** Opens a bench; equal prefixes share a store's contents. */
export type OpenBench = (prefix?: string) => Promise<Bench>;

/** One queue of its own, with the calls that most tests make. */
export class Bench implements AsyncDisposable {
  readonly queue: string;

  constructor(readonly store: Store) {
    this.queue = `${store.prefix}queue`;
  }

  enqueue(...jobs: NewJob[]): Promise<boolean[]> {
    return this.store.enqueue(this.queue, jobs, DAY_MS);
  }

  async claim(limit = 10, leaseMs = LEASE_MS, holder = "holder"): Promise<readonly Claim[]> {
    return (await this.store.claim(this.queue, { holder, limit, leaseMs })).claims;
  }

  /** Enqueues a job that is due and claims it. */
  async start(jobId: string, leaseMs = LEASE_MS, holder = "holder"): Promise<Claim> {
    await this.enqueue(newJob(jobId));
    return only(await this.claim(1, leaseMs, holder));
  }

  lookUp(jobId: string, withPayload = false) {
    return this.store.lookUp(this.queue, jobId, withPayload);
  }

  /** Waits until a lease has run out, without claiming anything. */
  async outlive(jobId: string): Promise<void> {
    await eventually(async () => {
      const { locked, score, now } = await this.lookUp(jobId);
      return !locked && score !== undefined && score < now;
    }, `the lease of ${jobId} ends`);
  }

  finish(claim: Claim, more: Parameters<typeof endOf>[1] = {}) {
    return this.store.finish(this.queue, [endOf(claim, more)]);
  }

  giveBack(lease: Claim, more: Partial<GiveBack> = {}) {
    const starts = lease.starts;
    return this.store.giveBack(this.queue, [{ lease, kind: "retry", starts, ...more }]);
  }

  async resultOf(jobId: string): Promise<string | undefined> {
    const { result } = await this.lookUp(jobId);
    return result && new TextDecoder().decode(result);
  }

  async isEmpty(): Promise<boolean> {
    return (await this.store.queueEntries(this.queue)).length === 0;
  }

  /** Lets whatever was announced before arrive. */
  async settle(): Promise<void> {
    for (let i = 0; i < 10; i++) await this.lookUp("nobody");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.store.close();
  }
}

/** Waits on a line and notes whether it was woken. */
export function listen(line: WakeLine): { isWoken: boolean } {
  const state = { isWoken: false };
  line.wait().then((woken) => state.isWoken = woken === true, () => {});
  return state;
}

/** Notes what a listener is told. */
export function recorder(): { heard: (string | undefined)[]; listener: FinishListener } {
  const heard: (string | undefined)[] = [];
  return { heard, listener: (record) => heard.push(record && new TextDecoder().decode(record)) };
}

/** The ids, in order. */
export const idsOf = (claims: readonly { readonly jobId: string }[]) =>
  claims.map(({ jobId }) => jobId);
/** Fails unless two times lie within two seconds. */
export const isAbout = (actual: number, wanted: number, what: string) =>
  assert.ok(Math.abs(actual - wanted) < 2_000, `${what}: ${actual} is not about ${wanted}`);
