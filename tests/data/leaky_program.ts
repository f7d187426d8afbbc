/**
 * A program without handlers for what nobody awaits, so that an unhandled rejection ends it. What it
 * lets go rejects long after it was given up.
 */
import { argv } from "node:process";
import { createPool, Worker } from "../../mod.ts";

const [, , connection = "", prefix = ""] = argv;
const rejections: Promise<unknown>[] = [];

/** Heeds nothing, and rejects when it was given up already. */
function late(): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  const { promise: over, resolve } = Promise.withResolvers<void>();
  rejections.push(over);
  setTimeout(() => {
    reject(new Error("too late"));
    setTimeout(resolve, 50); // by then an unhandled rejection would have ended the program
  }, 300);
  return promise;
}

const arq = await createPool(connection, { prefix });
const stop = new AbortController();
const worker = new Worker({
  functions: { late, forever: late, quick: () => 1 },
  connection: arq,
  pollDelay: 20,
  jobTimeout: 50,
  abortGrace: 50,
  onJobEnd: ({ functionName }) => functionName === "quick" ? late() : undefined,
  afterJobEnd: ({ functionName }) => functionName === "quick" ? late() : undefined,
});
const running = worker.run({ signal: stop.signal });

const jobs = await arq.enqueueJobs([{ name: "late" }, { name: "late" }, { name: "quick" }]);
for (const job of jobs) await job.result({ timeout: 1 }).catch(() => {});
for (const job of jobs.slice(0, 2)) await job.result().catch(() => {});
await jobs[2].result();
const waiting = jobs[0].result({ timeout: 5_000, pollDelay: 10 }).catch(() => {});
stop.abort();
await running;
const lost = (await arq.enqueueJob("nobody")).result({ timeout: 60_000 }).catch(() => {});
await arq.close();
await Promise.all([...rejections, waiting]);
void lost;
console.log(String(worker));
