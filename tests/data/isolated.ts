/** Functions that run in processes of their own. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, writeFileSync, writeSync } from "node:fs";
import process from "node:process";
import { type IsolatedContext, Retry } from "../../functions.ts";
import { Money } from "./money.ts";

let calls = 0;

/** What the context is, but for what lives; with what came in. */
export function look(ctx: IsolatedContext, ...args: readonly unknown[]): unknown {
  const { jobId, jobTry, enqueueTime, score, functionName, queueName, kwargs } = ctx;
  const isAborted = ctx.signal.aborted;
  return {
    context: { jobId, jobTry, enqueueTime, score, functionName, queueName, kwargs, isAborted },
    args,
  };
}

/** Which process this is, and how often it was called. */
export function count(): { readonly pid: number; readonly calls: number } {
  return { pid: process.pid, calls: ++calls };
}

/** Leaves an error behind that nobody catches, in a process so busy that the next job comes before. */
export function abandon(_ctx: IsolatedContext, how: Abandoning): number {
  void failAfterReturn(new Error("abandoned"), how);
  return process.pid;
}

type Abandoning = "rejects" | "rejects later" | "throws";

async function failAfterReturn(error: Error, how: Abandoning): Promise<void> {
  for (let i = 0; i < 100; i++) await undefined;
  if (how === "rejects") void Promise.reject(error);
  else if (how === "rejects later") setImmediate(() => void Promise.reject(error));
  else {
    queueMicrotask(() => {
      throw error;
    });
  }
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
}

/** From now on, what nobody catches does not end its process. */
export function endure(_ctx: IsolatedContext, by: "listeners" | "callback" | "events"): void {
  if (by === "events") { // of Deno
    for (const name of ["unhandledrejection", "error"]) {
      globalThis.addEventListener(name, (event) => event.preventDefault());
    }
    return;
  }
  process.on("unhandledRejection", () => {});
  if (by === "listeners") process.on("uncaughtException", () => {});
  else process.setUncaughtExceptionCaptureCallback(() => {});
}

/** Has something to do at the end of its process. */
export function mourn(_ctx: IsolatedContext, file: string): void {
  process.on("exit", () => writeFileSync(file, "in order"));
}

/** Never gives way; says in a file that it does so. */
export function spin(_ctx: IsolatedContext, file: string): void {
  writeFileSync(file, String(process.pid));
  for (;;);
}

/** Waits until it is told to stop. */
export async function heed(ctx: IsolatedContext, file: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (ctx.signal.aborted) resolve(); // where this process is late
  ctx.signal.addEventListener("abort", () => resolve());
  await promise;
  writeFileSync(file, String(ctx.signal.reason));
  ctx.signal.throwIfAborted();
}

/** Waits, without giving way, until there is such a file. */
export function hold(_ctx: IsolatedContext, file: string): number {
  const nap = new Int32Array(new SharedArrayBuffer(4));
  while (!existsSync(file)) Atomics.wait(nap, 0, 0, 10);
  return process.pid;
}

/** Tells how far it is, without giving way: often, and what cannot travel, too. */
export function advance(ctx: IsolatedContext, file: string): number {
  ctx.progress(new Map([["waits for", file]]));
  const nap = new Int32Array(new SharedArrayBuffer(4));
  while (!existsSync(file)) Atomics.wait(nap, 0, 0, 10);
  ctx.progress(() => {});
  for (let n = 1; n <= 1_000; n++) ctx.progress(n);
  return ctx.jobTry;
}

/** Asks to run again, once. */
export function again(ctx: IsolatedContext): number {
  if (ctx.jobTry === 1) throw new Retry({ defer: 10, cause: "not yet" });
  ctx.logger.info("try {jobTry} of {what}", { jobTry: ctx.jobTry, what: () => {} });
  return ctx.jobTry;
}

/** Throws an error with everything that errors may have. */
export function fail(): never {
  const error = new RangeError("too far", { cause: new TypeError("why") });
  throw Object.assign(error, { code: "EFAR", at: new Date(0), handler: () => {} });
}

/** Throws what is no error. */
export function toss(): never {
  throw "a text";
}

/** Returns what cannot travel. */
export function untransportable(): unknown {
  return { inner: { handler: () => {} } };
}

/** Prints, and exits. */
export function exit(_ctx: IsolatedContext, code: number): never {
  for (let line = 1; line <= 12; line++) console.log(`line ${line}`);
  console.error("the last line");
  process.exit(code);
}

/** Prints more than a pipe holds, returns, and exits at once. */
export function pour(): string {
  for (let i = 0; i < 4; i++) writeSync(1, `${"x".repeat(60_000)}\n`);
  setImmediate(() => process.exit(5));
  return "poured";
}

/** Has an exception that nobody awaits when it is long done. */
export function leave(): number {
  setTimeout(() => {
    throw new Error("left behind");
  }, 20);
  return process.pid;
}

/** Logs when it is long done, once there is such a file. */
export function linger(ctx: IsolatedContext, file: string): void {
  const timer = setInterval(() => {
    if (!existsSync(file)) return;
    clearInterval(timer);
    ctx.logger.warn("left {what}", { what: "behind" });
  }, 5);
}

/** Waits until there is such a file; others may run meanwhile. */
export async function tarry(_ctx: IsolatedContext, file: string): Promise<void> {
  while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Starts a program that lives on, and prints where its process does; returns which it is. */
export function beget(): number | undefined {
  const stdio = ["ignore", "inherit", "inherit"] as const;
  const child = spawn("sleep", ["60"], { stdio: [...stdio], detached: true });
  child.unref();
  return child.pid;
}

/** Logs and returns what is large while programs that it has started print all the time. */
export async function mingle(ctx: IsolatedContext): Promise<string> {
  for (let i = 0; i < 3; i++) {
    const args = ["-c", "500000", "/dev/zero"]; // which nobody has to see
    spawn("head", args, { stdio: ["ignore", "inherit", "inherit"] });
  }
  await new Promise((resolve) => setTimeout(resolve, 2));
  const lines = `${"x".repeat(99)}\n`;
  for (let i = 0; i < 5; i++) ctx.logger.info("{text}", { text: lines.repeat(3_000) });
  return lines.repeat(10_000);
}

/** Prints in every way that there is. */
export function print(): string {
  console.log("by console");
  process.stdout.write("by stream\n");
  writeSync(1, Uint8Array.of(0xff, 0, 0xff, 1, 10));
  spawnSync(process.execPath, ["--version"], { stdio: ["ignore", "inherit", "inherit"] });
  return "x".repeat(1_000_000);
}

/** Doubles an amount, which has to be one. */
export function double(_ctx: IsolatedContext, money: Money): Money {
  if (!(money instanceof Money)) throw new TypeError("this is no money");
  return new Money(2 * money.cents);
}

/** The mark of the frames, which a function has no business to know. */
function mark(): string {
  const { mainModule = "" } = (Reflect.get(globalThis, "Deno") ?? {}) as { mainModule?: string };
  const program = decodeURIComponent(mainModule) + process.execArgv.join(" ");
  return /"(ff[0-9a-f]{14})"/.exec(program)?.[1] ?? "";
}

/** Writes a frame that is none, with the length that is given. */
export async function garble(_ctx: IsolatedContext, length: number): Promise<void> {
  const frame = new Uint8Array(1_000);
  frame.setFromHex(mark());
  new DataView(frame.buffer).setUint32(8, length);
  console.log("garbling");
  writeSync(1, frame);
  await new Promise(() => {});
}

/** Takes memory until there is none. */
export function devour(): number {
  const all: unknown[] = [];
  for (;;) all.push(Array.from({ length: 1_000 }, (_, i) => ({ i })));
}

/** Which permissions there are. */
export function permissions(
  _ctx: IsolatedContext,
  asked: readonly Deno.PermissionDescriptor[],
): string[] {
  return asked.map((descriptor) => Deno.permissions.querySync(descriptor).state);
}
