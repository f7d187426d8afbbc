import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createPool } from "../client.ts";
import { type Cli, IS_DENO, openScene, Project, type Scene, SETTINGS, startCli } from "./_cli.ts";
import { callCli } from "./_cli_call.ts";
import { eventually } from "./_helpers.ts";

const FIXTURE = new URL("fixtures/cli_settings.ts", import.meta.url).href;
const SETTINGS_SOURCE = `
import { version } from "./parts/version.ts";
import { functions as all } from "${FIXTURE}";
export const functions = { ...all, double: (_ctx: unknown, n: number) => version * n };
export const pollDelay = 100;
`;

function version(n: number): string {
  return `export const version: number = ${n};\n`;
}

/** Sources of a worker whose \`double\` multiplies by a version in a module of its own. */
function makeProject(more: Readonly<Record<string, string>> = {}): Project {
  return new Project({
    "settings.ts": SETTINGS_SOURCE,
    "parts/version.ts": version(2),
    ...more,
  });
}

function watch(scene: Scene, project: Project, args: readonly string[] = []): Cli {
  const where = ["--watch", project.folder, "--url", scene.url];
  return startCli(["worker", project.path("settings.ts"), ...where, ...args]);
}

const READY = "redis_version";
const CHANGED = /has changed, loading anew|more has changed, loading anew/;

describe("arq worker --watch", () => {
  it("takes changes into effect, hands running jobs on, and passes signals on", async () => {
    await using scene = await openScene();
    using project = makeProject();
    await using cli = watch(scene, project);
    await cli.line(READY);
    for (const n of [3, 4]) {
      project.write("parts/version.ts", version(n));
      await cli.line("version.ts has changed, loading anew");
      await cli.line("shutdown on reload");
      await cli.line(READY);
      assert.equal(await scene.arq.call("double", [10]), 10 * n);
    }
    project.write("settings.ts", SETTINGS_SOURCE.replace("version * n", "n"));
    await cli.line("settings.ts has changed");
    await cli.line(READY);
    assert.equal(await scene.arq.call("double", [10]), 10);
    // Running jobs are handed back first, and the new worker starts them.
    await scene.arq.enqueueJob("slow", [60_000], { jobId: "one" });
    await cli.line("→ one:slow(60000)");
    project.write("parts/version.ts", version(3));
    await cli.line("shutdown on reload");
    await cli.line("↻ one:slow cancelled, will be run again");
    await cli.line("Starting worker");
    await cli.line(/→ one:slow\(60000\) try=2/);
    cli.kill("SIGINT");
    await cli.line("shutdown on SIGINT");
    await cli.line("↻ one:slow cancelled, will be run again");
    assert.equal((await cli.ended).code, 0);
    assert.equal(await scene.arq.job("one").status(), "queued");
  });

  it("loads settings anew with the environment that the program was given", async () => {
    await using scene = await openScene();
    await using arq = await createPool(scene.url);
    const settings = (given: string) => `
      import process from "node:process";
      process.env.GIVEN ??= "${given}"; // as what reads .env does
      export const functions = { given: () => process.env.GIVEN };`;
    using project = makeProject({ "settings.ts": settings("first") });
    await using cli = watch(scene, project);
    await cli.line(READY);
    assert.equal(await arq.call("given", []), "first");
    project.write("settings.ts", settings("second"));
    await cli.line("shutdown on reload");
    await cli.line(READY);
    assert.equal(await arq.call("given", []), "second");
  });

  it("lets running jobs end first where the settings give them time", async () => {
    await using scene = await openScene();
    using project = makeProject({
      "settings.ts": `${SETTINGS_SOURCE}export const jobCompletionWait = 10_000;\n`,
    });
    await using cli = watch(scene, project);
    await cli.line(READY);
    await scene.arq.enqueueJob("untilFile", [project.path("end")], { jobId: "one" });
    await cli.line("→ one:untilFile");
    project.write("parts/version.ts", version(3));
    await cli.line(/shutdown on reload .* to finish within/);
    project.write("end", "");
    await cli.line("← one:untilFile ● 'ended'");
    await cli.line("Starting worker");
  });

  it("prints what does not load, and the old worker goes on until it does", async () => {
    await using scene = await openScene();
    using project = makeProject();
    await using cli = watch(scene, project);
    await cli.line(READY);
    project.write("parts/version.ts", "export const version = ;\n");
    await cli.line(/arq: cannot load \S*settings.ts: .*version.ts:1:\d+/);
    await cli.line("the old worker goes on, waiting for the next change");
    assert.equal(await scene.arq.call("double", [10]), 20);
    project.write("settings.ts", `${SETTINGS_SOURCE}export const maxJobs = 0;\n`);
    project.write("parts/version.ts", version(3));
    await cli.line("maxJobs must be a whole number of 1 or more, got 0");
    await cli.line("the old worker goes on, waiting for the next change");
    assert.equal(await scene.arq.call("double", [10]), 20);
    assert.equal(cli.count(/shutdown/), 0);
    project.write("settings.ts", SETTINGS_SOURCE);
    await cli.line("shutdown on reload");
    await cli.line(READY);
    assert.equal(await scene.arq.call("double", [10]), 30);
  });

  it("waits for a change where the settings do not load at the start", async () => {
    await using scene = await openScene();
    using project = makeProject({
      "parts/version.ts": "export const version = new Nope();\n",
    });
    await using cli = watch(scene, project);
    await cli.line(/arq: cannot load .*Nope/);
    await cli.line(/: waiting for the next change/);
    const hangs = "setInterval(() => {}, 1000);\nawait new Promise(() => {});\n";
    project.write("parts/version.ts", hangs + version(2));
    await cli.line(CHANGED);
    project.write("parts/version.ts", version(3));
    await cli.line(READY);
    assert.equal(await scene.arq.call("double", [10]), 30);
  });

  it("reloads once for a burst of changes, and never for what is no source", async () => {
    await using scene = await openScene();
    using project = makeProject({
      "node_modules/a/a.ts": "",
      ".git/b.ts": "",
      "queue.sqlite-wal": "",
    });
    await using cli = watch(scene, project);
    await cli.line(READY);
    for (const name of ["node_modules/a/a.ts", ".git/b.ts", "queue.sqlite-wal", "notes.txt"]) {
      project.write(name, "changed");
    }
    let pauses = 0; // of this test, on a busy machine: what follows is another burst
    let last = performance.now();
    for (let n = 0; n < 20; n++) {
      project.write("parts/version.ts", version(n));
      project.write(`parts/new/more${n}.ts`, "");
      if (performance.now() - last > 60) pauses++;
      last = performance.now();
    }
    const isTimes = (n: number) =>
      eventually(async () => await scene.arq.call("double", [10]) === 10 * n, `version ${n}`);
    await isTimes(19);
    project.write("parts/version.ts", version(7));
    await isTimes(7);
    const reloads = cli.count(CHANGED);
    assert.ok(reloads >= 2 && reloads <= 2 + pauses, `${reloads} reloads, ${pauses} pauses`);
  });

  it("watches several folders, and the settings wherever they are", async () => {
    await using scene = await openScene();
    using parts = new Project({ "a/one.ts": "", "b/two.ts": "" });
    using project = makeProject();
    const folders = ["--watch", parts.path("a"), "--watch", parts.path("b")];
    const settings = project.path("settings.ts");
    await using cli = startCli(["worker", settings, ...folders, "--url", scene.url]);
    for (
      const change of [
        () => parts.write("a/one.ts", "1"),
        () => parts.write("b/two.ts", "2"),
        () => project.write("settings.ts", SETTINGS_SOURCE.replace("version * n", "n")),
      ]
    ) {
      await cli.line(READY);
      change();
      await cli.line(CHANGED);
    }
    await cli.line(READY);
    assert.equal(await scene.arq.call("double", [10]), 10);
  });

  it("waits for a change when the worker has ended by itself", async () => {
    await using scene = await openScene();
    using project = makeProject();
    await using cli = watch(scene, project);
    await cli.line(READY);
    const poison = await scene.arq.enqueueJob("throwLater", [], { jobId: "one" });
    await cli.line("arq: it ends because of an uncaught exception: RangeError: too late");
    await cli.line("the worker has ended with exit code 1, waiting for the next change");
    assert.equal(await poison?.abort(), true, "it was handed back");
    project.write("parts/version.ts", version(3));
    await cli.line(READY);
    assert.equal(await scene.arq.call("double", [10]), 30);
  });

  it("says so, too, where it has ended before it could start", async () => {
    await using scene = await openScene();
    using project = makeProject();
    await using cli = watch(scene, project);
    await cli.line(READY);
    project.write("settings.ts", `${SETTINGS_SOURCE}void Promise.reject(new Error("nobody"));\n`);
    await cli.line("the worker has ended with exit code 1, waiting for the next change");
    project.write("settings.ts", SETTINGS_SOURCE);
    await cli.line(READY);
    assert.equal(await scene.arq.call("double", [10]), 20);
  });

  it("runs the queue empty at every change with --burst", async () => {
    await using scene = await openScene();
    using project = makeProject();
    await scene.arq.enqueueJob("double", [10], { jobId: "one" });
    await using cli = watch(scene, project, ["--burst"]);
    await cli.line("← one:double ● 20");
    await cli.line("the worker has ended with exit code 0, waiting for the next change");
    await scene.arq.enqueueJob("double", [10], { jobId: "two" });
    project.write("parts/version.ts", version(3));
    await cli.line("← two:double ● 30");
    assert.equal((await cli.end("SIGINT")).code, 0);
  });

  it("ends at once at the second signal", async () => {
    await using scene = await openScene();
    using project = makeProject({
      "settings.ts": `${SETTINGS_SOURCE}export const abortGrace = 60_000;\n`,
    });
    await scene.arq.enqueueJob("stubborn", [], { jobId: "one" });
    await using cli = watch(scene, project);
    await cli.line("→ one:stubborn");
    cli.kill("SIGINT");
    await cli.line("shutdown on SIGINT");
    await sleep(400); // two signals within 300 ms are one
    assert.equal((await cli.end("SIGINT")).code, 130);
  });

  it("refuses a folder that is not there", async () => {
    for (const folder of ["no-such-folder", "mod.ts"]) {
      const { code, stderr } = await callCli(["worker", SETTINGS, "--watch", folder]);
      assert.match(stderr, new RegExp(`^arq: --watch ${folder}: .*\\n$`));
      assert.equal(code, 2);
    }
  });
});

describe("arq worker under the runtime's own --watch", () => {
  it("starts its jobs again after a change", async () => {
    await using scene = await openScene();
    using project = makeProject({
      "settings.ts": `${SETTINGS_SOURCE}export const lease = 2_000;\n`,
    });
    const runtimeArgs = IS_DENO ? ["run", "-A", "--watch"] : ["--watch"];
    const args = ["worker", project.path("settings.ts"), "--url", scene.url];
    await using cli = startCli(args, { runtimeArgs });
    await scene.arq.enqueueJob("slow", [60_000], { jobId: "one" });
    await cli.line("→ one:slow(60000)");
    project.write("parts/version.ts", version(3));
    if (IS_DENO) await cli.line("↻ one:slow cancelled, will be run again"); // Bun gives no time
    await cli.line("Starting worker");
    await cli.line(/→ one:slow\(60000\) try=2/);
    assert.equal(await scene.arq.call("double", [10]), 30);
  });
});
