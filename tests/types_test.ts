/**
 * What the compiler must accept and refuse: `deno check` is the test, nothing of `compileTime` runs.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type ArqClient,
  createPool,
  createWorker,
  cron,
  type EnqueueOptions,
  func,
  Job,
  type JobContext,
  type JobDef,
  type JobOutcome,
  type JobResult,
  type JobStatus,
  Worker,
  type WorkerContext,
  type WorkerSettings,
} from "../mod.ts";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true
  : false;

/** Compiles only where both types are the same. */
function same<A, B>(_areSame: Equal<A, B>): void {}

interface State {
  db: { query(sql: string): Promise<number> };
}
type Ctx = JobContext<State>;

async function downloadContent(ctx: JobContext, url: string): Promise<number> {
  return await Promise.resolve(url.length + ctx.jobTry);
}
function resize(_ctx: JobContext, width: number, height?: number): { w: number; h: number } {
  return { w: width, h: height ?? 1 };
}
async function sum(ctx: Ctx, ...numbers: number[]): Promise<number> {
  return await ctx.db.query(numbers.join());
}
function noArgs(_ctx: JobContext): void {}
function optional(_ctx: JobContext, text?: string): Date {
  return new Date(text ?? 0);
}
async function generic<T>(_ctx: JobContext, value: T): Promise<T[]> {
  return await Promise.resolve([value]);
}
const noContext = () => 5;
function overloaded(ctx: JobContext, value: string): string;
function overloaded(ctx: JobContext, value: number): number;
function overloaded(_ctx: JobContext, value: string | number): string | number {
  return value;
}

const functions = {
  downloadContent,
  resize: func(resize, { timeout: { minutes: 2 }, maxTries: 3 }),
  sum: func(sum),
  noArgs,
  optional,
  generic,
  noContext,
  overloaded,
  inline: async (_ctx: JobContext, pair: [number, string], options: { b: boolean }) =>
    await Promise.resolve({ pair, ...options }),
  lazy: func<typeof import("./data/lazy_functions.ts").triple>(
    import.meta.resolve("./data/lazy_functions.ts#triple"),
  ),
  lazyUntyped: func(import.meta.resolve("./data/lazy_functions.ts#triple")),
  renamed: func(optional, { name: "other" }),
};
type Fns = typeof functions;

async function namesAndArguments(): Promise<void> {
  await using arq = await createPool<Fns>();
  await arq.enqueueJob("resize", [1]);
  await arq.enqueueJob("resize", [1, 2]);
  await arq.enqueueJob("sum", [1, 2, 3]);
  await arq.enqueueJob("sum", []);
  await arq.enqueueJob("sum");
  await arq.enqueueJob("inline", [[1, "a"], { b: true }]);
  await arq.enqueueJob("lazy", [5]);
  await arq.enqueueJob("lazyUntyped", [5n, "anything"]);
  // @ts-expect-error: there is no such function
  await arq.enqueueJob("nope");
  // @ts-expect-error: the url is a text
  await arq.enqueueJob("downloadContent", [5]);
  // @ts-expect-error: the url is missing
  await arq.enqueueJob("downloadContent");
  // @ts-expect-error: the url is missing
  await arq.enqueueJob("downloadContent", []);
  // @ts-expect-error: there is one parameter
  await arq.enqueueJob("downloadContent", ["a", 1]);
  // @ts-expect-error: a list of unknown length is not one url
  await arq.enqueueJob("downloadContent", [] as string[]);
  // @ts-expect-error: there is no parameter
  await arq.enqueueJob("noArgs", [1]);
  // @ts-expect-error: the pair is a number and a text
  await arq.enqueueJob("inline", [["a", 1], { b: true }]);
  // @ts-expect-error: the lazy function takes a number
  await arq.enqueueJob("lazy", ["five"]);
  // @ts-expect-error: there is no such option
  await arq.enqueueJob("downloadContent", ["a"], { defferBy: 1 });
  // @ts-expect-error: a duration is no text
  await arq.enqueueJob("downloadContent", ["a"], { deferBy: "5s" });
  // @ts-expect-error: there is no such unit
  await arq.enqueueJob("downloadContent", ["a"], { deferBy: { fortnights: 1 } });
}

async function results(arq: ArqClient<Fns>): Promise<void> {
  const download = await arq.enqueueJob("downloadContent", ["u"], { deferBy: { seconds: 10 } });
  same<typeof download, Job<number>>(true);
  const length: number = await download.result({ timeout: { seconds: 3 } });
  void length;
  const resized = await arq.enqueueJob("resize", [1]);
  same<typeof resized, Job<{ w: number; h: number }>>(true);
  const nothing = await arq.enqueueJob("noArgs");
  same<typeof nothing, Job<void>>(true);
  const date = await arq.enqueueJob("optional");
  same<typeof date, Job<Date>>(true);
  const list = await arq.enqueueJob("generic", [5]);
  same<typeof list, Job<unknown[]>>(true);
  const five = await arq.enqueueJob("noContext");
  same<typeof five, Job<number>>(true);
  const inline = await arq.enqueueJob("inline", [[1, "a"], { b: true }]);
  same<typeof inline, Job<{ b: boolean; pair: [number, string] }>>(true);
  const lazy = await arq.enqueueJob("lazy", [5]);
  same<typeof lazy, Job<number>>(true);
  const untyped = await arq.enqueueJob("lazyUntyped", [1, 2]);
  same<typeof untyped, Job<unknown>>(true);
  const last = await arq.enqueueJob("overloaded", [5]);
  same<typeof last, Job<number>>(true);
  const renamed = await arq.enqueueJob("renamed", ["a"]);
  same<typeof renamed, Job<Date>>(true);
  const total = await arq.call("sum", [1, 2], { timeout: 5, jobId: "a" });
  same<typeof total, number>(true);
  const known = arq.job("id", { functionName: "resize" });
  same<typeof known, Job<{ w: number; h: number }>>(true);
  // @ts-expect-error: there is no such function
  arq.job("id", { functionName: "nope" });
  // @ts-expect-error: the result is a number
  const text: string = await download.result();
  void text;
  for await (const event of download.events()) {
    if (event.kind === "finished" && event.success) same<typeof event.result, number>(true);
    // @ts-expect-error: only a progress has a value
    void event.value;
    if (event.kind === "progress") same<typeof event.value, unknown>(true);
  }
}

async function takenIds(arq: ArqClient<Fns>): Promise<void> {
  const named = await arq.enqueueJob("downloadContent", ["u"], { jobId: "x" });
  same<typeof named, Job<number> | null>(true);
  const options: EnqueueOptions = { deferBy: 5 };
  const anyOptions = await arq.enqueueJob("downloadContent", ["u"], options);
  same<typeof anyOptions, Job<number> | null>(true);
  const maybe: string | undefined = Math.random() > 1 ? "a" : undefined;
  const maybeNamed = await arq.enqueueJob("downloadContent", ["u"], { jobId: maybe });
  same<typeof maybeNamed, Job<number> | null>(true);
  const without = { deferBy: 5 };
  const unnamed = await arq.enqueueJob("downloadContent", ["u"], without);
  same<typeof unnamed, Job<number>>(true);
  const noArguments = await arq.enqueueJob("noArgs", [], { jobId: "a" });
  same<typeof noArguments, Job<void> | null>(true);
  // @ts-expect-error: it may be null
  void named.jobId;
}

async function lists(arq: ArqClient<Fns>, urls: string[]): Promise<void> {
  const tuple = await arq.enqueueJobs([
    { name: "downloadContent", args: ["u"] },
    { name: "noArgs" },
    { name: "resize", args: [1, 2], options: { jobId: "x" } },
  ]);
  same<typeof tuple, [Job<number>, Job<void>, Job<{ w: number; h: number }> | null]>(true);
  const many = await arq.enqueueJobs(
    urls.map((url) => ({ name: "downloadContent", args: [url] })),
  );
  same<typeof many, Job<number>[]>(true);
  const named = await arq.enqueueJobs(
    urls.map((url) => ({ name: "downloadContent", args: [url], options: { jobId: url } })),
  );
  same<typeof named, (Job<number> | null)[]>(true);
  const anyOptions: EnqueueOptions = {};
  const mixed = await arq.enqueueJobs([
    { name: "noArgs", options: anyOptions },
    { name: "sum", args: [1, 2], options: { deferBy: 3 } },
  ]);
  same<typeof mixed, [Job<void> | null, Job<number>]>(true);
  // @ts-expect-error: the width is a number
  await arq.enqueueJobs(urls.map((url) => ({ name: "resize", args: [url] })));
  // @ts-expect-error: the width is a number
  await arq.enqueueJobs([{ name: "resize", args: ["x"] }]);
  // @ts-expect-error: the url is missing
  await arq.enqueueJobs([{ name: "downloadContent" }]);
  // @ts-expect-error: there is no such function
  await arq.enqueueJobs([{ name: "nope" }]);
  // @ts-expect-error: there is no such option
  await arq.enqueueJobs([{ name: "noArgs", options: { jobIdd: "x" } }]);
}

async function withoutTypeArgument(): Promise<void> {
  const arq = await createPool();
  same<typeof arq, ArqClient>(true);
  const job = await arq.enqueueJob("anything", [1, "x"], { deferBy: 3 });
  same<typeof job, Job<unknown>>(true);
  same<typeof job, Job>(true);
  await arq.enqueueJob("anything");
  await arq.enqueueJob("anything", ["a"] as string[]);
  const named = await arq.enqueueJob("anything", [], { jobId: "x" });
  same<typeof named, Job | null>(true);
  const list = await arq.enqueueJobs([{ name: "x", args: [1] }, { name: "y" }]);
  const pair: [Job, Job] = list;
  // @ts-expect-error: there are two
  const third = list[2];
  void [pair, third];
  const value = await arq.call("anything");
  same<typeof value, unknown>(true);
}

interface Tasks {
  greet(ctx: JobContext, name: string): Promise<string>;
  add: (ctx: unknown, a: number, b?: number) => number;
}

/** An interface, which has no index signature, says as much as `typeof functions`. */
async function anInterface(ctx: JobContext): Promise<void> {
  const arq: ArqClient<Tasks> = await createPool<Tasks>();
  const greeting: string = await arq.call("greet", ["Ann"]);
  const [sum] = await arq.enqueueJobs([{ name: "add", args: [1, 2] }]);
  same<typeof sum, Job<number>>(true);
  await (ctx.arq as ArqClient<Tasks>).enqueueJob("add", [greeting.length]);
  // @ts-expect-error: the name is a text
  await arq.enqueueJob("greet", [5]);
  // @ts-expect-error: there is no such function
  await arq.enqueueJob("nope");
  // @ts-expect-error: a text is no function
  await createPool<{ greet: string }>();
}

/** Settings around it must not make it a function without arguments. */
async function untypedModules(): Promise<void> {
  const _settings = {
    functions: { render: func("file:///a.ts#render", { isolate: true }) },
  } satisfies WorkerSettings;
  const arq = await createPool<typeof _settings.functions>();
  const job = await arq.enqueueJob("render", ["a.png", 5]);
  same<typeof job, Job<unknown>>(true);
}

async function looks(job: Job<number>): Promise<void> {
  same<Awaited<ReturnType<typeof job.info>>, JobDef | JobResult | null>(true);
  same<Awaited<ReturnType<typeof job.resultInfo>>, JobResult | null>(true);
  same<Awaited<ReturnType<typeof job.status>>, JobStatus>(true);
  same<Awaited<ReturnType<typeof job.abort>>, boolean>(true);
  await job.result({ timeout: 5, pollDelay: { seconds: 1 }, signal: AbortSignal.timeout(5) });
  // @ts-expect-error: there is no such option
  await job.result({ timeot: 5 });
}

async function report(ctx: Ctx): Promise<void> {
  await ctx.db.query("x");
}
function plainReport(_ctx: JobContext): void {}

const full = {
  functions,
  cronJobs: [
    cron(report, { hour: [9, 12, 18], minute: 12 }),
    cron(report, { weekday: new Set(["mon", "fri"] as const), hour: 9, name: "often" }),
    cron((ctx) => ctx.jobId, "* * * * *", { name: "inline" }),
  ],
  onStartup(ctx) {
    ctx.db = { query: (sql) => Promise.resolve(sql.length) };
    same<typeof ctx, WorkerContext<State>>(true);
  },
  onJobStart(ctx) {
    ctx.db.query(ctx.jobId);
  },
  onJobEnd(ctx, outcome) {
    same<typeof outcome, JobOutcome>(true);
    same<typeof ctx, Ctx>(true);
    if (outcome.kind === "success") void outcome.value;
    // @ts-expect-error: only a failure and an abort have an error
    void outcome.error;
  },
  keepResult: "forever",
  jobTimeout: { minutes: 5 },
} satisfies WorkerSettings<State>;

function settings(): void {
  new Worker(full);
  new Worker<State>(full);
  createWorker(full);
  const _plain = {
    functions: { downloadContent },
    cronJobs: [cron(plainReport, "* * * * *")],
  } satisfies WorkerSettings;
  const _inline = {
    functions: { inline: (ctx, url: string) => url + ctx.jobId },
  } satisfies WorkerSettings;
  const _list = { functions: [downloadContent, sum, func(sum)] } satisfies WorkerSettings<State>;
  new Worker({
    functions,
    onStartup(ctx: State) {
      ctx.db = { query: () => Promise.resolve(1) };
    },
  });
  // @ts-expect-error: sum needs a database on its context
  const _stateless = { functions } satisfies WorkerSettings;
  // @ts-expect-error: the context comes first
  new Worker({ functions: { double: (n: number) => 2 * n } });
  // @ts-expect-error: there is no such setting
  const _typo = { functions, maxjobs: 3 } satisfies WorkerSettings<State>;
  // @ts-expect-error: -1 is arq's word for no limit, and no duration either
  const _forever = { functions, keepResult: "for ever" } satisfies WorkerSettings<State>;
  const reports = [cron(report, "* * * * *")];
  // @ts-expect-error: report needs a database on its context
  const _cron: WorkerSettings = { functions: { downloadContent }, cronJobs: reports };
  // @ts-expect-error: there is no such weekday
  cron(plainReport, { weekday: "monday" });
  // @ts-expect-error: a cron job has no arguments
  cron((_ctx: JobContext, _text: string) => {}, "* * * * *");
  // @ts-expect-error: there is no such option
  func(resize, { timout: 5 });
}

function contexts(ctx: Ctx): void {
  same<typeof ctx.jobId, string>(true);
  same<typeof ctx.jobTry, number>(true);
  same<typeof ctx.enqueueTime, Date>(true);
  same<typeof ctx.score, number>(true);
  same<typeof ctx.signal, AbortSignal>(true);
  same<typeof ctx.arq, ArqClient>(true);
  same<typeof ctx.kwargs, Readonly<Record<string, unknown>>>(true);
  same<typeof ctx.db, State["db"]>(true);
  // @ts-expect-error: what the worker tells is not to be changed
  ctx.jobId = "other";
  // @ts-expect-error: nobody put it there
  void ctx.cache;
}

const compileTime = [
  namesAndArguments,
  results,
  takenIds,
  lists,
  withoutTypeArgument,
  anInterface,
  untypedModules,
  looks,
  settings,
  contexts,
];

describe("The types", () => {
  it("are checked by the compiler, and what they describe is there", () => {
    assert.ok(compileTime.every((test) => typeof test === "function"));
    assert.ok(String(new Worker<State>({ functions })).startsWith("<Worker "));
    assert.equal(typeof Job.prototype.result, "function");
  });
});
