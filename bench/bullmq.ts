import { Queue, QueueEvents, Worker } from "bullmq";
import { type Contender, forEachConcurrently } from "./contender.ts";

const KEEP = { removeOnComplete: { age: 3600 } };
/** Its own recommendation for bulk; one call with everything at once is slower. */
const CHUNK = 1_000;

/** BullMQ, with its defaults and results kept for an hour. */
export function bullmq(url: string): Promise<Contender> {
  const { hostname: host, port } = new URL(url);
  const connection = { host, port: Number(port), maxRetriesPerRequest: null };
  const queue = new Queue("bench-bullmq", { connection });
  const newWorker = (concurrency: number) =>
    new Worker("bench-bullmq", (job) => Promise.resolve(job.data.id), { connection, concurrency });
  return Promise.resolve({
    name: "BullMQ",
    enqueueOneByOne: (count, concurrency) =>
      forEachConcurrently(count, concurrency, (id) => queue.add("noop", { id }, KEEP)),
    async enqueueBulk(count) {
      for (let start = 0; start < count; start += CHUNK) {
        const length = Math.min(CHUNK, count - start);
        await queue.addBulk(
          Array.from({ length }, (_, i) => ({ name: "noop", data: { id: start + i }, opts: KEEP })),
        );
      }
    },
    async run(count, concurrency) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const worker = newWorker(concurrency);
      let done = 0;
      worker.on("completed", () => ++done === count && resolve());
      await promise;
      await worker.close();
    },
    async startRoundTrips() {
      const events = new QueueEvents("bench-bullmq", { connection });
      const worker = newWorker(10);
      await Promise.all([events.waitUntilReady(), worker.waitUntilReady()]);
      return {
        async trip() {
          const job = await queue.add("noop", { id: 1 }, KEEP);
          await job.waitUntilFinished(events);
        },
        stop: async () => void await Promise.all([worker.close(), events.close()]),
      };
    },
    close: () => queue.close(),
  });
}
