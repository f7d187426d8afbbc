/** The store on Redis, as the user with no more rights than docs/stores.md gives. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { after, describe, it } from "node:test";
import { openTestStore } from "./_helpers.ts";
import { OWN_SERVICE_VARIABLE, type RedisServer, startRedis } from "./_redis.ts";
import { conformance } from "./_store_conformance.ts";
import { ask } from "./_topologies.ts";

const PAGE = readFileSync(new URL("../docs/stores.md", import.meta.url), "utf8");
const LINE = /^ACL SETUSER arq .*$/m.exec(PAGE)?.[0] ?? "";
/** What these tests themselves send. */
const OF_THE_TESTS = ["acl", "auth", "config", "info"];

let server: Promise<RedisServer> | undefined;

/** A server with the user of that line, whose prefixes are those of the tests. */
async function startGuarded(): Promise<RedisServer> {
  const started = await startRedis();
  const words = LINE.replace(">PASSWORD", ">secret").replaceAll("arq:", "t*").split(" ");
  await ask(started, ...words);
  await ask(started, "CONFIG", "RESETSTAT");
  return started;
}

async function leastUrl(): Promise<string> {
  const given = process.env[OWN_SERVICE_VARIABLE];
  if (given) return given; // somebody wants to know how the store does on a service of theirs
  const { port } = await (server ??= startGuarded());
  return `redis://arq:secret@127.0.0.1:${port}`;
}

after(async () => (await server)?.stop());

conformance("Redis store", async (prefix) => openTestStore({ url: await leastUrl(), prefix }));

describe("The documented line for the least user of Redis", () => {
  it("allows what these tests have used, and nothing more", async () => {
    const guarded = await (server ??= startGuarded());
    const stats = String(await ask(guarded, "INFO", "commandstats"));
    const used = new Set(
      [...stats.matchAll(/^cmdstat_([a-z]+)/gm)].map(([, name]) => String(name)),
    );
    for (const name of OF_THE_TESTS) used.delete(name);
    const allowed = [...LINE.matchAll(/ \+(\w+)/g)].map(([, name]) => String(name));
    assert.deepEqual(allowed.sort(), [...used, "info"].sort());
  });
});
