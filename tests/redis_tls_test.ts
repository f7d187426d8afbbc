/** TLS with a private authority, on real servers: who is trusted, and what is said of who is not. */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, rmSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { createPool, type JobContext, QueueConnectionError, Worker } from "../mod.ts";
import type { RedisSettings } from "../redis_settings.ts";
import { eventually, rejection, within } from "./_helpers.ts";
import { reservePort } from "./_ports.ts";
import { type RedisServer, startRedis } from "./_redis.ts";
import { Folder } from "./_sqlite.ts";

const file = (name: string) => fileURLToPath(new URL(`data/tls/${name}`, import.meta.url));

/** A server with a certificate, which asks its clients for one or not; with its TLS port. */
async function startTls(certificate: string, authClients: "yes" | "no") {
  const port = await reservePort();
  const server = await startRedis({
    args: [
      ...["--tls-port", String(port), "--tls-ca-cert-file", file("ca.pem")],
      ...["--tls-cert-file", file(`${certificate}.pem`)],
      ...["--tls-key-file", file(`${certificate}.key`), "--tls-auth-clients", authClients],
    ],
  });
  return { server, port };
}

const trusting = { host: "localhost", ssl: true, sslCaCerts: file("ca.pem") };

/** The one-line error of connecting, which is final: no further attempt is made. */
async function refusal(settings: RedisSettings): Promise<string> {
  const patience = { connTimeout: 5_000, connRetries: 3, connRetryDelay: 60_000 };
  const error = await rejection(createPool({ ...patience, ...settings }));
  assert.ok(error instanceof QueueConnectionError, String(error));
  assert.doesNotMatch(error.message, /\n/);
  return error.message;
}

/** Runs a job over a connection with these settings. */
async function works(settings: RedisSettings): Promise<void> {
  await using arq = await createPool({ connTimeout: 5_000, ...settings });
  const functions = { one: () => 1, tries: (ctx: JobContext) => ctx.jobTry };
  await using worker = new Worker({ functions, connection: arq });
  const ended = worker.run();
  assert.equal(await arq.call("one", [], { timeout: 10_000 }), 1);
  await worker.close();
  await ended;
}

describe("TLS", () => {
  const servers: RedisServer[] = [];
  let [open, expired, closed] = [0, 0, 0];

  before(async () => {
    const started = await Promise.all([
      startTls("server", "no"),
      startTls("expired", "no"),
      startTls("server", "yes"),
    ]);
    servers.push(...started.map(({ server }) => server));
    [open, expired, closed] = started.map(({ port }) => port) as [number, number, number];
  });

  after(() => Promise.all(servers.map((server) => server.stop())));

  it("trusts a private authority that it is told of, by file or by text", async () => {
    await works({ ...trusting, port: open });
    const sslCaData = readFileSync(file("ca.pem"), "utf8");
    await works({ host: "localhost", ssl: true, sslCaData, port: open });
  });

  it("refuses an authority that nobody told it of, unless it need not check", async () => {
    const unknowing = { host: "localhost", ssl: true, port: open };
    assert.match(
      await refusal(unknowing),
      /^Redis at localhost:\d+: no authority that is trusted has signed its certificate; name yours/,
    );
    await works({ ...unknowing, sslCertReqs: "none" });
  });

  it("refuses a wrong host name, unless it need not check", async () => {
    const settings = { ...trusting, host: "127.0.0.1", port: open };
    assert.match(
      await refusal(settings),
      /^Redis at 127\.0\.0\.1:\d+: its certificate is for another host name; connect by that name/,
    );
    await works({ ...settings, sslCheckHostname: false });
  });

  it("refuses an expired certificate, unless it need not check", async () => {
    const settings = { ...trusting, port: expired };
    assert.match(await refusal(settings), /^Redis at localhost:\d+: its certificate has expired/);
    await works({ ...settings, sslCertReqs: "none" });
  });

  it("is asked for, or asked about, where the port may be one for the other", async () => {
    const once = { host: "localhost", connRetries: 0 };
    assert.match(
      await refusal({ ...trusting, ...once, connTimeout: 500, port: servers[0]?.port ?? 0 }),
      /^Redis at localhost:\d+: no reply within 0\.5 s; does it speak TLS on this port\?$/,
    );
    assert.match(
      await refusal({ ...once, port: open }),
      /^Redis at localhost:\d+: .*closed.*; does it want TLS, as with rediss:\/\/\?$/,
    );
  });

  it("shows a certificate of its own to a server that wants one", async () => {
    const settings = { ...trusting, port: closed };
    assert.match(
      await refusal(settings),
      /^Redis at localhost:\d+: it wants to see a certificate; set sslCertfile and sslKeyfile/,
    );
    const own = { sslCertfile: file("client.pem"), sslKeyfile: file("client.key") };
    await works({ ...settings, ...own });
    const stale = { sslCertfile: file("expired.pem"), sslKeyfile: file("expired.key") };
    assert.match(
      await refusal({ ...settings, ...stale }),
      /^Redis at localhost:\d+: it refuses the certificate of sslCertfile/,
    );
  });

  it("stands a silent server while its files cannot be read", async () => {
    const { server, port } = await startTls("server", "no");
    using folder = new Folder();
    const sslCaCerts = folder.file("ca.pem");
    copyFileSync(file("ca.pem"), sslCaCerts);
    await using arq = await createPool({
      ...trusting,
      sslCaCerts,
      port,
      connTimeout: 5_000,
      timeout: 300,
    });
    rmSync(sslCaCerts);
    server.kill("SIGSTOP");
    for (const call of [arq.queuedJobs(), arq.queuedJobs()].map(rejection)) {
      const { message } = await within(5_000, "the call ends", call);
      assert.match(message, /no reply within 0\.3 s$/);
    }
    server.kill("SIGCONT");
    await eventually(() => arq.queuedJobs().then(() => true, () => false), "calls work again");
    await server.stop();
  });
});
