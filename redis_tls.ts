/**
 * A look at a server's TLS before the client of `@redis/client` connects.
 *
 * What a server has against our certificate it says right after the handshake. Under Deno that error
 * comes before the client listens to its socket, and would end the program.
 * @module
 */
import { connect } from "node:tls";
import { tlsOptions } from "./redis_clients.ts";
import { isCertificateError } from "./redis_errors.ts";
import type { RedisTarget } from "./redis_settings.ts";

/**
 * Asks the first node once; goes on silently where there is no TLS, or other trouble than with
 * certificates.
 *
 * @throws what a certificate is refused with, on either side.
 */
export async function checkTls(
  { tls, nodes: [node], unixSocketPath }: RedisTarget,
  signal: AbortSignal,
): Promise<void> {
  if (!tls || !node || unixSocketPath !== undefined) return;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect({ ...node, ...tlsOptions(tls) });
  signal.addEventListener("abort", () => socket.destroy(), { once: true });
  socket.on("secureConnect", () => socket.write("PING\r\n"));
  socket.on("error", reject);
  for (const event of ["data", "close"]) socket.on(event, () => resolve());
  try {
    await promise;
  } catch (error) {
    if (isCertificateError(error)) throw error;
  } finally {
    socket.destroy();
  }
}
