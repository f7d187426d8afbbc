import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** Redis as if it were so far away: every byte is on its way for `ms` milliseconds and up to one more. */
export async function putAway(
  redisUrl: string,
  ms: number,
): Promise<AsyncDisposable & { readonly url: string }> {
  const { hostname: host, port } = new URL(redisUrl);
  const sockets = new Set<Socket>();
  const relay = (from: Socket, to: Socket) => {
    sockets.add(from);
    from.on("data", (data) => setTimeout(() => to.write(data), ms));
    from.on("close", () => {
      sockets.delete(from);
      setTimeout(() => to.destroy(), ms);
    });
    from.on("error", () => from.destroy());
  };
  const server = createServer({ noDelay: true }, (near) => {
    const far = connect({ host, port: Number(port), noDelay: true });
    relay(near, far);
    relay(far, near);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await once(server.close(), "close");
    },
  };
}
