/**
 * Retries with back-off: a server that is overloaded at first, and a job that gives it time.
 *
 *     deno run -A examples/retries.ts
 *     bun examples/retries.ts
 *
 * The queue lives in memory, or where `ARQ_URL` says, such as `redis://localhost:6379`.
 */
import { createPool, func, type JobContext, JobExecutionFailed, Retry, Worker } from "@arq/arq";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";

const BASE_MS = 50; // seconds rather, in earnest
const LONGEST_MS = 1_000;

/** Twice as long with each try; half of it is chance, so that not all come back at once. */
function backOff(jobTry: number): number {
  const longest = Math.min(LONGEST_MS, BASE_MS * 2 ** (jobTry - 1));
  return longest / 2 + Math.random() * longest / 2;
}

async function download(ctx: JobContext, url: string): Promise<string> {
  const response = await fetch(url, { signal: ctx.signal });
  console.log(`${new URL(url).pathname}, try ${ctx.jobTry}: ${response.status}`);
  if (response.ok) return await response.text();
  // Only what passes is worth another try; a 404 fails at once.
  const passes = response.status === 429 || response.status >= 500;
  if (!passes) throw new Error(`${url} answered ${response.status}`);
  const cause = new Error(`${url} answered ${response.status}`); // the log shows it
  throw new Retry({ defer: { milliseconds: backOff(ctx.jobTry) }, cause });
}

const functions = { download: func(download, { maxTries: 4 }) };

/** Answers 503 twice and then well under `/busy`, always 503 under `/down`, else 404. */
let requests = 0;
const server = createServer((request, response) => {
  const isWell = request.url === "/busy" && ++requests > 2;
  response.statusCode = isWell ? 200 : request.url === "/missing" ? 404 : 503;
  response.end(isWell ? "a page" : "");
});
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

await using arq = await createPool<typeof functions>(process.env.ARQ_URL || "sqlite::memory:", {
  defaultQueueName: "example:retries",
});
await using worker = new Worker({ functions, connection: arq });
const running = worker.run();

console.log("busy:", await arq.call("download", [`${origin}/busy`])); // a page, on the third try
for (const path of ["missing", "down"]) {
  const job = await arq.enqueueJob("download", [`${origin}/${path}`]);
  const error: unknown = await job.result().catch((error) => error);
  const kind = error instanceof JobExecutionFailed ? "out of tries" : "failed at once";
  console.log(`${path}: ${kind} after ${(await job.resultInfo())?.jobTry}`);
}

await worker.close();
await running;
server.close();
server.closeAllConnections();
