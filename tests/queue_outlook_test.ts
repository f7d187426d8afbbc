import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { QueueOutlook } from "../queue_outlook.ts";
import type { ClaimReply } from "../store.ts";

function reply(queued: number, nextDueMs?: number): ClaimReply {
  return { claims: [], now: 1_000_000, nextDueMs, queued };
}

function outlook(onDue = () => {}): QueueOutlook {
  return new QueueOutlook(500, onDue);
}

describe("What a worker knows of its queue", () => {
  it("is nothing at first, so that it asks", () => {
    const queue = outlook();
    assert.deepEqual([queue.mayHaveWork, queue.hasBacklog, queue.isEmpty], [true, false, false]);
    assert.equal(queue.now, undefined);
  });

  it("is that it is empty only where a claim has found no job at all", () => {
    const queue = outlook();
    for (const [found, isEmpty] of [[reply(1, 60_000), false], [reply(0), true]] as const) {
      queue.beginClaim();
      queue.endClaim(found);
      assert.deepEqual([queue.mayHaveWork, queue.isEmpty, queue.queued], [
        false,
        isEmpty,
        found.queued,
      ]);
    }
    queue.noteWakeUp();
    assert.equal(queue.isEmpty, false);
  });

  it("is the store's time once that has answered", () => {
    const queue = outlook();
    queue.noteReply(reply(0));
    assert.ok((queue.now ?? 0) >= 1_000_000);
  });

  it("is a backlog while due jobs are left, and unknown without a reply", () => {
    const queue = outlook();
    queue.beginClaim();
    queue.endClaim(reply(9, 0));
    assert.deepEqual([queue.mayHaveWork, queue.hasBacklog], [true, true]);
    queue.beginClaim();
    queue.endClaim(undefined);
    assert.deepEqual([queue.mayHaveWork, queue.hasBacklog, queue.isEmpty], [false, false, false]);
  });

  it("forgets no wake-up that comes during a claim", () => {
    const queue = outlook();
    queue.noteWakeUp();
    queue.beginClaim();
    queue.noteWakeUp();
    queue.endClaim(reply(0));
    assert.equal(queue.mayHaveWork, true);
    queue.beginClaim();
    queue.endClaim(reply(0));
    assert.equal(queue.mayHaveWork, false);
  });

  it("changes when the next job is due, if that is soon", async () => {
    const { promise: due, resolve } = Promise.withResolvers<void>();
    using queue = outlook(resolve);
    queue.beginClaim();
    queue.endClaim(reply(1, 20));
    assert.equal(queue.mayHaveWork, false);
    await due;
    assert.equal(queue.mayHaveWork, true);
  });
});
