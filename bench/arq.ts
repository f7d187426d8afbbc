import { type ArqClient, createPool, type JobContext, Worker } from "../mod.ts";
import { type Contender, forEachConcurrently, type Payload } from "./contender.ts";

const functions = { noop: (_ctx: JobContext, payload: Payload) => payload.id };
type Client = ArqClient<typeof functions>;

/** This library: results kept for an hour, its default. */
export async function arq(url: string): Promise<Contender> {
  const client: Client = await createPool<typeof functions>(url, { prefix: "bench-arq:" });
  const newWorker = (maxJobs: number, burst: boolean) =>
    new Worker({ functions, connection: client, maxJobs, burst });
  return {
    name: "arq",
    enqueueOneByOne: (count, concurrency) =>
      forEachConcurrently(count, concurrency, (id) => client.enqueueJob("noop", [{ id }])),
    async enqueueBulk(count) {
      await client.enqueueJobs(
        Array.from({ length: count }, (_, id) => ({ name: "noop" as const, args: [{ id }] })),
      );
    },
    openWorker(concurrency) {
      const worker = newWorker(concurrency, true);
      return Promise.resolve({
        // The worker's start and its end, up to the queue found empty, are in the time.
        async run(count: number) {
          const completed = await worker.runCheck();
          if (completed !== count) throw new Error(`arq ran ${completed} of ${count} jobs`);
        },
        close: () => worker.close(),
      });
    },
    async startRoundTrips() {
      const worker = newWorker(10, false);
      const running = worker.run();
      await client.call("noop", [{ id: 0 }]);
      return {
        trip: async () => void await client.call("noop", [{ id: 1 }]),
        async stop() {
          await worker.close();
          await running;
        },
      };
    },
    close: () => client.close(),
  };
}
