import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import type { ClaimReply, ClaimRequest, WakeLine } from "../store.ts";
import { type Sleeper, WakeListener } from "../wake_listener.ts";

/** The listener's pause after an error. */
const PAUSE_MS = 500;

/** A line on which the test says when it rings. */
class FakeLine implements WakeLine {
  /** How often the listener has begun to wait. */
  waits = 0;
  isClosed = false;
  canClaim = false;
  /** What the last wait was to claim. */
  request: ClaimRequest | undefined;
  #waiting: PromiseWithResolvers<ClaimReply | boolean> | undefined;

  wait(request?: ClaimRequest): Promise<ClaimReply | boolean> {
    assert.equal(this.#waiting, undefined, "it waits twice at the same time");
    this.waits++;
    this.request = request;
    this.#waiting = Promise.withResolvers<ClaimReply | boolean>();
    return this.#waiting.promise;
  }

  /** Ends the wait: with a wake-up, a claim, or after a time without any. */
  async end(reply: ClaimReply | boolean): Promise<void> {
    this.#take().resolve(reply);
    await settled();
  }

  disarm(): Promise<void> {
    return Promise.resolve();
  }

  async fail(): Promise<void> {
    this.#take().reject(new Error("the line is cut"));
    await settled();
  }

  [Symbol.dispose](): void {
    this.isClosed = true;
    this.#waiting?.reject(new Error("the line is closed"));
  }

  #take(): PromiseWithResolvers<ClaimReply | boolean> {
    const waiting = this.#waiting ?? assert.fail("nobody waits");
    this.#waiting = undefined;
    return waiting;
  }
}

/** A worker that only counts how often it was woken. */
class FakeSleeper implements Sleeper {
  idle = true;
  wakeUps = 0;
  onWake: () => void | Promise<void> = () => void this.wakeUps++;
  gaps = 0;
  request: ClaimRequest | undefined = { holder: "me", limit: 1, leaseMs: 1_000 };
  /** What it was told of its claims. */
  readonly claimed: (ClaimReply | "none" | "unknown")[] = [];

  isIdle(): boolean {
    return this.idle;
  }

  prepareClaim(): ClaimRequest | undefined {
    return this.request;
  }

  onGap(): void {
    this.gaps++;
  }

  onClaimed(reply: ClaimReply | "none" | "unknown"): void {
    this.claimed.push(reply);
  }
}

/** Lets everything happen that needs no time. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe("A wake listener", () => {
  let line: FakeLine;
  let sleeper: FakeSleeper;
  let listener: WakeListener;
  let ended: Promise<void>;

  async function run(): Promise<void> {
    ended = listener.run();
    await settled();
  }

  beforeEach(() => {
    mock.timers.enable({ apis: ["setTimeout"] });
    line = new FakeLine();
    sleeper = new FakeSleeper();
    listener = new WakeListener(line, sleeper);
    ended = Promise.resolve();
  });

  afterEach(async () => {
    listener[Symbol.dispose]();
    await ended;
    mock.timers.reset();
  });

  it("waits on its line only while the worker is idle", async () => {
    sleeper.idle = false;
    await run();
    assert.equal(line.waits, 0);
    listener.notify();
    await settled();
    assert.equal(line.waits, 0, "it was told, but the worker is not idle");
    sleeper.idle = true;
    listener.notify();
    await settled();
    assert.equal(line.waits, 1);
    listener.notify();
    await settled();
    assert.equal(line.waits, 1, "it waits already");
  });

  it("does not wait again for a worker that its wake-up made busy", async () => {
    sleeper.onWake = () => {
      sleeper.idle = false;
      sleeper.wakeUps++;
    };
    await run();
    await line.end(true);
    assert.deepEqual([sleeper.wakeUps, line.waits], [1, 1]);
    sleeper.idle = true;
    listener.notify();
    await settled();
    assert.equal(line.waits, 2);
  });

  it("calls onWake once a wake-up, and not after a time without any", async () => {
    await run();
    await line.end(false);
    assert.deepEqual([sleeper.wakeUps, line.waits], [0, 2]);
    await line.end(true);
    assert.deepEqual([sleeper.wakeUps, line.waits], [1, 3]);
    for (let i = 0; i < 1_000; i++) await line.end(true);
    assert.deepEqual([sleeper.wakeUps, line.waits], [1_001, 1_003]);
  });

  it("waits for onWake before it listens again", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    sleeper.onWake = () => promise;
    await run();
    await line.end(true);
    assert.equal(line.waits, 1);
    resolve();
    await settled();
    assert.equal(line.waits, 2);
  });

  it("has a job claimed at the wake-up where the line can", async () => {
    const reply: ClaimReply = { claims: [], now: 1, nextDueMs: undefined, queued: 0 };
    line.canClaim = true;
    await run();
    assert.equal(line.request, sleeper.request);
    await line.end(reply);
    assert.deepEqual([sleeper.claimed, sleeper.wakeUps], [[reply], 0]);
    await line.end(true);
    assert.deepEqual([sleeper.claimed, sleeper.wakeUps], [[reply, "none"], 1]);
    await line.fail();
    assert.deepEqual(sleeper.claimed, [reply, "none", "unknown"]);
  });

  it("claims nothing where the line cannot, or the worker does not want to", async () => {
    await run();
    assert.equal(line.request, undefined);
    line.canClaim = true;
    sleeper.request = undefined;
    await line.end(true);
    assert.equal(line.request, undefined);
    await line.end(true);
    assert.deepEqual([sleeper.claimed, sleeper.wakeUps], [[], 2]);
  });

  it("leaves a claim under way to its worker when it is disposed of", async () => {
    line.canClaim = true;
    await run();
    listener[Symbol.dispose]();
    await ended;
    assert.deepEqual(sleeper.claimed, []);
  });

  it("pauses after an error of the line, and listens again", async () => {
    await run();
    await line.fail();
    mock.timers.tick(PAUSE_MS - 1);
    await settled();
    assert.equal(line.waits, 1);
    mock.timers.tick(1);
    await settled();
    assert.equal(line.waits, 2);
    assert.deepEqual([sleeper.wakeUps, sleeper.gaps], [0, 1]);
    await line.end(true);
    assert.equal(sleeper.wakeUps, 1);
  });

  it("pauses after an error of onWake, and listens again", async () => {
    sleeper.onWake = () => Promise.reject(new Error("cannot pass it on"));
    await run();
    await line.end(true);
    assert.equal(line.waits, 1);
    mock.timers.tick(PAUSE_MS);
    await settled();
    assert.equal(line.waits, 2);
  });

  it("ends when it is disposed of while it waits", async () => {
    await run();
    listener[Symbol.dispose]();
    await ended;
    assert.deepEqual([line.isClosed, sleeper.wakeUps], [true, 0]);
  });

  it("ends when it is disposed of while the worker is busy", async () => {
    sleeper.idle = false;
    await run();
    listener[Symbol.dispose]();
    await ended;
    assert.deepEqual([line.isClosed, line.waits], [true, 0]);
  });

  it("ends when it is disposed of in a pause, and leaves no timer behind", async () => {
    await run();
    await line.fail();
    listener[Symbol.dispose]();
    await ended;
    mock.timers.tick(PAUSE_MS);
    await settled();
    assert.deepEqual([line.isClosed, line.waits], [true, 1]);
  });

  it("wakes nobody by a wake-up that comes with its end", async () => {
    await run();
    const woken = line.end(true);
    listener[Symbol.dispose]();
    await woken;
    await ended;
    assert.equal(sleeper.wakeUps, 0);
  });
});
