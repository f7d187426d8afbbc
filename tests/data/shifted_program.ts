/**
 * A program on a machine whose clock is wrong: `shifted_program.ts SHIFT_MS CONNECTION PREFIX ROLE`.
 *
 * As a worker it runs until it is killed. As a client it enqueues jobs and prints what it hears of
 * them, one object.
 */
import { argv } from "node:process";

const [shift, connection, prefix, role] = argv.slice(2);
const shiftMs = Number(shift);
const { now: nowOf } = Date;

class ShiftedDate extends Date {
  constructor(...args: unknown[]) {
    super(...(args.length === 0 ? [ShiftedDate.now()] : args) as [number]);
  }

  static override now(): number {
    return nowOf() + shiftMs;
  }
}
globalThis.Date = ShiftedDate as DateConstructor;

const { createPool, cron, Worker } = await import("../../mod.ts"); // it sees the wrong clock only

/** When this is, by a clock that nobody has shifted. */
const trueNow = () => performance.timeOrigin + performance.now();

if (role === "worker") {
  const when = (ctx: { score: number; jobTry: number }) => ({
    at: trueNow(),
    score: ctx.score,
    jobTry: ctx.jobTry,
  });
  const slow = async (ctx: { score: number; jobTry: number }) => {
    if (ctx.jobTry > 1) return when(ctx); // before the first is through
    await new Promise((resolve) => setTimeout(resolve, 1_500)); // its lease is renewed meanwhile
    return when(ctx);
  };
  const tick = cron(when, "* * * * * *", { name: "tick", keepResult: 60_000 });
  const functions = { when, slow };
  const options = { functions, cronJobs: [tick], connection, prefix };
  await new Worker({ ...options, pollDelay: 100, lease: 3_000 }).run();
} else {
  await using arq = await createPool(String(connection), { prefix });
  const timeout = 40_000;
  const calls = [
    arq.call("when", [], { timeout }),
    arq.call("when", [], { timeout, deferBy: 1_000 }),
    arq.call("when", [], { timeout, deferUntil: trueNow() + 1_000 }),
    arq.call("when", [], { timeout, expires: 30_000 }),
  ];
  const deferred = await arq.enqueueJob("when", [], { jobId: "deferred", deferBy: 1_800_000 });
  const status = await deferred?.status();
  await deferred?.abort();
  const results = await Promise.all(calls);
  console.log(JSON.stringify({ status, results, dateNow: Date.now() - trueNow() }));
}
