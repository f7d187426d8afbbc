/**
 * Measures how late an idle worker starts jobs that were deferred by a second, and prints it as one
 * line of JSON. Their due time is the server's; server and worker share one clock here.
 */
import { startRedis } from "../tests/_redis.ts";
import { type ArqClient, createPool, type JobContext, Worker } from "../mod.ts";
import { pause, print, quantile, QUICK } from "./figures.ts";

const JOBS = QUICK ? 200 : 600;
/** They become due one after another, all over the second. */
const APART_MS = 5;

const lateness: number[] = [];
const functions = {
  note(ctx: JobContext): void {
    lateness.push(performance.timeOrigin + performance.now() - ctx.score);
  },
};
type Client = ArqClient<typeof functions>;

async function deferJobs(client: Client, count: number): Promise<void> {
  const until = lateness.length + count;
  for (let i = 0; i < count; i++) {
    await client.enqueueJob("note", [], { deferBy: { seconds: 1 } });
    await pause(APART_MS);
  }
  while (lateness.length < until) await pause(APART_MS);
}

await using redis = await startRedis();
await using client: Client = await createPool<typeof functions>(redis.url);
await using worker = new Worker({ functions, connection: redis.url });
const running = worker.run();
await deferJobs(client, JOBS / 10); // The runtime compiles what is hot.
lateness.length = 0;
await deferJobs(client, JOBS);
print({
  "deferred by 1 s, lateness p50, ms": quantile(lateness, 0.5),
  "deferred by 1 s, lateness p99, ms": quantile(lateness, 0.99),
});
await worker.close();
await running;
