/**
 * Loopback ports that stay ours while nothing listens on them: before a server starts, while it is
 * down, and for tests that want nobody there.
 *
 * They lie below the ports that systems hand out, so no connection and no `listen(0)` gets one.
 * Among ourselves each is held by its guard, a port that this process listens on until it ends.
 */

import { createServer, type Server } from "node:net";

const LOWEST_PORT = 10_000;
const PORTS = 6_384;
/** Guards begin above the ports on which a Cluster's nodes talk, 10,000 above their own. */
const GUARD_DISTANCE = 16_384;

/** A port on which nothing listens, and which nobody else is given while this process runs. */
export async function reservePort(): Promise<number> {
  for (;;) {
    const port = LOWEST_PORT + Math.floor(Math.random() * PORTS);
    if (await holds(port + GUARD_DISTANCE) && await isFree(port)) return port;
  }
}

async function holds(guard: number): Promise<boolean> {
  const server = createServer((socket) => socket.destroy());
  server.unref();
  return await listens(server, guard);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  if (!await listens(server, port)) return false;
  await new Promise((resolve) => server.close(resolve));
  return true;
}

/** Whether it could, or the port is somebody else's; another reason would be that of every port. */
function listens(server: Server, port: number): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  server.on(
    "error",
    (error: NodeJS.ErrnoException) => error.code === "EADDRINUSE" ? resolve(false) : reject(error),
  );
  server.listen(port, "127.0.0.1", () => resolve(true));
  return promise;
}
