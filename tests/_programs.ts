/** Programs that tests need from the system: found on PATH, or installed where that needs no question. */

import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";

/** What is needed, and where it comes from. */
export interface Program {
  /** What it is called on PATH, by different systems. */
  readonly names: readonly string[];
  /** Debian's package. */
  readonly aptPackage: string;
  /** The command that installs it, where this cannot. */
  readonly installCommand: () => string;
}

/**
 * The path of the installed program. Where it is missing, installs the system's package if that
 * needs no question (root with apt-get).
 *
 * @throws {Error} with the command to run, where it cannot install.
 */
export async function ensureProgram(program: Program): Promise<string> {
  const found = findAny(program.names);
  if (found) return found;
  if (process.getuid?.() === 0 && findProgram("apt-get")) await installWithApt(program.aptPackage);
  const installed = findAny(program.names);
  if (installed) return installed;
  throw new Error(
    `${
      program.names[0]
    } was not found on PATH. Install it and run this again:\n  ${program.installCommand()}`,
  );
}

function findAny(names: readonly string[]): string | undefined {
  return names.map(findProgram).find((path) => path !== undefined);
}

/** The path of a program on PATH. */
export function findProgram(name: string): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function installWithApt(name: string): Promise<void> {
  console.error(`${name} is missing: installing it with apt-get`);
  // Another test file may be installing at the same time.
  const wait = ["-o", "DPkg::Lock::Timeout=120"];
  const install = ["install", "-y", "-qq", "--no-install-recommends", ...wait, name];
  if ((await runApt(install)).isOk) return;
  await runApt(["update", "-qq", ...wait]);
  const { isOk, output } = await runApt(install);
  if (!isOk) console.error(output);
}

function runApt(args: string[]): Promise<{ isOk: boolean; output: string }> {
  const { promise, resolve } = Promise.withResolvers<{ isOk: boolean; output: string }>();
  // RUNLEVEL=1 keeps a package from starting a server on its standard port.
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  execFile("apt-get", args, { env }, (error, stdout, stderr) => {
    resolve({ isOk: error === null, output: `${stdout}${stderr}` });
  });
  return promise;
}
