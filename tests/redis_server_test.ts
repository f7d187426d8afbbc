import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import {
  OWN_SERVICE_VARIABLE,
  randomPrefix,
  type RedisServer,
  SHARED_SERVER_VARIABLE,
  startRedis,
  testRedisUrl,
} from "./_redis.ts";

const HELPER = new URL("./_redis.ts", import.meta.url).href;

/** Sends one inline command and resolves with the first piece of the reply. */
function ask(server: Pick<RedisServer, "port" | "socketPath">, command: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = server.socketPath
    ? connect({ path: server.socketPath })
    : connect({ port: server.port, host: "127.0.0.1" });
  socket.setTimeout(5_000, () => socket.destroy(new Error(`No reply to ${command}`)));
  socket.on("error", reject);
  socket.on("close", () => reject(new Error(`${command} was not answered`))); // its server has gone
  socket.on("connect", () => socket.write(`${command}\r\n`));
  socket.on("data", (chunk) => {
    resolve(chunk.toString());
    socket.destroy();
  });
  return promise;
}

/** Asks the port: a process id may stay in the process table until somebody reaps it. */
async function isRunning(server: { port: number }): Promise<boolean> {
  return await ask(server, "PING").then(() => true, () => false);
}

async function waitUntil(isDone: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!await isDone()) {
    if (Date.now() > deadline) assert.fail(`Not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Runs these lines as a program of this runtime, until it tells of a server. */
async function startProgram(
  lines: string,
  environment: Record<string, string | undefined> = {},
): Promise<{ program: ChildProcess; port: number; folder: string; close(): void }> {
  const programFolder = mkdtempSync(join(tmpdir(), "arq-program-"));
  const path = join(programFolder, "program.ts");
  writeFileSync(
    path,
    `import { startRedis, testRedisUrl } from ${JSON.stringify(HELPER)};
    const tell = (port: number, folder: string) => console.log(JSON.stringify({ port, folder }));
    ${lines}`,
  );
  const args = process.versions.bun ? [path] : ["run", "-A", "--no-config", path];
  const program = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...environment },
  });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  program.stdout?.once("data", (chunk) => resolve(chunk.toString()));
  program.once("error", reject);
  // Not "exit", which may come before what it has printed.
  program.once("close", (code) => reject(new Error(`The program ended early, code ${code}`)));
  const { port, folder } = JSON.parse(await promise);
  return {
    program,
    port,
    folder,
    close: () => rmSync(programFolder, { recursive: true, force: true }),
  };
}

describe("startRedis", () => {
  it("starts a server on a loopback port that answers", async () => {
    await using server = await startRedis();
    assert.equal(server.url, `redis://127.0.0.1:${server.port}`);
    assert.match(await ask(server, "PING"), /^\+PONG/);
    assert.match(await ask(server, "CONFIG GET maxmemory-policy"), /noeviction/);
    assert.match(await ask(server, "CONFIG GET bind"), /\r\n127\.0\.0\.1\r\n/);
  });

  it("starts servers at the same time without a clash", async () => {
    const servers = await Promise.all(Array.from({ length: 5 }, () => startRedis()));
    try {
      assert.equal(new Set(servers.map(({ port }) => port)).size, 5);
      assert.equal(new Set(servers.map(({ pid }) => pid)).size, 5);
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
  });

  it("listens on a Unix socket and no port when asked to", async () => {
    await using server = await startRedis({ unixSocket: true });
    assert.equal(server.port, 0);
    assert.equal(server.url, `unix://${server.socketPath}`);
    assert.match(await ask(server, "PING"), /^\+PONG/);
  });

  it("passes arguments on, and knows a server that wants a password", async () => {
    await using server = await startRedis({ args: ["--requirepass", "secret"] });
    assert.match(await ask(server, "PING"), /^-NOAUTH/);
  });

  it("refuses a port that is taken and leaves the server there alone", async () => {
    await using server = await startRedis();
    await assert.rejects(startRedis({ port: server.port }), /in use/);
    assert.match(await ask(server, "PING"), /^\+PONG/);
  });

  it("keeps port and folder over a restart, after a crash too", async () => {
    await using server = await startRedis({ args: ["--appendonly", "yes"] });
    const { port, folder, pid } = server;
    await ask(server, "SET kept 1");
    await server.restart();
    assert.deepEqual({ port: server.port, folder: server.folder }, { port, folder });
    assert.notEqual(server.pid, pid);
    assert.match(await ask(server, "GET kept"), /\r\n1\r\n/);
    server.kill("SIGKILL");
    await server.restart();
    assert.match(await ask(server, "PING"), /^\+PONG/);
  });

  it("leaves no process and no folder behind when stopped", async () => {
    const server = await startRedis();
    assert.ok(existsSync(server.folder));
    await server.stop();
    await server.stop();
    assert.equal(existsSync(server.folder), false);
    assert.equal(await isRunning(server), false);
  });

  it("stops a frozen server", async () => {
    const server = await startRedis();
    server.kill("SIGSTOP");
    await server.stop();
    assert.equal(await isRunning(server), false);
  });

  it("leaves no server and no folder when its process is killed", async () => {
    const { program, port, folder, close } = await startProgram(`
      const server = await startRedis();
      tell(server.port, server.folder);
      setInterval(() => {}, 1_000);
    `);
    try {
      assert.equal(await isRunning({ port }), true);
      program.kill("SIGKILL");
      await waitUntil(async () => !await isRunning({ port }), "the server is gone");
      await waitUntil(() => !existsSync(folder), "the folder is gone");
    } finally {
      close();
    }
  });

  it("does not keep a process alive that forgot to stop it", async () => {
    const { program, port, folder, close } = await startProgram(`
      const server = await startRedis();
      tell(server.port, server.folder);
    `);
    try {
      await waitUntil(() => program.exitCode !== null, "the program ends");
      await waitUntil(async () => !await isRunning({ port }), "the server is gone");
      await waitUntil(() => !existsSync(folder), "the folder is gone");
    } finally {
      close();
    }
  });
});

describe("testRedisUrl", () => {
  it("tells the same service every time", async () => {
    const url = await testRedisUrl();
    assert.match(url, /^(?:redis|rediss|unix|redis\+sentinel|redis\+cluster):\/\//);
    assert.equal(await testRedisUrl(), url);
  });

  it("prefers the user's own service to the shared server", async () => {
    const { folder, close } = await startProgram(`tell(0, await testRedisUrl());`, {
      [OWN_SERVICE_VARIABLE]: "redis://own",
      [SHARED_SERVER_VARIABLE]: "redis://shared",
    });
    close();
    assert.equal(folder, "redis://own");
  });

  it("starts one server for a process that runs by hand, and it ends with it", async () => {
    const { program, port, folder, close } = await startProgram(
      `
      const [first, second] = await Promise.all([testRedisUrl(), testRedisUrl()]);
      const alive = setInterval(() => {}, 1_000);
      process.once("SIGHUP", () => clearInterval(alive));
      tell(Number(new URL(first).port), first === second ? "same" : "different");
    `,
      { [OWN_SERVICE_VARIABLE]: "", [SHARED_SERVER_VARIABLE]: "" },
    );
    try {
      assert.equal(folder, "same");
      assert.equal(await isRunning({ port }), true);
      assert.ok(program.pid);
      process.kill(program.pid, "SIGHUP"); // Deno's own `program.kill` takes it for the end
      await waitUntil(() => program.exitCode !== null, "the program ends");
      assert.equal(program.exitCode, 0);
      await waitUntil(async () => !await isRunning({ port }), "the server is gone");
    } finally {
      program.kill("SIGKILL");
      close();
    }
  });
});

describe("randomPrefix", () => {
  it("differs every time", () => {
    const prefixes = Array.from({ length: 100 }, randomPrefix);
    assert.equal(new Set(prefixes).size, 100);
    assert.match(prefixes[0] ?? "", /^t[0-9a-f]{12}:$/);
  });
});
