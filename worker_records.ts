/**
 * What workers report of themselves, as it is kept: JSON with times in epoch milliseconds.
 * @module
 */
import type { CronView, RunningJob, WorkerView } from "./inspection.ts";

/** A worker's record; its id and its queue are known by where it is kept. */
export interface WorkerRecord
  extends Omit<WorkerView, "workerId" | "queueName" | "running" | "startedAt" | "seenAt"> {
  readonly running: readonly RunningRecord[];
  readonly startedAt: number;
  readonly seenAt: number;
  readonly cronJobs: readonly CronRecord[];
}

/** A job that a worker runs. */
export interface RunningRecord extends Omit<RunningJob, "startedAt"> {
  readonly startedAt: number;
}

/** A cron job of a worker. */
export interface CronRecord extends Omit<CronView, "queueName" | "next"> {
  readonly next: readonly number[];
}

/** A worker's record as it is shown. */
export interface WorkerReading {
  readonly worker: WorkerView;
  readonly cronJobs: readonly CronView[];
}

/**
 * Reads a record.
 *
 * @throws {TypeError} that names what is wrong with it; `SyntaxError` if it is no JSON.
 */
export function readWorker(queueName: string, workerId: string, json: string): WorkerReading {
  const record = new Fields(JSON.parse(json));
  const hostname = record.isTruthy("hostname") ? record.text("hostname") : null;
  const worker = {
    workerId,
    hostname,
    pid: record.number("pid"),
    runtime: record.text("runtime"),
    queueName,
    functions: record.list("functions").map(textOf),
    maxJobs: record.number("maxJobs"),
    jobsOngoing: record.number("jobsOngoing"),
    running: record.list("running").map((item) => {
      const run = new Fields(item);
      return {
        jobId: run.text("jobId"),
        functionName: run.text("functionName"),
        startedAt: run.date("startedAt"),
        jobTry: run.number("jobTry"),
      };
    }),
    jobsComplete: record.number("jobsComplete"),
    jobsFailed: record.number("jobsFailed"),
    jobsRetried: record.number("jobsRetried"),
    memoryBytes: record.number("memoryBytes"),
    startedAt: record.date("startedAt"),
    seenAt: record.date("seenAt"),
  };
  const cronJobs = record.list("cronJobs").map((item) => {
    const job = new Fields(item);
    return {
      name: job.text("name"),
      pattern: job.text("pattern"),
      timezone: job.text("timezone"),
      queueName,
      next: job.list("next").map(dateOf),
      unique: job.isTruthy("unique"),
    };
  });
  return { worker, cronJobs };
}

/** The fields of what may be anything. */
class Fields {
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(value: unknown) {
    if (typeof value !== "object" || value === null) throw new TypeError("it is no object");
    this.#fields = value as Readonly<Record<string, unknown>>;
  }

  isTruthy(name: string): boolean {
    return Object.hasOwn(this.#fields, name) && Boolean(this.#fields[name]);
  }

  text(name: string): string {
    return this.#read(name, textOf);
  }

  number(name: string): number {
    return this.#read(name, numberOf);
  }

  date(name: string): Date {
    return this.#read(name, dateOf);
  }

  list(name: string): readonly unknown[] {
    return this.#read(name, listOf);
  }

  #read<T>(name: string, read: (value: unknown) => T): T {
    try {
      return read(Object.hasOwn(this.#fields, name) ? this.#fields[name] : undefined);
    } catch (error) {
      throw new TypeError(`its field "${name}" ${(error as Error).message}`);
    }
  }
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  throw new TypeError("must be a text");
}

function numberOf(value: unknown): number {
  if (typeof value === "number") return value;
  throw new TypeError("must be a number");
}

function dateOf(value: unknown): Date {
  const date = new Date(numberOf(value));
  if (!Number.isNaN(date.getTime())) return date;
  throw new TypeError("must be a point in time");
}

function listOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new TypeError("must be a list");
}
