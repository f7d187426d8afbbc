/** Runs the command line as a child process, under the runtime that runs the test. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type ArqClient, createPool } from "../client.ts";
import type { functions } from "./fixtures/cli_settings.ts";
import { randomPrefix, testRedisUrl } from "./_redis.ts";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));
export const SETTINGS = "tests/fixtures/cli_settings.ts";
export const IS_DENO = "Deno" in globalThis;
/** What stands before a program; Deno prints nothing about what it downloads or checks. */
export const RUN: readonly string[] = IS_DENO ? ["run", "-A", "--quiet"] : [];
/** What settings outside this repository import the library from. */
export const LIBRARY = new URL("../mod.ts", import.meta.url).href;

const DEADLINE_MS = 40_000;

export interface CliOptions {
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** What stands before the program. @default RUN */
  readonly runtimeArgs?: readonly string[];
  /** @default this repository */
  readonly cwd?: string;
  /** @default cli.ts */
  readonly program?: string;
  /** Whether it leads a process group of its own, as a shell's jobs do. @default false */
  readonly isGroup?: boolean;
}

export interface CliEnd {
  /** The exit code, or the name of the signal that killed it. */
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** What came through a pipe, and how far it was waited for. */
interface Stream {
  readonly lines: string[];
  read: number;
}

/** The command line while it runs; it is killed at the end of its scope. */
export class Cli implements AsyncDisposable {
  readonly ended: Promise<CliEnd>;
  readonly #child: ChildProcess;
  /** Two pipes, which do not tell which of two lines was printed first. */
  readonly #streams: readonly Stream[];
  readonly #output = { stdout: "", stderr: "" };
  readonly #listeners: Set<() => void> = new Set();
  #hasEnded = false;

  constructor(command: string, args: readonly string[], options: CliOptions) {
    const { ARQ_URL: _, ...env } = process.env;
    this.#child = spawn(command, [...args], {
      cwd: options.cwd ?? ROOT,
      env: { ...env, NO_COLOR: "1", ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: options.isGroup ?? false,
    });
    this.#streams = [this.#collect("stdout"), this.#collect("stderr")];
    this.ended = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("close", (code, signal) => {
        this.#hasEnded = true;
        this.#tell();
        resolve({ code: signal ?? code ?? -1, ...this.#output });
      });
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Waits for a line after the last one of its stream that was waited for. */
  async line(pattern: RegExp | string): Promise<string> {
    const expression = typeof pattern === "string" ? escaped(pattern) : pattern;
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      for (const stream of this.#streams) {
        const at = stream.lines.findIndex((line, i) => i >= stream.read && expression.test(line));
        const found = stream.lines[at];
        if (found === undefined) continue;
        stream.read = at + 1;
        return found;
      }
      const left = deadline - Date.now();
      if (this.#hasEnded || left <= 0) {
        assert.fail(`no line ${pattern} in\n${this.#output.stdout}${this.#output.stderr}`);
      }
      await this.#change(left);
    }
  }

  /** How many lines there are so far that match. */
  count(pattern: RegExp): number {
    return this.#streams.flatMap(({ lines }) => lines).filter((line) => pattern.test(line)).length;
  }

  kill(signal: NodeJS.Signals): void {
    this.#signal(this.#child.pid, signal);
  }

  /** Closes the pipes that it prints to. */
  stopReading(): void {
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
  }

  /** Sends a signal to it and all that it has started, as a terminal does at a Ctrl-C. */
  killGroup(signal: NodeJS.Signals): void {
    this.#signal(this.#child.pid && -this.#child.pid, signal);
  }

  /** Sends a signal and waits for the end. */
  end(signal: NodeJS.Signals): Promise<CliEnd> {
    this.kill(signal);
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.ended;
  }

  #signal(pid: number | undefined, signal: NodeJS.Signals): void {
    if (pid === undefined || this.#hasEnded) return;
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // gone, not yet told
    }
  }

  #collect(name: "stdout" | "stderr"): Stream {
    const stream: Stream = { lines: [], read: 0 };
    let rest = "";
    this.#child[name]?.setEncoding("utf8").on("data", (text: string) => {
      this.#output[name] += text;
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      stream.lines.push(...lines);
      this.#tell();
    });
    return stream;
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }

  async #change(timeoutMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, timeoutMs);
    this.#listeners.add(resolve);
    await promise;
    this.#listeners.delete(resolve);
    clearTimeout(timer);
  }
}

function escaped(text: string): RegExp {
  return new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
}

/** Starts the command line. */
export function startCli(args: readonly string[], options: CliOptions = {}): Cli {
  const { runtimeArgs = RUN, program = join(ROOT, "cli.ts") } = options;
  return new Cli(process.execPath, [...runtimeArgs, program, ...args], options);
}

/** Runs the command line to its end. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliEnd> {
  await using cli = startCli(args, options);
  return await cli.ended;
}

/** A queue of a test's own: its connection string, and a client on it. */
export interface Scene extends AsyncDisposable {
  readonly url: string;
  readonly prefix: string;
  readonly arq: ArqClient<typeof functions>;
}

/** Makes a queue with a random prefix; its keys are removed at the end of the scope. */
export async function openScene(server?: string): Promise<Scene> {
  const prefix = randomPrefix();
  const url = `${server ?? await testRedisUrl()}?prefix=${prefix}&connRetryDelay=50`;
  const arq = await createPool<typeof functions>(url);
  return {
    url,
    prefix,
    arq,
    async [Symbol.asyncDispose]() {
      const keys = await arq.redis.sendCommand(["KEYS", `${prefix}*`]) as string[];
      if (keys.length > 0) await arq.redis.sendCommand(["DEL", ...keys.map(String)]);
      await arq.close();
    },
  };
}

/** A folder with sources that a test may edit; removed at the end of the scope. */
export class Project implements Disposable {
  readonly folder: string = mkdtempSync(join(tmpdir(), "arq-cli-"));

  constructor(files: Readonly<Record<string, string>>) {
    for (const [name, text] of Object.entries(files)) this.write(name, text);
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  write(name: string, text: string): void {
    mkdirSync(dirname(this.path(name)), { recursive: true });
    writeFileSync(this.path(name), text);
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
