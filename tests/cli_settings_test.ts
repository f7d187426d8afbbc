/**
 * What a worker's settings may be, and what is said of those that cannot be used: called in this
 * process, with one of a kind as a process.
 */
import assert from "node:assert/strict";
import { symlinkSync } from "node:fs";
import { dirname, relative } from "node:path";
import { describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { secretProblem } from "../cli_connection.ts";
import { hideSecrets } from "../cli_log.ts";
import { locateExport, missingPermission } from "../cli_settings.ts";
import {
  type CliEnd,
  IS_DENO,
  LIBRARY,
  openScene,
  Project,
  ROOT,
  runCli,
  SETTINGS,
  startCli,
} from "./_cli.ts";
import { callCli } from "./_cli_call.ts";

/** Where a worker starts, its settings can be used. */
async function assertStarts(settings: string, functions: string, cwd = ROOT): Promise<void> {
  await using scene = await openScene();
  const args = ["worker", settings, "--burst", "--url", scene.url];
  const { code, stdout, stderr } = await callCli(args, { cwd });
  assert.equal(stderr, "");
  assert.match(stdout, new RegExp(`Starting worker for \\d+ functions?: ${functions}`));
  assert.equal(code, 0);
}

/** One clear line, and exit code 2. */
function assertRefused({ code, stdout, stderr }: CliEnd, message: RegExp): void {
  assert.match(stderr, message);
  assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
  assert.doesNotMatch(stderr, /^\s+at /m);
  assert.equal(stdout, "");
  assert.equal(code, 2);
}

describe("arq worker SETTINGS", () => {
  it("is a path, from the working directory, or a file URL", async () => {
    using project = new Project({
      "app/settings.ts": `import type { JobContext } from "${LIBRARY}";
        export const functions = { here: (_ctx: JobContext) => 1 };`,
    });
    const path = project.path("app/settings.ts");
    await assertStarts("settings.ts", "here", dirname(path));
    await assertStarts("./app/settings.ts", "here", project.folder);
    await assertStarts(relative(ROOT, path), "here");
    await assertStarts(path, "here");
    await assertStarts(pathToFileURL(path).href, "here");
  });

  it("is the default export, or all exports, or the one that is named", async () => {
    await assertStarts("tests/fixtures/cli_default.ts", "chosen");
    await assertStarts("tests/fixtures/cli_default.ts#default", "chosen");
    await assertStarts(SETTINGS, "double, slow");
    await assertStarts(`${SETTINGS}#patient`, "double, slow");
    await assertStarts(`${pathToFileURL(ROOT)}/${SETTINGS}#patient`, "double, slow");
  });

  it("lets no slip in the name of an export pass, and leaves helpers alone", async () => {
    const { code, stderr } = await callCli(["worker", "tests/fixtures/cli_slip.ts"]);
    assert.match(stderr, /^ {2}unknown option "fuctions"; did you mean "functions"\?$/m);
    assert.doesNotMatch(stderr, /release|first/);
    assert.equal(code, 2);
  });

  it("says what it takes a pool or a worker for", async () => {
    using project = new Project({
      "pool.ts": "export const functions = { one: () => 1 };\n" +
        'export const redisSettings = { host: "localhost" };\n',
      "worker.ts": `import { Worker } from "${LIBRARY}";\n` +
        "export default new Worker({ functions: { one: () => 1 } });\n",
    });
    const pool = await callCli(["worker", project.path("pool.ts")]);
    assert.match(pool.stderr, /^ {2}unknown option "redisSettings"; did you mean "connection"\?$/m);
    assert.equal(pool.code, 2);
    const worker = await callCli(["worker", project.path("worker.ts")]);
    assert.match(worker.stderr, /^ {2}export the settings, not a Worker$/m);
    assert.equal(worker.code, 2);
  });

  it("has every problem reported at once, each on its line", async () => {
    const { code, stdout, stderr } = await callCli(["worker", `${SETTINGS}#wrong`]);
    const [head, ...problems] = stderr.trimEnd().split("\n");
    assert.equal(head, `arq: cannot use the settings of ${SETTINGS}#wrong:`);
    assert.deepEqual(problems.map((line) => line.replace(/ got .*/, "")).sort(), [
      "  burst must be true or false,",
      '  jobTimeout has an unknown unit "second"; use days, hours, minutes, seconds, milliseconds',
      "  maxJobs must be a whole number of 1 or more,",
      '  timezone must be an IANA name such as "Europe/London",',
      '  unknown option "fuctions"; did you mean "functions"?',
    ]);
    assert.equal(stdout, "");
    assert.equal(code, 2);
  });

  it("says what is wrong with a module that cannot be used", async () => {
    using project = new Project({
      "syntax.ts": "export const a = 1;\nexport const b = ;\n",
      "throws.ts": `import { cron } from "${LIBRARY}";\nexport const functions = {};\n` +
        "export const cronJobs = [cron(function late() {}, { hour: 25 })];\n",
      "imports.ts": 'import "./gone.ts";\nexport const functions = {};\n',
      "default.ts": "export default function settings() {}\n",
      "empty.ts": "export {};\n",
    });
    const refused = async (name: string, message: RegExp, follow = callCli) =>
      assertRefused(await follow(["worker", project.path(name)]), message);
    await Promise.all([ // what a loader says in a test may be different
      refused("missing.ts", /cannot load \S*missing.ts: there is no such module$/m, runCli),
      refused("syntax.ts", /cannot load \S*syntax.ts: .* at \S*syntax.ts:2:\d+$/m, runCli),
      refused("imports.ts", /cannot load \S*imports.ts: .*gone.ts/, runCli),
    ]);
    await refused("throws.ts", /RangeError: .*hour.*25.* at \S*throws.ts:3:\d+$/m);
    await refused("default.ts", /the default export must be an object, got function settings$/m);
    await refused("empty.ts", /has no settings: .* it exports nothing$/m);
  });

  it("says which export there is instead", async () => {
    assertRefused(
      await callCli(["worker", `${SETTINGS}#patiennt`]),
      /there is no export "patiennt"; did you mean #patient\?$/m,
    );
    assertRefused(
      await callCli(["worker", "tests/fixtures/cli_default.ts#other"]),
      /there is no export "other"; it exports default, functions$/m,
    );
    assertRefused(
      await callCli(["worker", `${SETTINGS}#notSettings`]),
      /the export "notSettings" must be an object, got 5$/m,
    );
    assertRefused(
      await callCli(["worker", "tests/fixtures/cli_helpers.ts"]),
      /has no settings: .*it exports first, release$/m,
    );
  });

  it("ends with one line when it cannot start", async () => {
    await using scene = await openScene();
    const args = ["worker", `${SETTINGS}#failing`, "--url", scene.url];
    const { code, stderr } = await runCli(args);
    assert.match(stderr, /^arq: TypeError: no database at \S*cli_settings.ts:\d+:\d+\n$/);
    assert.equal(code, 1);
    const verbose = await callCli([...args, "-v"]);
    assert.match(verbose.stderr, /^ +at .*onStartup/m);
  });

  it("never shows a password", async () => {
    const urls = [
      "redis://user:hidden@127.0.0.1:1?connRetries=0",
      "redis://user:hid@den@127.0.0.1:1?connRetries=0",
      "redis://:hid/den@127.0.0.1:1",
      "redis://:hid?den@127.0.0.1:1",
      "redis://:hid%den@127.0.0.1:1",
      "rediss://user:hidden@127.0.0.1:1?connRetries=0",
    ];
    for (const url of urls) {
      for (const args of [["--url", url], ["--url", url, "-v", "--log-format", "json"]]) {
        const { code, stdout, stderr } = await callCli(["worker", SETTINGS, ...args]);
        assert.ok(code === 1 || code === 2, url);
        assert.doesNotMatch(stdout + stderr, /hid|den@/, url);
      }
      const { stderr } = await callCli(["worker", SETTINGS], { env: { ARQ_URL: url } });
      assert.match(stderr, /^arq: /);
      assert.doesNotMatch(stderr, /hid|den@/, url);
    }
    const args = ["worker", SETTINGS, "-v", "--log-format", "json"];
    const { stdout, stderr } = await runCli(args, { env: { ARQ_URL: urls[0] ?? "" } });
    assert.match(stderr, /connection refused/);
    assert.doesNotMatch(stdout + stderr, /hidden/);
    assertRefused(
      await callCli(["worker", "redis://user:hidden@h"]),
      /cannot load redis:\/\/\*\*\*@h: /,
    );
  });

  it("may be started through a link, as package managers make one", async () => {
    using project = new Project({});
    symlinkSync(`${ROOT}/cli.ts`, project.path("arq"));
    const program = IS_DENO ? `${ROOT}/cli.ts` : project.path("arq");
    await using cli = startCli(["-V"], { program });
    assert.match((await cli.ended).stdout, /^arq \d+\.\d+\.\d+\n$/);
  });
});

describe("locateExport", () => {
  it("splits a name off, and keeps a path with # in it", () => {
    const url = (path: string) => pathToFileURL(path).href;
    assert.deepEqual(locateExport("/a/b.ts#c"), {
      url: url("/a/b.ts"),
      name: "c",
      given: "/a/b.ts#c",
    });
    assert.equal(locateExport("/a#b/c.ts").url, url("/a#b/c.ts"));
    assert.equal(locateExport("https://h/a.ts#b").url, "https://h/a.ts");
    assert.equal(locateExport("https://h/a.ts#b").name, "b");
  });
});

describe("arq enqueue --settings", () => {
  it("warns of a function that the settings lack, for its job would only fail", async () => {
    using project = new Project({
      "settings.ts": `
        import { cron } from "${LIBRARY}";
        export default {
          functions: { double: (_ctx, n) => 2 * n, greet: () => {} },
          cronJobs: [cron(function report() {}, "0 9 * * *")],
          connection: "sqlite::memory:",
        };`,
    });
    const settings = project.path("settings.ts");
    const enqueue = async (...line: readonly string[]) => {
      const { code, stderr } = await callCli(["enqueue", "--settings", settings, ...line]);
      assert.equal(code, 0, stderr);
      return stderr.trimEnd().replace(/^\S+ /, "");
    };
    const advice = "If the worker of another queue has it, add --queue";
    const none = (name: string) => `${settings} has no function "${name}"`;
    assert.equal(await enqueue("duble", "1"), `${none("duble")}; did you mean "double"? ${advice}`);
    const known = "it has double, greet, cron:report.";
    assert.equal(await enqueue("{name}"), `${none("{name}")}; ${known} ${advice}`);
    assert.equal(await enqueue("double", "1"), "");
    assert.equal(await enqueue("cron:report"), "");
    assert.equal(await enqueue("resize", "--queue", "arq:images"), "");
  });
});

describe("missingPermission", () => {
  it("names the flag for what Deno asks", () => {
    const ask = (kind: string, target: string) =>
      `Requires ${kind} access to "${target}", run again with the --allow-${kind} flag`;
    const settings = "file:///app/settings.ts";
    assert.equal(missingPermission(ask("read", "/app/a/b.ts"), settings), "--allow-read=/app");
    assert.equal(missingPermission(ask("read", "/lib/b.ts"), settings), "--allow-read=/lib/b.ts");
    assert.equal(missingPermission(ask("net", "h:1"), settings), "--allow-net=h:1");
    assert.equal(missingPermission("Requires env access, run"), "--allow-env");
    assert.equal(missingPermission("anything else"), undefined);
  });
});

describe("secretProblem", () => {
  it("finds what must be encoded, and lets every good string pass", () => {
    const good = [
      "redis://h",
      "redis://u:p@h:1/2?prefix=a@b",
      "redis://h/0?prefix=a@b",
      "redis+sentinel://u:p%40@a:1,b:2/main",
      "unix:///tmp/a@b.sock",
      "sqlite:./a@b.db",
    ];
    for (const dsn of good) assert.equal(secretProblem(dsn), undefined, dsn);
    for (const dsn of ["redis://u:a@b@h", "redis://:a/b@h", "redis://:a?b@h", "rediss://u:a#b@h"]) {
      assert.match(secretProblem(dsn) ?? "", /percent-encoded/, dsn);
    }
  });
});

describe("hideSecrets", () => {
  it("hides user and password wherever a connection string stands", () => {
    assert.equal(hideSecrets('at "redis://u:p@h/0", no'), 'at "redis://***@h/0", no');
    const query = "redis+sentinel://h?sentinelPassword=p&db=1";
    assert.equal(hideSecrets(query), "redis+sentinel://h?sentinelPassword=***&db=1");
    assert.equal(hideSecrets("redis://h and a@b"), "redis://h and a@b");
    const addresses = "https://u:p@h/@std/fs and https://jsr.io/@std/fs";
    assert.equal(hideSecrets(addresses), "https://***@h/@std/fs and https://jsr.io/@std/fs");
  });
});
