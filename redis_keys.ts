/**
 * The names of everything this library keeps in Redis beside the queues themselves. The scripts
 * make the same names from the prefix and the queue's name; their prelude has the list.
 *
 * What operators see and do is kept under `<queue>:ops:`, so that no queue has such a name by chance:
 *
 * - `absent`: never there.
 * - `paused`: there while the queue is paused.
 * - `left:<holder>`: there for some seconds once nobody waits for that holder's claim any more.
 * - `complete`, `failed`: the jobs that have ended and whose result was kept, by the time of their end;
 *   those that have succeeded only once somebody has looked.
 * - `succeeded`: these, until somebody looks: `<time>:<id>` each.
 * - `minute:<minute of the epoch>`, `totals`: how many jobs ended how, in a minute and in all.
 * - `workers`, `worker:<id>`: the live workers and what each tells of itself.
 * - `watched`: the jobs whose steps somebody wants to hear of.
 *
 * `<prefix>ops:queues` has the queues of the prefix by the time of their last use.
 * @module
 */

/** Stands between a queue's name and the name of what is kept for operators. */
export const OPS = ":ops:";

/**
 * The keys that every script gets, in the order the prelude names them.
 *
 * The last is never written: while a Cluster moves a slot key by key, its nodes refuse a script one
 * of whose keys is missing, before it begins. Otherwise it would end at the first key that is on the
 * other node, half of its work done.
 */
export function scriptKeys(prefix: string, queueName: string): string[] {
  return [
    queueName,
    wakeKey(queueName),
    abortKey(prefix),
    `${queueName}:leases`,
    `${queueName}${OPS}absent`,
  ];
}

/** The key that keeps a holder's claims from taking anything. */
export function leftKey(queueName: string, holder: string): string {
  return `${queueName}${OPS}left:${holder}`;
}

/** The list whose one element wakes an idle worker. */
export function wakeKey(queueName: string): string {
  return `${queueName}:wake`;
}

/**
 * The channel on which a job's end is announced; ids that are alike up to an @ share one.
 *
 * A message is the id's length in bytes, a colon, the id, and the encoded result if it is small or is
 * not kept.
 */
export function doneChannel(prefix: string, jobId: string): string {
  return `${prefix}done:${/^(.[^@]*)@/s.exec(jobId)?.[1] ?? jobId}`;
}

/** The channel on which the steps of a queue's watched jobs are told; `redis_prelude.ts` has the messages. */
export function newsChannel(queueName: string): string {
  return `${queueName}:events`;
}

/** The key of what a job has told of its progress: time, starts, number, a colon, the value. */
export function progressKey(prefix: string, jobId: string): string {
  return `${prefix}progress:${jobId}`;
}

/** The key of a job's result. */
export function resultKey(prefix: string, jobId: string): string {
  return `${prefix}result:${jobId}`;
}

/** The key of an encoded job. */
export function jobKey(prefix: string, jobId: string): string {
  return `${prefix}job:${jobId}`;
}

/** The set of jobs whose abort was asked for. */
export function abortKey(prefix: string): string {
  return `${prefix}abort`;
}
