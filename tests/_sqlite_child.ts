/** A process that shares a file with a test: `_sqlite_child.ts ROLE URL [ARGUMENT]`. */
import { existsSync, writeSync } from "node:fs";
import process from "node:process";
import { createPool } from "../client.ts";
import { type JobContext, Retry } from "../functions.ts";
import { Worker, type WorkerSettings } from "../worker.ts";
import { addResults } from "./_sqlite.ts";

const [, , role = "", url = "", argument = ""] = process.argv;
const LONG_MS = 60_000;

/** At once, so that what was printed before a SIGKILL is known to have happened. */
function print(line: string): void {
  writeSync(1, `${line}\n`);
}

/** Enqueues jobs for as long as it lives, and prints the id of each that was accepted. */
async function write(): Promise<void> {
  const arq = await createPool(url);
  for (let n = 0;; n++) {
    const jobId = `${argument}-${n}`;
    await arq.enqueueJob("work", [], { jobId });
    print(jobId);
  }
}

/** Runs jobs, and prints the id and the value of each whose end was recorded. */
async function work(settings: WorkerSettings = {}): Promise<void> {
  const worker = new Worker({
    functions: { work: () => crypto.randomUUID() },
    connection: url,
    keepResult: "forever",
    lease: 300,
    maxJobs: 5,
    afterJobEnd: ({ jobId }, outcome) => {
      if (outcome.kind === "success") print(`${jobId} ${outcome.value}`);
    },
    ...settings,
  });
  await worker.run();
}

/** Runs jobs with nothing to wake it but news; the value is when the job began. */
function answer(): Promise<void> {
  return work({
    functions: { work: (_ctx: JobContext) => Date.now() },
    pollDelay: LONG_MS,
    lease: LONG_MS,
    onStartup: () => void setTimeout(() => print("ready"), 200),
    afterJobEnd: undefined,
  });
}

/** Runs jobs that tell each number up to the one they are given, on their second try. */
function count(): Promise<void> {
  const tell = async (ctx: JobContext, to: number) => {
    if (ctx.jobTry === 1) throw new Retry();
    for (let n = 1; n <= to; n++) {
      ctx.progress({ n, at: Date.now() });
      await new Promise((resolve) => setTimeout(resolve, 120)); // more than the pause between two
    }
  };
  const onStartup = () => void setTimeout(() => print("ready"), 200);
  return work({ functions: { count: tell }, lease: LONG_MS, onStartup, afterJobEnd: undefined });
}

/** Waits for work that never comes, and prints how much of a core that took, in percent. */
function idle(): Promise<void> {
  const measure = () => {
    const [start, before] = [performance.now(), process.cpuUsage()];
    setTimeout(() => {
      const { user, system } = process.cpuUsage(before);
      print(String((user + system) / 10 / (performance.now() - start)));
    }, 3_000);
  };
  return work({ onStartup: () => void setTimeout(measure, 1_500) });
}

/**
 * Works as `work` does, from when it says so, and loses no lease however late it is. Says when its
 * first job has begun, and ends none before the file `argument` is there.
 */
function share(): Promise<void> {
  let isFirst = true;
  const slowly = async () => {
    if (isFirst) print("begun");
    isFirst = false;
    do await new Promise((resolve) => setTimeout(resolve, 2)); while (!existsSync(argument));
    return crypto.randomUUID();
  };
  return work({ functions: { work: slowly }, lease: LONG_MS, onStartup: () => print("ready") });
}

/** Is told of one of many ends that came between two looks, and closes before it has seen them all. */
async function leave(): Promise<void> {
  const arq = await createPool(url);
  const { promise: told, resolve: tell } = Promise.withResolvers<void>();
  await arq.store.onFinished("job 1", () => tell());
  addResults(new URL(url).pathname, 600);
  await told;
  await arq.close();
  print("closed");
}

/** Enqueues jobs until that fails; prints the ids and then the error. */
async function fill(): Promise<void> {
  const arq = await createPool(url);
  try {
    for (let n = 0;; n++) {
      const job = await arq.enqueueJob("work", ["x".repeat(10_000)]);
      print(job.jobId);
    }
  } catch (error) {
    print(String(error));
  }
  await arq.close();
}

/** Connects and prints the error, or that there was none. */
async function connect(): Promise<void> {
  try {
    await using _arq = await createPool(url);
    print("connected");
  } catch (error) {
    print(String(error));
  }
}

/**
 * Connects, or fails to, and waits for a job; prints whether Deno was asked to read `argument`: it may
 * still ask the user, or was denied it, since there is none.
 */
async function ask(): Promise<void> {
  try {
    await using arq = await createPool(url);
    await using _line = await arq.store.onFinished("job 1", () => {});
  } catch (error) {
    print(String(error));
  }
  const deno = Reflect.get(globalThis, "Deno") as { readonly permissions: Permissions };
  print(deno.permissions.querySync({ name: "read", path: argument }).state);
}

interface Permissions {
  querySync(descriptor: object): { readonly state: string };
}

const ROLES: Readonly<Record<string, () => Promise<void>>> = {
  write,
  work,
  share,
  answer,
  count,
  idle,
  leave,
  fill,
  connect,
  ask,
};

await ROLES[role]?.();
