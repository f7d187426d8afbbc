import { createPool } from "../mod.ts";
import { newJobId } from "../job_ids.ts";
import type { Claim } from "../store.ts";
import type { Contender } from "./contender.ts";

const PREFIX = "bench-floor:";
const QUEUE = `${PREFIX}queue`;
/** The ids of one caller's jobs begin alike, and share a channel. */
const CALLER = "000000000000";
const RECORD = new Uint8Array(110);
const LEASE_MS = 30_000;
const HOUR_MS = 3_600_000;

/** A bare loop over this library's own scripts, with no library around it. */
export async function floor(url: string): Promise<Contender> {
  const client = await createPool(url, { prefix: PREFIX });
  const { store } = client;
  const finish = (leases: readonly Claim[]) =>
    store.finish(
      QUEUE,
      leases.map((lease) => ({
        lease,
        success: true,
        record: RECORD,
        keepMs: HOUR_MS,
        lockTailMs: 0,
      })),
    );
  return {
    name: "floor",
    async enqueueBulk(count) {
      await client.enqueueJobs(
        Array.from({ length: count }, (_, id) => ({ name: "noop", args: [{ id }] })),
      );
    },
    openWorker(concurrency) {
      return Promise.resolve({
        async run(count: number) {
          let done = 0;
          let finishing: Promise<unknown> = Promise.resolve();
          while (done < count) {
            const { claims } = await store.claim(QUEUE, {
              holder: "floor",
              limit: concurrency,
              leaseMs: LEASE_MS,
            });
            done += claims.length;
            finishing = finish(claims);
          }
          await finishing;
        },
        close: () => Promise.resolve(),
      });
    },
    startRoundTrips() {
      const line = store.openWakeLine(QUEUE);
      let isOver = false;
      const serve = async () => {
        for (let wakeUps = 1; !isOver; wakeUps++) {
          const request = { holder: `floor-${wakeUps}`, limit: 1, leaseMs: LEASE_MS };
          const reply = await line.wait(request);
          if (typeof reply === "object" && reply.claims.length > 0) void finish(reply.claims);
        }
      };
      serve().catch((error) => {
        if (!isOver) throw error; // it waits until the line is closed
      });
      return Promise.resolve({
        async trip() {
          const jobId = `${CALLER}@${newJobId()}`;
          const { promise: ended, resolve } = Promise.withResolvers<void>();
          await using _ = await store.onFinished(jobId, () => resolve(), true);
          const job = { jobId, payload: RECORD, idKind: "random" as const };
          await Promise.all([store.enqueue(QUEUE, [job], HOUR_MS), ended]);
        },
        stop() {
          isOver = true;
          line[Symbol.dispose]();
          return Promise.resolve();
        },
      });
    },
    close: () => client.close(),
  };
}
