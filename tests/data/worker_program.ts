/**
 * A program with a worker, for tests of processes: `worker_program.ts CONNECTION PREFIX MODE`.
 *
 * Nothing in it ends the process: it lives as long as something keeps it alive.
 */
import { argv } from "node:process";
import { cron, func, type JobContext, Worker } from "../../mod.ts";

const [connection, prefix, mode] = argv.slice(2);

/** Waits until it is told to stop, then for as long as `reluctanceMs`. */
async function wait(ctx: JobContext, reluctanceMs: number): Promise<void> {
  console.log("waiting");
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, 60_000);
    ctx.signal.addEventListener("abort", () => {
      console.log("told to stop");
      clearTimeout(timer);
      setTimeout(resolve, reluctanceMs);
    });
  });
  ctx.signal.throwIfAborted();
}

const worker = new Worker({
  functions: {
    wait,
    double: (_ctx: JobContext, n: number) => 2 * n,
    answer: func((_ctx: JobContext, n: number) => n, { keepResult: 0 }),
  },
  cronJobs: [cron(function yearly(): void {}, "0 0 1 1 *")],
  connection,
  prefix,
  lease: 500,
  handleSignals: mode === "signals",
  burst: mode === "burst",
  abortGrace: 20_000,
});

if (mode === "aborted") {
  await worker.run({ signal: AbortSignal.abort() });
} else if (mode === "closed") {
  const running = worker.run();
  console.log("called", await worker.arq.call("double", [2], { timeout: 50_000 }));
  await worker.close();
  await running;
} else {
  await worker.run();
}
console.log(String(worker));
