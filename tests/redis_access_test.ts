/** Users of Redis with few rights, and passwords, which nobody may see. */
import { configure, type LogRecord, reset } from "@logtape/logtape";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { inspect } from "node:util";
import { checkHealth, createPool, cron, type JobContext, Retry, Worker } from "../mod.ts";
import { openRawRedis, type RawRedis, rejection } from "./_helpers.ts";
import { reservePort } from "./_ports.ts";
import { type RedisServer, startRedis } from "./_redis.ts";
import { Gate, until } from "./_worker.ts";

const SECRET = "Xsecret99";
const PAGE = readFileSync(new URL("../docs/stores.md", import.meta.url), "utf8");
const LINE = (/^ACL SETUSER arq .*$/m.exec(PAGE)?.[0] ?? "").replace("PASSWORD", SECRET);
/** Nobody polls: only wake-ups and news can bring anything about. */
const NEVER = 60_000;

describe("Users of Redis", () => {
  let server: RedisServer;
  let admin: RawRedis;
  const urlOf = (user: string) => `redis://${user}:${SECRET}@127.0.0.1:${server.port}`;

  before(async () => {
    server = await startRedis();
    admin = await openRawRedis(server.url);
    const line = LINE.split(" ");
    await admin.call(...line);
    await admin.call(
      ...line.map((word) => word === "arq" ? "other" : word.replace("arq:", "other:")),
    );
    const silent = line.filter((word) => !word.startsWith("&") && word !== "+publish");
    await admin.call(...silent.map((word) => word === "arq" ? "silent" : word));
  });

  after(async () => {
    await admin[Symbol.asyncDispose]();
    await server.stop();
  });

  const one = () => 1;

  it("do everything with the rights of the documented line, and are refused nothing", async () => {
    const gate = new Gate();
    let ticks = 0;
    const functions = {
      one,
      again: (ctx: JobContext) => {
        if (ctx.jobTry < 2) throw new Retry({ defer: 1 });
        return ctx.jobTry;
      },
      wait: (ctx: JobContext) => gate.pass(ctx.signal),
    };
    const tick = cron(() => void ticks++, { hour: 0, minute: 0, runAtStartup: true, name: "tick" });
    const settings = { functions, cronJobs: [tick], connection: urlOf("arq") };
    await using arq = await createPool(urlOf("arq"));
    const worker = new Worker({ ...settings, pollDelay: NEVER });
    const ended = worker.run();
    assert.equal(await arq.call("one", [], { pollDelay: NEVER, timeout: 10_000 }), 1);
    assert.equal(await arq.call("again", [], { pollDelay: NEVER, timeout: 10_000 }), 2);
    const many = await arq.enqueueJobs(Array.from({ length: 40 }, () => ({ name: "one" })));
    await Promise.all(many.map((job) => job?.result({ timeout: 10_000 })));
    const later = await arq.enqueueJob("one", [], { jobId: "later", deferBy: 3_600_000 });
    assert.equal((await arq.queuedJobs()).length, 1);
    assert.equal(await later?.abort(), true);
    assert.match(String(await checkHealth(settings)), /j_complete=/);
    assert.equal(ticks, 1);
    assert.ok((await arq.allJobResults()).length >= 3);
    await worker.close();
    await ended;
    const impatient = new Worker({ ...settings, pollDelay: 20, cronJobs: [] });
    const running = impatient.run();
    const wait = await arq.enqueueJob("wait");
    await gate.reached();
    assert.equal(await wait.abort({ pollDelay: NEVER, timeout: 10_000 }), true);
    await impatient.close();
    await running;
    assert.deepEqual(await admin.call("ACL", "LOG"), []);
  });

  it("cannot see or touch what is under another prefix", async () => {
    await using arq = await createPool(urlOf("arq"));
    const job = await arq.enqueueJob("one");
    await using other = await createPool(urlOf("other"), { prefix: "other:" });
    assert.equal((await other.allJobResults()).length, 0);
    await using spy = await createPool(urlOf("other"));
    const calls = [
      () => spy.enqueueJob("one"),
      () => spy.job(job.jobId).info(),
      () => spy.job(job.jobId).abort(),
      () => spy.queuedJobs(),
      () => spy.store.onFinished(job.jobId, () => {}),
      () => new Worker({ functions: { one }, connection: spy }).run(),
    ];
    for (const call of calls) {
      const { message } = await rejection(call());
      assert.match(message, /^Redis at \S+: the user lacks a permission; .+ \(NOPERM .+\)$/);
    }
    assert.equal(await job.status(), "queued");
    await arq.job(job.jobId).abort();
    await admin.call("ACL", "LOG", "RESET");
  });

  it("that may not wait have their workers poll, and not without a pause", async () => {
    const rights = ["on", `>${SECRET}`, "~arq:*", "&arq:*", "+@all", "-blpop"];
    await admin.call("ACL", "SETUSER", "waitless", ...rights);
    await using arq = await createPool(urlOf("arq"));
    const worker = new Worker({
      functions: { one },
      connection: urlOf("waitless"),
      pollDelay: 100,
    });
    const ended = worker.run();
    const countRefusals = async () => {
      const stats = String(await admin.call("INFO", "commandstats"));
      return Number(/cmdstat_blpop:.*rejected_calls=(\d+)/.exec(stats)?.[1] ?? 0);
    };
    await until("an attempt to wait", async () => await countRefusals() > 0);
    const [startedAt, before] = [performance.now(), await countRefusals()];
    await until("two more", async () => await countRefusals() >= before + 2);
    const tookMs = performance.now() - startedAt;
    assert.equal(await arq.call("one", [], { timeout: 10_000 }), 1);
    await worker.close();
    await ended;
    assert.ok(tookMs > 400, `it made them within ${tookMs} ms`);
  });

  it("that may not publish spoil no end: whoever waits finds the result by looking", async () => {
    await using arq = await createPool(urlOf("arq"));
    const gate = new Gate();
    const functions = { one, wait: (ctx: JobContext) => gate.pass(ctx.signal) };
    const worker = new Worker({ functions, connection: urlOf("silent") });
    const ended = worker.run();
    assert.equal(await arq.call("one", [], { pollDelay: 50, timeout: 10_000 }), 1);
    await using silent = await createPool(urlOf("silent"));
    assert.equal(await silent.call("one", [], { pollDelay: 50, timeout: 10_000 }), 1);
    assert.equal(worker.jobsFailed, 0);
    const wait = await arq.enqueueJob("wait");
    await gate.reached();
    assert.equal(await wait.abort({ pollDelay: 50, timeout: 10_000 }), true);
    await worker.close();
    await ended;
  });
});

describe("A password", () => {
  const records: LogRecord[] = [];
  before(() =>
    configure({
      sinks: { memory: (record) => void records.push(record) },
      loggers: [
        { category: ["arq"], lowestLevel: "trace", sinks: ["memory"] },
        { category: ["logtape", "meta"], lowestLevel: "error", sinks: [] },
      ],
      reset: true,
    })
  );
  after(() => reset());

  /** All that `console.log` or a logger could make of a value. */
  function everythingOf(value: unknown): string {
    const whole = inspect(value, { depth: Infinity, showHidden: true, getters: false });
    return `${String(value)} ${JSON.stringify(value) ?? ""} ${whole}`;
  }

  it("is in no error, no log, and nothing that prints", async () => {
    await using server = await startRedis({ args: ["--requirepass", SECRET] });
    const place = `127.0.0.1:${server.port}`;
    const good = `redis://:${SECRET}@${place}?timeout=1500&connRetries=0&connTimeout=5000`;
    const bad = good.replace("connTimeout=5000", "connTimeout=500"); // whatever the refusal is
    await using arq = await createPool(good);
    const worker = new Worker({ functions: { one: () => 1 }, connection: good, pollDelay: 50 });
    const running = worker.run();
    await until("it works", async () => await arq.call("one") === 1);
    const printed: unknown[] = [arq, arq.store, arq.job("x"), worker, worker.arq];

    const nobody = await reservePort();
    const refused = [
      bad.replace(SECRET, `not${SECRET}`),
      bad.replace(`:${SECRET}`, `user:${SECRET}`),
      bad.replace(`:${server.port}`, `:${nobody}`),
      bad.replace("redis:", "rediss:"),
      bad.replace("redis:", "redis+sentinel:"),
      bad.replace("redis:", "redis+sentinel:") + `&sentinelPassword=${SECRET}`,
      bad.replace("redis:", "redis+cluster:") + "&prefix={a}:",
      { host: "127.0.0.1", port: nobody, password: SECRET, connRetries: 0 },
      { host: "127.0.0.1", port: server.port, password: `${SECRET}x`, connRetries: 0 },
    ];
    for (const connection of refused) {
      printed.push(await rejection(createPool(connection)));
      printed.push(await rejection(checkHealth({ functions: { one: () => 1 }, connection })));
    }
    const nonsense = [
      `redis://${SECRET}@${place}/x/y?db=z`,
      `redis:://:${SECRET}@${place}`,
      `redis://:${SECRET}/@${place}`,
      `redis://:%${SECRET}@${place}`,
      `redis://:${SECRET}`,
      `redis://localhost:${SECRET}`,
      `redis://a:1,b:${SECRET}`,
      `redis://localhost?password=${SECRET}`,
      `redis://localhost?sentinelPassword=${SECRET}`,
      `redis+sentinel://localhost?sentinelPassword=${SECRET}@x`,
      `http://:${SECRET}@${place}`,
      SECRET,
      `unix://:${SECRET}@`,
      { host: `redis://:${SECRET}@${place}` },
      { password: [SECRET] },
      { sentinel: true, sentinelPassword: [SECRET] },
      { passwort: SECRET },
    ];
    for (const connection of nonsense) {
      printed.push(await rejection(createPool(connection as string)));
      assert.throws(
        () => new Worker({ functions: { one: () => 1 }, connection: connection as string }),
        (error) => printed.push(error) > 0,
      );
    }

    server.kill("SIGKILL");
    printed.push(await rejection(arq.enqueueJob("one")));
    await until("the worker complains", () => records.some(({ level }) => level === "warning"));
    await worker.close();
    await running;
    await arq.close();
    printed.push(await rejection(arq.enqueueJob("one")));
    for (const value of printed) assert.doesNotMatch(everythingOf(value), /Xsecret99/);
    for (const record of records) assert.doesNotMatch(everythingOf(record), /Xsecret99/);
    assert.ok(records.length > 10 && printed.length > 40);
  });
});
