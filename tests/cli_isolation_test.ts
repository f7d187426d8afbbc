/** Functions in processes of their own, under the command line. */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync } from "node:fs";
import { dirname } from "node:path";
import { describe, it } from "node:test";
import { createPool } from "../client.ts";
import { LIBRARY, openScene, Project, ROOT, startCli } from "./_cli.ts";
import { gone, isAlive } from "./_isolation.ts";

const SETTINGS = `
import { func } from "${LIBRARY}";
const specifier = import.meta.resolve("./job.ts");
export const functions = {
  look: func(specifier + "#look", { isolate: true }),
  spin: func(specifier + "#spin", { isolate: { maxProcesses: 1 } }),
  hold: func(specifier + "#hold", { isolate: true }),
  shout: func(specifier + "#shout", { isolate: { maxProcesses: 1 } }),
};
export const pollDelay = 50;
export const abortGrace = 50;
`;
const JOB = `
import { existsSync } from "node:fs";
import process from "node:process";
import { version } from "./parts/version.ts";
export const look = () => ({ version, pid: process.pid });
export const spin = (ctx) => {
  ctx.logger.info("spinning in {pid}", { pid: process.pid });
  for (;;);
};
export const shout = (_ctx, count) => {
  for (let i = 0; i < count; i++) {
    process.stdout.write("out ".repeat(250) + "\\n");
    process.stderr.write("err ".repeat(250) + "\\n");
  }
  return count;
};
export const hold = (ctx, file) => {
  ctx.logger.info("holding");
  const nap = new Int32Array(new SharedArrayBuffer(4));
  while (!existsSync(file)) Atomics.wait(nap, 0, 0, 10);
  return "held to the end";
};
`;

function newProject(moreSettings = ""): Project {
  return new Project({
    "settings.ts": SETTINGS + moreSettings,
    "job.ts": JOB,
    "parts/version.ts": "export const version: number = 1;\n",
  });
}

type Look = { readonly version: number; readonly pid: number };

describe("arq worker, with functions in processes of their own,", () => {
  it("runs them, takes changes up with --watch and leaves none behind", async () => {
    await using scene = await openScene();
    using project = newProject();
    await using arq = await createPool(scene.url);
    const look = async () => await arq.call("look", [], { timeout: 20_000 }) as Look;
    const where = ["--watch", project.folder, "--url", scene.url];
    await using cli = startCli(["worker", project.path("settings.ts"), ...where]);
    const first = await look();
    assert.equal(first.version, 1);
    project.write("parts/version.ts", "export const version: number = 2;\n");
    await cli.line("has changed, loading anew");
    await cli.line("redis_version");
    const second = await look();
    assert.equal(second.version, 2);
    assert.ok(!isAlive(first.pid), "the old worker's processes are gone with it");
    await arq.enqueueJob("spin");
    const pid = Number((await cli.line("spinning in ")).split(" ").at(-1));
    const { code, stderr } = await cli.end("SIGTERM");
    assert.equal(stderr, "");
    assert.equal(code, 0);
    assert.ok(!isAlive(second.pid) && !isAlive(pid), "no process outlives the worker");
  });

  it("runs them with the project's packages, where the library is one of them, with --watch too", async () => {
    await using scene = await openScene();
    using project = new Project({
      "package.json": `{ "dependencies": { "@arq/arq": "file:${ROOT}", "own": "1.0.0" } }`,
      "node_modules/own/package.json": '{ "name": "own", "version": "1.0.0", "type": "module" }',
      "node_modules/own/index.js": "export const found = () => true;",
      "job.ts": 'export { found } from "own";',
      "settings.ts": `
        import { func } from "@arq/arq";
        export const functions = {
          found: func(import.meta.resolve("./job.ts#found"), { isolate: true }),
        };`,
    });
    const program = project.path("node_modules/@arq/arq/cli.ts");
    mkdirSync(dirname(dirname(program)));
    symlinkSync(ROOT, dirname(program));
    await using arq = await createPool(scene.url);
    for (const options of [[], ["--watch", project.folder]]) {
      const args = ["worker", "settings.ts", "--url", scene.url, ...options];
      await using _cli = startCli(args, { program, cwd: project.folder });
      assert.equal(await arq.call("found", [], { timeout: 20_000 }), true);
    }
  });

  it("lets them end within jobCompletionWait when a signal is sent to its process group", async () => {
    await Promise.all((["SIGINT", "SIGTERM", "SIGHUP"] as const).map(async (signal) => {
      await using scene = await openScene();
      using project = newProject("export const jobCompletionWait = 20_000;");
      await using arq = await createPool(scene.url);
      const args = ["worker", project.path("settings.ts"), "--url", scene.url];
      await using cli = startCli(args, { isGroup: true });
      const job = await arq.enqueueJob("hold", [project.path("end")]);
      await cli.line("holding");
      cli.killGroup(signal);
      await cli.line(`shutdown on ${signal}`);
      project.write("end", "");
      const { code, stderr } = await cli.ended;
      assert.equal(stderr, "");
      assert.equal(code, 0);
      assert.equal(await job.result({ timeout: 20_000 }), "held to the end");
    }));
  });

  it("lets them print when nobody reads it any more", async () => {
    await using scene = await openScene();
    using project = newProject();
    await using arq = await createPool(scene.url);
    await using cli = startCli(["worker", project.path("settings.ts"), "--url", scene.url]);
    const shout = (count: number) => arq.call("shout", [count], { timeout: 20_000 });
    assert.equal(await shout(1), 1);
    cli.stopReading();
    for (const count of [1, 1_000, 1, 1_000]) assert.equal(await shout(count), count);
    assert.equal((await cli.end("SIGTERM")).code, 0);
  });

  it("leaves none behind at a second signal", async () => {
    await using scene = await openScene();
    using project = newProject("export const jobCompletionWait = 60_000;");
    await using arq = await createPool(scene.url);
    await using cli = startCli(["worker", project.path("settings.ts"), "--url", scene.url]);
    await arq.enqueueJob("spin");
    const pid = Number((await cli.line("spinning in ")).split(" ").at(-1));
    cli.kill("SIGTERM");
    await cli.line("shutdown on SIGTERM");
    const again = setInterval(() => cli.kill("SIGTERM"), 100); // an echo of the first does nothing
    assert.equal((await cli.ended).code, 143);
    clearInterval(again);
    await gone(pid);
  });
});
