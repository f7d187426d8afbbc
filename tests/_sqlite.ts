/** Files for the tests of the embedded store, and child processes that share them. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { DatabaseSync } from "node:sqlite";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const CHILD = fileURLToPath(new URL("_sqlite_child.ts", import.meta.url));

/** Whether this is Deno. */
export const IS_DENO: boolean = "Deno" in globalThis;

/** A folder of its own, gone with its owner. */
export class Folder implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), "arq-sqlite-"));

  /** The path of a file in it. */
  file(name = "queue.db"): string {
    return join(this.path, name);
  }

  /** The connection string of a file in it. */
  url(name?: string): string {
    return `sqlite:${this.file(name)}`;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Records the ends of `job 1`, `job 2` and so on of the first prefix, all at once, as another process would. */
export function addResults(path: string, count: number, expiresAt: number = 9e15): void {
  using database = new DatabaseSync(path);
  database.prepare(`
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
    INSERT INTO results (space, job_id, expires_at, record) SELECT 1, 'job ' || i, ?, x'c0' FROM n
  `).run(count, expiresAt);
}

/** A child process that prints lines. */
export class Child implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly exited: Promise<number | null>;
  readonly #process: ChildProcess;
  #onLine: () => void = () => {};

  constructor(command: string, args: readonly string[]) {
    this.#process = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
    const { promise, resolve } = Promise.withResolvers<number | null>();
    this.exited = promise;
    const { stdout } = this.#process;
    if (!stdout) throw new Error("The child has no output");
    const reader = createInterface({ input: stdout });
    reader.on("line", (line) => {
      this.lines.push(line);
      this.#onLine();
    });
    let code: number | null = null;
    this.#process.once("exit", (exitCode) => code = exitCode);
    reader.once("close", () => resolve(code));
  }

  /** Resolves once the child has printed so many lines; rejects if it ends before. */
  async printed(count = 1): Promise<string[]> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onLine = () => this.lines.length >= count && resolve();
    this.#onLine();
    const end = this.exited.then((code) => {
      if (this.lines.length >= count) return;
      throw new Error(`The child ended with ${code} after ${this.lines.length} lines`);
    });
    await Promise.race([promise, end]);
    return this.lines;
  }

  /** Ends the child at once and waits for the rest of its output. */
  async kill(): Promise<void> {
    const { pid } = this.#process;
    try {
      if (pid !== undefined) process.kill(pid, "SIGKILL");
    } catch {
      // It is gone already.
    }
    await this.exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

/** The command that runs this runtime, or Bun, with a script. */
function scriptCommand(permissions: readonly string[] = ["-A"]): string[] {
  const runtime = process.execPath;
  return IS_DENO ? [runtime, "run", "--no-check", ...permissions] : [runtime];
}

/** Starts `_sqlite_child.ts` in a role. */
export function startChild(
  role: string,
  args: readonly string[],
  options: { readonly permissions?: readonly string[]; readonly shell?: string } = {},
): Child {
  const command = [...scriptCommand(options.permissions), CHILD, role, ...args];
  if (options.shell === undefined) return new Child(command[0] as string, command.slice(1));
  return new Child("/bin/sh", ["-c", `${options.shell}; exec "$@"`, "sh", ...command]);
}

/** Starts `_sqlite_child.ts` under Bun. */
export function startBunChild(bun: string, role: string, args: readonly string[]): Child {
  return new Child(bun, [CHILD, role, ...args]);
}
