import BeeQueue from "bee-queue";
import { type Contender, forEachConcurrently, type Payload } from "./contender.ts";

/** bee-queue, with its defaults; it has no expiry for finished jobs and keeps them. */
export async function beeQueue(url: string): Promise<Contender> {
  const { hostname: host, port } = new URL(url);
  const redis = { host, port: Number(port) };
  const newQueue = (options: BeeQueue.QueueSettings) =>
    new BeeQueue<Payload>("bench-bee", { redis, ...options });
  const queue = newQueue({ isWorker: false });
  await queue.ready();
  return {
    name: "bee-queue",
    enqueueOneByOne: (count, concurrency) =>
      forEachConcurrently(count, concurrency, (id) => queue.createJob({ id }).save()),
    async enqueueBulk(count) {
      await queue.saveAll(Array.from({ length: count }, (_, id) => queue.createJob({ id })));
    },
    async run(count, concurrency) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const worker = newQueue({ getEvents: false });
      let done = 0;
      worker.on("succeeded", () => ++done === count && resolve());
      worker.process(concurrency, (job: BeeQueue.Job<Payload>) => Promise.resolve(job.data.id));
      await promise;
      await worker.close();
    },
    async startRoundTrips() {
      const worker = newQueue({ getEvents: false });
      worker.process(10, (job: BeeQueue.Job<Payload>) => Promise.resolve(job.data.id));
      await worker.ready();
      return {
        async trip() {
          const { promise, resolve } = Promise.withResolvers<void>();
          const job = queue.createJob({ id: 1 });
          job.on("succeeded", () => resolve());
          await job.save();
          await promise;
        },
        stop: () => worker.close(),
      };
    },
    async close() {
      await queue.close();
    },
  };
}
