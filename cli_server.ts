/**
 * Serving HTTP for as long as a command runs, under Deno and under Bun.
 * @module
 */
import { UsageError } from "./cli_arguments.ts";
import { isGranted } from "./permissions.ts";

/** Where to serve. */
export interface ServeOptions {
  /** The option that asks for it, for errors. */
  readonly option: string;
  /** The address to listen on. */
  readonly hostname: string;
  /** The port; 0 for a free one. */
  readonly port: number;
}

/** A server that listens. */
export interface Server extends AsyncDisposable {
  /** Where it is reached. */
  readonly url: string;
}

/** Answers requests; `info` is what the server knows of the connection: the runtimes have each their own. */
type Handler = (request: Request, info: unknown) => Response | Promise<Response>;

interface DenoApi {
  serve(
    options: {
      readonly hostname: string;
      readonly port: number;
      readonly signal: AbortSignal;
      readonly onListen: () => void;
    },
    handler: Handler,
  ): { readonly addr: { readonly port: number }; readonly finished: Promise<void> };
}

interface BunApi {
  serve(options: {
    readonly hostname: string;
    readonly port: number;
    readonly idleTimeout: number;
    readonly fetch: Handler;
  }): { readonly port: number; stop(closeConnections: boolean): Promise<void> };
}

/**
 * Listens, and has `handler` answer; ends at once with its scope, open connections too.
 *
 * @throws {UsageError} if the port is taken, or may not be listened on.
 */
export function serve(handler: Handler, options: ServeOptions): Server {
  const { option, hostname, port } = options;
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  if (!isGranted("net", { host: `${host}:${port}` })) {
    throw new UsageError(`${option}: start Deno with --allow-net=${host}:${port}`);
  }
  try {
    const { port: actual, close } = listen(handler, options);
    return { url: `http://${host}:${actual}`, [Symbol.asyncDispose]: close };
  } catch (error) {
    const why = isTaken(error) ? "it is taken by another program" : (error as Error).message;
    throw new UsageError(`${option}: cannot listen on ${host}:${port}: ${why}`, [], error);
  }
}

interface Listening {
  readonly port: number;
  readonly close: () => Promise<void>;
}

function listen(handler: Handler, { hostname, port }: ServeOptions): Listening {
  const deno = Reflect.get(globalThis, "Deno") as DenoApi | undefined;
  if (deno) {
    const end = new AbortController();
    const options = { hostname, port, signal: end.signal, onListen: () => {} };
    const { addr, finished } = deno.serve(options, handler);
    return {
      port: addr.port,
      close: () => {
        end.abort();
        return finished;
      },
    };
  }
  const bun = Reflect.get(globalThis, "Bun") as BunApi;
  const server = bun.serve({ hostname, port, idleTimeout: 0, fetch: handler });
  return { port: server.port, close: () => server.stop(true) };
}

function isTaken(error: unknown): boolean {
  return error instanceof Error &&
    (error.name === "AddrInUse" || Reflect.get(error, "code") === "EADDRINUSE");
}
