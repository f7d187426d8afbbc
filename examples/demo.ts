/**
 * The manual's example on real input: downloads with retries, a deferred job, a unique one, an
 * aborted one and a cron job, a worker's log, and a table of how they ended.
 *
 * `deno task demo` downloads this repository's files from a server on loopback,
 * `deno task demo URL…` the given addresses. The queue lives in memory, or in the store that
 * `ARQ_URL` names, such as `sqlite:demo.db` or `redis://localhost:6379`. The exit code is 0 only if
 * every job ended as it should.
 */
import { createPool, cron, func, type Job, type JobContext, Retry, Worker } from "@arq/arq";
import { configure, getConsoleSink, type LogRecord } from "@logtape/logtape";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";

const ROOT = new URL("../", import.meta.url);

/** What `onStartup` puts on the context of every job. */
interface State {
  downloaded: number;
}
type Ctx = JobContext<State>;

async function downloadContent(ctx: Ctx, url: string): Promise<number> {
  const response = await fetch(url, { signal: ctx.signal });
  // Delays grow with the tries: 0.1 s, 0.2 s, 0.3 s, 0.4 s; then the job fails for good.
  if (response.status === 503) throw new Retry({ defer: { milliseconds: ctx.jobTry * 100 } });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  const { length } = await response.text();
  ctx.downloaded += length;
  return length;
}

function greet(_ctx: Ctx, name: string): string {
  return `Hello ${name}`;
}

const { promise: firstTick, resolve: onTick } = Promise.withResolvers<string>();

function tick(ctx: Ctx): void {
  onTick(ctx.jobId);
}

const functions = { downloadContent, greet: func(greet, { maxTries: 2 }) };

/** A job, and how it should end. */
interface Expected {
  readonly what: string;
  readonly job: Job;
  readonly end: "success" | "JobExecutionFailed" | "JobAborted";
}

await configure({
  sinks: { console: getConsoleSink({ formatter: logLine }) },
  loggers: [
    { category: "arq", lowestLevel: "info", sinks: ["console"] },
    { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["console"] },
  ],
});
process.exitCode = await main(process.argv.slice(2)) ? 0 : 1;

async function main(urls: readonly string[]): Promise<boolean> {
  const connection = process.env.ARQ_URL || "sqlite::memory:";
  const prefix = `demo-${crypto.randomUUID().slice(0, 8)}:`; // whatever else is in the store
  const server = await serveRepository();
  const worker = new Worker<State>({
    functions,
    cronJobs: [cron(tick, "* * * * * *")],
    connection,
    prefix,
    maxJobs: 20,
    onStartup: (ctx) => {
      ctx.downloaded = 0;
    },
  });
  await using arq = await createPool<typeof functions>(connection, { prefix });
  const running = worker.run();
  try {
    const { port } = server.address() as AddressInfo;
    const rows = await report(await enqueueAll(arq, `http://127.0.0.1:${port}`, urls));
    rows.push(await cronRow(arq));
    console.log();
    console.table(rows);
    return rows.every(({ "as it should": ok }) => ok === "yes");
  } finally {
    await worker.close();
    await running;
    server.close();
    server.closeAllConnections();
  }
}

async function enqueueAll(
  arq: Awaited<ReturnType<typeof createPool<typeof functions>>>,
  server: string,
  urls: readonly string[],
): Promise<Expected[]> {
  const targets = urls.length > 0 ? urls : repositoryFiles().map((file) => `${server}/${file}`);
  const downloads = await arq.enqueueJobs(
    targets.map((url) => ({ name: "downloadContent" as const, args: [url] as const })),
  );
  const failing = await arq.enqueueJob("downloadContent", [`${server}/status/503`]);
  const deferred = await arq.enqueueJob("greet", ["later"], { deferBy: { seconds: 1 } });
  const unique = await arq.enqueueJob("greet", ["only one"], { jobId: "greeting" });
  const refused = await arq.enqueueJob("greet", ["another"], { jobId: "greeting" });
  if (unique === null || refused !== null) throw new Error("an id was not unique");
  const hanging = await arq.enqueueJob("downloadContent", [`${server}/never`]);
  while (await hanging.status() !== "in_progress") await new Promise((go) => setTimeout(go, 20));
  await hanging.abort();
  return [
    ...downloads.map((job, i) => ({ what: targets[i] ?? "", job, end: "success" as const })),
    { what: "a URL that fails", job: failing, end: "JobExecutionFailed" },
    { what: "deferred by 1 s", job: deferred, end: "success" },
    { what: "enqueued twice under one id", job: unique, end: "success" },
    { what: "aborted", job: hanging, end: "JobAborted" },
  ];
}

type Row = Record<"job" | "status" | "tries" | "result" | "as it should", unknown>;

async function report(jobs: readonly Expected[]): Promise<Row[]> {
  return await Promise.all(jobs.map(async ({ what, job, end }) => {
    await job.result({ timeout: { seconds: 60 } }).catch(() => {}); // The table tells the error.
    const info = await job.resultInfo();
    const ended = info?.success ? "success" : (info?.result as Error | undefined)?.name;
    return {
      job: what,
      status: await job.status(),
      tries: info?.jobTry,
      result: info?.success ? info.result : String(info?.result),
      "as it should": ended === end ? "yes" : `no, wanted ${end}`,
    };
  }));
}

async function cronRow(arq: Awaited<ReturnType<typeof createPool>>): Promise<Row> {
  const job = arq.job(await firstTick);
  await job.result({ timeout: { seconds: 10 } });
  const info = await job.resultInfo();
  return {
    job: "a cron job, every second",
    status: await job.status(),
    tries: info?.jobTry,
    result: info?.jobId,
    "as it should": info?.success ? "yes" : "no",
  };
}

function repositoryFiles(): string[] {
  return readdirSync(ROOT).filter((file) => /\.(ts|md|json)$/.test(file)).sort();
}

/** Serves the repository's files; `/status/503` always fails and `/never` never answers. */
async function serveRepository(): Promise<Server> {
  const files = new Set(repositoryFiles());
  const server = createServer((request, response) => {
    const file = (request.url ?? "").slice(1);
    if (file === "never") return;
    if (file === "status/503") response.statusCode = 503;
    else if (!files.has(file)) response.statusCode = 404;
    response.end(files.has(file) ? readFileSync(new URL(file, ROOT)) : "");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

function logLine({ timestamp, message }: LogRecord): string {
  return `${new Date(timestamp).toTimeString().slice(0, 8)}: ${message.join("")}`;
}
