/**
 * What the web service answers, whichever server it runs in: `deno.ts` and `bun.ts` start it.
 *
 *     curl -d 'to be or not to be' 'localhost:8000/counts?word=be'     202, {"id":"…"}
 *     curl localhost:8000/counts/ID                                    {"status":"complete","count":2}
 */
import { type ArqClient, createPool } from "@arq/arq";
import type { functions } from "./tasks.ts"; // the type alone: the worker's code stays there
import process from "node:process";

type Client = ArqClient<typeof functions>;

/** One pool for the whole service, opened at its start. */
export async function openQueue(): Promise<Client> {
  const connection = process.env.ARQ_URL || "sqlite:web.db";
  return await createPool<typeof functions>(connection, { defaultQueueName: "example:web" });
}

/** Answers a request. */
export async function handle(arq: Client, request: Request): Promise<Response> {
  const { pathname, searchParams } = new URL(request.url);
  const [, root, id] = pathname.split("/");
  if (root !== "counts") return Response.json({ error: "try /counts" }, { status: 404 });
  if (request.method === "POST" && !id) {
    return await enqueue(arq, await request.text(), searchParams.get("word") ?? "");
  }
  if (request.method === "GET" && id) return await show(arq, decodeURIComponent(id));
  return Response.json({ error: "POST /counts?word=… or GET /counts/ID" }, { status: 405 });
}

/** Accepts the work and answers at once; an Idempotency-Key would be the job's id. */
async function enqueue(arq: Client, text: string, word: string): Promise<Response> {
  const { jobId } = await arq.enqueueJob("countWord", [text, word]);
  const headers = { location: `/counts/${encodeURIComponent(jobId)}` };
  return Response.json({ id: jobId }, { status: 202, headers });
}

/** Tells where a job is, without waiting for it. */
async function show(arq: Client, id: string): Promise<Response> {
  const job = arq.job(id, { functionName: "countWord" });
  const status = await job.status();
  if (status === "not_found") return Response.json({ status }, { status: 404 });
  const end = await job.resultInfo();
  if (!end) return Response.json({ status });
  if (end.success) return Response.json({ status, count: end.result });
  return Response.json({ status, error: String(end.result) });
}
