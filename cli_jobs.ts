/**
 * The commands `jobs` and `job`: which jobs there are, and all that is known of one.
 * @module
 */
import { type Arguments, UsageError } from "./cli_arguments.ts";
import type { Command } from "./cli_host.ts";
import {
  JOB_EXIT_CODES,
  look,
  LOOK_EXIT_CODES,
  type Operation,
  operation,
  readRepetition,
  WATCH_OPTIONS,
} from "./cli_operations.ts";
import { readCount, readSince } from "./cli_quantities.ts";
import { type Colour, type Column, ID_LIMIT, NAME_LIMIT, NOTHING } from "./cli_tables.ts";
import type { JobFilter, JobView, JobViewStatus, WorkerView } from "./client.ts";
import { displayText, displayValue } from "./display.ts";
import { JobNotFound } from "./errors.ts";
import { progressOf, runningOn } from "./job_views.ts";
import { distanceText, durationText, pluralText, timeText } from "./quantities.ts";
import { nearest, show, systemTimeZone } from "./validation.ts";

const VALUE_LIMIT = 120;
/** What the page of one job shows of a value. */
const WHOLE_LIMIT = 20_000;

// jobs

const STATUS_COLOURS: Readonly<Record<JobViewStatus, Colour>> = {
  in_progress: "cyan",
  queued: "yellow",
  deferred: "dim",
  failed: "red",
  complete: "green",
};
const STATUSES = Object.keys(STATUS_COLOURS) as JobViewStatus[];
const PAGE = 200;

/** `jobs`: the jobs of a queue, with filters. */
export const JOBS: Command = operation(
  {
    name: "jobs",
    summary: "List the jobs of a queue, with filters.",
    operands: [],
    about: "",
    options: [
      {
        name: "status",
        value: "STATUS",
        help: "Only in_progress, queued, deferred, failed or complete",
      },
      { name: "function", value: "NAME", help: "Only jobs of this function" },
      {
        name: "since",
        value: "TIME",
        help: "Only jobs ended, or enqueued, since 30m ago, or a date",
      },
      { name: "limit", value: "N", help: 'List up to N jobs, or "all": 50' },
      ...WATCH_OPTIONS,
    ],
    epilog: LOOK_EXIT_CODES,
  },
  readJobList,
  (op, { filter, limit, everyMs }) => look(op, everyMs, () => listJobs(op, filter(), limit)),
);

function readJobList(args: Arguments) {
  const status = readStatus(args.value("status"));
  const functionName = args.value("function");
  const text = args.value("limit");
  const limit = text === "all" ? Infinity : readCount("--limit", text, 1) ?? 50;
  const everyMs = readRepetition(args);
  readSince("--since", args.value("since"));
  const filter = (): JobFilter => ({
    status,
    functionName,
    since: readSince("--since", args.value("since")), // anew with each look
  });
  return { filter, limit, everyMs };
}

function readStatus(text: string | undefined): JobViewStatus | undefined {
  if (text === undefined) return undefined;
  const status = STATUSES.find((status) => status === text.replace("-", "_"));
  if (status) return status;
  const near = nearest(text, STATUSES);
  const hint = near === undefined ? "" : `; did you mean ${near}?`;
  throw new UsageError(`--status must be one of ${STATUSES.join(", ")}; got ${show(text)}${hint}`);
}

async function listJobs(
  { arq, queueName, out, stop }: Operation,
  filter: JobFilter,
  limit: number,
): Promise<void> {
  const shown: JobView[] = [];
  let left = limit;
  let cursor: string | undefined;
  do {
    stop.throwIfAborted();
    const page = await arq.jobs({ ...filter, queueName, cursor, limit: Math.min(left, PAGE) });
    cursor = page.cursor;
    left -= page.jobs.length;
    if (!out.isJson) shown.push(...page.jobs);
    else for (const job of page.jobs) await out.json(job);
  } while (cursor !== undefined && left > 0);
  if (out.isJson) return;
  if (shown.length === 0) return await out.lines(["no such jobs"]);
  await out.table(JOB_COLUMNS, shown);
  if (cursor === undefined) return;
  const more = `more than ${pluralText(limit, "job")}; list them with --limit ${
    limit * 10
  }, or all`;
  await out.lines([out.paint("dim", more)]);
}

const JOB_COLUMNS: readonly Column<JobView>[] = [
  { head: "job", text: ({ jobId }) => displayText(jobId, ID_LIMIT) },
  {
    head: "status",
    text: ({ status }) => status,
    colour: ({ status }) => STATUS_COLOURS[status],
  },
  { head: "try", isNumber: true, text: ({ jobTry }) => String(jobTry ?? NOTHING) },
  { head: "when", text: (job) => whenText(job, new Date()) },
  { head: "call", isFlexible: true, text: callText },
  {
    head: "result",
    isFlexible: true,
    text: resultText,
    colour: ({ success, problem }) => success === false || problem !== null ? "red" : undefined,
  },
];

function whenText({ finishTime, dueAt, enqueueTime }: JobView, now: Date): string {
  if (finishTime !== null) return `ended ${distanceText(finishTime, now)}`;
  if (dueAt !== null) return `due ${distanceText(dueAt, now)}`;
  return enqueueTime === null ? NOTHING : `enqueued ${distanceText(enqueueTime, now)}`;
}

function callText({ functionName, args, kwargs }: JobView): string {
  const positional = args.slice(0, 20).map((value) => displayValue(value, { limit: VALUE_LIMIT }));
  const named = Object.entries(kwargs).slice(0, 20).map(([key, value]) =>
    `${displayText(key, NAME_LIMIT)}=${displayValue(value, { limit: VALUE_LIMIT })}`
  );
  const call = `${nameText(functionName)}(${[...positional, ...named].join(", ")})`;
  return displayText(call, VALUE_LIMIT);
}

function nameText(functionName: string | null): string {
  return functionName === null ? "?" : displayText(functionName, NAME_LIMIT);
}

function resultText({ problem, success, result }: JobView): string {
  if (problem !== null) return displayText(problem, VALUE_LIMIT);
  if (success === null || result === null || result === undefined) return "";
  return displayValue(result, { limit: VALUE_LIMIT });
}

// job

/** `job`: all that is known of one job. */
export const JOB: Command = operation(
  {
    name: "job",
    summary: "Show one job: arguments, times, result, error.",
    operands: ["ID"],
    about: "",
    options: WATCH_OPTIONS,
    epilog: JOB_EXIT_CODES,
  },
  (args) => ({ jobId: args.operands[0] ?? "", everyMs: readRepetition(args) }),
  (op, { jobId, everyMs }) => look(op, everyMs, () => printJob(op, jobId)),
);

async function printJob({ arq, queueName, out }: Operation, jobId: string): Promise<void> {
  const job = await arq.jobView(jobId, { queueName });
  if (job === null) throw noSuchJob(jobId, queueName);
  const progress = await progressOf(arq.job(jobId, { queueName }));
  if (out.isJson) return await out.json({ ...job, progress });
  const workers = job.status === "in_progress" ? await arq.workers({ queueName }) : [];
  const run = runningOn(workers, jobId);
  const { functionName, enqueueTime, dueAt, startTime, finishTime, jobTry, problem } = job;
  const now = new Date();
  await out.facts([
    ["job", displayText(job.jobId, WHOLE_LIMIT)],
    ["status", job.status, STATUS_COLOURS[job.status]],
    ["queue", displayText(job.queueName, WHOLE_LIMIT)],
    ["function", functionName === null ? undefined : displayText(functionName, WHOLE_LIMIT)],
    ["arguments", wholeText(job.args)],
    ["keywords", Object.keys(job.kwargs).length > 0 ? wholeText(job.kwargs) : undefined],
    ["tries", jobTry === null ? undefined : String(jobTry)],
    ["enqueued", whenFact(enqueueTime, now)],
    ["due", whenFact(dueAt, now)],
    ["started", whenFact(startTime ?? run?.job.startedAt ?? null, now)],
    ["worker", run && workerText(run.worker)],
    ["progress", progress === undefined ? undefined : wholeText(progress)],
    ["ended", whenFact(finishTime, now)],
    ["took", startTime && finishTime ? durationText(+finishTime - +startTime) : undefined],
    ["result", job.success === true ? wholeText(job.result) : undefined],
    ["error", job.success === false ? wholeText(job.result) : undefined, "red"],
    ["problem", problem === null ? undefined : displayText(problem, WHOLE_LIMIT)],
  ]);
}

/** The error for a job of which nothing is there. */
export function noSuchJob(jobId: string, queueName: string): JobNotFound {
  return new JobNotFound(
    `There is no job ${displayText(jobId)} in queue ${displayText(queueName)}, and no result of it`,
  );
}

/** A value in full, on as many lines as it takes, unless it is absurd. */
export function wholeText(value: unknown): string {
  return displayValue(value, { limit: WHOLE_LIMIT, isMultiline: true });
}

function whenFact(time: Date | null, now: Date): string | undefined {
  if (time === null) return undefined;
  return `${timeText(time, systemTimeZone())} (${distanceText(time, now)})`;
}

function workerText({ workerId, hostname, pid }: WorkerView): string {
  const host = hostname === null ? "" : ` on ${displayText(hostname, 60)}`;
  return `${displayText(workerId, ID_LIMIT)}, process ${pid}${host}`;
}
