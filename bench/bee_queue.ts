import BeeQueue from "bee-queue";
import { type Contender, forEachConcurrently, type Payload } from "./contender.ts";

/**
 * bee-queue, set up as its manual advises: whoever needs no events neither receives them nor keeps
 * jobs for them. Workers send theirs, since nothing else carries a result. It has no expiry for
 * finished jobs and keeps them.
 */
export async function beeQueue(url: string): Promise<Contender> {
  const { hostname: host, port } = new URL(url);
  const redis = { host, port: Number(port) };
  const newQueue = async (settings: BeeQueue.QueueSettings) =>
    await new BeeQueue<Payload>("bench-bee", { redis, ...settings }).ready();
  const newWorker = () => newQueue({ getEvents: false, storeJobs: false });
  const noop = (job: BeeQueue.Job<Payload>) => Promise.resolve(job.data.id);
  const queue = await newQueue({ isWorker: false, getEvents: false, storeJobs: false });
  return {
    name: "bee-queue",
    enqueueOneByOne: (count, concurrency) =>
      forEachConcurrently(count, concurrency, (id) => queue.createJob({ id }).save()),
    async enqueueBulk(count) {
      await queue.saveAll(Array.from({ length: count }, (_, id) => queue.createJob({ id })));
    },
    async openWorker(concurrency) {
      const worker = await newWorker();
      return {
        async run(count) {
          const { promise, resolve } = Promise.withResolvers<void>();
          let done = 0;
          worker.on("succeeded", () => ++done === count && resolve());
          worker.process(concurrency, noop);
          await promise;
        },
        close: () => worker.close(),
      };
    },
    async startRoundTrips() {
      const worker = await newWorker();
      worker.process(10, noop);
      const caller = await newQueue({ isWorker: false });
      return {
        async trip() {
          const { promise, resolve } = Promise.withResolvers<void>();
          const job = caller.createJob({ id: 1 });
          job.on("succeeded", () => resolve());
          await job.save();
          await promise;
        },
        stop: async () => void await Promise.all([worker.close(), caller.close()]),
      };
    },
    async close() {
      await queue.close();
    },
  };
}
