/**
 * The program that a process of the pool runs: it calls a module's functions as it is told.
 *
 * A thread of its own reads standard input, whatever the function does meanwhile: a function that
 * never gives way must not outlive the worker, whose end closes standard input. Signals that tell
 * programs to end are ignored: a terminal and many supervisors send them to the worker and to all
 * that it has started; the worker heeds them, and may let the job end.
 * @module
 */
import { writeSync } from "node:fs";
import process from "node:process";
import { Worker as Thread } from "node:worker_threads";
import { JobExecutionFailed } from "./errors.ts";
import { type IsolatedContext, type JobLogger, Retry, throwWithPosition } from "./functions.ts";
import {
  encodeParts,
  FrameReader,
  type JobFacts,
  type Order,
  type Report,
} from "./isolate_channel.ts";
import {
  decodeJob,
  type Deserializer,
  encodeProgress,
  encodeResult,
  type JobRecord,
  portable,
  type Serializer,
} from "./serializer.ts";
import { END_SIGNALS } from "./signals.ts";
import { withinCarrier } from "./telemetry.ts";

/** What the program is started with. */
export interface ChildOptions {
  /** The mark of the channel's frames. */
  readonly mark: string;
  /** The module whose exports are called, for errors. */
  readonly module: string;
  /** Imports it. */
  load(): Promise<Readonly<Record<string, unknown>>>;
  /** Imports the module with the program's own serializer. */
  loadSerializer?(): Promise<Codec>;
}

/** Passes on what a job logs. */
type Log = (level: keyof JobLogger, message: string, properties: Record<string, unknown>) => void;

interface Codec {
  readonly jobSerializer?: Serializer;
  readonly jobDeserializer?: Deserializer;
}

/** How long a process may take to end by itself: less than the worker waits before it kills it. */
const FAREWELL_MS = 500;
/**
 * Passes on what it reads, and kills the process if it does not end with the input. It is a text
 * because a file could not be loaded without the permission to read it.
 */
const READER = `
const { readSync } = require("node:fs");
const { parentPort } = require("node:worker_threads");
const process = require("node:process");
const bytes = new Uint8Array(65536);
for (;;) {
  const length = readSync(0, bytes, 0, bytes.length, null);
  parentPort.postMessage(bytes.slice(0, length));
  if (length > 0) continue;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${FAREWELL_MS});
  process.kill(process.pid, "SIGKILL");
}`;

/** Carries orders out until standard input ends, or the process is killed. */
export function serve(options: ChildOptions): void {
  for (const signal of Object.keys(END_SIGNALS)) process.on(signal, () => {});
  const reader = new FrameReader(options.mark);
  const child = new Child(options);
  const thread = new Thread(READER, { eval: true });
  thread.on("message", (chunk: Uint8Array) => {
    if (chunk.length === 0) thread.unref(); // With nothing left to do, the process ends in order.
    for (const piece of reader.read(chunk)) {
      if (piece.kind === "message") child.obey(piece.message as Order);
    }
  });
  thread.on("error", (error) => {
    throw error; // Nothing can be heard any more: the process ends with this error.
  });
  if ("bun" in process.versions) onUncaught(() => child.refuseMore()); // Deno ends at once.
}

/** Calls back when an error is about to end the process, since nothing catches it; for Bun. */
function onUncaught(callback: () => void): void {
  process.on("uncaughtExceptionMonitor", () => {
    if (process.hasUncaughtExceptionCaptureCallback()) return;
    if (process.listenerCount("uncaughtException") === 0) callback();
  });
  // In a mode that is not Bun's own it may live on; if it does not, the monitor hears of it.
  if (process.execArgv.some((arg) => arg.startsWith("--unhandled-rejections"))) return;
  const handOn = (reason: unknown) => {
    if (process.listenerCount("unhandledRejection") > 1) return; // The module's own heeds it.
    callback();
    process.off("unhandledRejection", handOn);
    void Promise.reject(reason); // Now it ends the process, as it would have.
  };
  process.on("unhandledRejection", handOn);
}

/** Runs one job at a time. */
class Child {
  readonly #options: ChildOptions;
  #controller = new AbortController();
  #refusesMore = false;

  constructor(options: ChildOptions) {
    this.#options = options;
  }

  obey(order: Order): void {
    if (order.kind === "abort") return this.#controller.abort(order.reason);
    this.#controller = new AbortController();
    setImmediate(() => setImmediate(() => this.#begin(order)));
  }

  /** After a whole turn of the event loop: an error of an earlier job, if it is there, comes first. */
  #begin(order: Order & { readonly kind: "run" }): void {
    if (this.#refusesMore) process.exit(1);
    void this.#run(order);
  }

  /**
   * Begins no other job, but ends the process. Bun, before it ends one by an error, carries out what
   * has come by then, and would fail that job; and a module that failed once is never loaded again.
   */
  refuseMore(): void {
    this.#refusesMore = true;
  }

  async #run({ exportName, record, facts }: Order & { readonly kind: "run" }): Promise<void> {
    this.#tell({ kind: "begun" });
    const { jobSerializer, jobDeserializer } = await this.#options.loadSerializer?.() ?? {};
    const job = decodeJob(record, jobDeserializer);
    const ended = (s: boolean, r: unknown): Report => {
      const end = { ...job, a: [], k: {}, s, r, st: 0, ft: 0, q: facts.queueName, id: facts.jobId };
      return { kind: "end", record: encodeResult(end, jobSerializer) };
    };
    const tell = (report: Report) => this.#tell(report);
    const log: Log = (level, message, properties) => {
      const { jobId } = facts;
      tell({ kind: "log", jobId, functionName: job.f, level, message, properties });
    };
    const progress = new Progress((value) => tellProgress(tell, log, value, jobSerializer));
    try {
      const fn = await this.#find(exportName);
      const ctx = contextOf(job, facts, this.#controller.signal, progress, log);
      const result = await withinCarrier(job.tc, () => fn(ctx, ...job.a));
      progress.end();
      tell(ended(true, result));
    } catch (error) {
      progress.end();
      if (error instanceof Retry) {
        const { deferMs } = error;
        tell({ kind: "retry", deferMs, cause: portable(error.cause) });
      } else tell(ended(false, error));
    }
  }

  async #find(name: string): Promise<(...args: readonly unknown[]) => unknown> {
    const { module, load } = this.#options;
    const exported = await load().catch((error) => {
      this.refuseMore();
      return throwWithPosition(error);
    });
    const fn = exported[name];
    if (typeof fn === "function") return fn as () => unknown;
    throw new JobExecutionFailed(`Module ${module} exports no function "${name}"`);
  }

  /** At once, whatever the function does next. */
  #tell(report: Report): void {
    for (const frame of encodeParts(this.#options.mark, report)) {
      for (let sent = 0; sent < frame.length;) sent += writeSome(frame.subarray(sent));
    }
  }
}

/** Writes to standard output as much as there is room for; a full pipe may refuse for a moment. */
function writeSome(bytes: Uint8Array): number {
  try {
    return writeSync(1, bytes);
  } catch (error) {
    if ((error as { readonly code?: string }).code !== "EAGAIN") throw error;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    return 0;
  }
}

/** The pause between two values: the worker sends no more anyway. */
const PROGRESS_PAUSE_MS = 100;

/** What a function tells of its progress: passed on at once, also while it never gives way, but not often. */
class Progress {
  readonly #tell: (value: unknown) => void;
  #waiting: { readonly value: unknown } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #nextAt = 0;
  #isOver = false;

  constructor(tell: (value: unknown) => void) {
    this.#tell = tell;
  }

  note(value: unknown): void {
    if (this.#isOver) return;
    this.#waiting = { value };
    const waitMs = this.#nextAt - performance.now();
    if (waitMs <= 0) this.#pass();
    else this.#timer ??= setTimeout(() => this.#pass(), waitMs);
  }

  /** Passes the last value on; nothing that comes later counts. */
  end(): void {
    this.#pass();
    this.#isOver = true;
  }

  #pass(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#nextAt = performance.now() + PROGRESS_PAUSE_MS;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) this.#tell(waiting.value);
  }
}

/** A progress that cannot travel is said in the log, and does no harm. */
function tellProgress(
  tell: (report: Report) => void,
  log: Log,
  value: unknown,
  serializer: Serializer | undefined,
): void {
  try {
    tell({ kind: "progress", record: encodeProgress(value, serializer) });
  } catch (error) {
    const { message: reason } = error as Error;
    log("warn", "{reason}", { reason });
  }
}

function contextOf(
  job: JobRecord,
  facts: JobFacts,
  signal: AbortSignal,
  progress: Progress,
  log: Log,
): IsolatedContext {
  const at = (level: keyof JobLogger) => (message: string, properties = {}) => {
    const entries = Object.entries(properties).map(([key, value]) => [key, portable(value)]);
    log(level, message, Object.fromEntries(entries));
  };
  return {
    ...facts,
    enqueueTime: new Date(job.et),
    functionName: job.f,
    kwargs: job.k,
    signal,
    progress: (value) => progress.note(value),
    logger: { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") },
  };
}
