/**
 * The operators' side of the store on Redis: each method is one script, one jump away in
 * `redis_inspection_scripts.ts`.
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Argument, Reply } from "./redis_connection.ts";
import { inspectionScripts } from "./redis_inspection_scripts.ts";
import type { Script } from "./redis_scripts.ts";
import type {
  JobState,
  ListedJob,
  ListPage,
  PageQuery,
  Removal,
  Retrial,
  StoreInspection,
} from "./store_inspection.ts";

/** Runs a script on a queue; `args` is told whether an earlier attempt may have taken effect. */
export type RunScript = (
  script: Script,
  queueName: string,
  args: (again: boolean) => readonly Argument[],
) => Promise<Reply>;

/** A page has no more bytes of jobs than this and one job. */
const PAGE_BYTES = 4 << 20;

/** Inspection of queues in Redis. */
export class RedisInspection implements StoreInspection {
  readonly #run: RunScript;

  /** Takes what runs a script. */
  constructor(run: RunScript) {
    this.#run = run;
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
    const reply = await this.#run(inspectionScripts.page, queueName, () => [...args, ...limits]);
    const [_now, isCut, lastScore, lastMember, jobs] = listOf(reply);
    return {
      jobs: listOf(jobs).map(listedJob),
      next: String(isCut) === "1" ? position(lastScore, lastMember) : undefined,
    };
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
