/** Functions that are named by their modules. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { splitSpecifier } from "../functions.ts";
import { cron, func, JobExecutionFailed } from "../mod.ts";
import { Folder } from "./_sqlite.ts";
import { scenarios } from "./_worker.ts";

const noop = () => {};

describe("splitSpecifier", () => {
  it("names the module and its export, the default one where none is named", () => {
    const cases: readonly (readonly [string, string, string])[] = [
      ["file:///app/tasks.ts#resize", "file:///app/tasks.ts", "resize"],
      ["file:///app/a#b/tasks.ts#resize", "file:///app/a#b/tasks.ts", "resize"],
      ["npm:tasks", "npm:tasks", "default"],
      ["npm:tasks#", "npm:tasks", "default"],
    ];
    for (const [specifier, path, name] of cases) {
      assert.deepEqual(splitSpecifier(specifier), { path, name });
    }
  });
});

scenarios("A function by module specifier", (scenario) => {
  const module = import.meta.resolve("./data/lazy_functions.ts");

  scenario("is imported when its first job runs, and not before", async (scene) => {
    const startedAt = performance.now();
    const job = await scene.arq.enqueueJob("loaded");
    using folder = new Folder(); // a module is loaded once, so each store gets its own
    const file = folder.file("loaded.mjs");
    writeFileSync(file, "const loadedAt = performance.now(); export default () => loadedAt;");
    await scene.burst({ functions: { loaded: func(pathToFileURL(file).href) } });
    const loadedAt = Number(await job.result());
    assert.ok(loadedAt > startedAt);
  });

  scenario("is the export after the #, under its own name in a list", async (scene) => {
    const job = await scene.arq.enqueueJob("triple", [2]);
    const other = await scene.arq.enqueueJob("thrice", [3]);
    const worker = scene.worker({
      functions: [func(`${module}#triple`), func(`${module}#triple`, { name: "thrice" })],
    });
    assert.equal(await worker.runCheck(), 2);
    assert.deepEqual([await job.result(), await other.result()], [6, 9]);
  });

  scenario("fails its job, and no other, where there is no such thing", async (scene) => {
    const jobs = await scene.arq.enqueueJobs([
      { name: "noModule" },
      { name: "noExport" },
      { name: "noFunction" },
      { name: "noop" },
    ]);
    await scene.burst({
      functions: {
        noModule: func(`${module}x`),
        noExport: func(`${module}#missing`),
        noFunction: func(`${module}#notAFunction`),
        noop,
      },
    });
    const [noModule, noExport, noFunction, good] = await Promise.all(
      jobs.map((job) => job?.resultInfo()),
    );
    assert.equal(noModule?.success, false);
    assert.match(String(noModule?.result), /lazy_functions\.tsx/);
    assert.ok(noExport?.result instanceof JobExecutionFailed);
    assert.match(noExport.result.message, /exports no function "missing"$/);
    assert.match(String(noFunction?.result), /exports no function "notAFunction"$/);
    assert.equal(good?.success, true);
  });

  scenario("tells where a module cannot be parsed, the first place of several", async (scene) => {
    using folder = new Folder();
    for (
      const [name, text, position] of [
        ["slip.ts", "export default () => {};\nexport const x = ;\n", "slip.ts:2:18"],
        ["twice.ts", "let a, b;\nlet a;\nlet b;\nexport default () => a;\n", "twice.ts:2:5"],
      ] as const
    ) {
      writeFileSync(folder.file(name), text);
      const { href } = pathToFileURL(folder.file(name));
      const functions = { slip: func(href), isolated: func(href, { isolate: true }) };
      const jobs = await scene.arq.enqueueJobs([{ name: "slip" }, { name: "isolated" }]);
      await scene.burst({ functions });
      for (const job of jobs) {
        const { result } = await job?.resultInfo() ?? {};
        assert.ok(String(result).includes(position), String(result));
      }
    }
  });

  scenario("can be a cron job", async (scene) => {
    const hour = (Temporal.Now.zonedDateTimeISO("UTC").hour + 12) % 24;
    const when = { hour, minute: 0, timezone: "UTC", runAtStartup: true };
    const worker = await scene.burst({ cronJobs: [cron(`${module}#triple`, when)] });
    assert.equal(worker.jobsComplete, 1);
    const keys = await scene.keys();
    assert.ok(keys.some((key) => key.startsWith("result:cron:triple:")), String(keys));
    scene.leaves(...keys.filter((key) => key.startsWith("in-progress:")));
  });
});
