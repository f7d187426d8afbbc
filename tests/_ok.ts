/**
 * The program behind `deno task ok`, the one gate: lockfiles, format, lint, types, docs, publish dry
 * run, tests. The first failure stops it; the last line is `N passed, N failed`.
 */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { findBun } from "./_bun.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

interface Step {
  name: string;
  args: string[];
  /** This Deno, unless told otherwise. */
  command?: () => string;
}

/** It has a manifest of its own; its types need the peers, which are not installed here. */
const BENCH = ["--config", "bench/deno.json", "bench"];

const CHECKS: Step[] = [
  { name: "deno.lock", args: ["install", "--frozen", "--quiet"] },
  { name: "bun.lock", args: ["install", "--frozen-lockfile", "--dry-run"], command: findBun },
  { name: "format", args: ["fmt", "--check"] },
  { name: "lint", args: ["lint"] },
  { name: "format of bench/", args: ["fmt", "--check", ...BENCH] },
  { name: "lint of bench/", args: ["lint", ...BENCH] },
  { name: "types", args: ["check", "."] },
  { name: "docs", args: ["doc", "--lint", ...exportedFiles()] },
  { name: "publish dry run", args: ["publish", "--dry-run", "--allow-dirty"] },
];

function exportedFiles(): string[] {
  const { exports } = JSON.parse(readFileSync(new URL("../deno.json", import.meta.url), "utf8"));
  return Object.values<string>(exports);
}

function runStep({ name, args, command = () => process.execPath }: Step): boolean {
  console.log(`\n--- ${name}`);
  const { status } = spawnSync(command(), args, { cwd: ROOT, stdio: "inherit" });
  return status === 0;
}

function findBrokenCheck(): Step | undefined {
  return CHECKS.find((step) => !runStep(step));
}

const broken = findBrokenCheck();
if (broken) {
  console.log(`\nStopped: ${broken.name} failed, the tests did not run.\n0 passed, 1 failed`);
  process.exitCode = 1;
} else {
  process.exitCode = runStep({ name: "tests", args: ["task", "test"] }) ? 0 : 1;
}
