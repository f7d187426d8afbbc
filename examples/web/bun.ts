/**
 * The web service in Bun. Start a worker too, see `tasks.ts`.
 *
 *     bun examples/web/bun.ts                     on port 8000, or the one that PORT names
 */
import process from "node:process";
import { handle, openQueue } from "./service.ts";

/** The part of Bun's types that is needed here; with `@types/bun` installed leave it out. */
declare const Bun: {
  serve(options: {
    hostname: string;
    port: number;
    fetch(request: Request): Promise<Response>;
  }): { readonly url: URL; stop(): Promise<void> };
};

const arq = await openQueue();
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT ?? 8000),
  fetch: (request) => handle(arq, request),
});
console.log(`Listening on ${server.url}`);

async function shutDown(): Promise<void> {
  await server.stop(); // requests that are under way get their answers
  await arq.close();
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void shutDown());
