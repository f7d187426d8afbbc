/**
 * The web service in Deno. Start a worker too, see `tasks.ts`.
 *
 *     deno run -A examples/web/deno.ts            on port 8000, or the one that PORT names
 */
import process from "node:process";
import { handle, openQueue } from "./service.ts";

await using arq = await openQueue();
const server = Deno.serve(
  { hostname: "127.0.0.1", port: Number(process.env.PORT ?? 8000) },
  (request) => handle(arq, request),
);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, () => void server.shutdown());
}
await server.finished; // then the pool is closed
