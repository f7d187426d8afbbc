/** What a server may answer instead of serving: each answer from a real server in that state. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { QueueConnectionError } from "../errors.ts";
import { openStore } from "../open_store.ts";
import type { RedisSettings } from "../redis_settings.ts";
import type { Store } from "../store.ts";
import { eventually, newJob, openRawRedis, rejection, within } from "./_helpers.ts";
import { randomPrefix, type RedisServer, startRedis } from "./_redis.ts";
import { ask } from "./_topologies.ts";

const HOST = "127.0.0.1";
const LEASE_MS = 30_000;

async function connected(server: RedisServer, settings: RedisSettings = {}): Promise<Store> {
  const store = openStore({ host: HOST, port: server.port, ...settings }, randomPrefix());
  await store.connect();
  return store;
}

const enqueue = (store: Store, id: string) =>
  store.enqueue(`${store.prefix}queue`, [newJob(id, { idKind: "given" })], LEASE_MS);

/** The one-line error that a call must end in long before its caller's patience does. */
async function refusal(call: Promise<unknown>): Promise<string> {
  const error = await within(8_000, "the call ends", rejection(call));
  assert.ok(error instanceof QueueConnectionError, String(error));
  assert.doesNotMatch(error.message, /\n/);
  return error.message;
}

describe("A server that answers", () => {
  it("READONLY is told of in words, and served as soon as it is the primary", async () => {
    await using primary = await startRedis();
    await using replica = await startRedis({
      args: ["--replicaof", HOST, String(primary.port)],
    });
    await using hasty = await connected(replica, { timeout: 1_500 });
    assert.match(
      await refusal(enqueue(hasty, "a")),
      /^Redis at \S+: it is a read-only replica; connect to the primary \(READONLY /,
    );
    await using patient = await connected(replica);
    const call = enqueue(patient, "a");
    await refusal(enqueue(hasty, "b")); // the other call has had its answer, too
    await ask(replica, "REPLICAOF", "NO", "ONE");
    assert.deepEqual(await call, [true]);
  });

  it("LOADING is told of in words, and waited for", async () => {
    await using server = await startRedis({
      args: [
        ...["--save", "3600 1", "--key-load-delay", "1000"],
        ...["--loading-process-events-interval-bytes", "1024"],
      ],
    });
    const fill = "for i = 1, 2000 do redis.call('SET', 'filler:' .. i, string.rep('x', 100)) end";
    await ask(server, "EVAL", fill, 0);
    await ask(server, "SAVE");
    await using hasty = await connected(server, { timeout: 700 });
    await using patient = await connected(server);
    const restarted = server.restart();
    const error = eventually(async () => {
      const message = await refusal(enqueue(hasty, "a")).catch(() => "");
      return /^Redis at \S+: it is still loading its data \(LOADING /.test(message);
    }, "the error in words");
    assert.deepEqual(await enqueue(patient, "b"), [true]);
    await error;
    await restarted;
  });

  it("BUSY is told of in words, and waited for", async () => {
    await using server = await startRedis({ args: ["--lua-time-limit", "50"] });
    await using hasty = await connected(server, { timeout: 400 });
    await using patient = await connected(server);
    await using other = await openRawRedis(server.url);
    const endless = rejection(other.call("EVAL", "while true do end", 0));
    const words = /^Redis at \S+: it is busy with a script of somebody else \(BUSY /;
    // A server that has just become busy lets the first calls wait in silence.
    const isTold = async () => words.test(await refusal(enqueue(hasty, "a")));
    await eventually(isTold, "a call is refused in words");
    const call = enqueue(patient, "a");
    await refusal(enqueue(hasty, "b"));
    await ask(server, "SCRIPT", "KILL");
    assert.deepEqual(await call, [true]);
    await endless;
  });

  it("that it has no room for clients is told of in words, and waited for", async () => {
    await using server = await startRedis();
    await using admin = await openRawRedis(server.url);
    await using store = await connected(server, { timeout: 400 });
    const words =
      /^Redis at \S+: it has as many clients as its maxclients allows \(ERR max number of clients /;
    await admin.call("CONFIG", "SET", "maxclients", 1);
    const settings = { host: HOST, port: server.port, connRetryDelay: 20 };
    // The server closes the connection at once, so that its words may be lost on the way.
    const isTold = async (call: () => Promise<unknown>) => words.test(await refusal(call()));
    const connect = () => openStore({ ...settings, connRetries: 1 }, "p:").connect();
    await eventually(() => isTold(connect), "connecting is refused in words");
    await using waiting = openStore({ ...settings, connRetries: Infinity }, "p:");
    const connecting = waiting.connect();
    await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    await eventually(() => isTold(() => enqueue(store, "a")), "a call is refused in words");
    await admin.call("CONFIG", "SET", "maxclients", 100);
    await connecting;
    await eventually(() => enqueue(store, "b").catch(() => false), "it is served again");
  });

  it("NOREPLICAS is told of in words, and waited for", async () => {
    await using server = await startRedis({ args: ["--min-replicas-to-write", "1"] });
    await using hasty = await connected(server, { timeout: 1_500 });
    await using patient = await connected(server);
    const words = /^Redis at \S+: it has too few replicas to accept writes \(NOREPLICAS /;
    const call = enqueue(patient, "a");
    assert.match(await refusal(enqueue(hasty, "b")), words);
    await ask(server, "CONFIG", "SET", "min-replicas-to-write", 0);
    assert.deepEqual(await call, [true]);
  });

  it("is told of by its answer where it falls silent then", async () => {
    await using server = await startRedis({ args: ["--min-replicas-to-write", "1"] });
    await using store = await connected(server, { timeout: 1_000 });
    await using admin = await openRawRedis(server.url);
    const refused = refusal(enqueue(store, "a"));
    const isRefused = async () => /NOREPLICAS/.test(String(await admin.call("INFO", "errorstats")));
    await eventually(isRefused, "the first answer");
    await admin.call("PING"); // by now that answer was sent, too
    server.kill("SIGSTOP");
    try {
      assert.match(await refused, /it has too few replicas to accept writes \(NOREPLICAS /);
    } finally {
      server.kill("SIGCONT");
    }
  });

  it("is told of as it is by now where it dies during a call", async () => {
    await using server = await startRedis();
    await using store = await connected(server, { timeout: 1_500 });
    server.kill("SIGSTOP");
    const refused = refusal(enqueue(store, "a"));
    await new Promise((resolve) => setImmediate(resolve)); // it is written
    server.kill("SIGKILL");
    assert.match(await refused, /: connection refused; is the server running there\?$/);
  });
});
