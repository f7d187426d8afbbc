/**
 * The examples of README, manual and doc comments, run as they stand. Most of them share a process,
 * one after the other: it has to end by itself, as each would have to alone.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { randomPrefix, testRedisUrl } from "./_redis.ts";

const run = promisify(execFile);
const ROOT = new URL("../", import.meta.url);
/** Inside the project, so that `@arq/arq` means the project itself. */
const FOLDER = new URL(`tests/.examples_${process.pid}/`, ROOT);
const IS_DENO = "Deno" in globalThis;
const EXAMPLE_URL = "redis://localhost:6379";

interface Example {
  readonly title: string;
  readonly file: URL;
  /** Whether it needs a process of its own: a test, a server, what sets up something global. */
  readonly isAlone: boolean;
}

/** The TypeScript blocks of a document; those whose first line is like `// tasks.ts` go together. */
function blocksOf(text: string): string[] {
  return [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code = ""]) => code);
}

/** The doc comments of a module, without their stars. */
function commentsOf(source: string): string {
  return [...source.matchAll(/\/\*\*(.*?)\*\//gs)]
    .map(([, comment = ""]) => comment.replace(/^ *\* ?/gm, ""))
    .join("\n");
}

/** An example that begins with `// in Deno` or `// in Bun` is for that runtime alone. */
function isForThisRuntime(code: string): boolean {
  return !code.startsWith(IS_DENO ? "// in Bun" : "// in Deno");
}

/** An example that serves takes a free port, is asked for its first page, and ends. */
function endingByItself(code: string): string {
  const serving = code.replace(/^(?=(?:Deno|Bun)\.serve\()/m, "const server = ");
  if (serving === code) return code;
  return serving.replace(/\bport: \d+/, "port: 0") + [
    'import process from "node:process";',
    `const { port } = ${IS_DENO ? "server.addr" : "server"};`,
    "const response = await fetch(`http://127.0.0.1:${port}/`);",
    "process.exit(response.ok ? 0 : 1);",
  ].join("\n");
}

async function writeExamples(document: string, text: string): Promise<Example[]> {
  const folder = new URL(`${document.replaceAll(/[./]/g, "_")}/`, FOLDER);
  mkdirSync(folder, { recursive: true });
  const shared = randomPrefix();
  const url = new URL(await testRedisUrl());
  return blocksOf(text).filter(isForThisRuntime).map((code, i) => {
    const ownName = /^\/\/ (\w+\.ts)$/m.exec(code)?.[1];
    const prefix = ownName ? shared : randomPrefix();
    url.searchParams.set("prefix", prefix);
    const name = ownName ?? `example_${i + 1}.ts`;
    const file = new URL(name, folder);
    const here = endingByItself(code)
      .replaceAll(EXAMPLE_URL, url.href)
      .replaceAll('"arq:', `"${prefix}`) // A queue's name is a key as it stands, which others would share.
      .replaceAll(/from "\.\/(?!tasks\.ts)/g, 'from "../../../');
    writeFileSync(file, `${here}\nexport {};\n`);
    const isAlone = name.endsWith("_test.ts") ||
      /process\.exit|configure\(|opentelemetry/.test(here);
    return { title: `${document}, ${name}`, file, isAlone };
  });
}

function documents(): string[] {
  const modules = readdirSync(ROOT).filter((file) => file.endsWith(".ts")).sort();
  const docs = readdirSync(new URL("docs/", ROOT)).map((file) => `docs/${file}`).sort();
  return ["README.md", ...docs, ...modules];
}

/** Runs an example; one that is a test as a test, without any permission. */
function commandFor(file: string): string[] {
  const isTest = file.endsWith("_test.ts");
  if (!IS_DENO) return isTest ? ["test", file] : [file];
  const flags = ["--no-check", "--no-lock"];
  return isTest ? ["test", "--no-prompt", ...flags, file] : ["run", "-A", ...flags, file];
}

const examples: Example[] = [];
for (const document of documents()) {
  const source = readFileSync(new URL(document, ROOT), "utf8");
  const text = document.endsWith(".ts") ? commentsOf(source) : source;
  if (blocksOf(text).length > 0) examples.push(...await writeExamples(document, text));
}

/** Runs a program to its end; resolves with what went wrong, which tells what it printed. */
async function problemOf(file: URL): Promise<unknown> {
  const cwd = fileURLToPath(new URL(".", file));
  const args = commandFor(fileURLToPath(file));
  return await run(process.execPath, args, { cwd, timeout: 110_000 }).then(() => undefined, same);
}

async function problemOfTypes(): Promise<unknown> {
  const files = examples.map(({ file }) => fileURLToPath(file));
  const args = ["check", "--no-lock", ...files];
  return await run(process.execPath, args, { timeout: 110_000 }).then(() => undefined, same);
}

function same(error: unknown): unknown {
  return error;
}

interface Together {
  /** The URLs of the examples that have run. */
  readonly ran: ReadonlySet<string>;
  /** What went wrong with the process. */
  readonly problem: unknown;
}

/** Runs examples one after the other in one process. */
async function runTogether(name: string, examples: readonly Example[]): Promise<Together> {
  const program = new URL(`${name}.ts`, FOLDER);
  const report = fileURLToPath(new URL(`${name}.txt`, FOLDER));
  const files = examples.map(({ file }) => file.href);
  writeFileSync(report, "");
  writeFileSync(
    program,
    `import { appendFileSync } from "node:fs";
    import process from "node:process";
    import { fileURLToPath } from "node:url";
    for (const file of ${JSON.stringify(files)}) {
      process.chdir(fileURLToPath(new URL(".", file)));
      try {
        await import(file);
        appendFileSync(${JSON.stringify(report)}, file + "\\n");
      } catch (error) {
        console.error(file, error);
        process.exitCode = 1;
      }
    }`,
  );
  const problem = await problemOf(program);
  return { ran: new Set(readFileSync(report, "utf8").split("\n")), problem };
}

describe("The examples in README and doc comments", () => {
  const together = examples.filter(({ isAlone }) => !isAlone);
  const half = Math.ceil(together.length / 2);
  const runs = Promise.all([
    runTogether("first", together.slice(0, half)),
    runTogether("second", together.slice(half)),
  ]);
  const typed = IS_DENO ? problemOfTypes() : undefined;
  after(() => rmSync(FOLDER, { recursive: true, force: true }));

  it("are found", () => {
    assert.ok(examples.length >= 20, `found only ${examples.length}`);
  });

  for (const { title, file, isAlone } of examples) {
    it(`runs: ${title}`, async () => {
      if (isAlone) return assert.ifError(await problemOf(file));
      const isRun = (await runs).some(({ ran }) => ran.has(file.href));
      assert.ok(isRun, "the last test tells what went wrong");
    });
  }

  it("end by themselves, and well", async () => {
    for (const { problem } of await runs) assert.ifError(problem);
  });

  if (IS_DENO) it("pass the type check", async () => assert.ifError(await typed));
});
