import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { createServer } from "node:http";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { createPool } from "../client.ts";
import { Cli, IS_DENO, openScene, Project, ROOT, RUN, runCli, SETTINGS, startCli } from "./_cli.ts";
import { callCli } from "./_cli_call.ts";
import { testRedisUrl } from "./_redis.ts";

// Where no permission is named, Deno's node:child_process adds -A.
const NARROW = ["run", "--quiet", "--no-prompt", "--no-lock", "--allow-env=NO_SUCH_VARIABLE"];

async function netFlag(): Promise<string> {
  return `--allow-net=${new URL(await testRedisUrl()).host}`;
}

/** Starts with no permission and adds each flag that is asked for; returns those it took. */
async function followAdvice(args: readonly string[]): Promise<string[]> {
  const flags: string[] = [];
  for (;;) {
    await using cli = startCli(args, { runtimeArgs: [...NARROW, ...flags] });
    const line = await cli.line(/recording health|^arq: /);
    if (line.includes("recording health")) return flags;
    const flag = /start \w+ with (--allow-\S+)$/.exec(line)?.[1];
    assert.ok(flag !== undefined && !flags.includes(flag), line);
    flags.push(flag);
  }
}

/** Serves this repository with bare specifiers rewritten as JSR does, under any first folder. */
async function serveSources(): Promise<AsyncDisposable & { readonly url: string }> {
  const { dependencies } = JSON.parse(readFileSync(`${ROOT}/package.json`, "utf8"));
  const server = createServer((request, response) => {
    const path = /^\/\w+(\/[\w/]+\.ts)$/.exec(request.url ?? "")?.[1];
    if (path === undefined) return response.writeHead(404).end();
    const source = readFileSync(ROOT + path, "utf8").replace(
      /(from |import\()"(@[\w-]+\/[\w-]+|croner)"/g,
      (_match, before, name) => `${before}"npm:${name}@${dependencies[name]}"`,
    );
    response.writeHead(200, { "content-type": "application/typescript" }).end(source);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A cache for remote modules that goes with the test; packages are taken from the real one. */
function makeCache(): Project {
  const cache = new Project({});
  const { denoDir } = JSON.parse(execFileSync(process.execPath, ["info", "--json"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  }));
  mkdirSync(`${denoDir}/npm`, { recursive: true }); // not there yet where nothing was cached
  symlinkSync(`${denoDir}/npm`, cache.path("npm"));
  return cache;
}

function describePermissions(): void {
  it("runs with the net of its store and its files alone", async () => {
    await using scene = await openScene();
    await scene.arq.enqueueJob("double", [1], { jobId: "one" });
    const args = ["worker", SETTINGS, "--burst", "--url", scene.url];
    const runtimeArgs = [...NARROW, await netFlag(), `--allow-read=${ROOT}`];
    const { code, stdout, stderr } = await runCli(args, { runtimeArgs });
    assert.equal(stderr, "");
    assert.match(stdout, /← one:double ● 2/);
    assert.equal(code, 0);
  });

  it("names the exact flag for each permission that is missing", async () => {
    await using scene = await openScene();
    using project = new Project({
      "settings.ts": 'export { functions } from "./tasks.ts";',
      "tasks.ts": "export const functions = { one: () => 1 };",
    });
    const args = ["worker", project.path("settings.ts"), "--url", scene.url];
    const library = ["worker", SETTINGS, "--url", scene.url];
    const watching = [...args, "--watch", project.folder];
    const readProject = `--allow-read=${project.folder}`;
    const readLibrary = `--allow-read=${ROOT.replace(/\/$/, "")}`;
    const net = await netFlag();
    assert.deepEqual(await Promise.all([args, library, watching].map(followAdvice)), [
      [readProject, net],
      [`--allow-read=${ROOT}tests/fixtures`, readLibrary, net],
      [readLibrary, readProject, net],
    ]);
  });

  it("reads ARQ_URL where it may, and asks for nothing where it may not", async () => {
    await using scene = await openScene();
    using project = new Project({
      "settings.ts": `export const functions = { one: () => 1 };
        export const connection = "${scene.url}";`,
    });
    const flags = [await netFlag(), `--allow-read=${project.folder}`];
    const args = ["worker", project.path("settings.ts"), "--burst"];
    const env = { ARQ_URL: "redis://127.0.0.1:1?connRetries=0", NO_COLOR: "" };
    const command = [process.execPath, "run", "--quiet", ...flags, "cli.ts", ...args].join(" ");
    await using cli = new Cli("script", ["-qec", command, "/dev/null"], { env });
    const { code, stdout } = await cli.ended; // on a terminal, where Deno would ask
    assert.equal(code, 0, stdout);
    const runtimeArgs = [...NARROW, ...flags, "--allow-env=ARQ_URL"];
    const refused = await runCli(args, { env, runtimeArgs });
    assert.match(refused.stderr, /start it with --allow-net=127\.0\.0\.1:1$/m);
    assert.equal(refused.code, 1);
  });

  it("reloads without asking for anything else", async () => {
    await using scene = await openScene();
    using project = new Project({
      "settings.ts": `export const functions = { one: () => 1 };
        export const connection = "${scene.url}";`,
    });
    const flags = [await netFlag(), `--allow-read=${project.folder},${ROOT}`];
    const args = ["worker", project.path("settings.ts"), "--watch", project.folder];
    const command = [process.execPath, "run", "--quiet", ...flags, "cli.ts", ...args].join(" ");
    await using cli = new Cli("script", ["-qec", command, "/dev/null"], {}); // on a terminal
    assert.match(await cli.line(/recording health|Deno requests/), /recording health/);
  });
}

function describeRemote(): void {
  let server: Awaited<ReturnType<typeof serveSources>>;
  let cache: Project; // what one test has loaded is there for the next
  before(async () => {
    server = await serveSources();
    cache = makeCache();
  });
  after(async () => {
    cache[Symbol.dispose]();
    await server[Symbol.asyncDispose]();
  });
  const REMOTE_SETTINGS = (library: string) => `
    import { cron, func, Retry, type JobContext } from "${library}";
    async function again(ctx: JobContext): Promise<string> {
      if (ctx.jobTry < 2) throw new Retry();
      return ctx.logger.category.join(".") + (await ctx.arq.call("double", [21]));
    }
    export const functions = {
      again: func(again, { maxTries: 2 }),
      double: (_ctx: JobContext, n: number) => 2 * n,
    };
    export const cronJobs = [cron(function yearly() {}, { month: 1, day: 1, hour: 1, minute: 1 })];
  `;

  it("runs settings that import another copy of the library", async () => {
    await using scene = await openScene();
    using project = new Project({ "settings.ts": REMOTE_SETTINGS(`${server.url}/second/mod.ts`) });
    const job = await scene.arq.enqueueJob("again", []);
    const options = {
      program: `${server.url}/first/cli.ts`,
      runtimeArgs: [...RUN, "--no-lock"],
      cwd: project.folder,
      env: { DENO_DIR: cache.folder },
    };
    const args = ["worker", "./settings.ts", "--url", scene.url];
    await using cli = startCli([...args, "--watch", "."], options);
    await cli.line("Starting worker for 3 functions: again, double, cron:yearly");
    await cli.line("again retrying job");
    assert.equal(await job.result({ timeout: 40_000 }), "arq.job42");
    project.write(
      "settings.ts",
      REMOTE_SETTINGS(`${server.url}/second/mod.ts`).replace("2 * n", "n"),
    );
    await cli.line("shutdown on reload");
    await cli.line("redis_version");
    assert.equal(await scene.arq.call("double", [3]), 3);
    const { code, stderr } = await cli.end("SIGTERM");
    assert.equal(stderr, "");
    assert.equal(code, 0);
    const local = new URL("../mod.ts", import.meta.url).href;
    project.write("settings.ts", REMOTE_SETTINGS(local));
    const help = await runCli(args, options);
    assert.match(help.stderr, /Deno needs --config deno.json for a program from the network$/m);
    const runtimeArgs = [...RUN, "--no-lock", "--config", `${ROOT}/deno.json`];
    const withConfig = await runCli([...args, "--burst"], { ...options, runtimeArgs });
    assert.equal(withConfig.stderr, "");
    assert.equal(withConfig.code, 0);
  });

  it("runs functions in processes of their own with the configuration beside them, with --watch too", async () => {
    await using scene = await openScene();
    await using arq = await createPool(scene.url);
    using project = new Project({
      "deno.json": "{}",
      "jobs/deno.json": '{ "imports": { "answer": "./answer.ts" } }',
      "jobs/answer.ts": "export const answer = () => 42;",
      "jobs/job.ts": 'export { answer } from "answer";',
      "jobs/settings.ts": `import { func } from "${server.url}/first/mod.ts";
        export const functions = {
          answer: func(import.meta.resolve("./job.ts#answer"), { isolate: true }),
        };`,
    });
    const options = {
      program: `${server.url}/first/cli.ts`,
      runtimeArgs: [...RUN, "--no-lock"],
      cwd: project.folder,
      env: { DENO_DIR: cache.folder },
    };
    for (const watching of [[], ["--watch", "."]]) {
      const args = ["worker", "./jobs/settings.ts", "--url", scene.url, ...watching];
      await using _cli = startCli(args, options);
      assert.equal(await arq.call("answer", [], { timeout: 40_000 }), 42);
    }
  });

  it("runs functions in processes of their own, with the program's configuration", async () => {
    await using scene = await openScene();
    await using arq = await createPool(scene.url);
    const library = `${server.url}/first/mod.ts`;
    using project = new Project({
      "deno.json": JSON.stringify({ imports: { "@arq/arq": library, answer: "./answer.ts" } }),
      "answer.ts": "export const answer = 42;",
      "job.ts": `import { answer } from "answer";
        import { type IsolatedContext, Retry } from "@arq/arq";
        export function ask(ctx: IsolatedContext) {
          if (ctx.jobTry < 2) throw new Retry();
          return [answer, Deno.permissions.querySync({ name: "net" }).state];
        }`,
      "settings.ts": `import { func } from "${library}";
        export const functions = [func(import.meta.resolve("./job.ts#ask"), { isolate: true })];`,
      "main.ts": `import { runWorker } from "@arq/arq";
        import { functions } from "./settings.ts";
        await runWorker({ functions, connection: Deno.args[0], burst: true });`,
    });
    const flags = [
      ...NARROW,
      `--allow-import=${new URL(server.url).host}`,
      await netFlag(),
      `--allow-read=${project.folder}`,
      `--allow-run=${process.execPath}`,
    ];
    const options = { cwd: project.folder, env: { DENO_DIR: cache.folder } };
    for (
      const [program, args, runtimeArgs] of [
        [project.path("main.ts"), [scene.url], flags],
        [`${server.url}/first/cli.ts`, ["worker", "./settings.ts", "--burst", "--url", scene.url], [
          ...flags,
          "--config",
          "deno.json",
        ]],
      ] as const
    ) {
      const job = await arq.enqueueJob("ask");
      const { code, stderr } = await runCli(args, { ...options, program, runtimeArgs });
      assert.equal(stderr, "");
      assert.equal(code, 0);
      assert.deepEqual(await job.result(), [42, "prompt"]);
    }
  });

  it("loads settings from the network", async () => {
    await using scene = await openScene();
    const settings = `${server.url}/second/tests/fixtures/cli_settings.ts#bursting`;
    const job = await scene.arq.enqueueJob("again", []);
    const args = ["worker", settings, "--url", scene.url];
    const env = { DENO_DIR: cache.folder };
    const { code, stderr } = await runCli(args, {
      env,
      runtimeArgs: [...RUN, "--no-lock"],
    });
    assert.equal(stderr, "");
    assert.equal(code, 0);
    assert.equal(await job.result(), 2);
    const refused = await runCli(args, { env, runtimeArgs: NARROW });
    assert.match(refused.stderr, new RegExp(`--allow-import=${new URL(server.url).host}$`, "m"));
    assert.equal(refused.code, 2);
  });
}

if (IS_DENO) {
  describe("arq worker, in Deno with few permissions,", describePermissions);
  describe("arq worker, loaded from the network,", describeRemote);
} else {
  describe("arq worker, in Bun,", () => {
    it("says that it loads no settings from the network", async () => {
      const { code, stderr } = await callCli(["worker", "https://example.invalid/settings.ts"]);
      assert.match(
        stderr,
        /^arq: cannot load https:.*: only Deno loads modules over the network\n$/,
      );
      assert.equal(code, 2);
    });
  });
}
