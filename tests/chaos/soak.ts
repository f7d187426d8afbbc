/** A long, quiet run: memory, timers, connections and keys are to stay what they are. */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { DatabaseSync } from "node:sqlite";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { findBun } from "../_bun.ts";
import { openRawRedis, type RawRedis } from "../_helpers.ts";
import { startRedis } from "../_redis.ts";
import { Folder } from "../_sqlite.ts";

const PROGRAM = fileURLToPath(new URL("soak_program.ts", import.meta.url));
const DENO = [process.execPath, "run", "-A", "--no-check", "--quiet", "--v8-flags=--expose-gc"];
const RATE = 100;
/** So much of the run is left out: until caches are full and code is compiled. */
const WARM_UP = 0.2;
const MIB = 1 << 20;

/** What is measured, with how much it may grow from the first to the last third of the run. */
const LIMITS = {
  heapUsed: { share: 0.1, more: 2 * MIB },
  rss: { share: 0.15, more: 20 * MIB },
  timers: { share: 0.2, more: 10 },
  connections: { share: 0, more: 2 },
  keys: { share: 0.1, more: 50 },
} as const;
type Measure = keyof typeof LIMITS;
type Sample = Readonly<Partial<Record<Measure | "jobs", number>>>;

/** One program under load, and what was measured of it. */
interface Subject {
  readonly name: string;
  readonly child: ChildProcess;
  readonly samples: Sample[];
  readonly exited: Promise<number | null>;
}

/** Runs for so long, prints a line a minute and at the end; tells whether all stayed flat. */
export async function playSoak(ms: number): Promise<boolean> {
  using folder = new Folder();
  await using server = await startRedis({ args: ["--appendonly", "yes"] });
  await using bunServer = await startRedis();
  await using redis = await openRawRedis(server.url);
  await using bunRedis = await openRawRedis(bunServer.url);
  const lookAtRedis = async (raw: RawRedis): Promise<Sample> => ({
    connections: String(await raw.call("CLIENT", "LIST")).trim().split("\n").length - 1,
    keys: Number(await raw.call("DBSIZE")),
  });
  const subjects = [
    startSubject("Deno on Redis", DENO, server.url, () => lookAtRedis(redis)),
    startSubject("Bun on Redis", [findBun()], bunServer.url, () => lookAtRedis(bunRedis)),
    startSubject("Deno on SQLite", DENO, folder.url(), () => Promise.resolve(countRows(folder))),
  ];
  await waitFor(ms, subjects);
  for (const { child } of subjects) terminate(child);
  const codes = await Promise.all(subjects.map(({ exited }) => exited));
  const isFlat = subjects.map((subject) => judge(subject, ms)).every(Boolean);
  const hasEnded = codes.every((code) => code === 0);
  if (!hasEnded) console.log(`  exit codes ${codes.join(", ")}`);
  return isFlat && hasEnded;
}

function startSubject(
  name: string,
  [command = "", ...args]: readonly string[],
  url: string,
  look: () => Promise<Sample>,
): Subject {
  const child = spawn(command, [...args, PROGRAM, url, String(RATE)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const samples: Sample[] = [];
  const { promise: exited, resolve } = Promise.withResolvers<number | null>();
  child.once("exit", (code) => resolve(code));
  createInterface({ input: child.stdout! }).on("line", async (line) => {
    const own = JSON.parse(line) as Sample;
    samples.push({ ...own, ...await look().catch(() => ({})) });
  });
  return { name, child, samples, exited };
}

/** Deno's own `child.kill` takes the signal for the child's end. */
function terminate({ pid, exitCode }: ChildProcess): void {
  if (pid !== undefined && exitCode === null) process.kill(pid, "SIGTERM");
}

function countRows(folder: Folder): Sample {
  const database = new DatabaseSync(folder.file());
  try {
    const tables = ["jobs", "payloads", "results", "locks"];
    const count = (table: string) =>
      Number(database.prepare(`SELECT count(*) AS rows FROM ${table}`).get()?.rows);
    return { keys: tables.reduce((sum, table) => sum + count(table), 0) };
  } finally {
    database.close();
  }
}

async function waitFor(ms: number, subjects: readonly Subject[]): Promise<void> {
  const endAt = performance.now() + ms;
  const died = Promise.race(subjects.map(({ exited }) => exited));
  for (let minute = 1; performance.now() < endAt - 1_000; minute++) {
    const { promise: passed, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.min(60_000, endAt - performance.now()));
    const code = await Promise.race([passed, died]);
    clearTimeout(timer);
    if (code !== undefined) return console.log(`  a program ended with ${code}`);
    for (const { name, samples } of subjects) {
      console.log(`  ${String(minute).padStart(3)} min  ${name}: ${text(samples.at(-1) ?? {})}`);
    }
  }
}

function text(sample: Sample): string {
  return Object.entries(sample).map(([name, value]) => `${name} ${show(name, value)}`).join(", ");
}

function show(name: string, value: number): string {
  const isMemory = name === "rss" || name === "heapUsed";
  return isMemory ? `${(value / MIB).toFixed(1)} MiB` : String(Math.round(value));
}

/** Compares the first third after the warm-up with the last. */
function judge({ name, samples }: Subject, ms: number): boolean {
  const warm = samples.slice(Math.floor(samples.length * WARM_UP));
  const third = Math.floor(warm.length / 3);
  if (third < 2) throw new RangeError(`${ms} ms are too short to tell anything`);
  console.log(`  ${name}, ${samples.at(-1)?.jobs} jobs:`);
  let isFlat = true;
  for (const measure of Object.keys(LIMITS) as Measure[]) {
    const [before, after] = [warm.slice(0, third), warm.slice(-third)].map((part) =>
      median(part.flatMap((sample) => sample[measure] ?? []))
    ) as [number, number];
    if (Number.isNaN(before)) continue;
    const { share, more } = LIMITS[measure];
    const isGood = after <= before * (1 + share) + more;
    const verdict = isGood ? "" : ", GREW";
    console.log(`    ${measure}: ${show(measure, before)} to ${show(measure, after)}${verdict}`);
    isFlat &&= isGood;
  }
  return isFlat;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}
