import { Queue, QueueEvents, Worker } from "bullmq";
import { type Contender, forEachConcurrently, type Payload } from "./contender.ts";

/** One call with everything at once is slower, and one with less is no faster. */
const CHUNK = 1_000;

/**
 * BullMQ on ioredis, whose commands of one tick travel together; its `enableAutoPipelining` made
 * each figure worse. Results are kept for an hour, as the workers say: that is cheaper than an
 * option of every job.
 */
export async function bullmq(url: string): Promise<Contender> {
  const { hostname: host, port } = new URL(url);
  const connection = { host, port: Number(port), maxRetriesPerRequest: null };
  const queue = new Queue("bench-bullmq", { connection });
  await queue.waitUntilReady();
  const openWorker = async (concurrency: number) => {
    const noop = (job: { readonly data: Payload }) => Promise.resolve(job.data.id);
    const removeOnComplete = { age: 3_600 };
    const options = { connection, concurrency, removeOnComplete, autorun: false };
    const worker = new Worker("bench-bullmq", noop, options);
    await worker.waitUntilReady();
    return worker;
  };
  return {
    name: "BullMQ",
    enqueueOneByOne: (count, concurrency) =>
      forEachConcurrently(count, concurrency, (id) => queue.add("noop", { id })),
    async enqueueBulk(count) {
      for (let start = 0; start < count; start += CHUNK) {
        const length = Math.min(CHUNK, count - start);
        await queue.addBulk(
          Array.from({ length }, (_, i) => ({ name: "noop", data: { id: start + i } })),
        );
      }
    },
    async openWorker(concurrency) {
      const worker = await openWorker(concurrency);
      return {
        async run(count) {
          const { promise, resolve } = Promise.withResolvers<void>();
          let done = 0;
          worker.on("completed", () => ++done === count && resolve());
          void worker.run();
          await promise;
        },
        close: () => worker.close(),
      };
    },
    async startRoundTrips() {
      const events = new QueueEvents("bench-bullmq", { connection });
      const worker = await openWorker(10);
      await events.waitUntilReady();
      void worker.run();
      return {
        async trip() {
          const job = await queue.add("noop", { id: 1 });
          await job.waitUntilFinished(events);
        },
        stop: async () => void await Promise.all([worker.close(), events.close()]),
      };
    },
    close: () => queue.close(),
  };
}
