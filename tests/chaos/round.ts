/** One round of chaos: a store, a load, workers and faults; then the books are compared. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { createPool, type WorkerSettings } from "../../mod.ts";
import { eventually, openRawRedis } from "../_helpers.ts";
import { startRedis } from "../_redis.ts";
import { Folder } from "../_sqlite.ts";
import { type Fault, redisFaults, type Scene, sqliteFaults, workerFaults } from "./faults.ts";
import { flawOf, flawOfAborted } from "./jobs.ts";
import type { Start } from "./ledger.ts";
import { Load, type Mix } from "./load.ts";
import { FaultyProxy } from "./proxy.ts";
import { Random } from "./random.ts";
import { type Life, Workers } from "./workers.ts";

/** What a round consists of. */
export interface Plan {
  readonly store: "redis" | "sqlite";
  readonly seed: number;
  /** How many jobs are enqueued at most, and how long faults go on at most. */
  readonly jobs: number;
  readonly ms: number;
  readonly perSecond: number;
  readonly mix: Mix;
  /** How often each fault comes; those of one lane come one after the other, lanes at once. */
  readonly lanes: readonly Readonly<Record<string, number>>[];
  /** How many faults a lane has at most, and the pause between two. */
  readonly maxFaults?: number;
  readonly pauseMs: readonly [min: number, max: number];
  readonly leaseMs: number;
  readonly pollMs: number;
  /** How long a server stays frozen at most. */
  readonly longestMs: number;
  /** Told of each fault. */
  readonly onFault?: (text: string) => void;
}

/** What was counted. */
export interface Report {
  readonly accepted: number;
  /** Jobs whose enqueueing ended in an error, and how many of them were run all the same. */
  readonly unknown: number;
  readonly unknownRun: number;
  readonly run: number;
  readonly runMoreThanOnce: number;
  /** Accepted jobs without a result. */
  readonly lost: readonly string[];
  /** Results that are not what their jobs say, or changed after somebody had seen them. */
  readonly wrong: readonly string[];
  /** Answers that cannot be true, such as a taken id for a job's own first enqueueing. */
  readonly lies: readonly string[];
  /** Workers that ended although nobody told them to. */
  readonly died: readonly string[];
  /** What is left in the store besides results. */
  readonly left: readonly string[];
  readonly faults: Readonly<Record<string, number>>;
  /** Replies that were dropped, by command. */
  readonly dropped: Readonly<Record<string, number>>;
  readonly cuts: number;
  readonly kills: number;
  /** From the death of a worker until another had begun its job, at the longest. */
  readonly slowestOrphanMs: number;
  /** How many jobs were begun before an orphan whose lease and poll were over, at the most. */
  readonly overtakers: number;
  readonly slowestStopMs: number;
}

const WORKERS = 3;
const MAX_JOBS = 20;
const TIMEOUT_MS = 3_000;
const DRAIN_MS = 60_000;
/** How long a worker of a round lets jobs end and heed their signal when it is told to stop. */
const COMPLETION_WAIT_MS = 500;
const GRACE_MS = 500;

/** How long a worker of a round may take to stop, whatever is going on. */
export const STOP_LIMIT_MS = COMPLETION_WAIT_MS + GRACE_MS + 2 * TIMEOUT_MS + 3_000;

/**
 * How many jobs may be begun before an orphan that is due: those that were claimed already, and those
 * of other workers while the one that has it waits for the processor.
 */
export const MAX_OVERTAKERS = 10 * WORKERS * MAX_JOBS;

/** What may be left by jobs that have ended and by workers that were killed, as long as it expires. */
const EXPIRING_KEY = /^arq:(result:|nonce:|ops:queues$|queue:(wake$|ops:|health-check$))/;
const LASTING_KEYS = `
  local lasting = {}
  for _, key in ipairs(redis.call('KEYS', '*')) do
    if redis.call('PTTL', key) == -1 then lasting[#lasting + 1] = key .. ' has no expiry' end
  end
  return lasting`;

/** Where a round takes place. */
interface Stage extends AsyncDisposable {
  /** What workers and clients use, with the faults on the way. */
  readonly url: string;
  /** The way to the store without faults. */
  readonly directUrl: string;
  readonly proxy?: FaultyProxy;
  faults(scene: Scene): Readonly<Record<string, Fault>>;
  /** How many jobs are in the queue. */
  countQueued(): Promise<number>;
  /** What is stored besides results and what is gone by itself. */
  leftovers(): Promise<string[]>;
}

async function openStage(plan: Plan, folder: Folder): Promise<Stage> {
  if (plan.store === "sqlite") {
    const directUrl = folder.url();
    return {
      url: `${directUrl}?timeout=${TIMEOUT_MS}`,
      directUrl,
      faults: (scene) => ({ ...workerFaults(scene), ...sqliteFaults(scene, folder.file()) }),
      countQueued: () => Promise.resolve(readRows(folder, "jobs").length),
      leftovers: () => {
        const tables = ["jobs", "payloads"];
        return Promise.resolve(tables.flatMap((table) => readRows(folder, table)));
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  }
  const server = await startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] });
  const proxy = await FaultyProxy.start(server.port);
  const ask = async (...words: string[]) => {
    await using redis = await openRawRedis(server.url);
    return await redis.call(...words);
  };
  return {
    url: `redis://127.0.0.1:${proxy.port}?timeout=${TIMEOUT_MS}&connTimeout=1000&connRetries=60` +
      "&connRetryDelay=200",
    directUrl: server.url,
    proxy,
    faults: (scene) => ({ ...workerFaults(scene), ...redisFaults(scene, server, proxy) }),
    countQueued: async () => Number(await ask("ZCARD", "arq:queue")),
    leftovers: async () => {
      const keys = await ask("KEYS", "*") as string[];
      const strange = keys.filter((key) => !EXPIRING_KEY.test(key));
      return [...strange, ...await ask("EVAL", LASTING_KEYS, "0") as string[]];
    },
    [Symbol.asyncDispose]: async () => {
      await proxy[Symbol.asyncDispose]();
      await server.stop();
    },
  };
}

function readRows(folder: Folder, table: string): string[] {
  const database = new DatabaseSync(folder.file());
  try {
    database.exec("PRAGMA busy_timeout = 5000");
    return database.prepare(`SELECT * FROM ${table}`).all().map((row) =>
      `${table} ${JSON.stringify(row)}`
    );
  } finally {
    database.close();
  }
}

/** Plays a round and compares the books. */
export async function playRound(plan: Plan): Promise<Report> {
  using folder = new Folder();
  await using stage = await openStage(plan, folder);
  await using direct = await createPool(stage.directUrl);
  await using arq = await createPool(stage.url);
  const workers = new Workers(ledgerFolder(folder), settingsOf(plan, stage.url));
  const stops: number[] = [];
  const onStopped = (ms: number) => void stops.push(ms);
  const done: Record<string, number> = {};
  const ending = new AbortController();
  const load = new Load(arq, plan.mix, new Random(plan.seed + 1));
  const hasDrained = async () => await stage.countQueued() === 0;
  try {
    workers.start(WORKERS);
    await workers.ready();
    const timer = setTimeout(() => ending.abort(), plan.ms);
    const loading = load.run(plan.jobs, plan.perSecond, ending.signal);
    const doFaults = Promise.all(plan.lanes.map((weights, lane) => {
      const random = new Random(plan.seed + 2 + lane);
      const faults = stage.faults({ ...plan, workers, random, onStopped });
      return makeTrouble({ plan, weights, faults, random, done, signal: ending.signal });
    }));
    await loading;
    if (load.accepted.size + load.unknown.size >= plan.jobs) {
      while (!ending.signal.aborted && !await hasDrained()) await pause(50);
    }
    ending.abort();
    clearTimeout(timer);
    await doFaults;
    await eventually(hasDrained, "the queue is empty", DRAIN_MS);
  } finally {
    ending.abort();
    stops.push(await workers.end());
  }
  return await compare({ plan, load, workers, direct, stops, done, stage });
}

function ledgerFolder(folder: Folder): string {
  const path = join(folder.path, "ledgers");
  mkdirSync(path);
  return path;
}

function settingsOf({ leaseMs, pollMs }: Plan, connection: string): WorkerSettings {
  return {
    connection,
    lease: leaseMs,
    pollDelay: pollMs,
    maxJobs: MAX_JOBS,
    maxTries: 100, // killed at random, a job may be unlucky many times
    jobCompletionWait: COMPLETION_WAIT_MS,
    abortGrace: GRACE_MS,
  };
}

interface Lane {
  readonly plan: Plan;
  readonly weights: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, Fault>>;
  readonly random: Random;
  /** How often each fault was done. */
  readonly done: Record<string, number>;
  readonly signal: AbortSignal;
}

/** Does faults one after the other, until the signal aborts. */
async function makeTrouble({ plan, weights, faults, random, done, signal }: Lane): Promise<void> {
  const { maxFaults = Infinity, pauseMs: [min, max], onFault } = plan;
  await pause(random.integer(min, max), signal);
  for (let count = 0; count < maxFaults && !signal.aborted; count++) {
    const name = random.weighted(weights);
    const fault = faults[name];
    if (!fault) throw new Error(`There is no fault "${name}"`);
    onFault?.(await fault());
    done[name] = (done[name] ?? 0) + 1;
    await pause(random.integer(min, max), signal);
  }
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}

interface Books {
  readonly plan: Plan;
  readonly load: Load;
  readonly workers: Workers;
  readonly direct: Awaited<ReturnType<typeof createPool>>;
  readonly stops: readonly number[];
  readonly done: Readonly<Record<string, number>>;
  readonly stage: Stage;
}

async function compare(books: Books): Promise<Report> {
  const { plan, load, workers, direct, stops, done, stage } = books;
  const ledgers = workers.ledgers();
  const starts = new Map<number, Start[]>();
  for (const start of ledgers.flatMap((ledger) => ledger.starts)) {
    starts.set(start.n, [...starts.get(start.n) ?? [], start]);
  }
  const runsOf = (n: number) => (starts.get(n) ?? []).map(({ run }) => run);
  const results = new Map((await direct.allJobResults()).map((result) => [result.jobId, result]));
  const lost: string[] = [];
  const wrong: string[] = [];
  for (const { jobId, kind, n } of load.accepted.values()) {
    const result = results.get(jobId);
    if (!result) {
      lost.push(`${kind} ${n} (${jobId}), started ${runsOf(n).length} times`);
      continue;
    }
    const flaw = flawOf(kind, n, result, runsOf(n));
    if (flaw !== undefined) wrong.push(`${kind} ${n} (${jobId}): ${flaw}`);
    const seen = load.seen.get(n);
    const run = (result.result as { run?: string } | null)?.run;
    if (seen !== undefined && seen !== run) wrong.push(`${kind} ${n}: changed after it was seen`);
  }
  for (const [n, jobId] of load.aborted) {
    const flaw = flawOfAborted(results.get(jobId), runsOf(n));
    if (flaw !== undefined) wrong.push(`${jobId}: ${flaw}`);
  }
  const dead = ledgers.filter(({ life }) => life.process.hasExited && !life.isDoomed);
  const poisoned = new Set(
    [...load.accepted.values()].filter(({ kind }) => kind === "poison").map(({ n }) => n),
  );
  for (const [n, kind] of load.unknown) if (kind === "poison") poisoned.add(n);
  const killed = dead.filter(({ starts }) => poisoned.has(starts.at(-1)?.n ?? -1));
  return {
    accepted: load.accepted.size,
    unknown: load.unknown.size,
    unknownRun: [...load.unknown.keys()].filter((n) => starts.has(n)).length,
    run: starts.size,
    runMoreThanOnce: [...starts.values()].filter((all) => all.length > 1).length,
    lost,
    wrong,
    lies: load.lies,
    died: [
      ...dead.filter((ledger) => !killed.includes(ledger)).map(({ life }) => life.name),
      ...ledgers.flatMap(({ life, complaints }) => complaints.map((text) => life.name + text)),
    ],
    left: await stage.leftovers(),
    faults: done,
    dropped: stage.proxy?.dropped ?? {},
    cuts: stage.proxy?.cuts ?? 0,
    kills: workers.lives.filter(({ killedAt }) => killedAt !== undefined).length + killed.length,
    ...recoveries(plan, ledgers, starts),
    slowestStopMs: Math.max(0, ...stops),
  };
}

/** How long orphans waited after the death of their worker, and how many jobs were begun before. */
function recoveries(
  { leaseMs, pollMs }: Plan,
  ledgers: readonly { readonly life: Life; readonly starts: readonly Start[] }[],
  starts: ReadonlyMap<number, readonly Start[]>,
): Pick<Report, "slowestOrphanMs" | "overtakers"> {
  const allStarts = [...starts.values()].flat().map(({ at }) => at).sort((a, b) => a - b);
  let [slowestOrphanMs, overtakers] = [0, 0];
  for (const { life: { killedAt = Infinity }, starts: begun } of ledgers) {
    for (const { n } of begun) {
      const later = (starts.get(n) ?? []).map(({ at }) => at).filter((at) => at > killedAt);
      if (later.length === 0) continue;
      const next = Math.min(...later);
      slowestOrphanMs = Math.max(slowestOrphanMs, next - killedAt);
      const dueAt = killedAt + leaseMs + pollMs;
      overtakers = Math.max(overtakers, allStarts.filter((at) => at > dueAt && at < next).length);
    }
  }
  return { slowestOrphanMs, overtakers };
}
