/**
 * This library and its peers side by side, on one private Redis, under Deno and under Bun; then its
 * embedded store, and its functions in processes of their own, alone.
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

const FOLDER = fileURLToPath(new URL(".", import.meta.url));

/** Samples of a kind of work: the contenders' names and their figures, one a round. */
type Samples = Record<string, Record<string, number[]>>;

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
  Deno: [process.execPath, "run", "-A", "--no-check", "--no-lock"],
  Bun: [bun],
};
const EMBEDDED = "sqlite:FILE";
const ISOLATED = "isolate: true";
/** What has no peer here, and the program that measures it. */
const ALONE = { [EMBEDDED]: "sqlite.ts", [ISOLATED]: "isolation.ts" };
/** What figures have to be whose name begins or ends like this. */
const BOUNDS: readonly {
  readonly work: RegExp;
  readonly atLeast?: number;
  readonly atMost?: number;
}[] = [
  { work: /jobs\/s$/, atLeast: 5_000 },
  { work: /^longest turn/, atMost: 5 },
  { work: /^a warm call adds/, atMost: 2 },
  { work: /^p99 of short jobs beside/, atMost: 3 },
];
const CONTENDERS = ["arq", "floor", "BullMQ", "bee-queue"];
const [rounds, jobs] = values.quick ? [3, 5_000] : [7, 20_000];
const results: Record<string, Samples> = {};
for (const [name, command] of Object.entries(runtimes)) {
  results[name] = { ...await measure(command), ...measureAlone(command) };
}
if (values.json) console.log(JSON.stringify(results));
else for (const [name, samples] of Object.entries(results)) printTable(name, samples);
const misses = Object.entries(results).flatMap(([name, samples]) => [
  ...missedBy(name, samples),
  ...missedAlone(name, samples),
]);
for (const miss of misses) console.error(miss);
if (values.check && misses.length > 0) process.exitCode = 1;

/** All contenders in alternation, each round on the same private Redis. */
async function measure([command = "", ...args]: readonly string[]): Promise<Samples> {
  await using redis = await startRedis();
  const samples: Samples = {};
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 === 0 ? CONTENDERS : CONTENDERS.toReversed()) {
      const options = { cwd: FOLDER, encoding: "utf8" } as const;
      const output = execFileSync(
        command,
        [...args, "round.ts", redis.url, name, String(jobs)],
        options,
      );
      addSamples(samples, name, output);
    }
  }
  return samples;
}

/** What has no peer here. */
function measureAlone([command = "", ...args]: readonly string[]): Samples {
  const samples: Samples = {};
  for (let round = 0; round < rounds; round++) {
    for (const [name, program] of Object.entries(ALONE)) {
      const options = { cwd: FOLDER, encoding: "utf8" } as const;
      addSamples(samples, name, execFileSync(command, [...args, program, String(jobs)], options));
    }
  }
  return samples;
}

function addSamples(samples: Samples, contender: string, output: string): void {
  for (const [work, figure] of Object.entries<number>(JSON.parse(output))) {
    ((samples[work] ??= {})[contender] ??= []).push(figure);
  }
}

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

function missedAlone(runtime: string, samples: Samples): string[] {
  return Object.entries(samples).flatMap(([work, figures]) =>
    Object.keys(ALONE).flatMap((name) => {
      const { atLeast = 0, atMost = Infinity } = BOUNDS.find((bound) => bound.work.test(work)) ??
        {};
      const figure = median(figures[name] ?? []);
      if (!figures[name] || (figure >= atLeast && figure <= atMost)) return [];
      const bound = atLeast > 0 ? `${atLeast} or more` : `${atMost} or less`;
      return [`${runtime}: ${name}: ${work}: ${short(figure)}, wanted ${bound}`];
    })
  );
}
