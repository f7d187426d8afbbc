/**
 * Cron jobs with time zones: when each is due next, wherever this machine stands.
 *
 *     deno run -A examples/cron.ts
 *     bun examples/cron.ts
 *
 * The queue lives in memory, or where `ARQ_URL` says. A real worker would go on for ever; this one
 * ends when the job of every second has run twice.
 */
import { createPool, cron, type JobContext, nextCron, Worker } from "@arq/arq";
import process from "node:process";

const ZONES = ["Europe/London", "America/New_York", "Asia/Tokyo"];

function openMarket(ctx: JobContext): void {
  ctx.logger.info("{name} opens", { name: ctx.functionName });
}

function closeBooks(ctx: JobContext): void {
  ctx.logger.info("{name} closes the books", { name: ctx.functionName });
}

let ticks = 0;
const { promise: enough, resolve: stop } = Promise.withResolvers<void>();

function tick(ctx: JobContext): void {
  console.log(`tick: ${new Date(ctx.score).toISOString()}`);
  if (++ticks === 2) stop();
}

// Nine o'clock there, summer time or not. One function with several schedules needs names.
const markets = ZONES.map((timezone) =>
  cron(openMarket, "0 9 * * mon-fri", { name: `open ${timezone}`, timezone })
);
const cronJobs = [
  ...markets,
  cron(closeBooks, "0 18 L * *", { timezone: "UTC" }), // the last day of each month
  cron(tick, "* * * * * *", { timezone: "UTC" }),
];

for (const { name, schedule } of markets) {
  const next = nextCron(new Date(), schedule);
  const there = next.toLocaleTimeString("en-GB", { timeZone: schedule.timezone });
  console.log(`${name}: ${next.toISOString()}, ${there} there`);
}
// In London the night of 29 March 2026 has no 01:30: clocks go from one to two, and it runs then.
// That of 25 October has two of them, and it runs at the first.
for (const day of ["2026-03-28T12:00Z", "2026-10-24T12:00Z"]) {
  const night = nextCron(new Date(day), { hour: 1, minute: 30, timezone: "Europe/London" });
  console.log(`half past one in London: ${night.toISOString()}`);
}

await using arq = await createPool(process.env.ARQ_URL || "sqlite::memory:", {
  defaultQueueName: "example:cron",
});
await using worker = new Worker({ cronJobs, connection: arq });
const running = worker.run();
await enough;
await worker.close();
await running;
