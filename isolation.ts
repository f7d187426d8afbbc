/**
 * Pools of processes that run functions: started when a job needs one, kept while there is work,
 * replaced when they are gone.
 * @module
 */
import { SettingsError } from "./errors.ts";
import { type JobMeta, Retry, splitSpecifier } from "./functions.ts";
import { type End, newMark } from "./isolate_channel.ts";
import {
  commandFor,
  excessFlags,
  isCompiled,
  missingFlag,
  unknownTargets,
} from "./isolate_command.ts";
import type { IsolateSettings } from "./isolate_options.ts";
import { IsolateProcess } from "./isolate_process.ts";
import {
  decodeProgress,
  decodeResult,
  type Deserializer,
  encodeJob,
  type JobRecord,
  type Serializer,
} from "./serializer.ts";
import { atMost, LONGEST_TIMER_MS } from "./sleep.ts";
import { activeCarrier } from "./telemetry.ts";
import type { RegisteredFunction } from "./worker_functions.ts";

/** How the program writes and reads what travels, where it does that itself. */
interface Codec {
  readonly serializer?: Serializer;
  readonly deserializer?: Deserializer;
}

/** No worker waits longer for the end of its processes, which take a moment at most. */
const CLOSE_MS = 5_000;

/** The processes of one worker. */
export class Isolation {
  readonly #pools: Map<string, Pool> = new Map();
  readonly #codec: Codec;

  /**
   * Starts no process yet.
   *
   * @throws {SettingsError} if this program cannot or may not start them, or not with their permissions.
   */
  constructor(functions: Iterable<RegisteredFunction>, codec: Codec) {
    this.#codec = codec;
    const problems = [...functions].flatMap(startProblems);
    if (problems.length > 0) throw new SettingsError("worker settings", problems);
  }

  /** Waits until the function's next job may have a process; undefined if the signal aborts before. */
  async acquire(fn: RegisteredFunction, signal: AbortSignal): Promise<ProcessSlot | undefined> {
    const settings = fn.isolate as IsolateSettings;
    const { path, name } = splitSpecifier(String(fn.fn));
    const key = JSON.stringify([path, settings]);
    const pool = this.#pools.get(key) ?? new Pool(path, settings);
    this.#pools.set(key, pool);
    if (!await pool.enter(signal)) return undefined;
    const codec = settings.serializer === undefined ? undefined : this.#codec;
    return new ProcessSlot(pool, name, codec);
  }

  /** Ends all processes; resolves when they are gone, or the system does not end them. */
  async close(): Promise<void> {
    await atMost(CLOSE_MS, Promise.all([...this.#pools.values()].map((pool) => pool.close())));
  }
}

function startProblems({ name, isolate }: RegisteredFunction): string[] {
  if (!isolate) return [];
  if (isCompiled()) {
    const need = "isolate needs the runtime and the sources, which a compiled program has not";
    return [`functions.${name}: ${need}: start this worker with deno or bun`];
  }
  const flag = missingFlag();
  const lacking = flag === undefined ? [] : [
    `functions.${name}: isolate runs it in a process of its own: start Deno with ${flag}`,
  ];
  const unknown = unknownTargets(isolate).map((problem) => `functions.${name}: ${problem}`);
  if (unknown.length > 0) return [...lacking, ...unknown];
  const excess = excessFlags(isolate).map((more) =>
    `functions.${name}: isolate.permissions cannot give what the worker lacks: start Deno with ${more}`
  );
  return [...lacking, ...excess];
}

/** A slot of a pool, for one job and its process; disposing of it kills the process if it still runs it. */
export class ProcessSlot implements Disposable {
  readonly #pool: Pool;
  readonly #exportName: string;
  readonly #codec: Codec | undefined;
  #process: IsolateProcess | undefined;

  /** Takes the pool that was entered, the function's name, and the codec if the process has it too. */
  constructor(pool: Pool, exportName: string, codec: Codec | undefined) {
    this.#pool = pool;
    this.#exportName = exportName;
    this.#codec = codec;
  }

  /**
   * Runs the job; settles as the function does, or rejects if the process ends before. One that ends
   * before the job has begun, and not by its fault, is replaced by another.
   */
  async run(record: JobRecord, ctx: JobMeta): Promise<unknown> {
    const { jobId, jobTry, score, queueName } = ctx;
    const order = {
      kind: "run",
      exportName: this.#exportName,
      record: encodeJob({ ...record, tc: activeCarrier() }, this.#codec?.serializer),
      facts: { jobId, jobTry, score, queueName },
    } as const;
    let end: End | undefined;
    while (!end) {
      ctx.signal.throwIfAborted();
      this.#process = this.#pool.take();
      end = await this.#process.run(order, ctx, (progress) => this.#passOn(progress, ctx));
    }
    if (end.kind === "retry") throw new Retry({ defer: end.deferMs, cause: end.cause });
    const { s: isSuccess, r: result } = decodeResult(end.record, this.#codec?.deserializer);
    if (!isSuccess) throw result;
    return result;
  }

  #passOn(progress: Uint8Array, ctx: JobMeta): void {
    try {
      ctx.progress(decodeProgress(progress, this.#codec?.deserializer));
    } catch (error) {
      ctx.logger.warn("{reason}", { reason: (error as Error).message });
    }
  }

  [Symbol.dispose](): void {
    this.#pool.leave(this.#process);
  }
}

/** The processes for the functions of one module. */
class Pool {
  readonly #path: string;
  readonly #settings: IsolateSettings;
  readonly #processes: Set<IsolateProcess> = new Set();
  /** Those without a job, and when they are to end; the one used last is at the end. */
  readonly #idle: Map<IsolateProcess, ReturnType<typeof setTimeout>> = new Map();
  /** Jobs that wait for a slot. */
  readonly #waiting: Set<() => void> = new Set();
  #freeSlots: number;

  constructor(path: string, settings: IsolateSettings) {
    this.#path = path;
    this.#settings = settings;
    this.#freeSlots = settings.maxProcesses;
  }

  /** Resolves to true when a slot is had, or to false when the signal aborts before. */
  enter(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return Promise.resolve(false);
    if (this.#freeSlots > 0) {
      this.#freeSlots--;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      const onAbort = () => {
        this.#waiting.delete(onSlot);
        resolve(false);
      };
      const onSlot = () => {
        signal.removeEventListener("abort", onAbort);
        resolve(true);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.add(onSlot);
    });
  }

  /** The process that was used last and has not just ended, or a new one. */
  take(): IsolateProcess {
    const [process, timer] = [...this.#idle].findLast(([{ isUsable }]) => isUsable) ?? [];
    if (!process) return this.#start();
    clearTimeout(timer);
    this.#idle.delete(process);
    return process;
  }

  /** Gives a slot back, and the process that was had with it. */
  leave(process: IsolateProcess | undefined): void {
    if (process?.isBusy) process.kill();
    else if (process?.isUsable) this.#keep(process);
    const [next] = this.#waiting;
    if (!next) {
      this.#freeSlots++;
      return;
    }
    this.#waiting.delete(next);
    next();
  }

  async close(): Promise<void> {
    for (const timer of this.#idle.values()) clearTimeout(timer);
    await Promise.all([...this.#processes].map((process) => process.end()));
  }

  #start(): IsolateProcess {
    const mark = newMark();
    const process = new IsolateProcess(commandFor(this.#path, this.#settings, mark), mark);
    this.#processes.add(process);
    void process.ended.then(() => {
      this.#processes.delete(process);
      clearTimeout(this.#idle.get(process));
      this.#idle.delete(process);
    });
    return process;
  }

  #keep(process: IsolateProcess): void {
    const { idleMs, maxJobsPerProcess } = this.#settings;
    if (process.jobs >= maxJobsPerProcess) return void process.end();
    const end = () => {
      this.#idle.delete(process);
      void process.end();
    };
    this.#idle.set(process, setTimeout(end, Math.min(idleMs, LONGEST_TIMER_MS)));
  }
}
