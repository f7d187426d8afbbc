/**
 * Unique jobs: whoever asks, and however often, one invoice is made for a customer and month.
 *
 *     deno run -A examples/unique.ts
 *     bun examples/unique.ts
 *
 * The queue lives in memory, or where `ARQ_URL` says.
 */
import { createPool, func, type JobContext, Worker } from "@arq/arq";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";

let invoices = 0;
const makeInvoice = (_ctx: JobContext, customer: string, month: string): string =>
  `invoice ${++invoices} for ${customer}, ${month}`;
let backups = 0;
const backUp = (): number => ++backups;

const functions = {
  // Its result, and with it the id, is kept for a day: until then there is no second one.
  makeInvoice: func(makeInvoice, { keepResult: { hours: 24 } }),
  // No result is kept, so the id is free again as soon as the job has ended: one at a time.
  backUp: func(backUp, { keepResult: 0 }),
};

await using arq = await createPool<typeof functions>(process.env.ARQ_URL || "sqlite::memory:", {
  defaultQueueName: "example:unique",
});

const run = crypto.randomUUID().slice(0, 8); // so that this program can be run twice
const jobId = `invoice ann 2031-05 ${run}`;
const jobs = await Promise.all(
  Array.from({ length: 50 }, () => arq.enqueueJob("makeInvoice", ["ann", "2031-05"], { jobId })),
);
console.log(`accepted: ${jobs.filter((job) => job !== null).length} of ${jobs.length}`); // 1 of 50

await using worker = new Worker({ functions, connection: arq });
const running = worker.run();

// null means: that job is there already. Its handle needs nothing but the id.
console.log(await arq.job(jobId, { functionName: "makeInvoice" }).result());
// call() does both: it enqueues, or else waits for the job that is there.
console.log(await arq.call("makeInvoice", ["ann", "2031-05"], { jobId })); // the same invoice

const backup = { jobId: `backup ${run}` };
const first = await arq.enqueueJob("backUp", [], { ...backup, deferBy: 50 });
const second = await arq.enqueueJob("backUp", [], backup);
console.log(`while one waits: ${second}`); // null
while (await first?.status() !== "not_found") await delay(10);
const third = await arq.enqueueJob("backUp", [], backup);
console.log(`once it has ended: ${third === null ? "refused" : "accepted"}`); // accepted

await worker.close();
await running;
