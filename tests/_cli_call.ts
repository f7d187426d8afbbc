/**
 * The command line inside the process of the test: all of it, from the arguments to the exit code,
 * without the third of a second that a process takes to start. What belongs to a process (signals,
 * errors that nobody awaits, permissions, terminals, a module's global state) is tested with one:
 * see `_cli.ts`.
 */
import { reset } from "@logtape/logtape";
import process from "node:process";
import { Writable } from "node:stream";
import { format } from "node:util";
import { main } from "../cli.ts";
import { END_SIGNALS } from "../signals.ts";
import type { CliEnd, CliOptions } from "./_cli.ts";

let last: Promise<unknown> = Promise.resolve();

/**
 * Follows a command line and tells how it ended. One at a time, since they share the console: a
 * worker in this process that logs meanwhile is heard as well.
 */
export function callCli(
  args: readonly string[],
  options: Pick<CliOptions, "cwd" | "env"> = {},
): Promise<CliEnd> {
  const end = last.then(() => call(args, options));
  last = end.catch(() => {}); // told by `end`
  return end;
}

async function call(
  args: readonly string[],
  { cwd, env }: Pick<CliOptions, "cwd" | "env">,
): Promise<CliEnd> {
  const output = { stdout: "", stderr: "" };
  using undo = new DisposableStack();
  undo.use(withEnvironment({ ARQ_URL: undefined, NO_COLOR: "1", ...env }));
  undo.use(withFolder(cwd));
  undo.use(withoutNewListeners());
  undo.use(withProperty(process, "stdout", collector(output, "stdout")));
  undo.use(withProperty(process, "stderr", collector(output, "stderr")));
  for (const [name, stream] of [["log", "stdout"], ["error", "stderr"]] as const) {
    const print = (...values: unknown[]) => void (output[stream] += `${format(...values)}\n`);
    undo.use(withProperty(console, name, print));
  }
  await reset(); // of the log, which a process finds as nobody has set it up
  const code = await main(args);
  return { code, ...output };
}

type Output = { stdout: string; stderr: string };

/** A stream that is no terminal. */
function collector(output: Output, name: keyof Output): Writable {
  return new Writable({
    write(chunk, _encoding, done) {
      output[name] += String(chunk);
      done();
    },
  });
}

function undoing(undo: () => void): Disposable {
  return { [Symbol.dispose]: undo };
}

function withProperty(object: object, name: string, value: unknown): Disposable {
  const before = Object.getOwnPropertyDescriptor(object, name) ?? {};
  Object.defineProperty(object, name, { configurable: true, writable: true, value });
  return undoing(() => Object.defineProperty(object, name, before));
}

function withEnvironment(variables: Readonly<Record<string, string | undefined>>): Disposable {
  const set = (name: string, value: string | undefined) => {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  };
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  for (const [name, value] of Object.entries(variables)) set(name, value);
  return undoing(() => before.forEach(([name, value]) => set(name, value)));
}

function withFolder(folder: string | undefined): Disposable {
  const before = process.cwd();
  if (folder !== undefined) process.chdir(folder);
  return undoing(() => process.chdir(before));
}

/** A command heeds signals to the end of its process: here to its own. */
function withoutNewListeners(): Disposable {
  const names = Object.keys(END_SIGNALS);
  const before = new Set(names.flatMap((name) => process.listeners(name as NodeJS.Signals)));
  return undoing(() => {
    for (const name of names) {
      for (const listener of process.listeners(name as NodeJS.Signals)) {
        if (!before.has(listener)) process.off(name, listener);
      }
    }
  });
}
