/** Finds the Bun that `deno install` brought. */

import { spawnSync } from "node:child_process";
import { realpathSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";
import { fileURLToPath } from "node:url";

const BUN_PACKAGE = fileURLToPath(new URL("../node_modules/bun/package.json", import.meta.url));

/**
 * The path of the Bun program. Bun's own package links it in a script that Deno does not run, so it
 * is taken from the package for this system and processor.
 */
export function findBun(): string {
  const { resolve } = createRequire(realpathSync(BUN_PACKAGE));
  const system = process.platform === "win32" ? "windows" : process.platform;
  const processor = process.arch === "arm64" ? "aarch64" : process.arch;
  const packageName = `@oven/bun-${system}-${processor}`;
  const program = system === "windows" ? "bun.exe" : "bun";
  for (const name of [packageName, `${packageName}-musl`]) {
    const path = tryResolve(resolve, `${name}/bin/${program}`);
    if (path && spawnSync(path, ["--version"], { stdio: "ignore" }).status === 0) return path;
  }
  throw new Error(`Bun has no program for this machine: looked for ${packageName}`);
}

function tryResolve(resolve: (id: string) => string, id: string): string | undefined {
  try {
    return resolve(id);
  } catch {
    return undefined;
  }
}
