/** What every contender must do, so that all of them do the same work. */

/** The argument of every job. */
export interface Payload {
  readonly id: number;
}

/** One queue library, on one queue of its own in the shared Redis. */
export interface Contender {
  readonly name: string;
  /** Enqueues `count` jobs one by one, `concurrency` calls at a time. */
  enqueueOneByOne?(count: number, concurrency: number): Promise<void>;
  /** Enqueues `count` jobs in bulk. */
  enqueueBulk(count: number): Promise<void>;
  /** Runs `count` no-op jobs that are queued already, results recorded with an expiry. */
  run(count: number, concurrency: number): Promise<void>;
  /** Starts an idle worker; the function it returns does one round trip. */
  startRoundTrips?(): Promise<{ trip(): Promise<void>; stop(): Promise<void> }>;
  /** Removes what it left and closes its connections. */
  close(): Promise<void>;
}

/** Calls `step` for 0 … count - 1, `concurrency` at a time. */
export async function forEachConcurrently(
  count: number,
  concurrency: number,
  step: (i: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await step(next++);
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
}
