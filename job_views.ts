/**
 * Jobs as they are shown, whatever is stored of them.
 * @module
 */
import { DeserializationError } from "./errors.ts";
import type { JobView, JobViewStatus, RunningJob, WorkerView } from "./inspection.ts";
import {
  decodeJob,
  decodeResult,
  type Deserializer,
  type JobRecord,
  type ResultRecord,
} from "./serializer.ts";
import type { JobState } from "./store_inspection.ts";

/** What stands in a view of which nothing is known. */
const BLANK: Omit<JobView, "jobId" | "status" | "queueName"> = {
  functionName: null,
  args: [],
  kwargs: {},
  jobTry: null,
  enqueueTime: null,
  dueAt: null,
  startTime: null,
  finishTime: null,
  success: null,
  result: undefined,
  problem: null,
};

/** Which job of which queue a view is of. */
export interface ViewedJob extends JobState {
  readonly jobId: string;
  readonly queueName: string;
}

/** A job that waits or runs; `dueAt` is epoch milliseconds. */
export function waitingView(
  { jobId, queueName, payload, starts }: ViewedJob,
  status: JobViewStatus,
  dueAt: number | undefined,
  deserializer: Deserializer | undefined,
): JobView {
  const known = { ...BLANK, jobId, queueName, status, jobTry: starts };
  const view = dueAt === undefined ? known : { ...known, dueAt: dateOf(dueAt) };
  if (payload === null) return { ...view, problem: "It has expired, and will end as that" };
  if (payload === undefined) return { ...view, problem: "Its key holds no text" };
  try {
    const record = decodeJob(payload, deserializer);
    return { ...view, ...recordPart(record), jobTry: Math.max(starts, (record.t ?? 1) - 1) };
  } catch (error) {
    return { ...view, problem: (error as Error).message };
  }
}

/** A job that has ended; `list` is where it was noted and when, if it was. */
export function endedView(
  { jobId, queueName, result }: ViewedJob,
  deserializer: Deserializer | undefined,
  list?: { readonly status: JobViewStatus; readonly at: number },
): JobView {
  try {
    const record = readEnd(result, deserializer);
    return {
      ...BLANK,
      jobId,
      queueName: record.q,
      status: record.s ? "complete" : "failed",
      ...recordPart(record),
      jobTry: record.t,
      startTime: dateOf(record.st),
      finishTime: dateOf(record.ft),
      success: record.s,
      result: record.r,
    };
  } catch (error) {
    const { status = "complete", at } = list ?? {};
    const success = list ? status === "complete" : null;
    const finishTime = at === undefined ? null : dateOf(at);
    const problem = (error as Error).message;
    return { ...BLANK, jobId, queueName, status, success, finishTime, problem };
  }
}

/** Who runs a job, and since when. */
export interface RunningOn {
  readonly worker: WorkerView;
  readonly job: RunningJob;
}

/** Who runs a job, as far as the workers tell. */
export function runningOn(workers: readonly WorkerView[], jobId: string): RunningOn | undefined {
  for (const worker of workers) {
    const job = worker.running.find((running) => running.jobId === jobId);
    if (job) return { worker, job };
  }
}

/** What a job told of its progress; an error in its place if nobody can read it. */
export async function progressOf(job: { progress(): Promise<unknown> }): Promise<unknown> {
  try {
    return await job.progress();
  } catch (error) {
    if (error instanceof DeserializationError) return error;
    throw error;
  }
}

/**
 * Reads a result.
 *
 * @throws {DeserializationError} if nobody can.
 */
export function readEnd(
  result: Uint8Array | null | undefined,
  deserializer: Deserializer | undefined,
): ResultRecord {
  if (result) return decodeResult(result, deserializer);
  throw new DeserializationError("Cannot read the result: its key holds no text");
}

function recordPart(record: JobRecord): Partial<JobView> {
  return {
    functionName: record.f,
    args: record.a,
    kwargs: record.k,
    enqueueTime: dateOf(record.et),
  };
}

/** Null where a time lies outside what a `Date` can be. */
function dateOf(ms: number): Date | null {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? null : date;
}
