import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { text } from "node:stream/consumers";
import { describe, it } from "node:test";
import { reservePort } from "./_ports.ts";

const HELPER = new URL("./_ports.ts", import.meta.url).href;

/** Runs a line as a program of this runtime, which may open only so many files. */
function startProgram(line: string, mostFiles?: number) {
  const code = `import { reservePort } from ${JSON.stringify(HELPER)}; ${line}`;
  const args = process.versions.bun ? ["-e", code] : ["eval", "--no-config", "--ext=ts", code];
  const limit = mostFiles === undefined ? "" : `ulimit -n ${mostFiles} && `;
  const shell = ["-c", `${limit}exec "$@"`, "sh", process.execPath, ...args];
  return spawn("sh", shell, { stdio: ["ignore", "pipe", "pipe"], timeout: 30_000 });
}

describe("reservePort", () => {
  it("gives no port to two programs", async () => {
    const many = "await Promise.all(Array.from({ length: 300 }, reservePort))";
    const line = `console.log(JSON.stringify(${many})); setInterval(() => {}, 1_000);`;
    const program = startProgram(line);
    try {
      const ended = once(program, "exit").then(() => assert.fail("It has ended"));
      const [chunk] = await Promise.race([once(program.stdout, "data"), ended]);
      const theirs: number[] = JSON.parse(String(chunk));
      assert.equal(new Set(theirs).size, 300);
      const ours = await Promise.all(Array.from({ length: 300 }, reservePort));
      assert.deepEqual(ours.filter((port) => theirs.includes(port)), []);
    } finally {
      program.kill("SIGKILL");
    }
  });

  it("keeps no program alive, and says why where none can be had", async () => {
    const program = startProgram("await reservePort();");
    assert.deepEqual(await once(program, "exit"), [0, null]);
    const poor = startProgram("for (let i = 0; i < 400; i++) await reservePort();", 256);
    const [stderr, [code]] = await Promise.all([text(poor.stderr), once(poor, "exit")]);
    assert.match(stderr, /EMFILE|Failed to listen/);
    assert.equal(code, 1);
  });
});
