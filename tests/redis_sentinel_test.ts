/** A queue on a primary that dies: three Sentinels, one primary, one replica, all real. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { createPool, func, type JobContext, QueueConnectionError, Worker } from "../mod.ts";
import { scripts } from "../redis_scripts.ts";
import type { RedisSettings } from "../redis_settings.ts";
import { startLossyRelay } from "./_fake_server.ts";
import { eventually, rejection } from "./_helpers.ts";
import { randomPrefix, startRedis } from "./_redis.ts";
import { SentinelService } from "./_topologies.ts";
import { Gate, start } from "./_worker.ts";

/** Nobody polls within a test: only wake-ups and news can bring anything about. */
const NEVER = 60_000;
const BACKLOG = 100;

describe("A queue behind Sentinels", () => {
  let service: SentinelService;
  before(async () => {
    service = await SentinelService.start();
  });
  after(() => service[Symbol.asyncDispose]());

  it("says in words when its Sentinels cannot help", async () => {
    const [first = "", last = ""] = service.url.split("mymaster");
    const refusal = async (url: string) =>
      (await rejection(createPool(`${url}?connRetries=0&connTimeout=10000`))).message;
    assert.match(
      await refusal(`${first}other${last}`),
      /^Redis at \S+\/other: the Sentinels know no primary of this name \(.+\)$/,
    );
    const { port } = await service.primary();
    assert.match(
      await refusal(`redis+sentinel://127.0.0.1:${port}/mymaster`),
      /^Redis at \S+\/mymaster: it is no Sentinel; list the Sentinels, not the servers they watch/,
    );
    assert.match(
      await refusal("redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster"),
      /^Redis at 127\.0\.0\.1:1,127\.0\.0\.1:2\/mymaster: connection refused/,
    );
  });

  it("goes on by itself when the primary's machine dies, with a Sentinel on it", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(service.url, { prefix });
    const gate = new Gate();
    const functions = {
      echo: (_ctx: JobContext, n: number) => n,
      wait: async (ctx: JobContext) => {
        await gate.pass();
        ctx.progress("passed");
        return `try ${ctx.jobTry}, ${ctx.signal.aborted ? "aborted" : "undisturbed"}`;
      },
    };
    const worker = new Worker({ functions, connection: service.url, prefix, pollDelay: NEVER });
    const ended = worker.run();
    assert.equal(await arq.call("echo", [0], { pollDelay: NEVER, timeout: 10_000 }), 0);
    const waiting = arq.call("wait", [], { pollDelay: NEVER, timeout: 50_000 });
    const watched = await arq.enqueueJob("wait");
    await gate.reached(2);
    const events = watched.events();
    assert.equal((await events.next()).value?.kind, "started");
    const backlog = await arq.enqueueJobs(
      Array.from({ length: BACKLOG }, (_, n) => ({
        name: "echo",
        args: [n],
        options: { deferBy: 1_500 + 10 * n },
      })),
    );
    await service.replicate();
    const [sentinel] = service.sentinels;
    const dead = await service.primary();
    sentinel?.kill("SIGKILL");
    dead.kill("SIGKILL");
    let calls = 0;
    const enqueue = async () => {
      calls++;
      await arq.enqueueJob("echo", [-1], { jobId: "meanwhile" });
      return true;
    };
    // Held until there is a primary again; Sentinels that elect nobody at first take longer than that.
    const isAway = (error: unknown) =>
      error instanceof QueueConnectionError ? false : Promise.reject(error);
    await eventually(() => enqueue().catch(isAway), "there is a primary again", 30_000);
    assert.ok(calls <= 4, `${calls} calls`);
    await eventually(async () => await service.primary() !== dead, "all Sentinels know of another");
    gate.open();
    assert.equal(await waiting, "try 1, undisturbed");
    const steps = [];
    for await (const { kind } of events) steps.push(kind);
    assert.deepEqual(steps, ["progress", "finished"]);
    assert.equal(await arq.job("meanwhile").result({ timeout: 10_000 }), -1);
    for (const [n, job] of backlog.entries()) {
      assert.equal(await job.result({ timeout: 10_000 }), n);
    }
    for (let n = 0; n < 3; n++) {
      assert.equal(await arq.call("echo", [n], { pollDelay: NEVER, timeout: 5_000 }), n);
    }
    assert.equal(worker.jobsComplete, BACKLOG + 7);
    await worker.close();
    await ended;
  });

  it("tells a client in time and in words that there is no primary, and comes back", async () => {
    const settings = `${service.url}?timeout=500`;
    await using arq = await createPool(settings, { prefix: randomPrefix() });
    const last = await service.primary();
    last.kill("SIGKILL");
    for (let i = 0; i < 2; i++) {
      const error = await rejection(arq.enqueueJob("echo"));
      assert.ok(error instanceof QueueConnectionError);
      assert.match(error.message, /^Redis at \S+\/mymaster: [^\n]+$/);
    }
    await last.restart();
    await eventually(() => arq.enqueueJob("echo").catch(() => false), "it is served", 20_000);
  });
});

describe("A lost reply behind a Sentinel", () => {
  it("makes no job another's, and no try of one that nobody runs", async () => {
    await using server = await startRedis();
    await using relay = await startLossyRelay(server.port);
    const sentinel = [`sentinel monitor mymaster 127.0.0.1 ${relay.port} 1`];
    await using watcher = await startRedis({ sentinel });
    const url = `redis+sentinel://127.0.0.1:${watcher.port}/mymaster`;
    await using arq = await createPool(url);
    await using there = await createPool(server.url);
    assert.ok(await arq.enqueueJob("echo", [1], { jobId: "known" })); // and so is the script
    relay.loseReplyTo("mine");
    assert.ok(await arq.enqueueJob("echo", [2], { jobId: "mine" }));
    assert.equal(relay.lost, 1);

    const echo = func((_ctx: JobContext, n: number) => n, { name: "echo", maxTries: 1 });
    // Neither a poll nor the end of a lease may help.
    const functions = [echo];
    const worker = new Worker({ functions, connection: url, pollDelay: NEVER, lease: NEVER });
    await using _running = start(worker);
    for (const jobId of ["known", "mine"]) await there.job(jobId).result({ timeout: 10_000 });
    relay.loseReplyTo(scripts.claim.sha);
    assert.equal(await there.call("echo", [3], { timeout: 10_000 }), 3);
    assert.equal(relay.lost, 2);
  });
});

describe("Sentinels with a password of their own", () => {
  it("are told it apart from that of the servers they watch", async () => {
    const [own, watched] = ["of the Sentinels", "of the servers"];
    await using primary = await startRedis({ args: ["--requirepass", watched] });
    await using sentinel = await startRedis({
      sentinel: [
        `sentinel monitor mymaster 127.0.0.1 ${primary.port} 1`,
        `sentinel auth-pass mymaster "${watched}"`,
      ],
      args: ["--requirepass", own],
    });
    const connection = (password: string, sentinelPassword?: string): RedisSettings => ({
      host: [["127.0.0.1", sentinel.port]],
      sentinel: true,
      password,
      sentinelPassword,
      connRetries: 0,
      connTimeout: 10_000,
    });
    const refusal = async (...passwords: Parameters<typeof connection>) =>
      (await rejection(createPool(connection(...passwords)))).message;
    await using arq = await createPool(connection(watched, own));
    assert.equal(await (await arq.enqueueJob("echo")).status(), "queued");
    const wanted = /: a password is wanted; set `sentinelPassword` for the Sentinels, .*NOAUTH/;
    assert.match(await refusal(watched), wanted);
    const refused = /: user name and password are refused: `sentinelPassword` is for .*WRONGPASS/;
    assert.match(await refusal(watched, "wrong"), refused);
  });
});
