/** What every contender must do, so that all of them do the same work. */

/** The argument of every job. */
export interface Payload {
  readonly id: number;
}

/** One queue library, on one queue of its own in the shared Redis, connected. */
export interface Contender {
  readonly name: string;
  /** Enqueues `count` jobs one by one, `concurrency` calls at a time. */
  enqueueOneByOne?(count: number, concurrency: number): Promise<void>;
  /** Enqueues `count` jobs in bulk. */
  enqueueBulk(count: number): Promise<void>;
  /** Makes a worker ready, connected where it can be, that has taken no job yet. */
  openWorker(concurrency: number): Promise<ContenderWorker>;
  /** Starts an idle worker; the function it returns does one round trip. */
  startRoundTrips(): Promise<{ trip(): Promise<void>; stop(): Promise<void> }>;
  /** Closes its connections. */
  close(): Promise<void>;
}

/** A worker that is ready to start. */
export interface ContenderWorker {
  /** Runs `count` no-op jobs that are queued; resolves when the end of the last one is recorded. */
  run(count: number): Promise<void>;
  /** Ends it. */
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
