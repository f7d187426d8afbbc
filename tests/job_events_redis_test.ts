/** Watching jobs on Redis: what it costs, and connections that break meanwhile. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import {
  createPool,
  type JobContext,
  type JobEvent,
  ResultNotFound,
  Retry,
  Worker,
} from "../mod.ts";
import { startLossyRelay } from "./_fake_server.ts";
import { eventually, openRawRedis, type RawRedis, within } from "./_helpers.ts";
import { randomPrefix, type RedisServer, startRedis } from "./_redis.ts";
import { Gate, start } from "./_worker.ts";

const HOST = "127.0.0.1";

/** What events are called, with their tries. */
const shown = (events: readonly JobEvent[]) =>
  events.map((event) => "jobTry" in event ? `${event.kind} ${event.jobTry}` : event.kind);

async function readAll(events: AsyncIterable<JobEvent>): Promise<JobEvent[]> {
  const all: JobEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

describe("Watching jobs on Redis", () => {
  let server: RedisServer;
  let raw: RawRedis;
  before(async () => {
    server = await startRedis();
    raw = await openRawRedis(server.url);
  });
  after(async () => {
    await raw[Symbol.asyncDispose]();
    await server.stop();
  });

  const channels = async (prefix: string) =>
    await raw.call("PUBSUB", "CHANNELS", `${prefix}*`) as string[];
  const stat = async (name: string) => {
    const info = String(await raw.call("INFO", "stats"));
    return Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)?.[1]);
  };

  it("takes one connection and one subscription a queue, and asks nothing meanwhile", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    const jobs = await arq.enqueueJobs(Array.from({ length: 20 }, () => ({ name: "f" as const })));
    const watching = jobs.map((job) => job?.events());
    await Promise.all(watching.map((events) => events?.next()));
    const events = `${arq.defaultQueueName}:events`;
    assert.deepEqual(await raw.call("PUBSUB", "NUMSUB", events), [events, 1]);
    const clients = String(await raw.call("CLIENT", "LIST", "TYPE", "pubsub"));
    assert.equal(clients.trim().split("\n").length, 1);
    const before = await stat("total_commands_processed");
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    assert.equal(await stat("total_commands_processed") - before, 1, "but the question itself");
    for (const events of watching) await events?.return?.();
    await eventually(async () => (await channels(prefix)).length === 0, "no channel is left");
  });

  it("goes on after its connections were cut, with where the job is then", async () => {
    const prefix = randomPrefix();
    await using relay = await startLossyRelay(server.port);
    await using arq = await createPool({ host: HOST, port: relay.port }, { prefix });
    await using there = await createPool(server.url, { prefix });
    const gates = [new Gate(), new Gate(), new Gate()];
    const work = async (ctx: JobContext) => {
      ctx.progress(`try ${ctx.jobTry}`);
      await gates[ctx.jobTry - 1]?.pass();
      if (ctx.jobTry < 3) throw new Retry();
      return "done";
    };
    await using _worker = start(
      new Worker({ connection: there, pollDelay: 20, functions: { work } }),
    );
    const job = await arq.enqueueJob("work");
    const events = job.events();
    const seen: JobEvent[] = [];
    const seeing = (async () => {
      for await (const event of events) seen.push(event);
    })();
    await eventually(() => shown(seen).includes("progress 1"), "the first try is told");
    relay.cut();
    gates[0]?.open();
    await gates[1]?.reached();
    await eventually(async () => await there.job(job.jobId).progress() === "try 2", "progress");
    relay.mend();
    await eventually(() => shown(seen).includes("progress 2"), "the second try is seen");
    relay.cut();
    gates[1]?.open();
    gates[2]?.open();
    assert.equal(await there.job(job.jobId).result({ timeout: 20_000 }), "done");
    relay.mend();
    await within(20_000, "it ends", seeing);
    assert.deepEqual(shown(seen).filter((kind) => kind !== "queued"), [
      "started 1",
      "progress 1",
      "started 2",
      "progress 2",
      "started 3",
      "progress 3",
      "finished 3",
    ]);
  });

  it("says that the job is gone when Redis comes back without it", async () => {
    await using forgetful = await startRedis();
    await using arq = await createPool(forgetful.url, { prefix: randomPrefix() });
    const job = await arq.enqueueJob("f");
    const events = job.events();
    assert.equal((await events.next()).value?.kind, "queued");
    const gone = assert.rejects(events.next(), ResultNotFound);
    forgetful.kill("SIGKILL");
    await forgetful.restart();
    await within(20_000, "it ends", gone);
  });

  it("lets a job that tells its progress go on while Redis is away", async () => {
    await using durable = await startRedis({ args: ["--appendonly", "yes"] });
    const prefix = randomPrefix();
    const settings = { host: HOST, port: durable.port };
    await using arq = await createPool(settings, { prefix });
    await using hasty = await createPool({ ...settings, timeout: 400 }, { prefix });
    const gate = new Gate();
    const work = async (ctx: JobContext) => {
      await gate.pass();
      for (let n = 0; n < 10; n++) {
        ctx.progress(n);
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
      return "done";
    };
    await using _worker = start(
      new Worker({ connection: hasty, pollDelay: 20, functions: { work } }),
    );
    const job = await arq.enqueueJob("work");
    await gate.reached();
    const events = job.events();
    assert.equal((await events.next()).value?.kind, "started");
    durable.kill("SIGKILL");
    gate.open();
    await eventually(() => !arq.redis.isReady, "the loss is noticed");
    await durable.restart();
    assert.equal((await within(20_000, "it ends", readAll(events))).at(-1)?.kind, "finished");
    assert.equal(await job.result({ timeout: 20_000 }), "done");
  });

  it("looks every now and then where it has no connection to listen on", async () => {
    const prefix = randomPrefix();
    const settings = { host: HOST, port: server.port, maxConnections: 1 };
    await using arq = await createPool(settings, { prefix });
    await using there = await createPool(server.url, { prefix });
    const job = await arq.enqueueJob("f");
    const events = job.events();
    assert.equal((await events.next()).value?.kind, "queued");
    await using _worker = start(
      new Worker({ connection: there, pollDelay: 20, functions: { f: () => "done" } }),
    );
    assert.equal((await within(5_000, "it ends", readAll(events))).at(-1)?.kind, "finished");
  });

  it("keeps what a job has told for as long as its lease is renewed, and ten minutes", async () => {
    await using arq = await createPool(server.url, { prefix: randomPrefix() });
    const { store, defaultQueueName: queue } = arq;
    await arq.enqueueJob("f", [], { jobId: "f" });
    const lease =
      (await store.claim(queue, { holder: "holder", limit: 1, leaseMs: 60_000 })).claims[0] ??
        assert.fail();
    const key = `${store.prefix}progress:f`;
    const isKept = async () => {
      const ttl = Number(await raw.call("PTTL", key));
      assert.ok(ttl > 650_000 && ttl <= 660_000, `${ttl} ms`);
    };
    await store.report(queue, [{ lease, starts: 1, nth: 1, value: new Uint8Array() }], 60_000);
    await isKept();
    await raw.call("PEXPIRE", key, 10_000);
    assert.deepEqual(await store.renew(queue, [lease], 60_000), [true]);
    await isKept();
  });

  it("goes on where its keys hold something else, and where it may not publish", async () => {
    const prefix = randomPrefix();
    await raw.call("ACL", "SETUSER", "mute", "on", ">secret", "~*", "+@all", "resetchannels");
    const settings = { host: HOST, port: server.port, username: "mute", password: "secret" };
    await using arq = await createPool(settings, { prefix });
    const job = await arq.enqueueJob("f", [], { jobId: "f" });
    const watched = `${arq.defaultQueueName}:ops:watched`;
    await raw.call("SET", watched, "rubbish");
    await raw.call("RPUSH", `${prefix}progress:f`, "rubbish");
    const f = (ctx: JobContext) => {
      ctx.progress("told");
      if (ctx.jobTry === 1) throw new Retry();
    };
    const worker = new Worker({ functions: { f }, connection: arq, burst: true });
    const failing = assert.rejects(job?.events().next() ?? assert.fail(), /holds something else/);
    await failing;
    await worker.run();
    assert.equal(worker.jobsComplete, 1);
    assert.equal(await job?.progress(), "told");
  });

  it("needs no more permissions than docs/stores.md says", async () => {
    const page = readFileSync(new URL("../docs/stores.md", import.meta.url), "utf8");
    const rights = /^ACL SETUSER arq on >PASSWORD (.*)$/m.exec(page)?.[1] ?? assert.fail();
    await raw.call("ACL", "SETUSER", "least", "on", ">secret", ...rights.split(" "));
    const settings = { host: HOST, port: server.port, username: "least", password: "secret" };
    await using arq = await createPool(settings);
    const job = await arq.enqueueJob("f");
    const events = job.events();
    assert.equal((await events.next()).value?.kind, "queued");
    const f = (ctx: JobContext) => {
      ctx.progress(ctx.jobTry);
      if (ctx.jobTry === 1) throw new Retry();
    };
    await using _worker = start(new Worker({ connection: arq, pollDelay: 20, functions: { f } }));
    assert.deepEqual(shown(await readAll(events)), [
      "started 1",
      "progress 1",
      "retried 1",
      "started 2",
      "progress 2",
      "finished 2",
    ]);
    assert.equal(await job.progress(), 2);
  });
});
