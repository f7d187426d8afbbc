/** Worker processes that are killed, frozen and told to stop, and started anew. */
import { accessSync, constants, mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { WorkerSettings } from "../../mod.ts";
import { findBun } from "../_bun.ts";
import { eventually } from "../_helpers.ts";
import { GuardedProcess } from "../_redis.ts";
import { IS_DENO } from "../_sqlite.ts";
import { type Ledger, readLedger } from "./ledger.ts";

const PROGRAM = fileURLToPath(new URL("worker.ts", import.meta.url));

const START_MS = 30_000;

type Runtime = "deno" | "bun";

/** One process, alive or dead. */
export interface Life {
  readonly name: string;
  readonly process: GuardedProcess;
  readonly path: string;
  /** Whether its end was wanted. */
  isDoomed: boolean;
  /** When it was killed, epoch milliseconds. */
  killedAt?: number;
}

/** A number of worker processes on one queue, in Deno and in Bun by turns. */
export class Workers {
  readonly #lives: Life[] = [];
  readonly #alive: Map<number, Life> = new Map();
  readonly #folder: string;
  readonly #settings: string;
  #isEnding = false;

  /** Takes a folder for the ledgers, and the workers' settings, which must be plain data. */
  constructor(folder: string, settings: WorkerSettings) {
    this.#folder = folder;
    this.#settings = JSON.stringify(settings);
  }

  /** Starts so many workers; one that ends is followed by another. */
  start(count: number): void {
    for (let slot = 0; slot < count; slot++) this.#spawn(slot);
  }

  /** Resolves once all workers take jobs. */
  async ready(): Promise<void> {
    const isReady = () => this.alive.every(({ path }) => readLedger(path).isReady);
    await eventually(isReady, "the workers are ready", START_MS);
  }

  /** The workers that run. */
  get alive(): readonly Life[] {
    return [...this.#alive.values()];
  }

  /** Every process that there was. */
  get lives(): readonly Life[] {
    return this.#lives;
  }

  /** Ends a worker as a crash does. */
  kill(life: Life): void {
    life.isDoomed = true;
    life.killedAt = Date.now();
    life.process.kill("SIGKILL");
  }

  /** Tells a worker to stop; resolves with the milliseconds that it took. */
  async stop(life: Life): Promise<number> {
    life.isDoomed = true;
    const toldAt = performance.now();
    life.process.kill("SIGTERM");
    await life.process.waitForExit();
    return performance.now() - toldAt;
  }

  /** What each process has noted. */
  ledgers(): (Ledger & { readonly life: Life })[] {
    return this.#lives.map((life) => ({ life, ...readLedger(life.path) }));
  }

  /** Tells all workers to stop and starts none any more; resolves with the longest time it took. */
  async end(): Promise<number> {
    this.#isEnding = true;
    const took = await Promise.all(this.alive.map((life) => this.stop(life)));
    return Math.max(0, ...took);
  }

  #spawn(slot: number): void {
    const runtime = runtimeOf(this.#lives.length);
    const name = `worker ${this.#lives.length + 1} (${runtime})`;
    const folder = join(this.#folder, String(this.#lives.length));
    mkdirSync(folder);
    const path = join(folder, "ledger");
    const [command = "", ...args] = commandOf(runtime);
    const child = new GuardedProcess(command, [...args, PROGRAM, this.#settings, path], folder);
    const life: Life = { name, process: child, path, isDoomed: false };
    this.#lives.push(life);
    this.#alive.set(slot, life);
    void child.exited.then(() => {
      this.#alive.delete(slot);
      if (!this.#isEnding) this.#spawn(slot);
    });
  }
}

const DENO = IS_DENO ? process.execPath : findDeno();
const BUN = IS_DENO ? findBun() : process.execPath;

/** By turns, where both are to be had. */
function runtimeOf(index: number): Runtime {
  return DENO === undefined || index % 2 === 1 ? "bun" : "deno";
}

function commandOf(runtime: Runtime): string[] {
  if (runtime === "bun" || DENO === undefined) return [BUN];
  return [DENO, "run", "-A", "--no-check", "--quiet"];
}

function findDeno(): string | undefined {
  const paths = (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, "deno"));
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
