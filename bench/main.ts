/**
 * This library and its peers side by side, on one private Redis, under Deno and under Bun; then what
 * has no peer here, alone.
 *
 *     deno task bench                        all of it, for about half an hour
 *     deno task bench --quick                less of it, in under two minutes
 *     deno task bench --check                fails if a figure is worse than demands.ts wants
 *     deno task bench --json                 the figures of every round, for machines
 *     deno task bench --bun --only peers     one runtime, and one group of works; see GROUPS
 *     deno task bench --rounds 3             how often each is measured
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { findBun } from "../tests/_bun.ts";
import { ensureRedisServer, startRedis } from "../tests/_redis.ts";
import { judge, type Samples, type Verdict } from "./demands.ts";
import type { Figures } from "./figures.ts";
import { measurePeers } from "./peers.ts";
import { missText, printFigures, printVerdicts } from "./tables.ts";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));
/** The groups of works and the program that measures each. */
const GROUPS: Readonly<Record<string, string>> = {
  peers: "steps.ts",
  lateness: "lateness.ts",
  backlog: "backlog.ts",
  workers: "workers.ts",
  idle: "idle.ts",
  memory: "memory.ts",
  embedded: "sqlite.ts",
  isolated: "isolation.ts",
};
const USAGE = "bench [--quick] [--check] [--json] [--deno] [--bun] [--rounds N] [--only GROUP]…\n" +
  `groups: ${Object.keys(GROUPS).join(", ")}`;

/** What was measured under one runtime. */
interface Report {
  readonly figures: Samples;
  readonly verdicts: readonly Verdict[];
}

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    check: { type: "boolean" },
    json: { type: "boolean" },
    deno: { type: "boolean" },
    bun: { type: "boolean" },
    rounds: { type: "string" },
    only: { type: "string", multiple: true, default: Object.keys(GROUPS) },
  },
});
const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
const isMeasurable = values.only.every((group) => group in GROUPS) &&
  (rounds === undefined || Number.isInteger(rounds) && rounds > 0);
if (!isMeasurable) {
  console.error(USAGE);
  process.exit(2);
}

const bun = findBun();
execFileSync(bun, ["install", "--frozen-lockfile"], { cwd: FOLDER, stdio: "ignore" });
const runtimes = {
  ...((values.deno || !values.bun) && {
    Deno: [process.execPath, "run", "-A", "--no-check", "--no-lock"],
  }),
  ...((values.bun || !values.deno) && { Bun: [bun] }),
};
const versions = {
  Deno: process.versions.deno,
  Bun: outputOf(bun, ["--version"]),
  Redis: /v=(\S+)/.exec(outputOf(await ensureRedisServer(), ["--version"]))?.[1],
  ...JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8")).dependencies,
};
const about = { date: new Date().toISOString(), cores: cpus().length, versions };

const reports: Record<string, Report> = {};
for (const [runtime, command] of Object.entries(runtimes)) {
  reports[runtime] = await measureAll(command);
}
if (values.json) console.log(JSON.stringify({ ...about, reports }));
else printAll();
const misses = Object.entries(reports).flatMap(([runtime, { verdicts }]) =>
  verdicts.filter(({ isReached }) => !isReached).map((miss) => `${runtime}: ${missText(miss)}`)
);
for (const miss of misses) console.error(miss);
if (values.check && misses.length > 0) process.exitCode = 1;

async function measureAll(command: readonly string[]): Promise<Report> {
  const figures: Samples = {};
  const verdicts: Verdict[] = [];
  for (const group of values.only) {
    const measured = group === "peers" ? await comparePeers(command) : measureAlone(command, group);
    Object.assign(figures, measured);
    verdicts.push(...judge(group, measured));
  }
  return { figures, verdicts };
}

/** All contenders in turns. */
async function comparePeers(command: readonly string[]): Promise<Samples> {
  await using redis = await startRedis();
  const samples: Samples = {};
  await measurePeers(redis.url, {
    command: [...command, ...programOf("peers")],
    folder: FOLDER,
    rounds: rounds ?? (values.quick ? 3 : 15),
    onFigures: (name, figures) => addSamples(samples, name, figures),
  });
  return samples;
}

/** What has no peer here. */
function measureAlone(command: readonly string[], group: string): Samples {
  const samples: Samples = {};
  for (let round = 0; round < (rounds ?? (values.quick ? 1 : 3)); round++) {
    const [program = "", ...args] = [...command, ...programOf(group)];
    addSamples(samples, "arq", JSON.parse(outputOf(program, args)));
  }
  return samples;
}

function programOf(group: string): readonly string[] {
  return [GROUPS[group] ?? "", ...(values.quick ? ["--quick"] : [])];
}

function outputOf(command: string, args: readonly string[]): string {
  return execFileSync(command, args, { cwd: FOLDER, encoding: "utf8" }).trim();
}

function addSamples(samples: Samples, name: string, figures: Figures): void {
  for (const [work, figure] of Object.entries(figures)) {
    ((samples[work] ??= {})[name] ??= []).push(figure);
  }
}

function printAll(): void {
  const names = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  console.log(`${about.date.slice(0, 10)}, ${about.cores} cores, ${names.join(", ")}`);
  for (const [runtime, { figures, verdicts }] of Object.entries(reports)) {
    printFigures(runtime, figures);
    printVerdicts(runtime, verdicts);
  }
}
