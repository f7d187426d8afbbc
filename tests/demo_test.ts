/** The demo as a newcomer runs it: in a process of its own, on each kind of store. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import process from "node:process";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { testRedisUrl } from "./_redis.ts";
import { Folder } from "./_sqlite.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FLAGS = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
const DEADLINE_MS = 100_000;

/** Runs the demo; without `ARQ_URL` it chooses its own store. */
function runDemo(
  connection: string | undefined,
  urls: readonly string[] = [],
): Promise<{ readonly code: number; readonly output: string }> {
  const { ARQ_URL: _, ...environment } = process.env;
  const env = { ...environment, NO_COLOR: "1", ...(connection && { ARQ_URL: connection }) };
  const args = [...FLAGS, "examples/demo.ts", ...urls];
  return new Promise((resolve) => {
    const options = { cwd: ROOT, env, timeout: DEADLINE_MS };
    execFile(process.execPath, args, options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), output: stdout + stderr });
    });
  });
}

/** The table's rows that say yes, and those that say no. */
function countRows(output: string): { yes: number; no: number } {
  const rows = output.split("\n").filter((line) => line.startsWith("│"));
  const ends = (pattern: RegExp) => rows.filter((row) => pattern.test(row)).length;
  return { yes: ends(/ "?yes"? +│$/), no: ends(/ "?no\b.*│$/) };
}

/** One job a file, then: failing, deferred, unique, aborted, cron. */
const ROWS = readdirSync(ROOT).filter((file) => /\.(ts|md|json)$/.test(file)).length + 5;

describe("The demo", () => {
  const folder = new Folder();
  after(() => folder[Symbol.dispose]());
  const stores = {
    "the embedded store without ARQ_URL": () => undefined,
    "a SQLite file": () => folder.url("demo.db"),
    "Redis": () => testRedisUrl(),
  };
  // Side by side: most of its time it waits for jobs that are deferred.
  const runs = Object.entries(stores).map(([store, connection]) =>
    [store, Promise.resolve(connection()).then((url) => runDemo(url))] as const
  );
  const withoutPage = runDemo(undefined, ["http://127.0.0.1:1/nobody"]);
  const withoutFolder = runDemo(`sqlite:${folder.path}/none/demo.db`);

  for (const [store, ended] of runs) {
    it(`shows every job ended as it should, on ${store}`, async () => {
      const { code, output } = await ended;
      assert.equal(code, 0, output);
      assert.deepEqual(countRows(output), { yes: ROWS, no: 0 }, output);
      assert.match(output, /^\d\d:\d\d:\d\d: +\d+\.\d\ds → \S+:downloadContent\('http:/m);
    });
  }

  it("exits with 1 where a URL fails, and says which", async () => {
    const { code, output } = await withoutPage;
    assert.equal(code, 1, output);
    assert.deepEqual(countRows(output), { yes: 5, no: 1 }, output);
  });

  it("exits with 1 where the store cannot be used", async () => {
    const { code, output } = await withoutFolder;
    assert.equal(code, 1, output);
    assert.match(output, /there is no folder/);
  });
});
