/**
 * Enqueueing failed jobs again from their results.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { JobNotFound, JobStateError } from "./errors.ts";
import type { RetryJobsOptions } from "./inspection.ts";
import { readEnd } from "./job_views.ts";
import type { JobSource } from "./jobs.ts";
import { encodeJob, type ResultRecord } from "./serializer.ts";
import type { ListedJob, Retrial } from "./store_inspection.ts";

const logger = getLogger(["arq", "client"]);
/** Failures handled in one round. */
const CHUNK = 100;

/** What retrying needs of a client. */
export interface RetrySource extends JobSource {
  /** How long after its due time a job may still be started, milliseconds. */
  readonly expiresExtraMs: number;
}

/** Enqueues one failed job again; returns the queue it went to, the one it ran on unless named. */
export async function retryOne(
  source: RetrySource,
  jobId: string,
  lookedIn: string,
  queueName: string | undefined,
): Promise<string> {
  const { inspection } = source.store;
  const { result, payload, score } = await inspection.view(lookedIn, jobId);
  const isThere = payload !== null || score !== undefined;
  if (result === null && !isThere) {
    throw new JobNotFound(`Cannot retry job ${jobId}: there is neither a job nor a result`);
  }
  if (result === null) throw refusal(jobId, "it has not ended yet");
  const record = readEnd(result, source.deserializer);
  const retrial = retrialOf(source, jobId, result, record);
  const target = queueName ?? record.q;
  source.store.checkQueueName(target);
  const [isDone] = await inspection.retry(target, [retrial], source.expiresExtraMs);
  if (!isDone) throw refusal(jobId, "it is being run again already");
  return target;
}

/** Enqueues failures of a queue again, the oldest first; returns how many. */
export async function retryMany(
  source: RetrySource,
  queueName: string,
  since: number | undefined,
  { functionName, signal, onProgress }: RetryJobsOptions,
): Promise<number> {
  const { store: { inspection }, expiresExtraMs } = source;
  const { count: total, now: until } = await inspection.countFailed(queueName, since);
  const list = { list: "failed", since, until, oldestFirst: true, limit: CHUNK } as const;
  let [retried, looked, unfit] = [0, 0, 0];
  let after: string | undefined;
  do {
    signal?.throwIfAborted();
    const page = await inspection.page(queueName, { ...list, after });
    const retrials: Retrial[] = [];
    for (const job of page.jobs) {
      const found = readListed(source, job, queueName, functionName);
      if (found === "unfit") unfit++;
      else if (found) retrials.push(found);
    }
    const done = retrials.length > 0
      ? await inspection.retry(queueName, retrials, expiresExtraMs)
      : [];
    retried += done.filter(Boolean).length;
    looked += page.jobs.length;
    after = page.next;
    onProgress?.({ retried, looked, total });
  } while (after !== undefined);
  if (unfit > 0) {
    logger.warn("{unfit} failed jobs cannot be retried: their arguments were not kept", { unfit });
  }
  return retried;
}

/** A listed failure as a retrial; undefined if it is none of those that are meant. */
function readListed(
  source: RetrySource,
  { jobId, result }: ListedJob,
  queueName: string,
  functionName: string | undefined,
): Retrial | "unfit" | undefined {
  try {
    const record = readEnd(result, source.deserializer);
    const isMeant = !record.s && record.q === queueName && (functionName ?? record.f) === record.f;
    return isMeant ? retrialOf(source, jobId, result, record) : undefined;
  } catch (error) {
    logger.debug("{reason}", { reason: (error as Error).message });
    return "unfit";
  }
}

function retrialOf(
  { serializer }: RetrySource,
  jobId: string,
  result: Uint8Array | null | undefined,
  { f, a, k, s, cut }: ResultRecord,
): Retrial {
  if (s) throw refusal(jobId, "it has succeeded");
  if (cut || !result) throw refusal(jobId, "its arguments were not kept");
  return { jobId, result, payload: encodeJob({ t: null, f, a, k, et: Date.now() }, serializer) };
}

function refusal(jobId: string, reason: string): JobStateError {
  return new JobStateError(`Cannot retry job ${jobId}: ${reason}`);
}
