/** Programs that run functions in processes of their own: their death, their memory, their permissions. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import type { Readable } from "node:stream";
import { describe, it } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { IsolatePermissions } from "../isolate_options.ts";
import { findBun } from "./_bun.ts";
import { gone, isAlive, Notes } from "./_isolation.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");
const PROGRAM = fileURLToPath(new URL("./data/isolating_program.ts", import.meta.url));
const IS_DENO = "Deno" in globalThis;

/** What a program may do, under Deno. */
const FLAGS = ["--no-check", "--no-prompt", `--allow-read=${ROOT}`];
const MAY_RUN = `--allow-run=${process.execPath}`;

interface ProgramOptions {
  readonly flags?: readonly string[];
  readonly isolate?: unknown;
  readonly env?: Readonly<Record<string, string>>;
  readonly program?: string;
}

function startProgram(
  name: string,
  args: readonly unknown[],
  { flags = ["-A", "--no-check"], isolate = true, env = {}, program = PROGRAM }: ProgramOptions =
    {},
): ChildProcess {
  const runtimeArgs = IS_DENO ? ["run", ...flags] : ["run"];
  const words = [name, JSON.stringify(isolate), JSON.stringify(args)];
  return spawn(process.execPath, [...runtimeArgs, program, ...words], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
}

/** Starts a program that tells the result where errors go. */
function startTelling(name: string, stdout: "pipe" | number): ChildProcess {
  const program = fileURLToPath(new URL("./data/telling_program.ts", import.meta.url));
  const flags = IS_DENO ? ["-A", "--no-check"] : [];
  const stdio = ["ignore", stdout, "pipe"] as const;
  const args = ["run", ...flags, program, name, "true", "[]"];
  return spawn(process.execPath, args, { stdio: [...stdio] });
}

/** The last line that a program prints. */
async function lastLine(program: ChildProcess): Promise<string> {
  let output = "";
  program.stdout?.on("data", (chunk) => output += String(chunk));
  await new Promise((resolve) => program.on("close", resolve));
  return output;
}

async function runProgram(...args: Parameters<typeof startProgram>): Promise<string> {
  return await lastLine(startProgram(...args));
}

describe("A process for functions", () => {
  it("goes away by itself, though it spins, when its worker is killed", async () => {
    using notes = new Notes();
    const program = startProgram("spin", [notes.path("pid")]);
    const pid = await notes.pid("pid");
    process.kill(program.pid ?? 0, "SIGKILL");
    await gone(pid);
  });

  it("lets its worker's program end, though what its function has started lives on", async () => {
    const pid = Number(await runProgram("beget", []));
    assert.ok(isAlive(pid));
    process.kill(pid, "SIGKILL");
  });

  it("is heard to its end, though nobody reads what its function prints", async () => {
    if (IS_DENO) return; // Its worker waits for the reader with all that it does.
    const running = startTelling("pour", "pipe");
    const [told] = await once(running.stderr as Readable, "data");
    assert.equal(String(told), '"poured"\n');
    running.stdout?.resume();
    await once(running, "close");
  });

  it("may print where nothing can be printed", async () => {
    if (!existsSync("/dev/full")) return;
    const full = openSync("/dev/full", "w");
    const running = startTelling("print", full);
    const told = running.stderr?.toArray();
    await once(running, "close");
    closeSync(full);
    assert.match(String((await told)?.join("")), /^"x{1000000}"\n$/);
  });

  it("that could not be started says so", () => {
    const program = fileURLToPath(new URL("./data/starving_program.ts", import.meta.url));
    const flags = IS_DENO ? ["-A", "--no-check"] : [];
    const words = ["-c", 'ulimit -n 250; exec "$@"', "sh", process.execPath, "run", ...flags];
    const { stdout } = spawnSync("/bin/sh", [...words, program], { encoding: "utf8" });
    assert.match(stdout, /^Failed to spawn|^The process .* "count" ended with the error "EMFILE: /);
    assert.match(stdout, /too many open files/i);
  });

  it("that runs out of memory fails its job only, with what it printed", async () => {
    if (!IS_DENO) return; // Bun has no limit but the machine's.
    const isolate = { runtimeArgs: ["--v8-flags=--max-old-space-size=40"] };
    const output = await runProgram("devour", [], { isolate });
    assert.match(output, /The process that ran "devour" ended with SIG(?:TRAP|ABRT|ILL) before/);
    assert.match(output, /Fatal JavaScript out of memory/);
  });
});

describe("A compiled program", () => {
  it("starts no processes for functions, which would be itself over and over", async () => {
    using notes = new Notes();
    const compiled = notes.path("program");
    const building = spawnSync(findBun(), ["build", "--compile", PROGRAM, "--outfile", compiled]);
    assert.equal(building.status, 0, String(building.stderr));
    const words = ["count", "true", "[]"];
    const program = spawn(compiled, words, { stdio: ["ignore", "pipe", "inherit"] });
    assert.match(await lastLine(program), /count: isolate needs the runtime and the sources/);
  });
});

describe("Deno's configuration of a process for functions", () => {
  it("has to be named where it is not beside the program, which the error says", async () => {
    if (!IS_DENO) return; // Bun needs none.
    using notes = new Notes();
    const program = notes.path("main.ts");
    writeFileSync(program, `import ${JSON.stringify(pathToFileURL(PROGRAM).href)};`);
    const config = `--config=${ROOT}/deno.json`;
    const flags = ["-A", "--no-check", config];
    const failed = await runProgram("count", [], { flags, program });
    assert.match(
      failed,
      /^The process that was to run "count" ended with exit code 1 before the job/,
    );
    const way = 'name its configuration: isolate: { runtimeArgs: ["--config=PATH"] }; it printed';
    assert.ok(failed.includes(way), failed);
    const isolate = { runtimeArgs: [config] };
    assert.equal(JSON.parse(await runProgram("count", [], { flags, program, isolate })).calls, 1);
  });

  it("is that of the project, where the program is one of an installed package", async () => {
    if (!IS_DENO) return; // Bun needs none.
    using notes = new Notes();
    const installed = notes.path("node_modules/@arq/arq");
    mkdirSync(dirname(installed), { recursive: true });
    symlinkSync(ROOT, installed);
    const dependencies = { "@arq/arq": `file:${ROOT}` };
    writeFileSync(notes.path("package.json"), JSON.stringify({ dependencies }));
    const program = PROGRAM.replace(ROOT, installed);
    assert.equal(JSON.parse(await runProgram("count", [], { program })).calls, 1);
  });
});

describe("Deno's permissions of a process for functions", () => {
  const ask = async (descriptors: readonly object[], options: ProgramOptions) =>
    JSON.parse(await runProgram("permissions", [descriptors], options));
  const kinds = ["read", "write", "net", "env", "sys", "run", "ffi", "import"];
  const all = kinds.map((name) => ({ name }));

  it("are the worker's", async () => {
    if (!IS_DENO) return; // Bun has none.
    assert.deepEqual(await ask(all, {}), kinds.map(() => "granted"));
    const flags = [...FLAGS, MAY_RUN, "--allow-env", "--allow-sys", "--deny-sys=cpus"];
    const some = [
      ...all,
      { name: "read", path: ROOT },
      { name: "read", path: "/" },
      { name: "sys", kind: "cpus" },
      { name: "import", host: "jsr.io:443" },
      { name: "import", host: "example.com:443" },
    ];
    const prompt = "prompt";
    const [granted] = await ask([{ name: "env" }], { flags });
    assert.equal(granted, "granted");
    assert.deepEqual(await ask(some, { flags }), [
      ...kinds.map((kind) => kind === "env" ? granted : prompt),
      granted,
      prompt,
      prompt,
      granted,
      prompt,
    ]);
  });

  it("can be less, and never more", async () => {
    if (!IS_DENO) return; // Bun has none.
    const less = { permissions: { net: false, write: ["/tmp/a", "/tmp/b"], run: true } };
    const asked = [
      { name: "net" },
      { name: "write" },
      { name: "write", path: "/tmp/b" },
      { name: "run" },
      { name: "env" },
    ];
    assert.deepEqual(
      await ask(asked, { isolate: less }),
      ["prompt", "prompt", "granted", "granted", "granted"],
    );
    const flags = [...FLAGS, MAY_RUN, "--allow-write=/tmp/a"];
    const refused = await runProgram("permissions", [asked], { flags, isolate: less });
    assert.match(refused, /what the worker lacks: start Deno with --allow-write=\/tmp\/b$/m);
    assert.match(refused, /start Deno with --allow-run$/m);
    const denying = ["--allow-env", "--deny-env=ARQ_A", "--allow-net", "--deny-net=127.0.0.1:9"];
    const wide = { permissions: { env: ["ARQ_*"], net: ["127.0.0.1", "127.0.0.1:10"] } };
    const withDenied = await runProgram("permissions", [[]], {
      flags: [...FLAGS, MAY_RUN, ...denying],
      isolate: wide,
    });
    assert.match(withDenied, /start Deno with --allow-env=ARQ_\* and without --deny-env$/m);
    assert.match(withDenied, /start Deno with --allow-net=127\.0\.0\.1 and without --deny-net$/m);
    assert.doesNotMatch(withDenied, /:10/);
  });

  it("are told by name where Deno cannot be asked about them", async () => {
    if (!IS_DENO) return; // Bun has none.
    const listed = [...FLAGS, MAY_RUN, "--allow-net=*.example.com,10.0.0.0/8", "--allow-sys=uid"];
    const refusal = (permissions: IsolatePermissions) =>
      runProgram("permissions", [[]], { flags: listed, isolate: { permissions } });
    const net = ["*.example.com", "*.example.com:443", "10.0.0.0/8"];
    const refused = await refusal({ net });
    for (const pattern of net) {
      const told =
        "what the worker lacks: start Deno with --allow-net and without --deny-net, or " +
        `name single hosts instead of ${pattern}\n`;
      assert.ok(refused.includes(told), refused);
    }
    const wrong = await refusal({ net: ["no host"], sys: ["luck"] });
    assert.match(wrong, /permissions\.net must name what --allow-net takes, got "no host": inv/);
    assert.match(wrong, /permissions\.sys must name what --allow-sys takes, got "luck": unk/);
    const whole = [...FLAGS, MAY_RUN, "--allow-net"];
    const given = { permissions: { net: ["*.example.com"] } };
    const asked = ["a.example.com", "example.org"].map((host) => ({ name: "net", host }));
    assert.deepEqual(await ask(asked, { flags: whole, isolate: given }), ["granted", "prompt"]);
  });

  it("need the worker's to run processes, which the error names", async () => {
    if (!IS_DENO) return; // Bun has none.
    const output = await runProgram("count", [], { flags: FLAGS });
    assert.ok(output.includes(`in a process of its own: start Deno with ${MAY_RUN}\n`), output);
  });
});
