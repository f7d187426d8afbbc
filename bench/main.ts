/**
 * This library and its peers side by side, on one private Redis, under Deno and under Bun.
 *
 *     deno task bench            the whole comparison
 *     deno task bench --quick    in under two minutes
 *     deno task bench --check    fails if a ratio is worse than the README's table demands
 *     deno task bench --json     the figures for machines
 */
import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { findBun } from "../tests/_bun.ts";
import { startRedis } from "../tests/_redis.ts";
import type { Samples } from "./rounds.ts";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));

/** A ratio of two contenders' medians in one run, and what it has to be. */
interface Demand {
  readonly work: string;
  /** The contender to compare with; `best` is the better one of the peers. */
  readonly against: "bee-queue" | "BullMQ" | "floor" | "best";
  readonly atLeast?: number;
  readonly atMost?: number;
}

const DEMANDS: readonly Demand[] = [
  { work: "enqueue one by one, 100 concurrent, jobs/s", against: "bee-queue", atLeast: 1.2 },
  { work: "enqueue in bulk, jobs/s", against: "BullMQ", atLeast: 4 },
  { work: "run, 100 at a time, jobs/s", against: "best", atLeast: 2 },
  { work: "run, 100 at a time, jobs/s", against: "floor", atLeast: 0.75 },
  { work: "run, 10 at a time, jobs/s", against: "best", atLeast: 2 },
  { work: "round trip, p50, ms", against: "bee-queue", atMost: 1 },
  { work: "round trip, p99, ms", against: "bee-queue", atMost: 1 },
];

const { values } = parseArgs({
  options: { quick: { type: "boolean" }, check: { type: "boolean" }, json: { type: "boolean" } },
});

const bun = findBun();
execFileSync(bun, ["install", "--frozen-lockfile"], { cwd: FOLDER, stdio: "ignore" });
const runtimes = {
  Deno: [process.execPath, "run", "-A", "--no-check", "--no-lock", `${FOLDER}rounds.ts`],
  Bun: [bun, `${FOLDER}rounds.ts`],
};
const results: Record<string, Samples> = {};
for (const [name, [command = "", ...args]] of Object.entries(runtimes)) {
  await using redis = await startRedis();
  const [rounds, jobs] = values.quick ? ["3", "5000"] : ["7", "20000"];
  const options = { cwd: FOLDER, encoding: "utf8", maxBuffer: 1 << 26 } as const;
  results[name] = JSON.parse(execFileSync(command, [...args, redis.url, rounds, jobs], options));
}
if (values.json) console.log(JSON.stringify(results));
else for (const [name, samples] of Object.entries(results)) printTable(name, samples);
const misses = Object.entries(results).flatMap(([name, samples]) => missedBy(name, samples));
for (const miss of misses) console.error(miss);
if (values.check && misses.length > 0) process.exitCode = 1;

function printTable(runtime: string, samples: Samples): void {
  console.log(`\n${runtime}, ${cpus().length} cores: median (least to most)`);
  const table = Object.entries(samples).map(([work, figures]) => ({
    work,
    ...Object.fromEntries(Object.entries(figures).map(([name, all]) => [name, spread(all)])),
  }));
  console.table(table);
}

function spread(all: readonly number[]): string {
  const [least, most] = [Math.min(...all), Math.max(...all)];
  return `${short(median(all))} (${short(least)}–${short(most)})`;
}

function short(figure: number): string {
  return figure >= 1_000 ? `${(figure / 1_000).toFixed(1)} k` : figure.toPrecision(2);
}

function median(all: readonly number[]): number {
  const sorted = all.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

function missedBy(runtime: string, samples: Samples): string[] {
  return DEMANDS.flatMap(({ work, against, atLeast = 0, atMost = Infinity }) => {
    const figure = (name: string) => median(samples[work]?.[name] ?? []);
    const other = against === "best"
      ? Math.max(figure("BullMQ"), figure("bee-queue"))
      : figure(against);
    const ratio = figure("arq") / other;
    if (ratio >= atLeast && ratio <= atMost) return [];
    const bound = atLeast > 0 ? `at least ${atLeast}` : `at most ${atMost}`;
    return [`${runtime}: ${work}: ${ratio.toFixed(2)} × ${against}, wanted ${bound}`];
  });
}
