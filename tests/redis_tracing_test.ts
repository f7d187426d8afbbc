/** Tracers of `@redis/client` hear of commands, and nothing is made for them where there are none. */
import assert from "node:assert/strict";
import { tracingChannel } from "node:diagnostics_channel";
import { it } from "node:test";
import { newJob, openTestStore } from "./_helpers.ts";

it("commands are traced as long as somebody listens", async () => {
  await using store = await openTestStore();
  const send = (jobId: string) => store.enqueue(`${store.prefix}queue`, [newJob(jobId)], 60_000);
  const channel = tracingChannel("node-redis:command");
  const commands: string[] = [];
  const onStart = (message: object) => void commands.push((message as { command: string }).command);
  const nothing = () => {};
  const listeners = {
    start: onStart,
    end: nothing,
    asyncStart: nothing,
    asyncEnd: nothing,
    error: nothing,
  };
  assert.equal(channel.hasSubscribers, false);
  await send("a");
  channel.subscribe(listeners);
  assert.equal(channel.hasSubscribers, true);
  await send("b");
  channel.unsubscribe(listeners);
  assert.ok(commands.includes("EVALSHA"));
  const told = commands.length;
  assert.equal(channel.hasSubscribers, false);
  await send("c");
  assert.equal(commands.length, told);
});
