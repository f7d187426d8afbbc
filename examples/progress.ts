/**
 * Progress to the browser by server-sent events: open the page and watch the bar.
 *
 *     deno run -A examples/progress.ts            http://localhost:8000, or the port that PORT names
 *     bun examples/progress.ts
 *
 * The worker is part of this program to keep it short; it could run anywhere. The queue lives in
 * memory, or where `ARQ_URL` says.
 */
import { createPool, type Job, type JobContext, ResultNotFound, Worker } from "@arq/arq";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";

/** Says how far it is, as often as it likes; about ten times a second it is sent. */
async function develop(ctx: JobContext, pictures: number): Promise<string> {
  for (let done = 0; done < pictures; done++) {
    ctx.progress({ done, of: pictures });
    await delay(20, undefined, { signal: ctx.signal });
  }
  return `${pictures} pictures`;
}

const functions = { develop };
await using arq = await createPool<typeof functions>(process.env.ARQ_URL || "sqlite::memory:", {
  defaultQueueName: "example:progress",
});
await using worker = new Worker({ functions, connection: arq });
const running = worker.run();

/** Sends a job's events until it has ended or the browser has gone. */
async function sendEvents(job: Job, response: ServerResponse): Promise<void> {
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  try {
    for await (const event of job.events({ signal: gone.signal })) {
      const data = event.kind === "finished" && !event.success
        ? { ...event, error: String(event.error) } // not its stack: the browser is a stranger
        : event;
      response.write(`event: ${event.kind}\ndata: ${JSON.stringify(data)}\n\n`);
    }
  } catch (error) {
    if (gone.signal.aborted) return;
    if (!(error instanceof ResultNotFound)) throw error;
    response.write(`event: missing\ndata: {}\n\n`);
  }
  response.end();
}

// A browser connects again after the end, so the page closes its source by itself.
const PAGE = `<!doctype html>
<meta charset="utf-8">
<title>Progress</title>
<button>Develop</button> <progress value="0"></progress> <output></output>
<script>
const [button, bar, output] = document.querySelectorAll("button, progress, output");
button.onclick = async () => {
  const { id } = await (await fetch("/jobs", { method: "POST" })).json();
  const events = new EventSource("/jobs/" + id + "/events");
  events.addEventListener("progress", ({ data }) => {
    const { value } = JSON.parse(data);
    bar.max = value.of;
    bar.value = value.done;
  });
  events.addEventListener("finished", ({ data }) => {
    const { result, error } = JSON.parse(data);
    events.close();
    bar.value = bar.max;
    output.value = result ?? error;
  });
};
</script>`;

const server = createServer(async (request, response) => {
  const [, root = "", id, events] = (request.url ?? "").split("/");
  if (root === "") {
    response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
  } else if (root === "jobs" && !id && request.method === "POST") {
    const job = await arq.enqueueJob("develop", [50]);
    response.writeHead(202, { "content-type": "application/json" });
    response.end(JSON.stringify({ id: job.jobId }));
  } else if (root === "jobs" && id && events === "events") {
    await sendEvents(arq.job(decodeURIComponent(id)), response);
  } else {
    response.writeHead(404).end();
  }
});
server.listen(Number(process.env.PORT ?? 8000), "127.0.0.1", () => {
  console.log(`Listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});

const { promise: told, resolve: stop } = Promise.withResolvers<void>();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop());
await told;
server.close();
server.closeAllConnections();
await worker.close();
await running;
