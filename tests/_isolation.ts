/** What the tests of functions in processes of their own share. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { func, type FuncOptions } from "../functions.ts";
import type { IsolateOptions } from "../isolate_options.ts";
import type { UntypedFunction } from "../typed_names.ts";
import { until } from "./_worker.ts";

/** A function of `data/isolated.ts` in processes of its own. */
export function isolated(
  name: string,
  isolate: true | IsolateOptions = true,
  options: FuncOptions = {},
): ReturnType<typeof func<UntypedFunction>> {
  return func(import.meta.resolve(`./data/isolated.ts#${name}`), { ...options, isolate });
}

/** Whether there is such a process. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    if ((error as { readonly code?: string }).code === "ESRCH") return false;
    throw error;
  }
}

/** Waits until a process is gone. */
export function gone(pid: number): Promise<void> {
  return until(`process ${pid} is gone`, () => !isAlive(pid));
}

/** A folder for the files that jobs write; removed at the end of the scope. */
export class Notes implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "arq-isolation-"));

  path(name: string): string {
    return join(this.#folder, name);
  }

  /** Waits for the file that says which process runs a job. */
  async pid(name: string): Promise<number> {
    const read = () => existsSync(this.path(name)) && readFileSync(this.path(name), "utf8");
    await until(`the file ${name}`, () => Boolean(read()));
    const pid = Number(read());
    assert.ok(isAlive(pid));
    return pid;
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
