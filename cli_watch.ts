/**
 * `--watch`: a worker in a thread of its own, replaced when a source changes.
 *
 * A thread loads every module anew, has exactly the permissions and options of the program, and is
 * gone with it. The next one is loaded while the old one goes on; only when it is known to be sound
 * does the old one finish its jobs or hand them back. So an edit that does not load costs nothing.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { type FSWatcher, statSync, watch } from "node:fs";
import { basename, dirname, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { SHARE_ENV, Worker as Thread } from "node:worker_threads";
import { UsageError } from "./cli_arguments.ts";
import { reportFailure } from "./cli_log.ts";
import { missingPermission } from "./cli_settings.ts";
import { isGranted } from "./permissions.ts";

/** What the threads run, and when they are replaced. */
export interface ReloadOptions {
  /** URL of the module that a thread runs. */
  readonly entry: string;
  /** What the thread finds as its data. */
  readonly data: object;
  /** Folders whose sources are watched. */
  readonly folders: readonly string[];
  /** URL of the settings' module, which is watched as well. */
  readonly settingsUrl: string;
  /** Ends it all; a text as its reason is passed on to the worker. */
  readonly stop: AbortSignal;
}

/** What a thread is told: to take jobs, or to end. */
export type ThreadOrder = { readonly kind: "start" } | {
  readonly kind: "stop";
  readonly reason: string;
};

const logger = getLogger(["arq", "cli"]);
/** A change takes effect when none has followed for this long: editors and checkouts make many. */
const QUIET_MS = 100;
const SOURCE = /\.(?:[cm]?[jt]sx?|jsonc?|wasm)$/;
const IGNORED = /(?:^|[\\/])(?:node_modules|\.[^\\/]+)(?:[\\/]|$)/;

/**
 * Runs a worker until `stop`, and a new one after every change; resolves with the last one's exit
 * code.
 *
 * @throws {UsageError} if something cannot be watched, or threads cannot load the library.
 */
export async function reloadOnChange(options: ReloadOptions): Promise<number> {
  checkEntry(options.entry);
  using changes = new Changes(options);
  const stopped = new Promise<void>((resolve) =>
    options.stop.addEventListener("abort", () => resolve(), { once: true })
  );
  const isStale = () => changes.hasAny || options.stop.aborted;
  let current: WorkerThread | undefined;
  for (;;) {
    const next = new WorkerThread(options);
    const interrupted = Promise.race([changes.settled, stopped]);
    current = await replace(current, next, interrupted, isStale);
    await Promise.race([changes.settled, stopped]);
    if (options.stop.aborted) break;
    logger.info("{path} has changed, loading anew", { event: "reload", path: changes.take() });
  }
  current?.stop(String(options.stop.reason));
  return await current?.exited ?? 0;
}

/** Replaces `current` by `next` if that loads; resolves with the thread that is there then. */
async function replace(
  current: WorkerThread | undefined,
  next: WorkerThread,
  interrupted: Promise<void>,
  isStale: () => boolean,
): Promise<WorkerThread | undefined> {
  const isLoaded = await Promise.race([next.loaded, interrupted.then(() => false)]);
  if (!isLoaded) {
    next.terminate();
    const old = current?.isRunning ? "the old worker goes on, " : "";
    if (!isStale()) logger.warn(`${old}waiting for the next change`, { event: "reload" });
    return current;
  }
  current?.stop("reload");
  await current?.exited;
  if (isStale()) {
    next.terminate();
    return undefined;
  }
  next.start();
  return next;
}

/** One worker in its thread. */
class WorkerThread {
  /** Resolves with its exit code. */
  readonly exited: Promise<number>;
  /** Resolves to true when its modules are loaded and its settings are sound, or to false at its end. */
  readonly loaded: Promise<boolean>;
  readonly #thread: Thread;
  #isStopping = false;
  #isRunning = false;

  constructor({ entry, data }: ReloadOptions) {
    // A copy, so that what settings set ends with their thread; but Deno may have to ask for all of it.
    const env = isGranted("env", {}) ? undefined : SHARE_ENV;
    this.#thread = new Thread(entryUrl(entry), { workerData: data, env });
    const { promise: loaded, resolve } = Promise.withResolvers<boolean>();
    this.loaded = loaded;
    this.#thread.on("message", () => resolve(true));
    this.#thread.on("error", (error) => reportFailure("pretty", String(error)));
    this.exited = new Promise((exit) => this.#thread.on("exit", exit));
    void this.exited.then(() => resolve(false));
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  start(): void {
    this.#isRunning = true;
    this.#tell({ kind: "start" });
    void this.exited.then((code) => { // which it may have done since it was loaded
      this.#isRunning = false;
      if (this.#isStopping) return;
      const text = "the worker has ended with exit code {code}, waiting for the next change";
      logger.warn(text, { event: "reload", code });
    });
  }

  stop(reason: string): void {
    this.#isStopping = true;
    this.#tell({ kind: "stop", reason });
  }

  /** Ends a thread that has taken no jobs. */
  terminate(): void {
    void this.#thread.terminate();
  }

  #tell(order: ThreadOrder): void {
    this.#thread.postMessage(order);
  }
}

/** Threads start from files and data only; a remote module is imported from there. */
function entryUrl(entry: string): URL {
  if (entry.startsWith("file:")) return new URL(entry);
  return new URL(`data:text/javascript,import ${encodeURIComponent(JSON.stringify(entry))}`);
}

function checkEntry(entry: string): void {
  const folder = entry.startsWith("file:") ? dirname(fileURLToPath(entry)) : undefined;
  if (folder !== undefined && !isGranted("read", { path: folder })) {
    throw new UsageError(`--watch loads the library anew: start Deno with --allow-read=${folder}`);
  }
}

/** Tells of changes of sources, a burst of them as one. */
class Changes implements Disposable {
  readonly #watchers: FSWatcher[] = [];
  readonly #changed: Set<string> = new Set();
  #quiet = Promise.withResolvers<void>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor({ folders, settingsUrl }: ReloadOptions) {
    const roots = folders.map((folder) => resolve(folder));
    for (const [i, root] of roots.entries()) this.#watch(folders[i] ?? root, root);
    const settings = settingsUrl.startsWith("file:") ? fileURLToPath(settingsUrl) : undefined;
    const isInside = roots.some((root) => settings?.startsWith(root + sep));
    if (settings !== undefined && !isInside) this.#watchFile(settings);
  }

  /** Whether something has changed since `take`. */
  get hasAny(): boolean {
    return this.#changed.size > 0;
  }

  /** Resolves when something has changed and nothing more followed for a moment. */
  get settled(): Promise<void> {
    return this.#quiet.promise;
  }

  /** Forgets the changes; returns what they were. */
  take(): string {
    const [first = "", ...more] = this.#changed;
    this.#changed.clear();
    this.#quiet = Promise.withResolvers();
    return more.length > 0 ? `${first} and ${more.length} more` : first;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers) watcher.close();
  }

  #watch(given: string, root: string): void {
    explaining(`--watch ${given}`, () => {
      if (!statSync(root).isDirectory()) throw new Error("it is no folder");
      this.#add(watch(root, { recursive: true }, (_event, file) => {
        const path = String(file ?? "");
        if (SOURCE.test(path) && !IGNORED.test(path)) this.#note(path);
      }));
    });
  }

  /** By its folder: editors replace files rather than write to them. */
  #watchFile(path: string): void {
    explaining("--watch", () => {
      this.#add(watch(dirname(path), (_event, file) => {
        if (String(file) === basename(path)) this.#note(basename(path));
      }));
    });
  }

  #add(watcher: FSWatcher): void {
    watcher.on("error", (error) => logger.warn("cannot watch: {error}", { error }));
    this.#watchers.push(watcher);
  }

  #note(path: string): void {
    this.#changed.add(path);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#quiet.resolve(), QUIET_MS);
  }
}

function explaining(option: string, start: () => void): void {
  try {
    start();
  } catch (error) {
    const { message } = error as Error;
    const flag = missingPermission(message);
    const reason = flag === undefined ? message : `start Deno with ${flag}`;
    throw new UsageError(`${option}: ${reason}`, [], error);
  }
}
