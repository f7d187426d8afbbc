import { createPool } from "../mod.ts";
import type { Claim } from "../store.ts";
import type { Contender } from "./contender.ts";

const PREFIX = "bench-floor:";
const QUEUE = `${PREFIX}queue`;
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
            const { claims } = await store.claim(QUEUE, "floor", concurrency, LEASE_MS);
            done += claims.length;
            finishing = finish(claims);
          }
          await finishing;
        },
        close: () => Promise.resolve(),
      });
    },
    close: () => client.close(),
  };
}
