/** The programs in examples/, each started as its own first comment says. */
import { decode, encode } from "@msgpack/msgpack";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type Cli, type CliEnd, IS_DENO, ROOT, runCli, startCli } from "./_cli.ts";
import { eventually, openRawRedis, type RawRedis } from "./_helpers.ts";
import { type RedisServer, startRedis } from "./_redis.ts";

/** Runs an example to its end, in memory unless `env` says otherwise. */
async function runExample(name: string, env: Record<string, string> = {}): Promise<string> {
  const { code, stdout, stderr } = await runCli([], { program: join(ROOT, "examples", name), env });
  assert.equal(code, 0, stdout + stderr);
  return stdout;
}

function startExample(name: string, env: Record<string, string>): Cli {
  const runtimeArgs = IS_DENO ? ["run", "-A", "--no-check"] : []; // --quiet would hide the address
  return startCli([], { program: join(ROOT, "examples", name), env, runtimeArgs });
}

describe("The examples", () => {
  it("retries: back-off until it works, one failure at once, one out of tries", async () => {
    const output = await runExample("retries.ts");
    assert.match(output, /busy, try 3: 200\nbusy: a page/);
    assert.match(output, /^missing: failed at once after 1$/m);
    assert.match(output, /down, try 4: 503\ndown: out of tries after 4$/m);
  });

  it("cron: nine o'clock in each zone, and the nights when clocks change", async () => {
    const output = await runExample("cron.ts");
    assert.equal(output.match(/^open \S+: .*Z, 09:00:00 there$/gm)?.length, 3, output);
    assert.match(output, /: 2026-03-29T01:00:00.123Z\n.*: 2026-10-25T00:30:00.123Z\n/);
    assert.match(output, /tick: .*\ntick: .*\n$/);
  });

  it("unique: one invoice, one backup at a time", async () => {
    await using server = await startRedis(); // The queues of examples have names of their own.
    const output = await runExample("unique.ts", { ARQ_URL: server.url });
    const invoice = "invoice 1 for ann, 2031-05";
    const lines = ["accepted: 1 of 50", invoice, invoice, "while one waits: null"];
    assert.deepEqual(output.trim().split("\n"), [...lines, "once it has ended: accepted"]);
  });

  it("fan-out: the results of all parts, and which one failed", async () => {
    const output = await runExample("fan_out.ts");
    const [, words] = /README\.md: (\d+)\n/.exec(output) ?? [];
    assert.ok(Number(words) > 1_000, output);
    assert.match(output, new RegExp(`README\\.md +│ +${words}\\b`)); // the table
    assert.match(output, /^failed: ENOENT$/m);
  });

  it("testing: tests of one's own jobs", async () => {
    const runtimeArgs = IS_DENO ? ["test", "--no-prompt", "--no-check"] : ["test"];
    const program = join(ROOT, "examples/testing/welcome_test.ts");
    const { code, stdout, stderr } = await runCli([], { program, runtimeArgs });
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout + stderr, /5 pass(ed)?\b/);
  });
});

describe("The web service", () => {
  const folder = mkdtempSync(join(tmpdir(), "arq-web-"));
  let server: RedisServer;
  before(async () => {
    server = await startRedis();
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const stores = {
    "a SQLite file": () => `sqlite:${join(folder, "web.db")}`,
    "Redis": () => server.url,
  };
  for (const [store, url] of Object.entries(stores)) {
    it(`enqueues, tells where a job is and how it ended, on ${store}`, async () => {
      const env = { ARQ_URL: url(), PORT: "0" };
      await using service = startExample(`web/${IS_DENO ? "deno" : "bun"}.ts`, env);
      await using worker = startCli(["worker", "examples/web/tasks.ts"], { env });
      const origin = await listeningAt(service);
      assert.equal((await fetch(`${origin}/counts/nobody`)).status, 404);
      assert.deepEqual(await countOf(origin, "be", "To be, or not to be"), {
        status: "complete",
        count: 2,
      });
      assert.deepEqual(await countOf(origin, "", "To be"), {
        status: "complete",
        error: "RangeError: There is no word to look for",
      });
      const ends = await Promise.all([service.end("SIGTERM"), worker.end("SIGTERM")]);
      assert.deepEqual(ends.map(({ code }: CliEnd) => code), [0, 0]);
    });
  }
});

describe("The progress page", () => {
  it("tells the browser each step of a job, and of one that is not there", async () => {
    await using server = await startRedis();
    await using program = startExample("progress.ts", { ARQ_URL: server.url, PORT: "0" });
    const origin = await listeningAt(program);
    assert.match(await (await fetch(origin)).text(), /new EventSource/);
    const { id } = await (await fetch(`${origin}/jobs`, { method: "POST" })).json() as Id;
    const steps = eventsIn(await (await fetch(`${origin}/jobs/${id}/events`)).text());
    assert.deepEqual(steps.at(-1), { kind: "finished", result: "50 pictures" });
    const progress = steps.filter(({ kind }) => kind === "progress");
    assert.deepEqual(progress.at(-1)?.value, { done: 49, of: 50 });
    assert.ok(progress.length > 2, `${progress.length} of progress`);
    const nobody = await (await fetch(`${origin}/jobs/nobody/events`)).text();
    assert.deepEqual(eventsIn(nobody), [{ kind: "missing" }]);
    assert.equal((await program.end("SIGTERM")).code, 0);
  });
});

interface Id {
  readonly id: string;
}

/** The server-sent events of a response, with what of their data matters here. */
function eventsIn(text: string): { kind: string; value?: unknown; result?: unknown }[] {
  return [...text.matchAll(/^event: (\w+)\ndata: (.*)\n\n/gm)].map(([, kind = "", data = ""]) => {
    const { value, result } = JSON.parse(data);
    return { kind, ...(value !== undefined && { value }), ...(result !== undefined && { result }) };
  });
}

async function listeningAt(service: Cli): Promise<string> {
  const [origin] = /http:\/\/127\.0\.0\.1:\d+/.exec(await service.line("http://127.0.0.1:")) ?? [];
  return origin ?? assert.fail("the service does not tell its address");
}

/** Posts a text and asks for its job until that has ended. */
async function countOf(origin: string, word: string, body: string): Promise<unknown> {
  const accepted = await fetch(`${origin}/counts?word=${word}`, { method: "POST", body });
  assert.equal(accepted.status, 202);
  const { id } = await accepted.json() as Id;
  assert.equal(accepted.headers.get("location"), `/counts/${id}`);
  return await eventually(async () => {
    const answer = await (await fetch(`${origin}/counts/${id}`)).json() as { status: string };
    return answer.status === "complete" && answer;
  }, "the job's end");
}

describe("The exchange with Python", () => {
  it("works with what Python's arq does on the wire", async () => {
    await using server = await startRedis();
    await using redis = await openRawRedis(server.url);
    await using program = startExample("python/exchange.ts", { ARQ_URL: server.url });
    const jobId = (await program.line("enqueued ")).slice("enqueued ".length);
    await playPython(redis, jobId);
    const { code, stdout, stderr } = await program.ended;
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /\{ sum: 8, mean: 2\.7 \}|sum: 8,\n +mean: 2\.7/);
  });
});

/** Does with plain MessagePack what Python's worker does for the function in exchange.py. */
async function playPython(redis: RawRedis, jobId: string): Promise<void> {
  const queue = "example:python";
  assert.deepEqual(await redis.call("ZRANGE", queue, 0, -1), [jobId]);
  const job = decode(await redis.bytes(`arq:job:${jobId}`)) as Record<string, unknown>;
  const { et, ...call } = job;
  assert.deepEqual(call, { t: null, f: "summarize", a: [[1, 2, 5]], k: { digits: 1 } });
  await redis.call("SET", `arq:in-progress:${jobId}`, "1", "PX", 310_000);

  const sum = await callTypeScript(redis, "add_up", job.a as unknown[]);
  const now = Date.now();
  const result = { s: true, r: { sum, mean: 2.7 }, st: now, ft: now, q: queue, id: jobId };
  await redis.call("SET", `arq:result:${jobId}`, encode({ ...job, t: 1, ...result }));
  await redis.call("ZREM", queue, jobId);
  await redis.call("DEL", `arq:job:${jobId}`, `arq:in-progress:${jobId}`);
  assert.equal(typeof et, "number");
}

/** Enqueues as Python's client does, and looks for the result. */
async function callTypeScript(redis: RawRedis, f: string, a: unknown[]): Promise<unknown> {
  const jobId = crypto.randomUUID().replaceAll("-", "");
  const et = Date.now();
  const job = encode({ t: null, f, a, k: {}, et }, { useBigInt64: true });
  await redis.call("PSETEX", `arq:job:${jobId}`, 86_400_000, job);
  await redis.call("ZADD", "example:typescript", et, jobId);
  const key = `arq:result:${jobId}`;
  await eventually(() => redis.call("EXISTS", key), "the result of the TypeScript worker");
  const { s, r } = decode(await redis.bytes(key)) as { s: boolean; r: unknown };
  assert.equal(s, true);
  return r;
}
