/**
 * The numbers of a queue and its workers, as they are shown.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { type Duration, durationMs } from "./duration.ts";
import type { QueueStats } from "./inspection.ts";
import type { Store } from "./store.ts";
import { readMinutes, readTotals } from "./tally.ts";
import { show } from "./validation.ts";
import { readWorker, type WorkerReading } from "./worker_records.ts";

const logger = getLogger(["arq", "client"]);
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const MOST_HOURS = 3;

/** Reads the numbers of a queue. */
export async function readStats(
  store: Store,
  queueName: string,
  history: Duration = HOUR_MS,
): Promise<QueueStats> {
  const historyMs = durationMs("stats: history", history, MINUTE_MS);
  if (historyMs > MOST_HOURS * HOUR_MS) {
    throw new RangeError(
      `stats: history must be ${MOST_HOURS} hours or less, got ${show(history)}`,
    );
  }
  const length = Math.ceil(historyMs / MINUTE_MS);
  const numbers = await store.inspection.numbers(queueName, length);
  const { now, oldestDueAt } = numbers;
  const last = Math.floor(now / MINUTE_MS);
  const known = new Map(numbers.minutes.map(({ minute, counts }) => [minute, counts]));
  const minutes = Array.from({ length }, (_, i) => last - length + 1 + i);
  const counts = readMinutes(minutes.map((minute) => known.get(minute) ?? new Map()));
  const totals = readTotals(numbers.totals);
  warnOfCounts(queueName, counts.unreadable + totals.unreadable);
  const { each, all } = counts.value;
  return {
    queueName,
    at: new Date(now),
    paused: numbers.paused,
    due: numbers.due,
    deferred: numbers.deferred,
    inProgress: numbers.inProgress,
    oldestDueMs: oldestDueAt === undefined ? null : Math.max(0, now - oldestDueAt),
    minutes: each.map((counts, i) => ({ at: new Date((minutes[i] ?? 0) * MINUTE_MS), ...counts })),
    runTime: all.runTime,
    waitTime: all.waitTime,
    functions: totals.value,
  };
}

function warnOfCounts(queueName: string, unreadable: number): void {
  if (unreadable === 0) return;
  logger.warn("{unreadable} counts of queue {queueName} cannot be read and are left out", {
    unreadable,
    queueName,
  });
}

/** Reads what the live workers of some queues tell of themselves. */
export async function readWorkers(
  store: Store,
  queueNames: readonly string[],
): Promise<WorkerReading[]> {
  const reports = await Promise.all(queueNames.map(async (queueName) => {
    const workers = await store.inspection.workers(queueName);
    return workers.flatMap(({ workerId, record }) => readable(queueName, workerId, record));
  }));
  return reports.flat();
}

function readable(queueName: string, workerId: string, record: string): WorkerReading[] {
  try {
    return [readWorker(queueName, workerId, record)];
  } catch (error) {
    const reason = (error as Error).message;
    logger.warn("worker {workerId} is left out: {reason}", { workerId, reason });
    return [];
  }
}
