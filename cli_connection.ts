/**
 * From what a command line says about the store to a client on it.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { existsSync } from "node:fs";
import process from "node:process";
import { type Arguments, type OptionSpec, UsageError } from "./cli_arguments.ts";
import { loadSettings, locateExport, withOverrides } from "./cli_settings.ts";
import { type ArqClient, createPool } from "./client.ts";
import { SettingsError } from "./errors.ts";
import { openStore } from "./open_store.ts";
import { isGranted } from "./permissions.ts";
import { DEFAULT_CONNECTION } from "./pool_options.ts";
import { MEMORY } from "./sqlite_settings.ts";
import type { Store } from "./store.ts";
import { type ResolvedSettings, resolveSettings, type WorkerSettings } from "./worker_settings.ts";

const logger = getLogger(["arq", "cli"]);

/** Options of every command that looks at a queue. */
export const CONNECTION_OPTIONS: readonly OptionSpec[] = [
  { name: "url", value: "DSN", help: "Connect to this store; ARQ_URL does the same" },
  { name: "queue", value: "NAME", help: "Another queue than the default one" },
  { name: "prefix", value: "TEXT", help: 'What everything stored begins with, as "arq:"' },
  { name: "settings", value: "MODULE", help: "Take all these from a worker's settings" },
];

/** A client, and the queue that is meant. */
export interface Connected extends AsyncDisposable {
  /** The client, connected. */
  readonly arq: ArqClient;
  /** The queue that is meant. */
  readonly queueName: string;
  /** Whether somebody named it. */
  readonly isQueueNamed: boolean;
  /** What the settings' worker can run, where it is that of this queue. */
  readonly functionNames?: readonly string[];
}

/**
 * Connects to the store that is meant.
 *
 * @throws {UsageError} if the options or the settings cannot be used.
 * @throws {QueueConnectionError} if the store cannot be reached.
 */
export async function connect(args: Arguments, signal: AbortSignal): Promise<Connected> {
  const module = args.value("settings");
  const connection = readUrl(args);
  const prefix = args.value("prefix");
  const named = args.value("queue");
  if (module === undefined) {
    const store = openStore(connection ?? DEFAULT_CONNECTION, prefix);
    checkQueues(store, named);
    const isNew = isNewFile(store);
    const arq = await createPool(connection, { prefix, signal });
    if (isNew) tellOfNewFile(arq);
    return connectedOn(arq, named);
  }
  const loaded = await loadSettings(locateExport(module));
  const settings = withOverrides(loaded, { connection, prefix, queueName: named });
  checkSecret(settings);
  const { client, functions } = await openAsWorker(module, settings, signal);
  const functionNames = named === undefined ? [...functions.keys()] : undefined;
  return { ...connectedOn(client, named ?? loaded.queueName), functionNames };
}

/** A slip in a path, or another working directory, would pass for a queue without jobs. */
function tellOfNewFile({ store }: ArqClient): void {
  logger.warn("there was no {file}: it has been made", { event: "store", file: store.address });
}

function isNewFile({ address }: Store): boolean {
  const [, path = MEMORY] = /^sqlite:(.*)$/s.exec(address) ?? [];
  return path !== MEMORY && !existsSync(path);
}

function connectedOn(arq: ArqClient, queueName: string | undefined): Connected {
  return {
    arq,
    queueName: queueName ?? arq.defaultQueueName,
    isQueueNamed: queueName !== undefined,
    [Symbol.asyncDispose]: () => arq.close(),
  };
}

/** Has the settings checked as a whole, and connects as a worker of theirs would. */
async function openAsWorker(
  module: string,
  settings: WorkerSettings,
  signal: AbortSignal,
): Promise<ResolvedSettings> {
  const resolve = () => Promise.resolve(resolveSettings(settings as WorkerSettings<never>));
  const resolved = await namingSettings(module, resolve);
  const { client, ownsClient } = resolved;
  const isNew = isNewFile(client.store);
  if (ownsClient) await client.store.connect(signal);
  if (isNew) tellOfNewFile(client);
  return resolved;
}

/**
 * Runs what uses settings; their problems are told as those of `given`.
 *
 * @throws {UsageError} listing every problem.
 */
export async function namingSettings<T>(given: string, use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    throw new UsageError(`cannot use the settings of ${given}:`, error.problems);
  }
}

/**
 * The connection string of `--url`, or else of `ARQ_URL`.
 *
 * @throws {UsageError} if it is none.
 */
export function readUrl(args: Arguments): string | undefined {
  const flag = args.value("url");
  const url = flag ?? readVariable("ARQ_URL");
  if (url !== undefined) checkUrl(flag === undefined ? "ARQ_URL" : "--url", url);
  return url;
}

/** A variable of the environment, where it may be read and is not empty. */
function readVariable(variable: string): string | undefined {
  return isGranted("env", { variable }) ? process.env[variable] || undefined : undefined;
}

function checkUrl(option: string, url: string): void {
  const problem = secretProblem(url);
  if (problem !== undefined) throw new UsageError(`${option}: ${problem}`);
  try {
    openStore(url, undefined);
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    throw new UsageError(`${option}: ${error.problems.join("; ")}`);
  }
}

/** The default queue's name follows from the prefix, and may be as wrong as one that was given. */
function checkQueues(store: Store, named: string | undefined): void {
  for (const name of [`${store.prefix}queue`, ...named === undefined ? [] : [named]]) {
    try {
      store.checkQueueName(name);
    } catch (error) {
      const option = name === named ? "--queue: " : "";
      throw new UsageError(`${option}${(error as Error).message}`);
    }
  }
}

/**
 * Refuses a connection string whose password would be taken for its host.
 *
 * @throws {UsageError} if it is one.
 */
export function checkSecret({ connection }: WorkerSettings): void {
  const problem = typeof connection === "string" ? secretProblem(connection) : undefined;
  if (problem !== undefined) throw new UsageError(`connection: ${problem}`);
}

/**
 * What is wrong with user name or password of a connection string. Such a string is not passed on:
 * a part of the password would be taken for the host and appear in messages.
 */
export function secretProblem(dsn: string): string | undefined {
  const [, rest] = /^rediss?(?:\+\w+)?:\/\/(.*)$/is.exec(dsn) ?? [];
  if (rest === undefined || !rest.includes("@")) return undefined;
  const [authority = ""] = rest.split(/[/?#]/);
  const ats = authority.split("@").length - 1;
  const isCutShort = ats === 0 && (/:(?!\d+$)/.test(authority) || /^[^?]*@/.test(rest));
  if (ats < 2 && !isCutShort) return undefined;
  return "user name and password must be percent-encoded: / as %2F, @ as %40, ? as %3F, # as %23";
}
