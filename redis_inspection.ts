/**
 * The operators' side of the store on Redis: each method is a script, one jump away in
 * `redis_inspection_scripts.ts`.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Argument, Reply } from "./redis_connection.ts";
import { inspectionScripts, SORTED_AT_A_TIME } from "./redis_inspection_scripts.ts";
import { MOST_COMPLETE, type Script } from "./redis_prelude.ts";
import type {
  Counts,
  JobState,
  ListedJob,
  ListPage,
  PageQuery,
  QueueNumbers,
  Removal,
  Retrial,
  StoreInspection,
  WorkerReport,
} from "./store_inspection.ts";

/** Runs a script on a queue; `args` is told whether an earlier attempt may have taken effect. */
export type RunScript = (
  script: Script,
  queueName: string,
  args: (again: boolean) => readonly Argument[],
) => Promise<Reply>;

const logger = getLogger(["arq", "redis"]);
/** The use of a queue is noted this often, of so many queues. */
const NOTE_EVERY_MS = 3_600_000;
const MOST_NOTED = 10_000;
/** A page has no more bytes of jobs than this and one job. */
const PAGE_BYTES = 4 << 20;

/** Inspection of queues in Redis. */
export class RedisInspection implements StoreInspection {
  readonly #run: RunScript;
  readonly #prefix: string;
  /** When the use of a queue was noted last. */
  readonly #noted: Map<string, number> = new Map();
  /** What kept a part of the last report from being written. */
  #problem = "";

  /** Takes what runs a script, and the prefix of all keys. */
  constructor(run: RunScript, prefix: string) {
    this.#run = run;
    this.#prefix = prefix;
  }

  async setPaused(queueName: string, paused: boolean): Promise<void> {
    await this.#run(inspectionScripts.setPaused, queueName, () => [paused ? "1" : "0"]);
  }

  async remove(queueName: string, jobId: string): Promise<Removal> {
    const args = (again: boolean) => [flag(again), jobId];
    return String(await this.#run(inspectionScripts.remove, queueName, args)) as Removal;
  }

  async page(queueName: string, query: PageQuery): Promise<ListPage> {
    const { list, after, since = "", until = "", oldestFirst = false, limit } = query;
    const [score, member] = after === undefined ? ["", ""] : parsePosition(after);
    const args = [list, score, member, String(since), String(until), flag(oldestFirst)];
    const limits = [String(limit), String(PAGE_BYTES)];
    if (list === "complete") await this.#sortIn(queueName);
    const reply = await this.#run(inspectionScripts.page, queueName, () => [...args, ...limits]);
    const [_now, isCut, lastScore, lastMember, jobs] = listOf(reply);
    return {
      jobs: listOf(jobs).map(listedJob),
      next: String(isCut) === "1" ? position(lastScore, lastMember) : undefined,
    };
  }

  /** Sorts in what stands in line; what comes meanwhile is left to the next look. */
  async #sortIn(queueName: string): Promise<void> {
    for (let sorted = 0; sorted < MOST_COMPLETE; sorted += SORTED_AT_A_TIME) {
      const left = await this.#run(inspectionScripts.sortIn, queueName, () => []);
      if (left === 0) return;
    }
  }

  async view(
    queueName: string,
    jobId: string,
  ): Promise<JobState & { readonly score: number | undefined; readonly now: number }> {
    const reply = await this.#run(inspectionScripts.view, queueName, () => [jobId]);
    const [now, score, ...state] = listOf(reply);
    return {
      now: Number(String(now)),
      score: score === null ? undefined : Number(String(score)),
      ...jobState(state),
    };
  }

  async countFailed(
    queueName: string,
    since: number | undefined,
  ): Promise<{ readonly count: number; readonly now: number }> {
    const args = [since === undefined ? "-inf" : String(since)];
    const reply = listOf(await this.#run(inspectionScripts.countFailed, queueName, () => args));
    return { count: Number(reply[0]), now: Number(String(reply[1])) };
  }

  async retry(
    queueName: string,
    jobs: readonly Retrial[],
    extraMs: number,
  ): Promise<boolean[]> {
    const rows = jobs.flatMap(({ jobId, result, payload }) => [
      jobId,
      createHash("sha1").update(result).digest("hex"),
      Buffer.from(payload),
    ]);
    const args = (again: boolean) => [flag(again), String(extraMs), ...rows];
    const reply = String(await this.#run(inspectionScripts.retry, queueName, args));
    return Array.from(reply, (each) => each === "1");
  }

  async report(queueName: string, report: WorkerReport): Promise<void> {
    const { workerId, record, ttlMs, reportId, minute, totals } = report;
    const worker = [workerId, record, String(ttlMs), reportId, String(minute.size)];
    const args = [...worker, ...countArguments(minute), ...countArguments(totals)];
    const problem = String(await this.#run(inspectionScripts.report, queueName, () => args));
    if (problem !== this.#problem && problem !== "") {
      logger.warn("operators see less of queue {queueName}: {problem}", { queueName, problem });
    }
    this.#problem = problem;
  }

  async numbers(queueName: string, minutes: number): Promise<QueueNumbers> {
    const reply = await this.#run(inspectionScripts.numbers, queueName, () => [String(minutes)]);
    const [now, paused, due, all, inProgress, oldestDueAt, totals, each] = listOf(reply);
    return {
      now: Number(String(now)),
      paused: paused === 1,
      due: Number(due),
      deferred: Math.max(0, Number(all) - Number(due) - Number(inProgress)),
      inProgress: Number(inProgress),
      oldestDueAt: oldestDueAt === null ? undefined : Number(String(oldestDueAt)),
      totals: countsOf(totals),
      minutes: listOf(each).map((entry) => {
        const [minute, counts] = listOf(entry);
        return { minute: Number(minute), counts: countsOf(counts) };
      }),
    };
  }

  async workers(
    queueName: string,
  ): Promise<readonly { readonly workerId: string; readonly record: string }[]> {
    const reply = listOf(await this.#run(inspectionScripts.workers, queueName, () => []));
    return reply.map((entry) => {
      const [workerId, record] = listOf(entry);
      return { workerId: String(workerId), record: String(record) };
    });
  }

  async queueNames(): Promise<readonly string[]> {
    const anyQueue = `${this.#prefix}queue`;
    const reply = await this.#run(inspectionScripts.queueNames, anyQueue, () => []);
    return listOf(reply).map(String);
  }

  /** Notes that jobs are put into a queue, now and then, so that it is known before it has a worker. */
  noteUse(queueName: string): void {
    const now = performance.now();
    if (now - (this.#noted.get(queueName) ?? -Infinity) < NOTE_EVERY_MS) return;
    if (this.#noted.size >= MOST_NOTED) this.#noted.clear();
    this.#noted.set(queueName, now);
    this.#run(inspectionScripts.noteQueue, queueName, () => []).catch((error) => {
      this.#noted.delete(queueName);
      const reason = (error as Error).message;
      logger.debug("the use of queue {queueName} is not noted: {reason}", { queueName, reason });
    });
  }
}

function countArguments(counts: Counts): string[] {
  return [...counts].flatMap(([name, count]) => [name, String(count)]);
}

function countsOf(reply: Reply | undefined): Counts {
  const fields = listOf(reply);
  const counts = new Map<string, number>();
  for (let i = 0; i < fields.length; i += 2) {
    counts.set(String(fields[i]), Number(String(fields[i + 1])));
  }
  return counts;
}

function listedJob(reply: Reply): ListedJob {
  const [jobId, at, score, member, ...state] = listOf(reply);
  return {
    jobId: String(jobId),
    at: Number(String(at)),
    position: position(score, member),
    ...jobState(state),
  };
}

function jobState([payload, result, locked, starts]: readonly Reply[]): JobState {
  return {
    payload: bytesOf(payload),
    result: bytesOf(result),
    locked: locked === 1,
    starts: Number(String(starts ?? 0)) || 0,
  };
}

/** Bytes; null for nothing, undefined for what is none. */
function bytesOf(reply: Reply | undefined): Uint8Array | null | undefined {
  if (reply === null || Buffer.isBuffer(reply)) return reply;
}

/** Members are kept as bytes: somebody may have written what is no text. */
function position(score: Reply | undefined, member: Reply | undefined): string {
  const bytes = Buffer.isBuffer(member) ? member : Buffer.from("");
  return `${score}_${bytes.toString("base64url")}`;
}

function parsePosition(text: string): readonly [score: string, member: Buffer] {
  const [, score, member = ""] = /^([-+.\w]+?)_([-\w]*)$/.exec(text) ?? [];
  if (score !== undefined && (/^-?inf$/.test(score) || Number.isFinite(Number(score)))) {
    return [score, Buffer.from(member, "base64url")];
  }
  throw new RangeError(`cursor must be that of a page, got "${text}"`);
}

function flag(value: boolean): string {
  return value ? "1" : "0";
}

function listOf(reply: Reply | undefined): readonly Reply[] {
  return Array.isArray(reply) ? reply : [];
}
