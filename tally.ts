/**
 * Counts of what ended: as a worker adds them up, as they are kept, and as they are shown.
 *
 * A count has a name: an outcome; `runMs` and `waitMs` for sums of times; `run10` for tries that
 * took up to 10 ms and longer than the next lower limit, `wait10` likewise. In the totals the
 * function's name follows after a colon.
 * @module
 */
import type {
  FunctionTotals,
  Histogram,
  MinuteStats,
  Outcomes,
  Percentiles,
} from "./inspection.ts";
import type { Counts } from "./store_inspection.ts";
import { isCount } from "./validation.ts";

/** How a try ended. */
export type Outcome = keyof Outcomes;

/** The limits of the histograms: to 28 hours, neighbours a factor of two apart at most. */
export const LIMITS_MS: readonly number[] = [
  1,
  2,
  3,
  5,
  7,
  ...[1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7].flatMap((ms) => [1, 1.5, 2, 3, 5, 7].map((n) => n * ms)),
  1e8,
  Infinity,
];

const OUTCOMES: readonly Outcome[] = ["complete", "failed", "aborted", "retried"];
/** Every count has an index in an array: that of its name. */
const NAMES: readonly string[] = [
  ...OUTCOMES,
  "runMs",
  "waitMs",
  ...LIMITS_MS.map((limit) => `run${limit}`),
  ...LIMITS_MS.map((limit) => `wait${limit}`),
];
const INDEXES: ReadonlyMap<string, number> = new Map(NAMES.map((name, index) => [name, index]));
/** The indexes of the sums, and where those of the histograms begin. */
const RUN_MS = OUTCOMES.length;
const WAIT_MS = RUN_MS + 1;
const RUN = WAIT_MS + 1;
const WAIT = RUN + LIMITS_MS.length;

/** Counts by index. */
type Row = Float64Array;

/** Adds up what ends in a worker. */
export class Tally {
  #rows: Map<string, Row> = new Map();

  /** Counts the end of a try, and how long its job had waited for it, if that is known. */
  add(functionName: string, outcome: Outcome, runMs: number, waitMs: number | undefined): void {
    let row = this.#rows.get(functionName);
    if (!row) this.#rows.set(functionName, row = newRow());
    increase(row, OUTCOMES.indexOf(outcome), 1);
    increase(row, RUN_MS, Math.max(0, runMs));
    increase(row, RUN + bucketOf(runMs), 1);
    if (waitMs === undefined) return;
    increase(row, WAIT_MS, Math.max(0, waitMs));
    increase(row, WAIT + bucketOf(waitMs), 1);
  }

  /** Whether nothing was counted since the last time. */
  get isEmpty(): boolean {
    return this.#rows.size === 0;
  }

  /** Hands out what was counted since the last time; undefined if nothing was. */
  take(): { readonly minute: Counts; readonly totals: Counts } | undefined {
    if (this.isEmpty) return undefined;
    const rows = this.#rows;
    this.#rows = new Map();
    const totals = [...rows].flatMap(([functionName, row]) =>
      entriesOf(row).map(([name, count]) => [`${name}:${functionName}`, count] as const)
    );
    return { minute: new Map(entriesOf(sumOf([...rows.values()]))), totals: new Map(totals) };
  }
}

function newRow(): Row {
  return new Float64Array(NAMES.length);
}

function increase(row: Row, index: number, by: number): void {
  row[index] = (row[index] ?? 0) + by;
}

function entriesOf(row: Row): (readonly [name: string, count: number])[] {
  return NAMES.flatMap((name, index) => row[index] ? [[name, Math.round(row[index])]] : []);
}

/** The index of the first limit that is not exceeded. */
function bucketOf(ms: number): number {
  let [low, high] = [0, LIMITS_MS.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ms <= (LIMITS_MS[middle] as number)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** What counts say, and how many of them say nothing. */
export interface ReadCounts<T> {
  readonly value: T;
  readonly unreadable: number;
}

/** What ended in one minute, whichever it was. */
export type MinuteCounts = Omit<MinuteStats, "at">;

/** Reads the counts of several minutes; and what they are in all. */
export function readMinutes(
  minutes: readonly Counts[],
): ReadCounts<{ readonly each: readonly MinuteCounts[]; readonly all: MinuteCounts }> {
  const read = minutes.map(readRow);
  const rows = read.map(({ value }) => value);
  return {
    value: { each: rows.map(minuteOf), all: minuteOf(sumOf(rows)) },
    unreadable: read.reduce((sum, { unreadable }) => sum + unreadable, 0),
  };
}

/** Reads totals, by the functions' names. */
export function readTotals(totals: Counts): ReadCounts<readonly FunctionTotals[]> {
  const byFunction = new Map<string, Map<string, number>>();
  for (const [key, count] of totals) {
    const [, name = key, functionName = ""] = /^([^:]*):(.*)$/s.exec(key) ?? [];
    const counts = byFunction.get(functionName);
    if (counts) counts.set(name, count);
    else byFunction.set(functionName, new Map([[name, count]]));
  }
  let unreadable = 0;
  const functions = [...byFunction].sort(([a], [b]) => a < b ? -1 : 1).flatMap(
    ([functionName, counts]) => {
      const read = readRow(counts);
      unreadable += read.unreadable;
      if (read.unreadable === counts.size) return [];
      const row = read.value;
      return [{
        functionName,
        ...outcomesOf(row),
        runTime: histogramOf(row, RUN, RUN_MS),
        waitTime: histogramOf(row, WAIT, WAIT_MS),
      }];
    },
  );
  return { value: functions, unreadable };
}

function readRow(counts: Counts): ReadCounts<Row> {
  const row = newRow();
  let unreadable = 0;
  for (const [name, count] of counts) {
    const index = INDEXES.get(name);
    if (index !== undefined && isCount(count, 0)) row[index] = count;
    else unreadable++;
  }
  return { value: row, unreadable };
}

function sumOf(rows: readonly Row[]): Row {
  const sum = newRow();
  for (const row of rows) for (const [index, count] of row.entries()) increase(sum, index, count);
  return sum;
}

function minuteOf(row: Row): MinuteCounts {
  return {
    ...outcomesOf(row),
    runTime: percentilesOf(row, RUN),
    waitTime: percentilesOf(row, WAIT),
  };
}

function outcomesOf(row: Row): Outcomes {
  const [complete = 0, failed = 0, aborted = 0, retried = 0] = row;
  return { complete, failed, aborted, retried };
}

function bucketsOf(row: Row, start: number): Row {
  return row.subarray(start, start + LIMITS_MS.length);
}

function histogramOf(row: Row, start: number, sum: number): Histogram {
  let count = 0;
  const buckets = [...bucketsOf(row, start)].map((each, i) => {
    count += each;
    return { leMs: LIMITS_MS[i] ?? Infinity, count };
  });
  return { count, sumMs: row[sum] ?? 0, buckets };
}

function percentilesOf(row: Row, start: number): Percentiles | null {
  const buckets = bucketsOf(row, start);
  const count = buckets.reduce((sum, each) => sum + each, 0);
  if (count === 0) return null;
  const at = (share: number) => percentile(buckets, share * count);
  return { p50Ms: at(0.5), p90Ms: at(0.9), p99Ms: at(0.99) };
}

/** Where the `rank`th lies, as if those of one bucket lay evenly between its limits. */
function percentile(buckets: Row, rank: number): number {
  let below = 0;
  for (const [i, count] of buckets.entries()) {
    if (below + count >= rank && count > 0) {
      const low = LIMITS_MS[i - 1] ?? 0;
      const high = LIMITS_MS[i] ?? Infinity;
      return high === Infinity ? low : low + (high - low) * (rank - below) / count;
    }
    below += count;
  }
  return LIMITS_MS.at(-2) ?? 0;
}
