/**
 * The program behind `deno task test`: runs the test files under Deno and under Bun and ends with
 * the line `N passed, N failed`.
 *
 *     deno task test                  everything
 *     deno task test worker redis     tests/worker*_test.ts and tests/redis*_test.ts
 *     deno task test --bun worker     under one runtime only
 *
 * Each file runs in a process of its own, some at a time, more than there are processors since many
 * wait: a file that crashes, exits or hangs takes no other with it, and cannot go unnoticed.
 */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { findBun } from "./_bun.ts";
import { countTests, type TestCounts } from "./_junit.ts";
import {
  OWN_SERVICE_VARIABLE,
  type RedisServer,
  SHARED_SERVER_VARIABLE,
  startRedis,
} from "./_redis.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FILE_DEADLINE_MS = 300_000;
const TEST_DEADLINE_MS = 120_000;
const KILL_AFTER_MS = 1_000;

interface Runtime {
  name: "deno" | "bun";
  command: string;
  args(file: string, reportPath: string): string[];
}

interface FileReport extends TestCounts {
  runtime: Runtime["name"];
  file: string;
  output: string;
  durationMs: number;
}

/** Where a run keeps its reports, and what its test processes see. */
interface RunContext {
  folder: string;
  environment: NodeJS.ProcessEnv;
}

const running = new Set<ChildProcess>();
let isInterrupted = false;

async function main(): Promise<boolean> {
  const { values, positionals } = parseArgs({
    options: { deno: { type: "boolean" }, bun: { type: "boolean" } },
    allowPositionals: true,
  });
  const files = findTestFiles(positionals);
  await installDependencies();
  const runtimes = [
    ...(values.deno || !values.bun ? [denoRuntime()] : []),
    ...(values.bun || !values.deno ? [bunRuntime()] : []),
  ];
  const folder = mkdtempSync(join(tmpdir(), "arq-test-"));
  let server: RedisServer | undefined;
  try {
    if (!process.env[OWN_SERVICE_VARIABLE]) server = await startRedis();
    const environment = {
      ...process.env,
      ...(server ? { [SHARED_SERVER_VARIABLE]: server.url } : {}),
      NO_COLOR: "1",
    };
    const jobs = files.flatMap((file) => runtimes.map((runtime) => ({ file, runtime })));
    return summarize(await runAll(jobs, { folder, environment }));
  } finally {
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The files whose name starts with one of the filters; a filter may be a path as well. */
function findTestFiles(filters: string[]): string[] {
  const wanted = filters.map((filter) => basename(filter));
  const files = readdirSync(join(ROOT, "tests"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith("_test.ts") && !path.startsWith(".")) // not the examples
    .filter((path) => wanted.length === 0 || wanted.some((name) => basename(path).startsWith(name)))
    .map((path) => join("tests", path))
    .sort();
  if (files.length === 0) throw new Error(`No test file matches ${filters.join(", ")}`);
  return files;
}

async function installDependencies(): Promise<void> {
  await promisify(execFile)(process.execPath, ["install", "--quiet"], { cwd: ROOT });
}

function denoRuntime(): Runtime {
  return {
    name: "deno",
    command: process.execPath,
    // Types are checked by the gate, once for all files.
    args: (file, reportPath) => ["test", "-A", "--no-check", `--junit-path=${reportPath}`, file],
  };
}

function bunRuntime(): Runtime {
  return {
    name: "bun",
    command: findBun(),
    args: (file, reportPath) => [
      "test",
      `--timeout=${TEST_DEADLINE_MS}`,
      "--reporter=junit",
      `--reporter-outfile=${reportPath}`,
      `./${file}`,
    ],
  };
}

async function runAll(
  jobs: { file: string; runtime: Runtime }[],
  context: RunContext,
): Promise<FileReport[]> {
  const reports: FileReport[] = [];
  const queue = jobs.values();
  const runQueue = async () => {
    for (const { file, runtime } of queue) {
      if (isInterrupted) return;
      const report = await runFile(file, runtime, context);
      reports.push(report);
      printFile(report);
    }
  };
  const lanes = 3 * Math.max(2, availableParallelism());
  await Promise.all(Array.from({ length: lanes }, runQueue));
  return reports;
}

async function runFile(file: string, runtime: Runtime, context: RunContext): Promise<FileReport> {
  const startedAt = Date.now();
  const reportPath = join(context.folder, `${runtime.name}-${file.replaceAll(/[\\/]/g, "-")}.xml`);
  const { output, problem } = await runProcess(runtime, runtime.args(file, reportPath), context);
  const { passed, failures } = countTests(readReport(reportPath));
  const hasRun = passed + failures.length > 0;
  if (!hasRun) failures.push(`no test ran${problem ? `: ${problem}` : ""}`);
  else if (problem && failures.length === 0) failures.push(problem);
  const durationMs = Date.now() - startedAt;
  return { runtime: runtime.name, file, passed, failures, output, durationMs };
}

/** Resolves with all that the process printed, and what went wrong with it as a whole. */
async function runProcess(
  { command }: Runtime,
  args: string[],
  { environment }: RunContext,
): Promise<{ output: string; problem?: string }> {
  const child = spawn(command, args, {
    cwd: ROOT,
    env: environment,
    stdio: ["ignore", "pipe", "pipe"],
    detached: true, // a process group, so that it ends with all that it started
  });
  running.add(child);
  const output: string[] = [];
  child.stdout?.setEncoding("utf8").on("data", (text: string) => output.push(text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => output.push(text));
  let problem: string | undefined;
  const deadline = setTimeout(() => {
    problem = `did not end within ${FILE_DEADLINE_MS / 1_000} s`;
    endGroup(child);
  }, FILE_DEADLINE_MS);
  const exit = await waitForExit(child);
  clearTimeout(deadline);
  running.delete(child);
  problem ??= exit;
  return { output: output.join(""), problem };
}

/** Resolves with nothing after a good exit, else with what was wrong. */
function waitForExit(child: ChildProcess): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  child.once("error", (error) => resolve(error.message));
  child.once("exit", (code, signal) => {
    const problem = code === 0 ? undefined : `exited with ${signal ?? code}`;
    const closed = setTimeout(() => resolve(problem), KILL_AFTER_MS); // a leftover holds the pipes
    child.once("close", () => {
      clearTimeout(closed);
      resolve(problem);
    });
  });
  return promise;
}

/** SIGTERM lets a test's Redis server go with its folder, SIGKILL ends what does not listen. */
function endGroup(child: ChildProcess): void {
  signalGroup(child, "SIGTERM");
  setTimeout(() => signalGroup(child, "SIGKILL"), KILL_AFTER_MS);
}

function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(-pid, signal);
  } catch {
    // The group is gone.
  }
}

function readReport(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // a runner that died wrote none
  }
}

function printFile({ runtime, file, passed, failures, output, durationMs }: FileReport): void {
  const isOk = failures.length === 0;
  const counts = isOk ? `${passed} passed` : `${passed} passed, ${failures.length} failed`;
  const seconds = (durationMs / 1_000).toFixed(1);
  console.log(`${isOk ? "ok  " : "FAIL"} ${runtime.padEnd(4)} ${file}: ${counts} (${seconds} s)`);
  if (!isOk) console.log(indent(output));
}

function indent(text: string): string {
  return text.trimEnd().replaceAll(/^/gm, "  | ");
}

/** Prints what failed and the last line; tells whether all is well. */
function summarize(reports: FileReport[]): boolean {
  const failures = reports.flatMap(({ runtime, file, failures }) =>
    failures.map((failure) => `${runtime} ${relative("tests", file)}: ${failure}`)
  );
  if (isInterrupted) failures.push("the run was interrupted");
  if (failures.length > 0) console.log(`\nFailed:\n${failures.join("\n")}`);
  const passed = reports.reduce((sum, report) => sum + report.passed, 0);
  console.log(`\n${passed} passed, ${failures.length} failed`);
  return failures.length === 0;
}

function interrupt(): void {
  isInterrupted = true;
  running.forEach(endGroup);
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, interrupt);

try {
  process.exitCode = await main() ? 0 : 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.log("\n0 passed, 1 failed");
  process.exitCode = 1;
}
