/**
 * The commands `stats` and `workers`: how a queue does, and who works on it.
 * @module
 */
import { UsageError } from "./cli_arguments.ts";
import type { Command } from "./cli_host.ts";
import {
  look,
  LOOK_EXIT_CODES,
  type Operation,
  operation,
  readRepetition,
  WATCH_OPTIONS,
} from "./cli_operations.ts";
import type { Output } from "./cli_output.ts";
import { readDuration } from "./cli_quantities.ts";
import { type Column, ID_LIMIT, NAME_LIMIT, NOTHING, sparkline } from "./cli_tables.ts";
import type {
  FunctionTotals,
  MinuteStats,
  Percentiles,
  QueueStats,
  RunningJob,
  WorkerView,
} from "./client.ts";
import { displayText } from "./display.ts";
import { countText, durationText, memoryText } from "./quantities.ts";
import { show } from "./validation.ts";

const MINUTE_MS = 60_000;
/** Bars of a plot. */
const MOST_BARS = 60;
const HOUR_MS = 3_600_000;

// stats

/** `stats`: the numbers of a queue, or of every queue that is known. */
export const STATS: Command = operation(
  {
    name: "stats",
    summary: "Show the numbers of queues and functions.",
    operands: [],
    about: "Of every queue in use, or of one. WAIT and RUN are p50/p99 of the last hour;\n" +
      "what became of a function's jobs is counted since its workers first ran.",
    options: [
      { name: "history", value: "TIME", help: "Sum up this long, 3h at most: 1h" },
      ...WATCH_OPTIONS,
    ],
    epilog: LOOK_EXIT_CODES,
  },
  (args) => ({ history: readHistory(args.value("history")), everyMs: readRepetition(args) }),
  (op, { history, everyMs }) =>
    look(op, everyMs, async () => {
      const names = await queueNames(op);
      await printStats(
        op,
        await Promise.all(names.map((queueName) => op.arq.stats({ queueName, history }))),
        history,
      );
    }),
);

function readHistory(text: string | undefined): number {
  const ms = readDuration("--history", text) ?? HOUR_MS;
  if (ms >= MINUTE_MS && ms <= 3 * HOUR_MS) return ms;
  throw new UsageError(`--history must be from 1m to 3h, got ${show(text)}`);
}

/** The queue that was named, or else all that are in use. */
async function queueNames({ arq, queueName, isQueueNamed }: Operation): Promise<string[]> {
  if (isQueueNamed) return [queueName];
  const names = await arq.queueNames();
  return names.length > 0 ? names : [queueName];
}

async function printStats(
  { out }: Operation,
  queues: readonly QueueStats[],
  history: number,
): Promise<void> {
  if (out.isJson) {
    for (const stats of queues) await out.json(stats);
    return;
  }
  await out.table(QUEUE_COLUMNS, queues);
  for (const stats of queues) await printPlot(out, stats, history);
  const functions = queues.flatMap(({ queueName, functions }) =>
    functions.map((totals) => ({ queueName, ...totals }))
  );
  if (functions.length === 0) return;
  await out.lines([""]);
  const columns = queues.length > 1 ? [FUNCTION_QUEUE, ...FUNCTION_COLUMNS] : FUNCTION_COLUMNS;
  await out.table(columns, functions);
}

/** How many jobs ended when, if any did. */
async function printPlot(
  out: Output,
  { queueName, minutes }: QueueStats,
  history: number,
): Promise<void> {
  const ends = minutes.map(endsOf);
  if (ends.every((count) => count === 0)) return;
  const width = Math.ceil(ends.length / MOST_BARS); // minutes a bar
  const name = displayText(queueName, NAME_LIMIT);
  const each = durationText(width * MINUTE_MS);
  await out.lines([
    "",
    `${name}: jobs ended in each ${each} of the last ${durationText(history)}`,
    out.paint("cyan", sparkline(sumsOf(ends, width))),
  ]);
}

function endsOf({ complete, failed, aborted }: MinuteStats): number {
  return complete + failed + aborted;
}

/** Sums of so many neighbours each; the last one is whole. */
function sumsOf(values: readonly number[], width: number): number[] {
  const offset = (width - values.length % width) % width;
  const sums = Array<number>(Math.ceil(values.length / width)).fill(0);
  for (const [i, value] of values.entries()) {
    const at = Math.floor((i + offset) / width);
    sums[at] = (sums[at] ?? 0) + value;
  }
  return sums;
}

const QUEUE_COLUMNS: readonly Column<QueueStats>[] = [
  { head: "queue", isFlexible: true, text: ({ queueName }) => displayText(queueName, NAME_LIMIT) },
  {
    head: "state",
    text: ({ paused }) => paused ? "paused" : "open",
    colour: ({ paused }) => paused ? "yellow" : undefined,
  },
  { head: "due", isNumber: true, text: ({ due }) => countText(due) },
  {
    head: "oldest",
    isNumber: true,
    text: ({ oldestDueMs }) => oldestDueMs === null ? NOTHING : durationText(oldestDueMs),
  },
  { head: "running", isNumber: true, text: ({ inProgress }) => countText(inProgress) },
  { head: "deferred", isNumber: true, text: ({ deferred }) => countText(deferred) },
  { head: "complete", isNumber: true, text: (stats) => sumOf(stats, "complete") },
  {
    head: "failed",
    isNumber: true,
    text: (stats) => sumOf(stats, "failed"),
    colour: (stats) => sumOf(stats, "failed") === "0" ? undefined : "red",
  },
  { head: "wait", isNumber: true, text: ({ waitTime }) => percentilesText(waitTime) },
  { head: "run", isNumber: true, text: ({ runTime }) => percentilesText(runTime) },
];

function sumOf({ minutes }: QueueStats, what: "complete" | "failed"): string {
  return countText(minutes.reduce((sum, minute) => sum + minute[what], 0));
}

function percentilesText(percentiles: Percentiles | null): string {
  if (percentiles === null) return NOTHING;
  return `${durationText(percentiles.p50Ms)}/${durationText(percentiles.p99Ms)}`;
}

type FunctionRow = FunctionTotals & { readonly queueName: string };

const FUNCTION_QUEUE: Column<FunctionRow> = {
  head: "queue",
  text: ({ queueName }) => displayText(queueName, NAME_LIMIT),
};

const FUNCTION_COLUMNS: readonly Column<FunctionRow>[] = [
  {
    head: "function",
    isFlexible: true,
    text: ({ functionName }) => displayText(functionName, NAME_LIMIT),
  },
  { head: "complete", isNumber: true, text: ({ complete }) => countText(complete) },
  {
    head: "failed",
    isNumber: true,
    text: ({ failed }) => countText(failed),
    colour: ({ failed }) => failed > 0 ? "red" : undefined,
  },
  { head: "aborted", isNumber: true, text: ({ aborted }) => countText(aborted) },
  { head: "retried", isNumber: true, text: ({ retried }) => countText(retried) },
  { head: "mean wait", isNumber: true, text: ({ waitTime }) => meanText(waitTime) },
  { head: "mean run", isNumber: true, text: ({ runTime }) => meanText(runTime) },
];

function meanText({ count, sumMs }: FunctionTotals["runTime"]): string {
  return count === 0 ? NOTHING : durationText(sumMs / count);
}

// workers

/** `workers`: the live workers, and what they run. */
export const WORKERS: Command = operation(
  {
    name: "workers",
    summary: "List the live workers and what they run.",
    operands: [],
    about: "",
    options: WATCH_OPTIONS,
    epilog: LOOK_EXIT_CODES,
  },
  readRepetition,
  (op, everyMs) => look(op, everyMs, () => listWorkers(op)),
);

async function listWorkers(
  { arq, out, queueName, isQueueNamed }: Operation,
): Promise<void> {
  const workers = await arq.workers(isQueueNamed ? { queueName } : {});
  if (out.isJson) {
    for (const worker of workers) await out.json(worker);
    return;
  }
  if (workers.length === 0) return await out.lines(["no worker is alive"]);
  await out.table(WORKER_COLUMNS, workers);
  const running = workers.flatMap(({ workerId, running, seenAt }) =>
    running.map((job) => ({ workerId, seenAt, ...job }))
  );
  if (running.length === 0) return;
  await out.lines([""]);
  await out.table(RUNNING_COLUMNS, running);
}

const WORKER_COLUMNS: readonly Column<WorkerView>[] = [
  { head: "worker", text: ({ workerId }) => displayText(workerId, ID_LIMIT) },
  { head: "host", isFlexible: true, text: ({ hostname }) => displayText(hostname ?? NOTHING, 60) },
  { head: "pid", isNumber: true, text: ({ pid }) => String(pid) },
  { head: "runtime", text: ({ runtime }) => displayText(runtime, 30) },
  { head: "queue", isFlexible: true, text: ({ queueName }) => displayText(queueName, NAME_LIMIT) },
  {
    head: "running",
    isNumber: true,
    text: ({ jobsOngoing, maxJobs }) => `${countText(jobsOngoing)}/${countText(maxJobs)}`,
  },
  { head: "complete", isNumber: true, text: ({ jobsComplete }) => countText(jobsComplete) },
  {
    head: "failed",
    isNumber: true,
    text: ({ jobsFailed }) => countText(jobsFailed),
    colour: ({ jobsFailed }) => jobsFailed > 0 ? "red" : undefined,
  },
  { head: "retried", isNumber: true, text: ({ jobsRetried }) => countText(jobsRetried) },
  { head: "memory", isNumber: true, text: ({ memoryBytes }) => memoryText(memoryBytes) },
  {
    head: "up",
    isNumber: true,
    text: ({ startedAt, seenAt }) => durationText(+seenAt - +startedAt),
  },
];

type RunningRow = RunningJob & { readonly workerId: string; readonly seenAt: Date };

const RUNNING_COLUMNS: readonly Column<RunningRow>[] = [
  { head: "job", text: ({ jobId }) => displayText(jobId, ID_LIMIT) },
  {
    head: "function",
    isFlexible: true,
    text: ({ functionName }) => displayText(functionName, NAME_LIMIT),
  },
  { head: "try", isNumber: true, text: ({ jobTry }) => String(jobTry) },
  {
    head: "for",
    isNumber: true,
    text: ({ startedAt, seenAt }) => durationText(Math.max(+seenAt - +startedAt, 0)),
  },
  { head: "worker", text: ({ workerId }) => displayText(workerId, ID_LIMIT) },
];
