/**
 * Some workers on one queue, for `workers.ts`: prints a line when all of them run and, once its
 * input ends, how often it has run each job.
 */
import process from "node:process";
import { Worker } from "../mod.ts";

const [url = "", workerCount = "", maxJobs = "", jobCount = ""] = process.argv.slice(2);
const counts = new Array<number>(Number(jobCount)).fill(0);

/** What the workers run: it counts. */
export const functions = {
  count(_ctx: unknown, id: number): void {
    counts[id] = (counts[id] ?? 0) + 1;
  },
};

async function start(): Promise<{ stop(): Promise<void> }> {
  const { promise: started, resolve: onStartup } = Promise.withResolvers<void>();
  const settings = { functions, connection: url, maxJobs: Number(maxJobs), onStartup };
  const worker = new Worker(settings);
  const running = worker.run();
  await Promise.race([started, running]);
  return {
    async stop() {
      await worker.close();
      await running;
    },
  };
}

const workers = await Promise.all(Array.from({ length: Number(workerCount) }, start));
console.log("ready");
process.stdin.resume();
process.stdin.on("end", async () => {
  await Promise.all(workers.map((worker) => worker.stop()));
  console.log(JSON.stringify(counts));
});
