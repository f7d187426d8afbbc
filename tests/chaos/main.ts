/**
 * The program behind `deno task chaos`: faults at random moments, and what came of them.
 *
 *     deno task chaos                       two minutes of everything
 *     deno task chaos --minutes 30          longer
 *     deno task chaos --seed 7              the same faults in the same order as in another run
 *     deno task chaos --only redis          redis, sqlite or model
 *     deno task chaos --soak --minutes 30   no faults: does anything grow?
 *
 * Ends with exit code 1 if a job was lost, a result was wrong, or anything else that is promised
 * in docs/reliability.md did not hold.
 */
import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { redisPlan, sqlitePlan } from "./plans.ts";
import { Random } from "./random.ts";
import { playRound, type Report, STOP_LIMIT_MS } from "./round.ts";
import { playSoak } from "./soak.ts";

const MODEL_TEST = fileURLToPath(new URL("../store_model_test.ts", import.meta.url));
const PARTS = ["redis", "sqlite", "model"] as const;
type Part = typeof PARTS[number];
/** How the time is shared out. */
const SHARES: Readonly<Record<Part, number>> = { redis: 0.6, sqlite: 0.25, model: 0.15 };

interface Options {
  readonly ms: number;
  readonly seed: number;
  readonly parts: readonly Part[];
  readonly isSoak: boolean;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "2" },
      seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
      only: { type: "string" },
      soak: { type: "boolean", default: false },
    },
  });
  const minutes = Number(values.minutes);
  const seed = Number(values.seed);
  if (!(minutes > 0)) throw new RangeError(`--minutes must be more than 0, got ${values.minutes}`);
  if (!Number.isSafeInteger(seed)) throw new RangeError(`--seed must be whole, got ${values.seed}`);
  const parts = PARTS.filter((part) => values.only === undefined || part === values.only);
  if (parts.length === 0) throw new RangeError(`--only must be one of ${PARTS.join(", ")}`);
  return { ms: minutes * 60_000, seed, parts, isSoak: values.soak };
}

function print(report: Report): boolean {
  const counts = (record: Readonly<Record<string, number>>) =>
    Object.entries(record).map(([name, count]) => `${name} ${count}`).join(", ") || "none";
  console.log(`  faults: ${counts(report.faults)}`);
  console.log(`  replies dropped: ${counts(report.dropped)}; connections cut: ${report.cuts}`);
  console.log(`  workers killed: ${report.kills}`);
  console.log(`  jobs accepted: ${report.accepted}`);
  console.log(
    `  not known to be accepted: ${report.unknown}, of which ${report.unknownRun} were run`,
  );
  console.log(`  run: ${report.run}`);
  console.log(`  run more than once: ${report.runMoreThanOnce}`);
  console.log(`  slowest recovery of an orphan: ${report.slowestOrphanMs} ms`);
  console.log(`  jobs begun before an orphan that was due: ${report.overtakers}`);
  console.log(`  slowest stop: ${Math.round(report.slowestStopMs)} ms of ${STOP_LIMIT_MS}`);
  const flaws = {
    "lost": report.lost,
    "results wrong": report.wrong,
    "false answers": report.lies,
    "workers that died by themselves": report.died,
    "left in the store": report.left,
  };
  for (const [name, list] of Object.entries(flaws)) {
    console.log(`  ${name}: ${list.length}`);
    for (const line of list.slice(0, 20)) console.log(`    ${line}`);
  }
  return report.slowestStopMs <= STOP_LIMIT_MS &&
    Object.values(flaws).every((list) => list.length === 0);
}

async function playStore(part: "redis" | "sqlite", ms: number, seed: number): Promise<boolean> {
  const startedAt = performance.now();
  const plan = part === "redis" ? redisPlan(seed, ms) : sqlitePlan(seed, ms);
  const onFault = (text: string) => {
    const seconds = (performance.now() - startedAt) / 1_000;
    console.log(`  ${seconds.toFixed(1).padStart(7)} s  ${text}`);
  };
  return print(await playRound({ ...plan, onFault }));
}

/** Random sequences of operations against the model of a store, with one seed after the other. */
function playModel(ms: number, seed: number): boolean {
  const random = new Random(seed);
  const endAt = performance.now() + ms;
  let rounds = 0;
  do {
    const FC_SEED = String(random.integer(0, 2 ** 31 - 1));
    const { status, stdout } = spawnSync(
      process.execPath,
      ["test", "-A", "--no-check", MODEL_TEST],
      { env: { ...process.env, FC_SEED, NO_COLOR: "1" }, encoding: "utf8" },
    );
    rounds++;
    if (status !== 0) {
      console.log(`  with FC_SEED=${FC_SEED}:\n${stdout}`);
      return false;
    }
  } while (performance.now() < endAt);
  console.log(`  ${rounds} seeds, 460 sequences each: every store did what the model says`);
  return true;
}

async function main(): Promise<boolean> {
  const { ms, seed, parts, isSoak } = readOptions();
  if (isSoak) return await playSoak(ms);
  const whole = parts.reduce((sum, part) => sum + SHARES[part], 0);
  console.log(`seed ${seed}`);
  let isGood = true;
  for (const part of parts) {
    const partMs = ms * SHARES[part] / whole;
    console.log(`\n${part}, ${(partMs / 60_000).toFixed(1)} minutes`);
    const isPartGood = part === "model"
      ? playModel(partMs, seed)
      : await playStore(part, partMs, seed);
    isGood &&= isPartGood;
  }
  console.log(isGood ? "\nAll that is promised held." : `\nFAILED, with seed ${seed}`);
  return isGood;
}

process.exitCode = await main() ? 0 : 1;
