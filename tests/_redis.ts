/**
 * Redis servers for tests and demos, on Deno and on Bun.
 *
 * Every server gets a free loopback port (or a Unix socket) and a temporary folder of its own. It
 * dies with the process that started it, however that process ends.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { reservePort } from "./_ports.ts";
import { ensureProgram, findProgram } from "./_programs.ts";

/** A service to use instead of a server of our own; tests never flush it. */
export const OWN_SERVICE_VARIABLE = "ARQ_TEST_REDIS_URL";

/** Set by the test runner: the server that all test files of one run share. */
export const SHARED_SERVER_VARIABLE = "ARQ_TEST_SHARED_REDIS_URL";

const SERVER_NAMES = ["redis-server", "valkey-server"];
const START_DEADLINE_MS = 15_000;
const END_DEADLINE_MS = 5_000;

export interface StartRedisOptions {
  /** Server arguments that follow, and so override, the defaults: `["--requirepass", "x"]`. */
  args?: string[];
  /** Listen on a Unix socket in the temporary folder and on no port. */
  unixSocket?: boolean;
  /** A given port; without it a free one is picked. */
  port?: number;
  /** Lines of a configuration file, which makes the server a Sentinel. */
  sentinel?: readonly string[];
}

export interface RedisServer extends AsyncDisposable {
  /** `redis://127.0.0.1:PORT`, or `unix://PATH`. */
  readonly url: string;
  /** The port, 0 for a server on a Unix socket. */
  readonly port: number;
  readonly socketPath?: string;
  /** The temporary folder, the server's working directory; its log is `redis.log`. */
  readonly folder: string;
  /** The server's process id; another one after {@linkcode restart}. */
  readonly pid: number;
  /** Ends the server and removes its folder. May be called again. */
  stop(): Promise<void>;
  /** Sends a signal, such as `SIGKILL`, or `SIGSTOP` and `SIGCONT` to freeze and thaw. */
  kill(signal: NodeJS.Signals): void;
  /** Ends the server if it still runs and starts it on the same port and folder. */
  restart(): Promise<void>;
}

// The shell becomes the server, so the child's pid and exit are the server's. A subshell reads the
// other end of our pipe, which ends when the server is gone (then there is nothing to kill, and the
// folder stays for a restart) or when this process is, even by SIGKILL.
const GUARD = `
folder=$1
shift
exec 3<&0 </dev/null
(
  trap '' INT TERM HUP
  read -r line <&3
  kill -KILL $$ && rm -rf "$folder"
) >/dev/null 2>&1 &
exec "$@" 3<&-
`;

/** A child process that is killed, and its folder removed, when this process is gone. */
export class GuardedProcess {
  readonly pid: number;
  readonly exited: Promise<void>;
  #hasExited = false;
  #child: ChildProcess;

  /** Spawns `command` in `folder`, without output. */
  constructor(command: string, args: string[], folder: string) {
    this.#child = spawn("/bin/sh", ["-c", GUARD, "guard", folder, command, ...args], {
      cwd: folder,
      stdio: ["pipe", "ignore", "ignore"],
    });
    this.#child.on("error", () => {}); // told by the missing pid
    if (this.#child.pid === undefined) throw new Error(`Cannot start ${command} in ${folder}`);
    this.pid = this.#child.pid;
    this.exited = new Promise((resolve) => this.#child.once("exit", () => resolve()));
    this.exited.then(() => {
      this.#hasExited = true;
      this.#child.stdin?.end();
    });
    this.#child.stdin?.on("error", () => {}); // the guard may be gone first
    this.#child.unref();
  }

  get hasExited(): boolean {
    return this.#hasExited;
  }

  /** Sends a signal, if it still runs. */
  kill(signal: NodeJS.Signals): void {
    if (this.#hasExited) return;
    try {
      process.kill(this.pid, signal); // Deno's `child.kill` would close the guard's pipe as well
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // gone, not yet told
    }
  }

  /** Asks it to end, insists after a while, and waits until it is gone. */
  async end(): Promise<void> {
    this.kill("SIGTERM");
    this.kill("SIGCONT"); // a frozen process takes no SIGTERM
    const insist = setTimeout(() => this.kill("SIGKILL"), END_DEADLINE_MS);
    await this.waitForExit();
    clearTimeout(insist);
  }

  async destroy(): Promise<void> {
    this.kill("SIGKILL");
    await this.waitForExit();
  }

  /** Waits until it is gone, and keeps this process alive meanwhile. */
  async waitForExit(): Promise<void> {
    if (!this.#hasExited) this.#child.ref();
    await this.exited;
  }
}

/** Starts a Redis server and resolves when it answers. */
export async function startRedis(options: StartRedisOptions = {}): Promise<RedisServer> {
  const command = await ensureRedisServer();
  const folder = mkdtempSync(join(tmpdir(), "arq-redis-"));
  try {
    const port = options.unixSocket ? 0 : options.port ?? await reservePort();
    const server = new LocalRedis(command, folder, port, options);
    await server.start();
    return server;
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

class LocalRedis implements RedisServer {
  readonly url: string;
  readonly socketPath?: string;
  #process?: GuardedProcess;
  readonly #args: string[];

  constructor(
    readonly command: string,
    readonly folder: string,
    readonly port: number,
    { args = [], unixSocket = false, sentinel }: StartRedisOptions,
  ) {
    if (unixSocket) this.socketPath = join(folder, "redis.sock");
    this.url = unixSocket ? `unix://${this.socketPath}` : `redis://127.0.0.1:${port}`;
    const basics = [
      ...["--port", String(port), "--bind", "127.0.0.1"],
      ...(this.socketPath ? ["--unixsocket", this.socketPath] : []),
      ...["--dir", folder, "--logfile", join(folder, "redis.log"), "--daemonize", "no"],
    ];
    const database = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"];
    if (sentinel === undefined) this.#args = [...basics, ...database, ...args];
    else {
      const file = join(folder, "sentinel.conf");
      writeFileSync(file, sentinel.join("\n"));
      this.#args = [file, "--sentinel", ...basics, ...args];
    }
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  async start(): Promise<void> {
    const started = new GuardedProcess(this.command, this.#args, this.folder);
    this.#process = started;
    try {
      await this.#waitUntilAnswering(started);
    } catch (error) {
      await started.destroy();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await this.#process?.destroy(); // nothing of it is kept, so it needs no time to save
    rmSync(this.folder, { recursive: true, force: true });
  }

  kill(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  async restart(): Promise<void> {
    await this.#process?.end();
    await this.start();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #waitUntilAnswering(started: GuardedProcess): Promise<void> {
    const target = this.socketPath ? { path: this.socketPath } : this.port;
    const deadline = Date.now() + START_DEADLINE_MS;
    while (Date.now() < deadline) {
      if (started.hasExited) throw new Error(`redis-server ended at once\n${readLog(this.folder)}`);
      if (await answers(target, started.pid)) return;
      await Promise.race([pause(20), started.exited]);
    }
    throw new Error(`redis-server does not answer on ${this.url}\n${readLog(this.folder)}`);
  }
}

/**
 * Whether the server with this process id answers commands. A server that wants a password tells no
 * process id: its refusal is an answer.
 */
function answers(target: number | { path: string }, pid: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = typeof target === "number"
    ? connect({ port: target, host: "127.0.0.1" })
    : connect(target);
  const finish = (isAnswering: boolean) => {
    socket.destroy();
    resolve(isAnswering);
  };
  let reply = "";
  socket.setTimeout(1_000, () => finish(false));
  socket.on("connect", () => socket.write("PING\r\nINFO server\r\n"));
  socket.on("data", (chunk) => {
    reply += chunk.toString();
    const processId = /\r\nprocess_id:(\d+)\r\n/.exec(reply)?.[1];
    if (processId !== undefined) finish(reply.startsWith("+PONG") && Number(processId) === pid);
    else if (reply.startsWith("-")) finish(reply.startsWith("-NOAUTH"));
  });
  socket.on("error", () => finish(false));
  socket.on("close", () => finish(false));
  return promise;
}

function readLog(folder: string): string {
  try {
    return readFileSync(join(folder, "redis.log"), "utf8").slice(-2_000);
  } catch {
    return "";
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * The path of the installed server; installs it where it is missing and that needs no question.
 *
 * @throws {Error} with the command to run, where it cannot install.
 */
export function ensureRedisServer(): Promise<string> {
  return ensureProgram({ names: SERVER_NAMES, aptPackage: "redis-server", installCommand });
}

function installCommand(): string {
  if (process.platform === "darwin") return "brew install redis";
  if (findProgram("dnf")) return "sudo dnf install -y redis || sudo dnf install -y valkey";
  return "sudo apt-get update && sudo apt-get install -y redis-server";
}

let urlOfThisProcess: Promise<string> | undefined;

/**
 * The Redis service for tests: the user's own by `ARQ_TEST_REDIS_URL`, or else the run's shared
 * server, or else, for a file that is run by hand, one that ends with this process.
 *
 * Others use it at the same time, so every test takes a {@linkcode randomPrefix}.
 */
export function testRedisUrl(): Promise<string> {
  const given = process.env[OWN_SERVICE_VARIABLE] || process.env[SHARED_SERVER_VARIABLE];
  if (given) return Promise.resolve(given);
  urlOfThisProcess ??= startRedis().then((server) => server.url);
  return urlOfThisProcess;
}

/** A key prefix that no other test uses, such as `t8f3a01bc:`. */
export function randomPrefix(): string {
  return `t${crypto.getRandomValues(new Uint8Array(6)).toHex()}:`;
}
