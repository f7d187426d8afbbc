/**
 * Settings for the command line: imports a module, picks the export that is meant, and says in one
 * line what is wrong with it.
 * @module
 */
import { dirname, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { stripVTControlCharacters } from "node:util";
import { UsageError } from "./cli_arguments.ts";
import { nearest, parseQuery, show } from "./validation.ts";
import {
  CONNECTION_ALIASES,
  isClient,
  SETTINGS_KEYS,
  type WorkerSettings,
} from "./worker_settings.ts";

/** Where an export is: what stands in for SETTINGS or MODULE on the command line. */
export interface ExportLocation {
  /** The module's URL. */
  readonly url: string;
  /** The export's name, if one was given. */
  readonly name: string | undefined;
  /** As it was written. */
  readonly given: string;
}

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;

/** Reads a path or URL with an optional `#name`. */
export function locateExport(given: string): ExportLocation {
  const hash = given.lastIndexOf("#");
  const fragment = given.slice(hash + 1);
  const hasName = hash > 0 && IDENTIFIER.test(fragment);
  const path = hasName ? given.slice(0, hash) : given;
  const isUrl = /^[a-z][a-z0-9+.-]+:/i.test(path);
  const url = isUrl ? path : pathToFileURL(resolve(path)).href;
  return { url, name: hasName ? fragment : undefined, given };
}

/**
 * Imports a worker's settings: the named export, the default export, or the module's own exports.
 *
 * @throws {UsageError} if the module cannot be loaded or has no settings.
 */
export async function loadSettings(location: ExportLocation): Promise<WorkerSettings> {
  const module = await importModule(location);
  const picked = pickExport(location, module) ?? ownExports(location, module);
  return picked as WorkerSettings;
}

/**
 * Imports an object: the named export or the default export.
 *
 * @throws {UsageError} if the module cannot be loaded or has no such object.
 */
export async function loadObject(location: ExportLocation): Promise<object> {
  const object = pickExport(location, await importModule(location));
  if (object === undefined) throw new UsageError(`${location.given} has no default export`);
  return object;
}

type Exports = Readonly<Record<string, unknown>>;

async function importModule({ url, given }: ExportLocation): Promise<Exports> {
  if (/^https?:/i.test(url) && Reflect.get(globalThis, "Deno") === undefined) {
    throw new UsageError(`cannot load ${given}: only Deno loads modules over the network`);
  }
  try {
    return await import(url);
  } catch (error) {
    throw new UsageError(`cannot load ${given}: ${importProblem(error, url)}`, [], error);
  }
}

function pickExport({ name, given }: ExportLocation, module: Exports): object | undefined {
  if (name === undefined && !("default" in module)) return undefined;
  const key = name ?? "default";
  if (!(key in module)) {
    const near = nearest(key, Object.keys(module));
    const suggestion = near === undefined
      ? `it exports ${listOf(Object.keys(module))}`
      : `did you mean #${near}?`;
    throw new UsageError(`${given}: there is no export "${key}"; ${suggestion}`);
  }
  const value = module[key];
  if (typeof value === "object" && value !== null) return value;
  const what = name === undefined ? "the default export" : `the export "${name}"`;
  throw new UsageError(`${given}: ${what} must be an object, got ${show(value)}`);
}

/** Keys too short for a slip in them to be told from some other word. */
const SHORT_KEY = 7;

/**
 * The exports that are settings. Helpers may stand beside them, but one whose name is nearly that
 * of a setting is taken along, so that it is reported.
 */
function ownExports({ given }: ExportLocation, module: Exports): object {
  const missing = SETTINGS_KEYS.filter((key) => key.length >= SHORT_KEY && !(key in module));
  const known: readonly string[] = SETTINGS_KEYS;
  const taken = Object.entries(module).filter(([name]) =>
    known.includes(name) || CONNECTION_ALIASES.includes(name) ||
    nearest(name, missing) !== undefined
  );
  if (taken.length > 0) return Object.fromEntries(taken);
  throw new UsageError(
    `${given} has no settings: write \`export default { functions }\` or ` +
      `\`export const functions = …\`; it exports ${listOf(Object.keys(module))}`,
  );
}

/** Some names, the first of many. */
export function listOf(names: readonly string[]): string {
  if (names.length === 0) return "nothing";
  return names.length > 8 ? `${names.slice(0, 8).join(", ")}, …` : names.join(", ");
}

interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Why an import failed, in one line with the position. */
function importProblem(error: unknown, url: string): string {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  if (!isErrorLike(first)) return `it threw ${show(first)}`;
  const text = stripVTControlCharacters(first.message);
  const flag = missingPermission(text, url);
  if (flag !== undefined) return `start Deno with ${flag}`;
  if (isMissing(text, url)) return "there is no such module";
  const [line = "", ...more] = text.split("\n");
  if (text.includes("not a dependency") && !import.meta.url.startsWith("file:")) {
    return `${line}; Deno needs --config deno.json for a program from the network`;
  }
  const isNamed = /^\w*Error: |^Module not found|^Cannot find/.test(line) || isOfLoader(first);
  const position = /:\d+:\d+$/.test(line) ? undefined : positionOf(first, more.at(-1), url);
  return `${isNamed ? "" : `${first.name}: `}${line}${
    position === undefined ? "" : ` at ${position}`
  }`;
}

/** Whether the module itself is not there, in the words of Deno or of Bun. */
function isMissing(text: string, url: string): boolean {
  return text === `Module not found "${url}".` ||
    (/^Cannot find module /.test(text) && text.includes(`'${pathOf(url)}'`));
}

/** Where an import failed: as the error says by itself, behind its message, or by its stack. */
function positionOf(
  { position, stack }: ErrorLike,
  lastLine: string | undefined,
  url: string,
): string | undefined {
  if (position?.file) return `${position.file}:${position.line}:${position.column}`;
  return /^\s+at (\S+)$/.exec(lastLine ?? "")?.[1] ?? positionIn(stack, url);
}

interface ErrorLike {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  /** Bun's errors of its loader have one. */
  readonly position?: Position | null;
}

/** Bun's errors of its loader are none by `instanceof`. */
function isErrorLike(value: unknown): value is ErrorLike {
  return typeof value === "object" && value !== null && "message" in value &&
    typeof value.message === "string";
}

function isOfLoader({ name }: ErrorLike): boolean {
  return name === "BuildMessage" || name === "ResolveMessage";
}

function pathOf(url: string): string {
  return url.startsWith("file:") ? fileURLToPath(url) : url;
}

/** The first position of a stack inside the module, or else the first of all. */
export function positionIn(stack: string | undefined, url?: string): string | undefined {
  const frames = [...(stack ?? "").matchAll(/^\s+at (?:.*\()?(\S+?:\d+:\d+)\)?$/gm)];
  const positions = frames.map(([, position = ""]) => position);
  const path = url === undefined ? undefined : pathOf(url);
  return positions.find((position) => path !== undefined && position.includes(path)) ??
    positions[0];
}

/**
 * The flag that Deno asks for in this message. For modules in the settings' folder or in the
 * library's it is the folder, so that one flag does for all of them.
 */
export function missingPermission(message: string, url?: string): string | undefined {
  const match = /Requires (\w+) access(?: to "([^"]*)")?/.exec(message);
  if (!match) return undefined;
  const [, kind = "", target] = match;
  if (target === undefined) return `--allow-${kind}`;
  const folders = [url, import.meta.url].flatMap((module) =>
    module?.startsWith("file:") ? [dirname(fileURLToPath(module))] : []
  );
  const folder = kind === "read" && folders.find((path) => target.startsWith(path + sep));
  return `--allow-${kind}=${folder || target}`;
}

/**
 * Replaces some of the settings, a prefix by that of a connection string too. What the settings have
 * from a class of their own stays, and so does what a pool says of its queue, where the connection is
 * another one.
 */
export function withOverrides(
  settings: WorkerSettings,
  overrides: Partial<WorkerSettings>,
): WorkerSettings {
  const { connection } = overrides;
  const isUrl = typeof connection === "string";
  const ofPool = isUrl ? settingsOfPool(settings) : {};
  const ofUrl = isUrl && parseQuery(connection.split("?")[1] ?? "").get("prefix") || undefined;
  const given = Object.entries({ ...overrides, prefix: overrides.prefix ?? ofUrl })
    .filter(([, value]) => value !== undefined);
  return Object.assign(
    Object.create(Object.getPrototypeOf(settings)),
    settings,
    ofPool,
    Object.fromEntries(given),
  );
}

/** What the pool of the settings says besides where it is, as far as nobody says otherwise. */
function settingsOfPool(settings: WorkerSettings): Partial<WorkerSettings> {
  const { connection: pool } = settings;
  if (!isClient(pool)) return {};
  const { prefix } = pool.store;
  const ofPool: Partial<WorkerSettings> = {
    prefix,
    queueName: pool.defaultQueueName === `${prefix}queue` ? undefined : pool.defaultQueueName,
    jobSerializer: pool.serializer,
    jobDeserializer: pool.deserializer,
    expiresExtra: pool.expiresExtraMs,
  };
  const missing = Object.entries(ofPool).filter(([key]) =>
    settings[key as keyof WorkerSettings] === undefined
  );
  return Object.fromEntries(missing);
}
