/**
 * Tests of a program's own jobs: the real worker, a queue in memory, and a clock that the test moves.
 * A week takes some milliseconds, and no server, file or permission is needed.
 *
 *     deno test examples/testing/welcome_test.ts
 *     bun test examples/testing/welcome_test.ts
 */
import { Retry } from "@arq/arq";
import { createTestQueue, runFunction } from "@arq/arq/testing";
import assert from "node:assert/strict";
import { it } from "node:test";
import { cronJobs, functions, type Mailer, welcome } from "./welcome.ts";

/** Keeps what was sent; fails the first `failures` times. */
class TestMailer implements Mailer {
  readonly sent: string[] = [];
  constructor(public failures = 0) {}

  send(to: string, text: string): Promise<void> {
    if (this.failures-- > 0) return Promise.reject(new Error("the mail server is away"));
    this.sent.push(`${to}: ${text}`);
    return Promise.resolve();
  }
}

it("a new member is welcomed, and asked a week later", async () => {
  const mailer = new TestMailer();
  const ctx = { mailer, members: new Set<string>() };
  await using queue = await createTestQueue({ functions, ctx });
  await queue.arq.enqueueJob("welcome", ["ann"]);
  await queue.runDue();
  assert.deepEqual(mailer.sent, ["ann: Welcome!"]);
  queue.assertEnqueued("followUp", ["ann"], { deferBy: { days: 7 } });
  await queue.advance({ days: 7 });
  assert.deepEqual(mailer.sent, ["ann: Welcome!", "ann: How is it going?"]);
});

it("a mail server that is away gets time", async () => {
  const mailer = new TestMailer(2);
  await using queue = await createTestQueue({ functions, ctx: { mailer, members: new Set() } });
  const job = await queue.arq.enqueueJob("welcome", ["ann"]);
  await queue.advance({ minutes: 3 }); // one minute, then two
  assert.equal((await job.resultInfo())?.jobTry, 3);
  assert.deepEqual(mailer.sent, ["ann: Welcome!"]);
});

it("one that stays away is given up after three tries", async () => {
  const ctx = { mailer: new TestMailer(Infinity), members: new Set<string>() };
  await using queue = await createTestQueue({ functions, ctx });
  await queue.arq.enqueueJob("welcome", ["ann"]);
  await assert.rejects(queue.advance({ hours: 1 }), { name: "JobExecutionFailed" });
});

it("one try, by itself", async () => {
  const ctx = { mailer: new TestMailer(1), members: new Set<string>() };
  await assert.rejects(runFunction(welcome, ["ann"], { ctx }), Retry);
});

it("the report comes at nine", async () => {
  const mailer = new TestMailer();
  const ctx = { mailer, members: new Set(["ann"]) };
  const now = new Date("2031-05-01T08:00Z");
  await using queue = await createTestQueue({ cronJobs, ctx }, { now });
  await queue.advance({ days: 2 });
  assert.deepEqual(mailer.sent, ["owner: 1 members", "owner: 1 members"]);
});
