/**
 * The commands that change something: `enqueue`, `retry`, `abort`, `remove`, `pause` and `resume`.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { type Arguments, UsageError } from "./cli_arguments.ts";
import { type Command, EXIT, exitCodeOf } from "./cli_host.ts";
import { reportFailure } from "./cli_log.ts";
import { JOB_EXIT_CODES, LOOK_EXIT_CODES, type Operation, operation } from "./cli_operations.ts";
import { readDuration, readInstant, readSince } from "./cli_quantities.ts";
import { noSuchJob, wholeText } from "./cli_jobs.ts";
import { listOf } from "./cli_settings.ts";
import type { EnqueueOptions, RetryJobsOptions, RetryProgress } from "./client.ts";
import { displayText } from "./display.ts";
import { DeserializationError, JobStateError, SerializationError } from "./errors.ts";
import { newJobId } from "./job_ids.ts";
import { waitForResult } from "./job_results.ts";
import { pluralText } from "./quantities.ts";
import { isOptions, nearest, show } from "./validation.ts";

const logger = getLogger(["arq", "cli"]);
/** Ids are printed whole unless they are absurd. */
const ID_LIMIT = 2_000;
const ABORT_TIMEOUT_MS = 30_000;

// enqueue

/** `enqueue`: enqueues a job, and may wait for its result. */
export const ENQUEUE: Command = operation(
  {
    name: "enqueue",
    summary: "Enqueue a job; print its id, or its result.",
    operands: ["NAME", "[JSON...]"],
    about: "",
    options: [
      { name: "kwargs", value: "JSON", help: "Keyword arguments, an object" },
      { name: "job-id", value: "ID", help: "An id of your own; exit 4 if it is taken" },
      { name: "defer-by", value: "TIME", help: "Start it no sooner than in 30s, 5m, 1h30m" },
      { name: "defer-until", value: "TIME", help: "Start it no sooner than 2032-01-28T12:00Z" },
      { name: "expires", value: "TIME", help: "Do not start it later than in, say, 1h" },
      { name: "wait", help: "Wait for its end; exit 5 if it fails" },
      { name: "timeout", value: "TIME", help: "Wait, but no longer than this; exit 6 then" },
    ],
    epilog: "Write a text as '\"text\"', and -- before arguments that begin with a dash.",
  },
  readEnqueueing,
  enqueue,
);

function readEnqueueing(args: Arguments) {
  const [name = "", ...texts] = args.operands;
  const timeout = readDuration("--timeout", args.value("timeout"));
  const kwargs = args.value("kwargs");
  const deferBy = readDuration("--defer-by", args.value("defer-by"));
  const expires = readDuration("--expires", args.value("expires"));
  const options: EnqueueOptions = {
    jobId: args.value("job-id"),
    deferBy,
    deferUntil: readInstant("--defer-until", args.value("defer-until")),
    expires,
    kwargs: kwargs === undefined ? undefined : readKwargs(kwargs),
  };
  if (deferBy !== undefined && options.deferUntil !== undefined) {
    throw new UsageError("--defer-by and --defer-until exclude each other");
  }
  if (expires === 0) throw new UsageError("--expires must be 1ms or more");
  if (expires !== undefined && deferBy !== undefined && expires <= deferBy) {
    throw new UsageError("--expires counts from now and must be longer than --defer-by");
  }
  return {
    name,
    values: texts.map((text, i) => readJson(`argument ${i + 1}`, text)),
    options,
    isAwaited: args.switch("wait") ?? timeout !== undefined,
    timeout,
  };
}

function readJson(what: string, text: string): unknown {
  try {
    return JSON.parse(text, (_key, value: unknown, context?: { readonly source?: string }) => {
      if (typeof value === "number") checkNumber(what, value, context?.source);
      return value;
    });
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const hint = /^[\w.:/@ -]+$/.test(text) ? `; a text is written '"${text}"'` : "";
    throw new UsageError(`${what} is not JSON: ${show(text)}${hint}`);
  }
}

/** JSON may have a number that JavaScript has not, and would take for another one. */
function checkNumber(what: string, value: number, source = ""): void {
  const isWhole = /^-?\d+$/.test(source);
  if (Number.isFinite(value) && (!isWhole || BigInt(value) === BigInt(source))) return;
  const rule = "has a number that would not arrive as it is";
  throw new UsageError(`${what} ${rule}: ${source.slice(0, 60)}; make it a text`);
}

function readKwargs(text: string): Record<string, unknown> {
  const value = readJson("--kwargs", text);
  if (isOptions(value)) return { ...value };
  throw new UsageError(`--kwargs must be an object such as '{"b": 2}', got ${show(text)}`);
}

type Enqueueing = ReturnType<typeof readEnqueueing>;

async function enqueue(op: Operation, enqueueing: Enqueueing): Promise<number> {
  tellOfUnknown(op, enqueueing.name);
  if (enqueueing.isAwaited) return await enqueueAndWait(op, enqueueing);
  const { out, queueName } = op;
  const jobId = await submit(op, enqueueing, enqueueing.options.jobId);
  await out.tell({ jobId, queueName }, displayText(jobId, ID_LIMIT));
  return EXIT.done;
}

/** It may be for another worker; but that is rare, and a slip shows only once the job has failed. */
function tellOfUnknown({ args, functionNames }: Operation, name: string): void {
  if (functionNames === undefined || functionNames.includes(name)) return;
  const near = nearest(name, functionNames);
  const hint = near === undefined ? `it has ${listOf(functionNames)}.` : `did you mean "${near}"?`;
  logger.warn(
    '{settings} has no function "{name}"; {hint} If the worker of another queue has it, add --queue',
    { event: "function", settings: args.value("settings"), name, hint },
  );
}

async function submit(
  { arq, queueName }: Operation,
  { name, values, options }: Enqueueing,
  jobId: string | undefined,
): Promise<string> {
  try {
    const job = await arq.enqueueJob(name, values, { ...options, queueName, jobId });
    if (job) return job.jobId;
  } catch (error) {
    if (error instanceof SerializationError) throw new UsageError(error.message, [], error);
    throw error;
  }
  throw new JobStateError(`The id ${displayText(jobId ?? "")} is taken: by a job, or its result`);
}

/** Listens before it enqueues, so that no end is missed, not even of a job that keeps no result. */
async function enqueueAndWait(op: Operation, enqueueing: Enqueueing): Promise<number> {
  const { arq, queueName, out, stop: signal } = op;
  const { timeout, options: { jobId = newJobId() } } = enqueueing;
  const enqueue = () => submit(op, enqueueing, jobId).then(() => true);
  const end = await waitForResult(arq, { jobId, queueName }, { timeout, signal }, { enqueue });
  const { s: success, r: result } = end;
  if (out.isJson) {
    await out.json({ jobId, queueName, success, result });
  } else if (success) {
    await out.lines(wholeText(result).split("\n"));
  } else {
    const [head = "", ...more] = wholeText(result).split("\n");
    reportFailure("pretty", `job ${displayText(jobId)} failed: ${head}`, more);
  }
  return success ? EXIT.done : EXIT.jobFailed;
}

// retry, abort, remove

/** `retry`: enqueues failed jobs again. */
export const RETRY: Command = operation(
  {
    name: "retry",
    summary: "Enqueue failed jobs again.",
    operands: ["[ID...]"],
    about: "They keep their arguments and ids, and start with their first try.",
    options: [
      { name: "failed", help: "All failed and aborted jobs, instead of single ids" },
      { name: "function", value: "NAME", help: "With --failed: only jobs of this function" },
      { name: "since", value: "TIME", help: "With --failed: only since 30m ago, or a date" },
    ],
    epilog: JOB_EXIT_CODES,
  },
  readRetrying,
  (op, { jobIds, failed }) =>
    failed ? retryFailed(op, failed) : forEachJob(op, jobIds, "retried", async (jobId) => {
      await op.arq.retryJob(jobId, queueOf(op));
    }),
);

type Retrying = Pick<RetryJobsOptions, "functionName" | "since">;

function readRetrying(
  args: Arguments,
): { readonly jobIds: readonly string[]; readonly failed: Retrying | undefined } {
  const jobIds = args.operands;
  const functionName = args.value("function");
  const since = readSince("--since", args.value("since"));
  const isBulk = args.switch("failed") ?? false;
  if (isBulk && jobIds.length > 0) throw new UsageError("retry takes ids or --failed, not both");
  if (isBulk) return { jobIds, failed: { functionName, since } };
  if (functionName !== undefined || since !== undefined) {
    throw new UsageError("--function and --since go with --failed");
  }
  if (jobIds.length === 0) {
    throw new UsageError("retry needs an ID, or --failed; see arq retry --help");
  }
  return { jobIds, failed: undefined };
}

async function retryFailed(op: Operation, filter: Retrying): Promise<number> {
  const { arq, queueName, out, stop: signal } = op;
  let retried = 0;
  try {
    using bar = out.progress();
    const onProgress = (progress: RetryProgress) => {
      retried = progress.retried;
      bar.update(progress.looked, progress.total, "failures");
    };
    retried = await arq.retryJobs({ ...filter, queueName, signal, onProgress });
    return EXIT.done;
  } finally {
    await out.tell({ queueName, retried }, `retried ${pluralText(retried, "job")}`);
  }
}

/** A job goes back to the queue that it ran on, unless one was named. */
function queueOf({ queueName, isQueueNamed }: Operation): { readonly queueName?: string } {
  return isQueueNamed ? { queueName } : {};
}

/** `abort`: ends jobs that run, and keeps those that wait from being started. */
export const ABORT: Command = operation(
  {
    name: "abort",
    summary: "Abort jobs, those that run too.",
    operands: ["ID..."],
    about: "It waits for their end; what was asked stands when the time to wait has passed.",
    options: [{ name: "timeout", value: "TIME", help: "Wait no longer; exit 6 then: 30s" }],
    epilog: JOB_EXIT_CODES,
  },
  (args) => readDuration("--timeout", args.value("timeout")) ?? ABORT_TIMEOUT_MS,
  (op, timeout) =>
    forEachJob(op, op.args.operands, "aborted", (jobId) => abort(op, jobId, timeout)),
);

async function abort(op: Operation, jobId: string, timeout: number): Promise<void> {
  const { arq, queueName, stop: signal } = op;
  if (await arq.job(jobId, { queueName }).abort({ timeout, signal })) return;
  const job = await arq.jobView(jobId, { queueName });
  if (job === null) throw noSuchJob(jobId, queueName);
  throw new JobStateError(`Job ${displayText(jobId)} was not aborted: it is ${job.status}`);
}

/** `remove`: removes jobs that wait, and results. */
export const REMOVE: Command = operation(
  {
    name: "remove",
    summary: "Remove jobs that wait, and results.",
    operands: ["ID..."],
    about: "",
    options: [],
    epilog: JOB_EXIT_CODES,
  },
  () => undefined,
  (op) =>
    forEachJob(op, op.args.operands, "removed", async (jobId) => {
      const { arq, queueName } = op;
      if (!await arq.removeJob(jobId, { queueName })) throw noSuchJob(jobId, queueName);
    }),
);

/**
 * Does something to each job and tells what became of it; one that cannot be done keeps no other
 * from it. Resolves with the highest exit code.
 */
async function forEachJob(
  { out, stop }: Operation,
  jobIds: readonly string[],
  done: string,
  act: (jobId: string) => Promise<void>,
): Promise<number> {
  let highest: number = EXIT.done;
  for (const jobId of jobIds) {
    stop.throwIfAborted();
    try {
      await act(jobId);
      await out.tell({ jobId, [done]: true }, `${done} ${displayText(jobId, ID_LIMIT)}`);
    } catch (error) {
      const code = exitCodeOf(error);
      const isUnreadable = error instanceof DeserializationError; // it does not name the job
      const isOfJob = code === EXIT.notFound || code === EXIT.state || code === EXIT.timeout;
      if (!isOfJob && !isUnreadable) throw error;
      const { message } = error as Error;
      const head = isUnreadable ? `Job ${displayText(jobId)}: ` : "";
      if (out.isJson) await out.json({ jobId, [done]: false, problem: message });
      else reportFailure("pretty", head + message);
      highest = Math.max(highest, code);
    }
  }
  return highest;
}

// pause, resume

/** `pause`: has the workers of a queue claim nothing. */
export const PAUSE: Command = steering(
  "pause",
  "Have the workers of a queue start nothing more.",
  true,
);

/** `resume`: ends a pause. */
export const RESUME: Command = steering("resume", "Have the workers of a queue go on.", false);

function steering(name: "pause" | "resume", summary: string, paused: boolean): Command {
  const spec = { name, summary, operands: [], about: "", options: [], epilog: LOOK_EXIT_CODES };
  return operation(spec, () => undefined, async ({ arq, queueName, out }) => {
    await arq[name](queueName);
    const done = paused ? "paused" : "resumed";
    await out.tell({ queueName, paused }, `${done} ${displayText(queueName)}`);
    return EXIT.done;
  });
}
