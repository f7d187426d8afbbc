/**
 * Fan-out: one job a file, all at once, and their results collected, failures among them.
 *
 *     deno run -A examples/fan_out.ts [FOLDER]
 *     bun examples/fan_out.ts [FOLDER]
 *
 * It counts the words of a folder's documents (of this repository's without one). The queue lives in
 * memory, or where `ARQ_URL` says.
 */
import { createPool, type JobContext, Worker } from "@arq/arq";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** One document. */
async function countWords(_ctx: JobContext, path: string): Promise<number> {
  const text = await readFile(path, "utf8");
  return text.split(/\s+/).filter((word) => word !== "").length;
}

/**
 * All of them, as a job: it enqueues the others and waits. They go to a queue of their own, since a
 * job that waits keeps its place among its worker's `maxJobs`: in one queue, jobs that wait for jobs
 * could take all places and wait for ever.
 *
 * It may run more than once, so the parts get ids that follow from its own: the next try finds those
 * that are there.
 */
async function countFolder(ctx: JobContext, folder: string): Promise<Record<string, number>> {
  const files = (await readdir(folder)).filter((file) => file.endsWith(".md")).sort();
  const queueName = `${ctx.queueName}:parts`;
  const parts = files.map((file) => ({ file, jobId: `${ctx.jobId} ${file}` }));
  await ctx.arq.enqueueJobs(parts.map(({ file, jobId }) => ({
    name: "countWords",
    args: [join(folder, file)],
    options: { jobId, queueName },
  })));
  const { signal } = ctx; // an abort of this job ends the waiting
  const counts = await Promise.all(parts.map(async ({ file, jobId }) => {
    const job = ctx.arq.job(jobId, { queueName });
    return [file, await job.result({ signal }) as number] as const;
  }));
  return Object.fromEntries(counts);
}

const functions = { countWords, countFolder };
const connection = process.env.ARQ_URL || "sqlite::memory:";
const queueName = "example:fan-out";

await using arq = await createPool<typeof functions>(connection, { defaultQueueName: queueName });
await using folders = new Worker({ functions, connection, queueName });
await using parts = new Worker({ functions, connection, queueName: `${queueName}:parts` });
const running = Promise.all([folders.run(), parts.run()]);

const folder = process.argv[2] ?? fileURLToPath(new URL("..", import.meta.url));
console.table(await arq.call("countFolder", [folder]));

// From a program it is simpler, for it takes nobody's place. A failure does not stop the others.
const requests = ["README.md", "missing.md"].map((file) => ({
  name: "countWords" as const,
  args: [join(folder, file)] as const,
  options: { queueName: `${queueName}:parts` },
}));
const jobs = await arq.enqueueJobs(requests);
for (const [i, end] of (await Promise.allSettled(jobs.map((job) => job.result()))).entries()) {
  const file = requests[i]?.args[0];
  console.log(end.status === "fulfilled" ? `${file}: ${end.value}` : `failed: ${end.reason.code}`);
}

await Promise.all([folders.close(), parts.close()]);
await running;
