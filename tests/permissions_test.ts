/** A worker on Redis runs with the permission to reach it and to read its own files, and no other. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { createPool } from "../mod.ts";
import { randomPrefix, type RedisServer, startRedis } from "./_redis.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const DEADLINE_MS = 30_000;

interface Outcome {
  readonly code: number;
  readonly output: string;
}

/** Runs a module with the runtime of this test, with Deno's permissions as given and no others. */
function runModule(file: string, permissions: readonly string[], args: string[]): Promise<Outcome> {
  const flags = "Deno" in globalThis
    ? ["run", "--quiet", "--no-prompt", "--no-check", "--frozen", "--cached-only", ...permissions]
    : ["run"];
  const options = { cwd: ROOT, timeout: DEADLINE_MS, env: { ...process.env, NO_COLOR: "1" } };
  return new Promise((resolve) => {
    execFile(process.execPath, [...flags, file, ...args], options, (error, stdout, stderr) => {
      const code = error === null ? 0 : Number(error.code ?? 1);
      resolve({ code, output: stdout + stderr });
    });
  });
}

describe("A worker with the least permissions", () => {
  const file = fileURLToPath(new URL("./data/least_worker.ts", import.meta.url));
  let server: RedisServer;
  before(async () => {
    server = await startRedis();
  });
  after(() => server.stop());

  it("runs jobs and cron jobs", async () => {
    const prefix = randomPrefix();
    await using arq = await createPool(server.url, { prefix });
    const job = await arq.enqueueJob("add", [2, 3]);
    const permissions = [`--allow-net=127.0.0.1:${server.port}`, "--allow-read=."];
    const { code, output } = await runModule(file, permissions, [server.url, prefix]);
    assert.match(output, /^<Worker j_complete=2 j_failed=0 j_retried=0 j_ongoing=0>$/m);
    assert.equal(code, 0, output);
    assert.equal(await job.result(), 5);
  });

  it("says which one is missing when it may not connect", async () => {
    if (!("Deno" in globalThis)) return; // Bun has no permissions
    const { code, output } = await runModule(file, ["--allow-read=."], [
      server.url,
      randomPrefix(),
    ]);
    assert.notEqual(code, 0);
    assert.match(output, new RegExp(`start it with --allow-net=127.0.0.1:${server.port}`));
  });

  it("says so for a host name too, and does not try again", async () => {
    if (!("Deno" in globalThis)) return; // Bun has no permissions
    const url = `redis://localhost:${server.port}`;
    const permissions = ["--allow-read=.", "--allow-net=127.0.0.1"];
    const { code, output } = await runModule(file, permissions, [url, randomPrefix()]);
    assert.notEqual(code, 0);
    assert.match(output, new RegExp(`start it with --allow-net=localhost:${server.port}`));
    assert.doesNotMatch(output, /attempts left/);
  });

  it("says which ones a Unix socket takes, and needs no others", async () => {
    const socket = await startRedis({ unixSocket: true });
    try {
      const [, flags = ""] = /start it with (.*)/.exec(
        (await runModule(file, ["--allow-read=."], [socket.url, randomPrefix()])).output,
      ) ?? [];
      if ("Deno" in globalThis) assert.match(flags, /^--allow-net=unix:\//); // Bun has no permissions
      const permissions = ["--allow-read=.", ...flags.split(" ")];
      const { output } = await runModule(file, permissions, [socket.url, randomPrefix()]);
      assert.match(output, /^<Worker j_complete=1 j_failed=0 j_retried=0 j_ongoing=0>$/m);
    } finally {
      await socket.stop();
    }
  });
});
