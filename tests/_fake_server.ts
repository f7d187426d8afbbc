/** Servers that misbehave, for tests of connecting. */
import { Buffer } from "node:buffer";
import { connect, createServer, type Server, type Socket } from "node:net";

/** A server on a free loopback port. */
export class FakeServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets: Set<Socket> = new Set();
  /** How many connections were accepted. */
  accepted = 0;
  port = 0;

  private constructor(onConnection: (socket: Socket) => void) {
    this.#server = createServer((socket) => {
      this.accepted++;
      this.keep(socket);
      onConnection(socket);
    });
  }

  /** Listens; `onConnection` gets every connection. */
  static async start(onConnection: (socket: Socket) => void): Promise<FakeServer> {
    const fake = new FakeServer(onConnection);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    fake.#server.once("error", reject).listen(0, "127.0.0.1", resolve);
    await promise;
    const address = fake.#server.address();
    fake.port = typeof address === "object" && address ? address.port : 0;
    return fake;
  }

  /** Closes this socket with the server. */
  keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    for (const socket of this.#sockets) socket.destroy();
    await promise;
  }
}

/** Answers every piece of a request with the same text. */
export function startParrot(text: string): Promise<FakeServer> {
  return FakeServer.start((socket) => socket.on("data", () => socket.write(text)));
}

/** A relay to a real server that can lose replies. */
export interface LossyRelay extends AsyncDisposable {
  readonly port: number;
  /** Cuts the connection instead of passing the reply to the next request that contains `word`. */
  loseReplyTo(word: string): void;
  /** Passes nothing on any more on the connections of now; new ones work. */
  silence(): void;
  /** Cuts every connection, and each new one, until it is mended. */
  cut(): void;
  /** Lets connections through again. */
  mend(): void;
  /** How many replies were lost. */
  readonly lost: number;
}

/** Starts a relay to the server on `port`. */
export async function startLossyRelay(port: number): Promise<LossyRelay> {
  let word: Buffer | undefined;
  let lost = 0;
  let age = 0;
  let isCut = false;
  const cutters = new Set<() => void>();
  const server = await FakeServer.start((near) => {
    if (isCut) return void near.destroy();
    const far = connect({ port, host: "127.0.0.1" });
    server.keep(far);
    const born = age;
    let isLosing = false;
    near.on("data", (request) => {
      if (born < age) return;
      if (word !== undefined && Buffer.from(request).includes(word)) {
        isLosing = true;
        word = undefined;
      }
      far.write(request);
    });
    far.on("data", (reply) => {
      if (born < age) return;
      if (!isLosing) return void near.write(reply);
      lost++;
      near.destroy();
      far.destroy();
    });
    const cut = () => near.destroy();
    cutters.add(cut);
    near.on("close", () => {
      cutters.delete(cut);
      far.destroy();
    });
    far.on("close", () => near.destroy());
  });
  return {
    port: server.port,
    loseReplyTo: (text) => word = Buffer.from(text),
    silence: () => age++,
    cut: () => {
      isCut = true;
      for (const cut of cutters) cut();
    },
    mend: () => isCut = false,
    get lost() {
      return lost;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
