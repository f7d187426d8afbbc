/**
 * The operators' side of the store on Redis: each method is a script, one jump away in
 * `redis_inspection_scripts.ts`.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { bytes, flag, list, number, startsOf, text } from "./redis_arguments.ts";
import type { Reply, ScriptCall } from "./redis_connection.ts";
import { inspectionScripts, SORTED_AT_A_TIME } from "./redis_inspection_scripts.ts";
import { MOST_COMPLETE, type Script } from "./redis_prelude.ts";
import type {
  Counts,
  FailureCount,
  JobState,
  ListedJob,
  ListPage,
  LiveWorker,
  PageQuery,
  QueueNumbers,
  Removal,
  Retrial,
  SeenJob,
  StoreInspection,
  WorkerReport,
} from "./store_inspection.ts";

/** Runs a script on a queue. */
export type RunScript = (
  script: Script,
  queueName: string,
  args: ScriptCall["args"],
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
    await this.#run(inspectionScripts.setPaused, queueName, () => [flag(paused)]);
  }

  async remove(queueName: string, jobId: string): Promise<Removal> {
    const args = (again: boolean) => [flag(again), jobId];
    return text(await this.#run(inspectionScripts.remove, queueName, args)) as Removal;
  }

  async page(queueName: string, query: PageQuery): Promise<ListPage> {
    const { after, since = "", until = "", oldestFirst = false, limit } = query;
    const [score, member] = after === undefined ? ["", ""] : parsePosition(after);
    const args = [query.list, score, member, String(since), String(until), flag(oldestFirst)];
    const limits = [String(limit), String(PAGE_BYTES)];
    if (query.list === "complete") await this.#sortIn(queueName);
    const reply = await this.#run(inspectionScripts.page, queueName, () => [...args, ...limits]);
    const [_now, isCut, lastScore, lastMember, jobs] = list(reply);
    return {
      jobs: list(jobs).map(listedJob),
      next: text(isCut) === "1" ? position(lastScore, lastMember) : undefined,
    };
  }

  async view(queueName: string, jobId: string): Promise<SeenJob> {
    const reply = await this.#run(inspectionScripts.view, queueName, () => [jobId]);
    const [now, score, ...state] = list(reply);
    return {
      now: number(now),
      score: score === null ? undefined : number(score),
      ...jobState(state),
    };
  }

  async countFailed(queueName: string, since: number | undefined): Promise<FailureCount> {
    const args = [since === undefined ? "-inf" : String(since)];
    const reply = list(await this.#run(inspectionScripts.countFailed, queueName, () => args));
    return { count: number(reply[0]), now: number(reply[1]) };
  }

  async retry(
    queueName: string,
    jobs: readonly Retrial[],
    extraMs: number,
  ): Promise<boolean[]> {
    const rows = jobs.flatMap(({ jobId, result, payload }) => [
      jobId,
      createHash("sha1").update(result).digest("hex"),
      bytes(payload),
    ]);
    const args = (again: boolean) => [flag(again), String(extraMs), ...rows];
    const reply = text(await this.#run(inspectionScripts.retry, queueName, args));
    return Array.from(reply, (each) => each === "1");
  }

  async report(queueName: string, report: WorkerReport): Promise<void> {
    const { workerId, record, ttlMs, reportId, minute, totals } = report;
    const worker = [workerId, record, String(ttlMs), reportId, String(minute.size)];
    const args = [...worker, ...countArguments(minute), ...countArguments(totals)];
    const problem = text(await this.#run(inspectionScripts.report, queueName, () => args));
    if (problem !== this.#problem && problem !== "") {
      logger.warn("operators see less of queue {queueName}: {problem}", { queueName, problem });
    }
    this.#problem = problem;
  }

  async numbers(queueName: string, minutes: number): Promise<QueueNumbers> {
    const reply = await this.#run(inspectionScripts.numbers, queueName, () => [String(minutes)]);
    const [now, paused, due, all, inProgress, oldestDueAt, totals, each] = list(reply);
    return {
      now: number(now),
      paused: paused === 1,
      due: number(due),
      deferred: Math.max(0, number(all) - number(due) - number(inProgress)),
      inProgress: number(inProgress),
      oldestDueAt: oldestDueAt === null ? undefined : number(oldestDueAt),
      totals: countsOf(totals),
      minutes: list(each).map((entry) => {
        const [minute, counts] = list(entry);
        return { minute: number(minute), counts: countsOf(counts) };
      }),
    };
  }

  async workers(queueName: string): Promise<readonly LiveWorker[]> {
    const reply = list(await this.#run(inspectionScripts.workers, queueName, () => []));
    return reply.map((entry) => {
      const [workerId, record] = list(entry);
      return { workerId: text(workerId), record: text(record) };
    });
  }

  async queueNames(): Promise<readonly string[]> {
    const anyQueue = `${this.#prefix}queue`;
    const reply = await this.#run(inspectionScripts.queueNames, anyQueue, () => []);
    return list(reply).map(text);
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

  /** Sorts in what stands in line; what comes meanwhile is left to the next look. */
  async #sortIn(queueName: string): Promise<void> {
    for (let sorted = 0; sorted < MOST_COMPLETE; sorted += SORTED_AT_A_TIME) {
      const left = await this.#run(inspectionScripts.sortIn, queueName, () => []);
      if (left === 0) return;
    }
  }
}

function countArguments(counts: Counts): string[] {
  return [...counts].flatMap(([name, count]) => [name, String(count)]);
}

function countsOf(reply: Reply | undefined): Counts {
  const fields = list(reply);
  const counts = new Map<string, number>();
  for (let i = 0; i < fields.length; i += 2) {
    counts.set(text(fields[i]), number(fields[i + 1]));
  }
  return counts;
}

function listedJob(reply: Reply): ListedJob {
  const [jobId, at, score, member, ...state] = list(reply);
  return {
    jobId: text(jobId),
    at: number(at),
    position: position(score, member),
    ...jobState(state),
  };
}

function jobState([payload, result, locked, starts]: readonly Reply[]): JobState {
  return {
    payload: bytesOf(payload),
    result: bytesOf(result),
    locked: locked === 1,
    starts: startsOf(starts),
  };
}

/** Bytes; null for nothing, undefined for what is none. */
function bytesOf(reply: Reply | undefined): Uint8Array | null | undefined {
  if (reply === null || Buffer.isBuffer(reply)) return reply;
}

/** Members are kept as bytes: somebody may have written what is no text. */
function position(score: Reply | undefined, member: Reply | undefined): string {
  const data = Buffer.isBuffer(member) ? member : Buffer.from("");
  return `${score}_${data.toString("base64url")}`;
}

function parsePosition(given: string): readonly [score: string, member: Buffer] {
  const [, score, member = ""] = /^([-+.\w]+?)_([-\w]*)$/.exec(given) ?? [];
  if (score !== undefined && (/^-?inf$/.test(score) || Number.isFinite(Number(score)))) {
    return [score, Buffer.from(member, "base64url")];
  }
  throw new RangeError(`cursor must be that of a page, got "${given}"`);
}
