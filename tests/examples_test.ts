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
    url.searchParams.set("prefix", ownName ? shared : randomPrefix());
    const name = ownName ?? `example_${i + 1}.ts`;
    const file = new URL(name, folder);
    const here = endingByItself(code)
      .replaceAll(EXAMPLE_URL, url.href)
      .replaceAll(/from "\.\/(?!tasks\.ts)/g, 'from "../../../');
    writeFileSync(file, `${here}\nexport {};\n`);
    return { title: `${document}, ${name}`, file };
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

describe("The examples in README and doc comments", () => {
  after(() => rmSync(FOLDER, { recursive: true, force: true }));

  it("are found", () => {
    assert.ok(examples.length >= 20, `found only ${examples.length}`);
  });

  for (const { title, file } of examples) {
    it(`runs: ${title}`, async () => {
      const cwd = fileURLToPath(new URL(".", file));
      await run(process.execPath, commandFor(fileURLToPath(file)), { cwd, timeout: 30_000 });
    });
  }

  if (IS_DENO) {
    it("pass the type check", async () => {
      const files = examples.map(({ file }) => fileURLToPath(file));
      await run(process.execPath, ["check", "--no-lock", ...files], { timeout: 60_000 });
    });
  }
});
