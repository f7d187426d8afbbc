/** Connecting to Redis, and to what is none: on real sockets. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, it } from "node:test";
import { createPool } from "../client.ts";
import { QueueConnectionError } from "../errors.ts";
import { openStore } from "../open_store.ts";
import type { RedisSettings } from "../redis_settings.ts";
import { FakeServer, startParrot } from "./_fake_server.ts";
import { eventually, rejection, within } from "./_helpers.ts";
import { reservePort } from "./_ports.ts";
import { randomPrefix, startRedis } from "./_redis.ts";

const HOST = "127.0.0.1";
const SECRET = "Xsecret99";

/** One attempt, which a busy machine may take long for. */
const ONCE: RedisSettings = { host: HOST, connTimeout: 3_000, connRetries: 0 };

/** The one-line error of connecting, which must come within the attempts' time. */
async function refusal(settings: RedisSettings): Promise<string> {
  const store = openStore({ ...ONCE, ...settings }, randomPrefix());
  const error = await within(4_000, "connect ends", rejection(store.connect()));
  await store.close();
  assert.ok(error instanceof QueueConnectionError, String(error));
  assert.doesNotMatch(error.message, /\n|Xsecret99/);
  return error.message;
}

describe("Connecting to what is no usable server", () => {
  it("says so where nothing listens", async () => {
    const port = await reservePort();
    const message = `Redis at ${HOST}:${port}: connection refused; is the server running there?`;
    assert.equal(await refusal({ port }), message);
  });

  it("gives up on a server that accepts and never answers", async () => {
    await using silent = await FakeServer.start(() => {});
    const message = await refusal({ port: silent.port, connTimeout: 300 });
    assert.match(message, /^Redis at 127\.0\.0\.1:\d+: no reply within 0\.3 s$/);
  });

  it("says the same of a machine that does not even accept", async () => {
    await using server = await startRedis({ args: ["--tcp-backlog", "1"] });
    server.kill("SIGSTOP");
    const others = Array.from(
      { length: 4 },
      () => connect(server.port, HOST).on("error", () => {}),
    );
    const waiting = () => others.filter(({ connecting }) => !connecting).length;
    await eventually(() => waiting() > 1, "no room for more");
    const settings = { port: server.port, connTimeout: 300 };
    const sentinel = { ...settings, sentinel: true, sentinelMaster: "m" };
    const attempts = [settings, settings, settings, sentinel, sentinel, sentinel].map(refusal);
    for (const message of await Promise.all(attempts)) {
      assert.match(message, /^Redis at 127\.0\.0\.1:\S+: no reply within 0\.3 s$/);
    }
    for (const other of others) other.destroy();
  });

  it("says that what answers is not Redis", async () => {
    await using web = await startParrot("HTTP/1.1 400 Bad Request\r\n\r\n");
    const message = await refusal({ port: web.port, connRetries: 5 });
    assert.match(message, /^Redis at \S+: what answers there is not Redis$/);
    assert.equal(web.accepted, 1);
  });

  it("says which host name is not known", async () => {
    const message = await refusal({ host: "no-such-host.invalid" });
    assert.equal(message, "Redis at no-such-host.invalid:6379: the host name is not known");
  });

  it("says that a password is missing or wrong, at once and without showing it", async () => {
    await using server = await startRedis({ args: ["--requirepass", SECRET] });
    const { port } = server;
    const missing = await refusal({ port, connRetries: 5 });
    assert.match(missing, /: it wants a password; set `password` or write it/);
    const wrong = await refusal({ port, password: `not ${SECRET}`, connRetries: 5 });
    assert.match(wrong, /: it refuses this user name and password/);
    await using store = openStore({ host: HOST, port, password: SECRET }, randomPrefix());
    await store.connect();
    assert.match((await store.describe()).info, /^redis_version=/);
  });

  it("says that the server is still loading, and waits for it where attempts are left", async () => {
    let isLoading = true;
    await using front = await FakeServer.start((socket) => {
      socket.on("data", () => {
        if (isLoading) socket.write("-LOADING Redis is loading the dataset in memory\r\n");
        else socket.write("+PONG\r\n");
      });
    });
    const message = await refusal({ port: front.port });
    assert.match(message, /: it is still loading its data \(LOADING/);
    const store = openStore(
      { host: HOST, port: front.port, connRetries: Infinity, connRetryDelay: 10 },
      "p:",
    );
    const connecting = store.connect();
    await eventually(() => front.accepted > 3, "a few attempts");
    isLoading = false;
    await connecting;
    await store.close();
  });

  it("makes as many further attempts as it is told", async () => {
    await using rude = await FakeServer.start((socket) => socket.destroy());
    await refusal({ port: rude.port, connRetries: 3, connRetryDelay: 5 });
    assert.equal(rude.accepted, 4);
  });

  it("tries for ever until its signal aborts, whatever it waits for then", async () => {
    const reason = new Error("enough");
    for (const connRetryDelay of [5, 60_000]) {
      await using rude = await FakeServer.start((socket) => socket.destroy());
      const controller = new AbortController();
      const settings = { host: HOST, port: rude.port, connRetries: Infinity, connRetryDelay };
      const pool = createPool(settings, { prefix: "p:", signal: controller.signal });
      await eventually(() => rude.accepted > (connRetryDelay > 5 ? 0 : 6), "attempts");
      controller.abort(reason);
      assert.equal(await within(1_000, "createPool ends", rejection(pool)), reason);
    }
  });

  it("ends an attempt when its signal aborts, and makes none after that", async () => {
    await using silent = await FakeServer.start(() => {});
    const settings = { host: HOST, port: silent.port, connTimeout: 60_000 };
    const reason = new Error("enough");
    const controller = new AbortController();
    const pool = createPool(settings, { signal: controller.signal });
    await eventually(() => silent.accepted > 0, "an attempt");
    controller.abort(reason);
    assert.equal(await within(1_000, "createPool ends", rejection(pool)), reason);
    const aborted = createPool(settings, { signal: AbortSignal.abort(reason) });
    assert.equal(await within(1_000, "createPool ends", rejection(aborted)), reason);
    assert.equal(silent.accepted, 1);
  });

  it("connects in spite of a thread that is blocked for longer than an attempt may take", async () => {
    await using server = await startRedis();
    const store = openStore(
      { ...ONCE, port: server.port, connTimeout: 500, timeout: 1_000 },
      randomPrefix(),
    );
    const connecting = store.connect();
    await new Promise((resolve) => setImmediate(resolve)); // it has begun
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 800);
    await connecting;
    server.kill("SIGSTOP"); // what did not fail in the end is no reason for a later silence
    assert.match(String(await rejection(store.describe())), /: no reply within 1 s$/);
    await store.close();
  });

  it("connects once the server is there", async () => {
    const port = await reservePort();
    const store = openStore({ host: HOST, port, connRetries: Infinity, connRetryDelay: 20 }, "p:");
    const connecting = store.connect();
    await using _server = await startRedis({ port });
    await within(5_000, "connect", connecting);
    await store.close();
  });
});
