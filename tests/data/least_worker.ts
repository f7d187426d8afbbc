/** A program that runs the jobs of a queue, for tests of what it may need for that. */
import { argv } from "node:process";
import { cron, type JobContext, runWorker } from "../../mod.ts";

const [connection, prefix] = argv.slice(2);
const startUp = cron(function startUp(): void {}, "0 0 1 1 *", { runAtStartup: true });
const worker = await runWorker({
  functions: { add: (_ctx: JobContext, a: number, b: number) => a + b },
  cronJobs: [startUp],
  connection,
  prefix,
  burst: true,
});
console.log(String(worker));
