/**
 * One process that runs functions, seen from the worker: its start, its channel, its end.
 * @module
 */
import { spawn } from "node:child_process";
import { writeSync } from "node:fs";
import type { Socket } from "node:net";
import { constants, setPriority } from "node:os";
import process from "node:process";
import { JobExecutionFailed } from "./errors.ts";
import type { JobMeta } from "./functions.ts";
import {
  encodeFrame,
  type End,
  FrameReader,
  isReport,
  type LogReport,
  type Order,
} from "./isolate_channel.ts";
import type { Command } from "./isolate_command.ts";
import { jobLogger } from "./job_logger.ts";
import { END_SIGNALS } from "./signals.ts";
import { atMost, untilAborted } from "./sleep.ts";

/** A process as both runtimes have it. */
interface Subprocess {
  /** Undefined if it could not be started. */
  readonly pid: number | undefined;
  readonly stdout: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  readonly stderr: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  /** Resolves with how it ended, such as "exit code 1". */
  readonly ended: Promise<string>;
  write(bytes: Uint8Array): void;
  closeInput(): void;
  kill(): void;
  /** Lets the worker's program end, though others may still hold its outputs. */
  unref(): void;
}

/** How long a process without a job may take to end by itself. */
const FAREWELL_MS = 1_000;
/** How long to wait for what a process printed at its end, which others may keep open. */
const LAST_WORDS_MS = 250;
/** How much of what was printed is shown in an error. */
const LAST_CHARACTERS = 2_000;
const LAST_LINES = 10;

/** What is under way in a process. */
interface Call {
  readonly ctx: JobMeta;
  readonly onProgress: (record: Uint8Array) => void;
  resolve(end: End | undefined): void;
  reject(error: unknown): void;
}

/** A process that runs one job at a time. */
export class IsolateProcess {
  /** How many jobs it was given. */
  jobs = 0;
  /** Resolves when it is gone. */
  readonly ended: Promise<void>;
  readonly #mark: string;
  readonly #subprocess: Subprocess;
  readonly #advice: string;
  #call: Call | undefined;
  #hasBegun = false;
  #isEnding = false;
  #hasEnded = false;
  #printed = "";
  /** Aborts once it has ended with a job: what it has told may stand behind what it has printed. */
  #hurry = new AbortController();

  /** Starts it; the command has to tell it the mark of the channel's frames. */
  constructor(command: Command, mark: string) {
    this.#mark = mark;
    this.#advice = command.advice;
    this.#subprocess = start(command);
    if (command.mayYield) yieldToOthers(this.#subprocess.pid);
    const outputs = Promise.allSettled([this.#readReports(), this.#readErrors()]);
    this.ended = this.#subprocess.ended.then(async (how) => {
      this.#hasEnded = true;
      if (this.#call) {
        this.#hurry.abort();
        await atMost(LAST_WORDS_MS, outputs);
        this.#hurry = new AbortController();
      }
      this.#subprocess.unref();
      // Where the job has not begun, an earlier one or a signal may be to blame.
      const isBlameless = !this.#hasBegun && (this.jobs > 1 || Object.hasOwn(END_SIGNALS, how));
      if (isBlameless) this.#endCall()?.resolve(undefined);
      else this.#fail(`ended with ${how} before the job did`);
    });
  }

  /** Whether it may be given a job. */
  get isUsable(): boolean {
    return !this.#isEnding && !this.#hasEnded;
  }

  /** Whether a job is under way. */
  get isBusy(): boolean {
    return this.#call !== undefined;
  }

  /**
   * Has it run a job; `ctx` tells of its abort, `onProgress` takes how far it is. Resolves to
   * undefined if the job has not begun, since a signal ended the process while it started, or
   * something that was left by an earlier job, or done to it meanwhile.
   */
  async run(
    order: Order & { readonly kind: "run" },
    ctx: JobMeta,
    onProgress: (record: Uint8Array) => void,
  ): Promise<End | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<End | undefined>();
    this.jobs++;
    this.#hasBegun = false;
    this.#call = { ctx, onProgress, resolve, reject };
    this.#send(order);
    const tell = () => this.#send({ kind: "abort", reason: ctx.signal.reason });
    ctx.signal.addEventListener("abort", tell);
    try {
      return await promise;
    } finally {
      ctx.signal.removeEventListener("abort", tell);
    }
  }

  /** Ends it at once. */
  kill(): void {
    this.#isEnding = true;
    this.#call = undefined;
    if (!this.#hasEnded) this.#subprocess.kill();
  }

  /** Ends it in order, or after a moment at once; resolves when it is gone. */
  async end(): Promise<void> {
    this.#isEnding = true;
    this.#subprocess.closeInput();
    await atMost(FAREWELL_MS, this.ended);
    this.kill();
    await this.ended;
  }

  #send(order: Order): void {
    if (!this.#hasEnded) this.#subprocess.write(encodeFrame(this.#mark, order));
  }

  async #readReports(): Promise<void> {
    const reader = new FrameReader(this.#mark);
    const decoder = new TextDecoder();
    for await (const chunk of this.#subprocess.stdout) {
      try {
        for (const piece of reader.read(chunk)) {
          if (piece.kind === "message") this.#hear(piece.message);
          else await this.#pass(piece.bytes, decoder, process.stdout);
        }
      } catch (error) {
        this.#fail(`wrote what cannot be read to its channel (${(error as Error).message})`);
        return this.kill();
      }
    }
  }

  async #readErrors(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.#subprocess.stderr) {
      await this.#pass(chunk, decoder, process.stderr);
    }
  }

  /** What the function prints appears where the worker prints, and its end in errors. */
  async #pass(bytes: Uint8Array, decoder: TextDecoder, to: NodeJS.WriteStream): Promise<void> {
    this.#printed += decoder.decode(bytes, { stream: true });
    this.#printed = this.#printed.slice(-LAST_CHARACTERS);
    await print(bytes, to, this.#hurry.signal);
  }

  #hear(message: unknown): void {
    if (!isReport(message)) throw new TypeError("it is no report");
    if (message.kind === "log") return passOn(message);
    if (message.kind === "begun") return void (this.#hasBegun = true);
    if (message.kind === "progress") return this.#call?.onProgress(message.record);
    this.#endCall()?.resolve(message);
  }

  /** Returns the call that is under way, if one is; from now on none is. */
  #endCall(): Call | undefined {
    const call = this.#call;
    this.#call = undefined;
    return call;
  }

  #fail(how: string): void {
    const call = this.#endCall();
    if (!call) return;
    const [verb, advice] = this.#hasBegun ? ["ran", ""] : ["was to run", this.#advice];
    const what = `The process that ${verb} "${call.ctx.functionName}" ${how}${advice}`;
    call.reject(new JobExecutionFailed(what + lastLines(this.#printed)));
  }
}

/** Waits where there is no room, but not for long; that it cannot be printed is no job's fault. */
async function print(
  bytes: Uint8Array,
  to: NodeJS.WriteStream,
  hurry: AbortSignal,
): Promise<void> {
  if ("Deno" in globalThis) return printAtOnce(bytes, to === process.stderr ? 2 : 1);
  if (!to.listeners("error").includes(ignoreError)) to.on("error", ignoreError);
  const { promise: written, resolve } = Promise.withResolvers<void>();
  if (to.write(bytes, () => resolve())) return;
  await untilAborted(atMost(FAREWELL_MS, written), hurry).catch(() => {});
}

/** In Deno's own stream nothing moves any more once a write has failed, as one does on a full disk. */
function printAtOnce(bytes: Uint8Array, fd: number): void {
  try {
    for (let sent = 0; sent < bytes.length;) sent += writeSync(fd, bytes.subarray(sent));
  } catch {
    // No job's fault, and nobody is there to be told.
  }
}

function ignoreError(): void {}

/** It may be said by what an earlier job has left running. */
function passOn({ jobId, functionName, level, message, properties }: LogReport): void {
  jobLogger(jobId, functionName)[level](message, properties);
}

function lastLines(printed: string): string {
  const lines = printed.trimEnd().split("\n").slice(-LAST_LINES);
  return printed.trim() === "" ? "" : `; it printed last:\n  ${lines.join("\n  ")}`;
}

/** What computes must not delay what waits: the worker, a server, a person. */
function yieldToOthers(pid: number | undefined): void {
  try {
    if (pid !== undefined) setPriority(pid, constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // It yields more already, as the worker does, or it is gone, which its end tells.
  }
}

function start(command: Command): Subprocess {
  const deno = Reflect.get(globalThis, "Deno") as DenoApi | undefined;
  return deno ? startWithDeno(deno, command) : startWithNode(command);
}

function startWithNode({ path, args }: Command): Subprocess {
  const child = spawn(path, args, { stdio: "pipe" });
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(`the error "${error.message}"`));
    child.on("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  // Bun may have made none for what could not be started.
  const { stdin, stdout, stderr }: Partial<typeof child> = child;
  stdin?.on("error", () => {}); // It has ended, which `ended` tells.
  return {
    pid: child.pid,
    stdout: stdout ?? [],
    stderr: stderr ?? [],
    ended,
    write: (bytes) => void stdin?.write(bytes),
    closeInput: () => void stdin?.end(),
    kill: () => void child.kill("SIGKILL"),
    unref: () => {
      // Pipes are sockets, which the types of a stream do not say.
      for (const output of [stdout, stderr]) (output as Partial<Socket> | undefined)?.unref?.();
    },
  };
}

interface DenoApi {
  readonly Command: new (path: string, options: object) => {
    spawn(): {
      readonly pid: number;
      readonly stdin: WritableStream<Uint8Array>;
      readonly stdout: ReadableStream<Uint8Array>;
      readonly stderr: ReadableStream<Uint8Array>;
      readonly status: Promise<{ readonly code: number; readonly signal: string | null }>;
      kill(signal: string): void;
      unref(): void;
    };
  };
}

/**
 * Deno's `node:child_process` reads the environment, for which the worker would need one more
 * permission, and changes the arguments.
 */
function startWithDeno(deno: DenoApi, { path, args }: Command): Subprocess {
  const piped = { stdin: "piped", stdout: "piped", stderr: "piped" };
  const child = new deno.Command(path, { args, ...piped }).spawn();
  const input = child.stdin.getWriter();
  const ignoreEnd = () => {}; // It has ended, which `ended` tells.
  let hasEnded = false;
  const ended = child.status.then(({ code, signal }) => {
    hasEnded = true;
    return signal ?? `exit code ${code}`;
  });
  return {
    pid: child.pid,
    stdout: child.stdout,
    stderr: child.stderr,
    ended,
    write: (bytes) => void input.write(bytes).catch(ignoreEnd),
    closeInput: () => void input.close().catch(ignoreEnd),
    kill: () => {
      if (hasEnded) return;
      try {
        child.kill("SIGKILL");
      } catch {
        // It has just ended, which `ended` is about to tell.
      }
    },
    unref: () => child.unref(),
  };
}
