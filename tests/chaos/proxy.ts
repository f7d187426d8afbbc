/** A TCP proxy in front of Redis that cuts connections, drops replies and falls silent. */
import { Buffer } from "node:buffer";
import { connect, type Socket } from "node:net";
import { scripts } from "../../redis_scripts.ts";
import { FakeServer } from "../_fake_server.ts";

/** What is looked for in a request, by the name of the command. */
const MARKS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(Object.entries(scripts).map(([name, { sha }]) => [name, sha])),
  wait: "BLPOP",
  subscribe: "SUBSCRIBE",
  findAborts: "ZMSCORE",
  health: "health-check",
};

/** The commands whose replies can be dropped. */
export const COMMANDS: readonly string[] = Object.keys(MARKS);

type Direction = "request" | "reply";

/** A connection through the proxy. */
interface Line {
  readonly near: Socket;
  readonly far: Socket;
  /** How many bytes may still pass before the connection is cut. */
  readonly left: Record<Direction, number>;
  isSilent: boolean;
  losesReply: boolean;
}

/** A proxy on a loopback port of its own. */
export class FaultyProxy implements AsyncDisposable {
  /** How many replies were dropped, by command. */
  readonly dropped: Record<string, number> = {};
  /** How many connections were cut. */
  cuts = 0;
  readonly #lines: Set<Line> = new Set();
  readonly #target: number;
  #server: FakeServer | undefined;
  #losing: string | undefined;

  private constructor(target: number) {
    this.#target = target;
  }

  /** Starts a proxy to the server on `port`. */
  static async start(port: number): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(port);
    proxy.#server = await FakeServer.start((near) => proxy.#accept(near));
    return proxy;
  }

  /** The port to connect to. */
  get port(): number {
    return this.#server?.port ?? 0;
  }

  /** How many connections pass through at the moment. */
  get connections(): number {
    return this.#lines.size;
  }

  /** Cuts the connection instead of passing on the reply to the next such command. */
  dropReplyTo(command: string): void {
    this.#losing = command;
  }

  /** Cuts a connection once so many more bytes have passed in one direction. */
  cut(which: number, direction: Direction, bytes: number): void {
    const line = this.#line(which);
    if (line) line.left[direction] = bytes;
  }

  /** Passes nothing on any more on a connection, which stays open. */
  silence(which: number): void {
    const line = this.#line(which);
    if (line) line.isSilent = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]();
  }

  #line(which: number): Line | undefined {
    return [...this.#lines][which % this.#lines.size];
  }

  #accept(near: Socket): void {
    const far = connect({ port: this.#target, host: "127.0.0.1" });
    this.#server?.keep(far);
    const left = { request: Infinity, reply: Infinity };
    const line: Line = { near, far, left, isSilent: false, losesReply: false };
    this.#lines.add(line);
    near.on("data", (bytes) => {
      if (this.#losing !== undefined && Buffer.from(bytes).includes(MARKS[this.#losing] ?? "")) {
        line.losesReply = true;
        this.dropped[this.#losing] = (this.dropped[this.#losing] ?? 0) + 1;
        this.#losing = undefined;
      }
      this.#pass(line, "request", bytes);
    });
    far.on("data", (bytes) => {
      if (line.losesReply) this.#end(line);
      else this.#pass(line, "reply", bytes);
    });
    near.on("close", () => this.#end(line));
    far.on("close", () => this.#end(line));
  }

  #pass(line: Line, direction: Direction, bytes: Uint8Array): void {
    if (line.isSilent) return;
    const to = direction === "request" ? line.far : line.near;
    const rest = line.left[direction] -= bytes.length;
    if (rest > 0) return void to.write(bytes);
    this.cuts++;
    this.#lines.delete(line);
    to.write(bytes.subarray(0, bytes.length + rest), () => this.#end(line));
  }

  #end(line: Line): void {
    this.#lines.delete(line);
    line.near.destroy();
    line.far.destroy();
  }
}
