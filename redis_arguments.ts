/**
 * What scripts are told and what they reply: the store's words as arguments, and replies as its words.
 * @module
 */
import { Buffer, isUtf8 } from "node:buffer";
import type { Argument, Reply } from "./redis_connection.ts";
import type {
  Claim,
  ClaimReply,
  ClaimRequest,
  Finish,
  GiveBack,
  JobSnapshot,
  NewJob,
  Settled,
} from "./store.ts";

/** Jobs handled by one call of a script, so that no call keeps the server from others for long. */
export const BATCH = 500;
const BATCH_BYTES = 1 << 20;
const SETTLED: Readonly<Record<string, Settled>> = {
  "0": "refused",
  "1": "done",
  "2": "expires_first",
};

/** The arguments of calls that are told one row after the other, of a bearable number and size each. */
export function* rowBatches(rows: readonly (readonly Argument[])[]): Generator<Argument[]> {
  const bytesOf = (row: readonly Argument[]) => row.reduce((sum, { length }) => sum + length, 0);
  for (const batch of batchesOf(rows, bytesOf)) yield batch.flat();
}

/** Cuts what a script is to be told of. */
function* batchesOf<T>(items: readonly T[], bytesOf: (item: T) => number): Generator<readonly T[]> {
  let start = 0;
  let size = 0;
  for (const [i, item] of items.entries()) {
    const bytes = bytesOf(item);
    if (i > start && (i - start === BATCH || size + bytes > BATCH_BYTES)) {
      yield items.slice(start, i);
      start = i;
      size = 0;
    }
    size += bytes;
  }
  if (start < items.length) yield items.slice(start);
}

/** The arguments of a claim; the first is what its token begins with. */
export function claimArguments({ holder, limit, leaseMs, suspects }: ClaimRequest): string[] {
  const token = `${holder}:${crypto.randomUUID().slice(-12)}`;
  const most = String(Math.min(limit, BATCH));
  return [token, String(leaseMs), most, optional(suspects?.lastTry), flag(suspects?.mayTake)];
}

/** The arguments of ends, as `FINISH` wants them. */
export function* finishBatches(ends: readonly Finish[]): Generator<Argument[]> {
  for (const batch of batchesOf(ends, ({ record }) => record.length)) yield grouped(batch);
}

/** Those of one claim and on the same terms stand in a row behind what they have in common. */
function grouped(ends: readonly Finish[]): Argument[] {
  const args: Argument[] = [Buffer.concat(ends.map(({ record }) => record))];
  let [token, terms] = ["", ""];
  let [countAt, count] = [0, 0];
  for (const end of ends) {
    const { record, lease: { jobId, score, token: ownToken } } = end;
    const ownTerms = termsOfEnd(end);
    if (ownToken !== token || ownTerms !== terms) {
      [token, terms] = [ownToken, ownTerms];
      [countAt, count] = [args.length, 0];
      args.push("", token, terms);
    }
    args[countAt] = String(++count);
    args.push(jobId, `${score}:${jobId}`, String(record.length));
  }
  return args;
}

function termsOfEnd({ lease, success, keepMs, lockTailMs }: Finish): string {
  const keep = keepMs === "forever" ? "" : keepMs;
  return `${success ? 1 : 0},${keep},${lockTailMs},${lease.handbacks > 0 ? 1 : 0}`;
}

/** The arguments of one job that goes back, as `GIVE_BACK` wants them. */
export function giveBackArguments({ lease, deferMs, starts, kind }: GiveBack): Argument[] {
  const terms = [optional(deferMs), String(starts), flag(kind === "release")];
  return [lease.jobId, lease.token, lease.score, ...terms];
}

/** The arguments of jobs, as `ENQUEUE` wants them. */
export function enqueueArguments(jobs: readonly NewJob[]): Argument[] {
  const ids: string[] = [];
  let lengths = "";
  for (const job of jobs) {
    const terms = termsOf(job);
    lengths += `${job.payload.length}${terms === undefined ? "" : "+"},`;
    ids.push(job.jobId);
    if (terms !== undefined) ids.push(terms);
  }
  return [Buffer.concat(jobs.map(({ payload }) => payload)), lengths, ...ids];
}

/** What is to be told of a job; nothing of one with a random id that is due now. */
function termsOf(
  { idKind, slotId = "", dueAt, deferMs, expiresMs }: NewJob,
): string | undefined {
  const isPlain = idKind === "random" && dueAt === undefined && deferMs === undefined &&
    expiresMs === undefined;
  if (isPlain) return undefined;
  return [idKind, optional(dueAt), optional(deferMs), optional(expiresMs), slotId].join();
}

/** What `CLAIM` replies, and the entries in it whose id is no text that anybody could name. */
export function readClaims(
  reply: readonly Reply[],
): ClaimReply & { readonly strange: readonly Argument[] } {
  const now = number(reply[0]);
  const nextDueMs = reply[1] === null ? undefined : number(reply[1]) - now;
  const token = text(reply[3]);
  const claims: Claim[] = [];
  const strange: Argument[] = [];
  for (let i = 4; i < reply.length; i += 4) {
    const id = reply[i];
    if (Buffer.isBuffer(id) && !isUtf8(id)) strange.push(id);
    else claims.push(readClaim(token, id, text(reply[i + 1]), reply[i + 2], reply[i + 3]));
  }
  return { claims, now, nextDueMs, queued: number(reply[2]), strange };
}

function readClaim(
  token: string,
  id: Reply | undefined,
  score: string,
  payload: Reply | undefined,
  counts: Reply | undefined,
): Claim {
  const [starts = 1, handbacks = 0, aborts, suspect] = numbersOf(text(counts));
  return {
    jobId: text(id),
    token,
    score,
    payload: payload === null || Buffer.isBuffer(payload) ? payload : undefined,
    starts,
    handbacks,
    abortAsked: aborts === 1,
    isSuspect: suspect === 1,
  };
}

function numbersOf(list: string): readonly number[] {
  return list === "" ? [] : list.split(",").map(Number);
}

/** What `LOOK_UP` replies. */
export function readSnapshot(reply: readonly Reply[]): JobSnapshot {
  const [now, result, payload, hasPayload, locked, score] = reply;
  return {
    now: number(now),
    result: Buffer.isBuffer(result) ? result : undefined,
    payload: Buffer.isBuffer(payload) ? payload : undefined,
    hasPayload: number(hasPayload) === 1,
    locked: number(locked) === 1,
    score: score === null || score === undefined ? undefined : number(score),
  };
}

/** What the flags of `FINISH` and `GIVE_BACK` mean. */
export function settled(flags: string): Settled[] {
  return Array.from(flags, (flag) => SETTLED[flag] ?? "refused");
}

/** Bytes as the client takes them. */
export function bytes(data: Uint8Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

/** Yes or no. */
export function flag(value: boolean | undefined): string {
  return value ? "1" : "0";
}

/** A number, or nothing. */
function optional(value: number | undefined): string {
  return value === undefined ? "" : String(value);
}

/** A reply as text. */
export function text(reply: Reply | undefined): string {
  return String(reply);
}

/** A number as Redis writes it, which calls those beyond all others `inf`. */
export function number(reply: Reply | undefined): number {
  return Number(String(reply).replace("inf", "Infinity"));
}

/** How often a job was started; whatever cannot tell that counts as 0. */
export function startsOf(reply: Reply | undefined): number {
  return Number(text(reply ?? 0)) || 0;
}

/** A reply's parts; none of another kind of reply. */
export function list(reply: Reply | undefined): readonly Reply[] {
  return Array.isArray(reply) ? reply : [];
}
