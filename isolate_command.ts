/**
 * What a process of the pool is started with: the program, and under Deno the configuration and the
 * permissions, which it does not inherit.
 *
 * Deno tells whether a permission is there, for all or for one target, but never lists the targets.
 * So what the worker has in part is passed on for the targets that are known: the folders of the
 * modules, and what the option `permissions` names.
 * @module
 */
import { existsSync } from "node:fs";
import { basename, dirname, isAbsolute, join } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type IsolatePermissions, type IsolateSettings, PERMISSIONS } from "./isolate_options.ts";

/** What to start. */
export interface Command {
  readonly path: string;
  readonly args: readonly string[];
  /** Whether this program may lower its priority. */
  readonly mayYield: boolean;
  /** What may help if it does not start, as the end of a sentence. */
  readonly advice: string;
}

/** What a permission is asked about. */
interface Descriptor {
  readonly name: string;
  readonly [target: string]: string;
}

interface DenoApi {
  readonly build: { readonly standalone: boolean };
  /** Undefined in a thread. */
  readonly mainModule: string | undefined;
  readonly permissions: {
    querySync(descriptor: Descriptor): { readonly state: string; readonly partial?: boolean };
  };
}

interface BunApi {
  readonly isStandaloneExecutable: boolean;
}

/** A permission of Deno. */
type Kind = keyof IsolatePermissions | "import";

/** What the targets of each permission are called when asking for it. */
const TARGETS: Readonly<Record<Kind, string>> = {
  read: "path",
  write: "path",
  net: "host",
  env: "variable",
  sys: "kind",
  run: "command",
  ffi: "path",
  import: "host",
};
/** Where Deno loads code from unless it is told otherwise. */
const CODE_HOSTS = [
  "deno.land:443",
  "esm.sh:443",
  "jsr.io:443",
  "cdn.jsdelivr.net:443",
  "raw.githubusercontent.com:443",
  "gist.githubusercontent.com:443",
];
/** In place of a program from the network Deno has this name in `argv`, in the current folder. */
const NO_FILE = "$deno$node.mjs";
const CONFIGURATIONS = ["deno.json", "deno.jsonc", "package.json"] as const;
/** Deno does not tell which configuration the worker was started with. */
const CONFIG_ADVICE =
  '; if an import is not found, name its configuration: isolate: { runtimeArgs: ["--config=PATH"] }';

function denoApi(): DenoApi | undefined {
  return Reflect.get(globalThis, "Deno") as DenoApi | undefined;
}

/** Whether this program was compiled: in place of the runtime it would start itself, over and over. */
export function isCompiled(): boolean {
  const bun = Reflect.get(globalThis, "Bun") as BunApi | undefined;
  return denoApi()?.build.standalone ?? bun?.isStandaloneExecutable ?? false;
}

/** The permission that this program lacks to start processes, as a flag of Deno. */
export function missingFlag(): string | undefined {
  const path = process.execPath;
  return isFullyGranted("run", path) ? undefined : `--allow-run=${path}`;
}

/** What the option `permissions` names and Deno does not know, with its reason. */
export function unknownTargets({ permissions }: IsolateSettings): string[] {
  return PERMISSIONS.flatMap((kind) => {
    const wish = permissions[kind];
    if (wish === undefined || typeof wish === "boolean") return [];
    return wish.flatMap((target) => {
      try {
        isFullyGranted(kind, target);
        return [];
      } catch (error) {
        const rule = `must name what --allow-${kind} takes, got "${target}"`;
        return [`isolate.permissions.${kind} ${rule}: ${(error as Error).message}`];
      }
    });
  });
}

/** The permissions that a process is to have and this program lacks, as flags of Deno. */
export function excessFlags({ permissions }: IsolateSettings): string[] {
  return PERMISSIONS.flatMap((kind) => {
    const wish = permissions[kind] ?? false;
    if (wish === true) return isFullyGranted(kind) ? [] : [`--allow-${kind}`];
    const targets = wish === false ? [] : wish.filter((target) => !isFullyGranted(kind, target));
    return targets.map((target) => flagToGrant(kind, target));
  });
}

function flagToGrant(kind: Kind, target: string): string {
  const without = `and without --deny-${kind}`;
  if (isPattern(kind, target)) {
    return `--allow-${kind} ${without}, or name single hosts instead of ${target}`;
  }
  return `--allow-${kind}=${target}${isWide(kind, target) ? ` ${without}` : ""}`;
}

/** The command that starts a process for the functions of one module. */
export function commandFor(specifier: string, settings: IsolateSettings, mark: string): Command {
  const module = import.meta.resolve(specifier);
  const program = programFor(module, settings.serializer, mark);
  const deno = denoApi();
  const args = deno
    ? [
      "run",
      "--quiet",
      "--no-prompt",
      ...configFlags(deno, module),
      ...permissionFlags(module, settings),
      ...settings.runtimeArgs,
      `data:text/javascript,${encodeURIComponent(program)}`,
    ]
    : [...settings.runtimeArgs, "--eval", program];
  return {
    path: process.execPath,
    args,
    mayYield: isFullyGranted("sys", "setPriority"),
    advice: deno ? CONFIG_ADVICE : "",
  };
}

/** Modules are named literally, so that Deno knows them beforehand and asks for no permission. */
function programFor(module: string, serializer: string | undefined, mark: string): string {
  const importing = (url: string) => `() => import(${JSON.stringify(url)})`;
  const options = [
    `mark: ${JSON.stringify(mark)}`,
    `module: ${JSON.stringify(module)}`,
    `load: ${importing(module)}`,
    ...serializer === undefined
      ? []
      : [`loadSerializer: ${importing(import.meta.resolve(serializer))}`],
  ];
  const library = JSON.stringify(import.meta.resolve("./isolate_child.ts"));
  return `import { serve } from ${library}; serve({ ${options.join(", ")} });`;
}

/**
 * The configuration beside the program, or else beside the module: Deno looks for none by itself,
 * since the process's program is no file.
 */
function configFlags({ mainModule }: DenoApi, module: string): string[] {
  const program = mainModule ?? programOfThread();
  const isOwn = program.startsWith("file:");
  const start = [program, module].find((url) => url.startsWith("file:"));
  if (start === undefined) return [];
  const path = findUpwards(projectOf(dirname(fileURLToPath(start))));
  if (path === undefined) return [];
  // Without it packages are found where they are installed, as a package.json alone makes it.
  if (path.endsWith("package.json")) return ["--node-modules-dir=manual"];
  return [`--config=${path}`, ...isOwn ? [] : ["--no-lock"]];
}

/** Deno does not tell it; `--watch` passes it on, other threads have their own file there. */
function programOfThread(): string {
  const [, path = ""] = process.argv;
  const isFile = isAbsolute(path) && basename(path) !== NO_FILE;
  return isFile ? pathToFileURL(path).href : import.meta.url;
}

/** An installed package has a configuration of its own, which Deno passes over for the project's. */
function projectOf(folder: string): string {
  return folder.replace(/[\\/]node_modules(?:[\\/].*)?$/, "");
}

function findUpwards(folder: string): string | undefined {
  const found = CONFIGURATIONS.map((name) => join(folder, name)).find((path) =>
    isFullyGranted("read", path) && existsSync(path)
  );
  const parent = dirname(folder);
  return found ?? (parent === folder ? undefined : findUpwards(parent));
}

function permissionFlags(module: string, { permissions }: IsolateSettings): string[] {
  const known: Partial<Record<Kind, readonly string[]>> = {
    read: [...foldersOf([module, import.meta.url]), process.cwd()].filter(isNameable),
  };
  const flags = PERMISSIONS.map((kind) => {
    const wish = permissions[kind] ?? (isFullyGranted(kind) || (known[kind] ?? []));
    if (typeof wish === "boolean") return flagFor(kind, wish, []);
    return flagFor(kind, false, wish.filter((target) => isFullyGranted(kind, target)));
  });
  return [...flags, importFlag(module)].filter((flag) => flag !== undefined);
}

/** Code may come from where the program's own may. */
function importFlag(module: string): string | undefined {
  const own = [module, import.meta.url].filter((url) => /^https?:/.test(url)).map((url) => {
    const { protocol, hostname, port } = new URL(url);
    return `${hostname}:${port || (protocol === "http:" ? 80 : 443)}`;
  });
  const hosts = [...own, ...CODE_HOSTS].filter((host) => isFullyGranted("import", host));
  return flagFor("import", isFullyGranted("import"), [...new Set(hosts)]) ?? "--deny-import";
}

function flagFor(kind: Kind, all: boolean, targets: readonly string[]): string | undefined {
  if (all) return `--allow-${kind}`;
  if (targets.length === 0) return undefined;
  return `--allow-${kind}=${targets.join(",")}`;
}

function foldersOf(urls: readonly string[]): string[] {
  return urls.filter((url) => url.startsWith("file:")).map((url) => dirname(fileURLToPath(url)));
}

/** Deno would take what follows a comma for a further target. */
function isNameable(path: string): boolean {
  return !path.includes(",");
}

/** Whether a permission is there without exceptions; asking never prompts. Everything is, but in Deno. */
function isFullyGranted(kind: Kind, target?: string): boolean {
  const deno = denoApi();
  if (!deno) return true;
  if (target !== undefined && isPattern(kind, target)) return isFullyGranted(kind);
  const wanted = target === undefined ? {} : { [TARGETS[kind]]: target };
  const { state, partial } = deno.permissions.querySync({ name: kind, ...wanted });
  if (state !== "granted" || partial) return false;
  return target === undefined || !isWide(kind, target) || !hasExceptions(deno, kind);
}

/** Whether a target stands for many hosts, such as `*.example.com`: Deno tells of single ones only. */
function isPattern(kind: Kind, target: string): boolean {
  return kind === "net" && !target.startsWith("unix:") && /^\*\.|\//.test(target);
}

/** Whether a target stands for several, of which Deno does not tell that some are denied. */
function isWide(kind: Kind, target: string): boolean {
  if (kind === "env") return target.includes("*");
  return kind === "net" && !/^unix:|:\d+$/.test(target);
}

function hasExceptions(deno: DenoApi, kind: Kind): boolean {
  return deno.permissions.querySync({ name: kind }).partial === true;
}
