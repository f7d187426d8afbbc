/**
 * Metrics and health over HTTP: `/metrics` in OpenMetrics text, and `/healthz` for probes.
 *
 * @example Beside a web application's own routes
 * ```ts
 * import { createPool } from "@arq/arq";
 * import { metrics } from "@arq/arq/metrics";
 *
 * await using arq = await createPool("redis://localhost:6379");
 * const handler = metrics(arq);
 * const response = await handler(new Request("http://localhost/metrics"));
 * console.log(response.status, response.headers.get("content-type"));
 * ```
 * @module
 */
import type {
  ArqClient,
  FunctionTotals,
  Histogram,
  Outcomes,
  QueueStats,
  WorkerView,
} from "./client.ts";
import { displayText } from "./display.ts";
import { type Duration, durationMs } from "./duration.ts";
import { LONGEST_TIMER_MS } from "./sleep.ts";
import { checkOptions, checkPool, show } from "./validation.ts";

/** Options of {@linkcode metrics}. */
export interface MetricsOptions {
  /** The queues to tell of. @default every queue in use for the metrics, the pool's own for the health */
  readonly queueNames?: readonly string[];
  /** How long the store may take before the answer is 503: milliseconds or a duration object. @default 5 seconds */
  readonly timeout?: Duration;
}

/** Answers a request. */
export type Handler = (request: Request) => Promise<Response>;

const OPTION_KEYS = [
  "queueNames",
  "timeout",
] as const satisfies readonly (keyof MetricsOptions)[];
const OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/** Enough to compute a rate of the last minutes; the totals count for ever. */
const HISTORY_MS = 60_000;

/**
 * Makes a handler that serves the metrics and the health of queues, for `Deno.serve`, `Bun.serve`
 * or any router; it may be mounted under any path.
 *
 * - `…/metrics` is [OpenMetrics](https://openmetrics.io) text: jobs in the queue, the age of the
 *   oldest due one, jobs by function and outcome, histograms of run and waiting time, workers.
 * - `…/healthz` is 200 if the store answers and each queue of `queueNames`, or the pool's own, has a
 *   live worker, and 503 if not.
 *
 * Both are read from the store at each request and cost the same however long the queue is; one
 * that does not answer in time is a 503, and nothing is ever thrown. Whoever can send a request can
 * read the names of queues and functions.
 *
 * @throws {TypeError | RangeError} if `arq` is no pool, or an option is unknown or has a bad value.
 */
export function metrics(arq: ArqClient, options: MetricsOptions = {}): Handler {
  checkPool("metrics", arq);
  checkOptions("metrics", '{ queueNames: ["mail"] }', options, OPTION_KEYS);
  const { queueNames } = options;
  checkQueueNames(queueNames);
  const timeoutMs = durationMs("timeout", options.timeout ?? 5_000, 1);
  return async (request) => {
    const answer = routeOf(new URL(request.url).pathname);
    if (!answer) return text(404, "There are /metrics and /healthz here");
    if (request.method !== "GET" && request.method !== "HEAD") {
      return text(405, "Only GET and HEAD are answered", { allow: "GET, HEAD" });
    }
    try {
      return await within(timeoutMs, answer(arq, queueNames));
    } catch (error) {
      return text(503, displayText(error instanceof Error ? error.message : String(error), 500));
    }
  };
}

function checkQueueNames(names: unknown): void {
  if (names === undefined) return;
  const isList = Array.isArray(names) && names.length > 0 &&
    names.every((name) => typeof name === "string" && name !== "");
  if (isList) return;
  throw new TypeError(`metrics: queueNames must be a list of names, got ${show(names)}`);
}

type Answer = (arq: ArqClient, queueNames: MetricsOptions["queueNames"]) => Promise<Response>;

function routeOf(path: string): Answer | undefined {
  if (path.endsWith("/metrics")) return answerMetrics;
  return path.endsWith("/healthz") ? answerHealth : undefined;
}

async function namesInUse(arq: ArqClient): Promise<readonly string[]> {
  const names = await arq.queueNames();
  return names.length > 0 ? names : [arq.defaultQueueName];
}

async function within(ms: number, answer: Promise<Response>): Promise<Response> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const message = `The store did not answer within ${ms / 1_000} s`;
  const timer = setTimeout(() => reject(new Error(message)), Math.min(ms, LONGEST_TIMER_MS));
  answer.catch(() => {}); // when it comes too late
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

function text(status: number, line: string, headers: Record<string, string> = {}): Response {
  const type = "text/plain; charset=utf-8";
  return new Response(`${line}\n`, {
    status,
    headers: { "content-type": type, "cache-control": "no-store", ...headers },
  });
}

async function answerHealth(
  arq: ArqClient,
  queueNames: readonly string[] = [arq.defaultQueueName],
): Promise<Response> {
  const lists = await Promise.all(queueNames.map((queueName) => arq.workers({ queueName })));
  const idle = queueNames.filter((_, i) => lists[i]?.length === 0);
  if (idle.length === 0) return text(200, `ok, ${lists.flat().length} live`);
  const names = idle.map((name) => displayText(name, 100)).join(", ");
  return text(503, `no live worker of ${names}`);
}

async function answerMetrics(
  arq: ArqClient,
  queueNames: MetricsOptions["queueNames"],
): Promise<Response> {
  const names = queueNames ?? await namesInUse(arq);
  const queues = await Promise.all(names.map(async (queueName): Promise<Queue> => {
    const [stats, workers] = await Promise.all([
      arq.stats({ queueName, history: HISTORY_MS }),
      arq.workers({ queueName }),
    ]);
    return { stats, workers };
  }));
  return new Response(exposition(queues), {
    headers: { "content-type": OPEN_METRICS, "cache-control": "no-store" },
  });
}

interface Queue {
  readonly stats: QueueStats;
  readonly workers: readonly WorkerView[];
}

type Labels = Readonly<Record<string, string>>;

/** One sample of a family: what stands behind the family's name, labels, value. */
type Sample = readonly [suffix: string, labels: Labels, value: number];

interface Family {
  readonly name: string;
  readonly type: "gauge" | "counter" | "histogram";
  readonly unit?: "seconds" | "bytes";
  readonly help: string;
  readonly samples: (queue: Queue) => readonly Sample[];
}

/** Outcomes of jobs; a retry ends a try only, and is counted by itself. */
const OUTCOMES = ["complete", "failed", "aborted"] as const satisfies readonly (keyof Outcomes)[];

const FAMILIES: readonly Family[] = [
  {
    name: "arq_queue_jobs",
    type: "gauge",
    help: "Jobs in the queue: due, deferred to a later time, or held by a worker.",
    samples: ({ stats }) => [
      ["", { ...queueOf(stats), status: "queued" }, stats.due],
      ["", { ...queueOf(stats), status: "deferred" }, stats.deferred],
      ["", { ...queueOf(stats), status: "in_progress" }, stats.inProgress],
    ],
  },
  {
    name: "arq_queue_oldest_due_seconds",
    type: "gauge",
    unit: "seconds",
    help: "For how long the oldest due job has been due; 0 if none is due.",
    samples: ({ stats }) => [["", queueOf(stats), (stats.oldestDueMs ?? 0) / 1_000]],
  },
  {
    name: "arq_queue_paused",
    type: "gauge",
    help: "1 if the queue's workers were told to start nothing, else 0.",
    samples: ({ stats }) => [["", queueOf(stats), stats.paused ? 1 : 0]],
  },
  {
    name: "arq_jobs",
    type: "counter",
    help: "Jobs that have ended, by function and outcome.",
    samples: ({ stats }) =>
      stats.functions.flatMap((totals) =>
        OUTCOMES.map((outcome): Sample => [
          "_total",
          { ...functionOf(stats, totals), outcome },
          totals[outcome],
        ])
      ),
  },
  {
    name: "arq_job_retries",
    type: "counter",
    help: "Tries that ended in a retry or a hand-back.",
    samples: ({ stats }) =>
      stats.functions.map((totals) => ["_total", functionOf(stats, totals), totals.retried]),
  },
  {
    name: "arq_job_run_seconds",
    type: "histogram",
    unit: "seconds",
    help: "How long tries took.",
    samples: ({ stats }) => histogramsOf(stats, ({ runTime }) => runTime),
  },
  {
    name: "arq_job_wait_seconds",
    type: "histogram",
    unit: "seconds",
    help: "How long jobs had been due when they were first claimed.",
    samples: ({ stats }) => histogramsOf(stats, ({ waitTime }) => waitTime),
  },
  {
    name: "arq_workers",
    type: "gauge",
    help: "Live workers.",
    samples: ({ stats, workers }) => [["", queueOf(stats), workers.length]],
  },
  {
    name: "arq_worker_slots",
    type: "gauge",
    help: "Jobs that the live workers can run at a time.",
    samples: ({ stats, workers }) => [
      ["", queueOf(stats), sumOf(workers, ({ maxJobs }) => maxJobs)],
    ],
  },
  {
    name: "arq_worker_memory_bytes",
    type: "gauge",
    unit: "bytes",
    help: "Memory of the live workers' processes.",
    samples: ({ stats, workers }) => [
      ["", queueOf(stats), sumOf(workers, ({ memoryBytes }) => memoryBytes)],
    ],
  },
];

function queueOf({ queueName }: QueueStats): Labels {
  return { queue: queueName };
}

function functionOf(stats: QueueStats, { functionName }: FunctionTotals): Labels {
  return { ...queueOf(stats), function: functionName };
}

function sumOf(workers: readonly WorkerView[], amountOf: (worker: WorkerView) => number): number {
  return workers.reduce((sum, worker) => sum + amountOf(worker), 0);
}

function histogramsOf(
  stats: QueueStats,
  histogramOf: (totals: FunctionTotals) => Histogram,
): Sample[] {
  return stats.functions.flatMap((totals) => {
    const labels = functionOf(stats, totals);
    const { count, sumMs, buckets } = histogramOf(totals);
    return [
      ...buckets.map((bucket): Sample => [
        "_bucket",
        { ...labels, le: limitText(bucket.leMs / 1_000) },
        bucket.count,
      ]),
      ["_count", labels, count] satisfies Sample,
      ["_sum", labels, sumMs / 1_000] satisfies Sample,
    ];
  });
}

/** OpenMetrics' canonical form of a bucket's limit. */
function limitText(seconds: number): string {
  if (seconds === Infinity) return "+Inf";
  return Number.isInteger(seconds) ? `${seconds}.0` : String(seconds);
}

function exposition(queues: readonly Queue[]): string {
  return [...FAMILIES.flatMap((family) => familyLines(family, queues)), "# EOF", ""].join("\n");
}

function familyLines({ name, type, unit, help, samples }: Family, queues: readonly Queue[]) {
  const known = new Map<string, string>(); // a name that was cut may come twice
  for (const [suffix, labels, value] of queues.flatMap(samples)) {
    const series = `${name}${suffix}${labelsText(labels)}`;
    if (!known.has(series)) known.set(series, `${series} ${value}`);
  }
  return [
    `# TYPE ${name} ${type}`,
    ...(unit === undefined ? [] : [`# UNIT ${name} ${unit}`]),
    `# HELP ${name} ${help}`,
    ...known.values(),
  ];
}

function labelsText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}="${labelText(value)}"`);
  return `{${pairs.join(",")}}`;
}

/** Names come from the store, and may be anything. */
function labelText(value: string): string {
  return displayText(value).replaceAll("\\", "\\\\").replaceAll('"', '\\"');
}
