/**
 * Measures how fast one worker, and twenty of them in two processes, run what one queue holds, in
 * turns; counts how often each job runs; and prints it as one line of JSON.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { startRedis } from "../tests/_redis.ts";
import { type ArqClient, createPool } from "../mod.ts";
import { type Figures, median, pause, print, QUICK, rate } from "./figures.ts";
import { RedisInfo } from "./redis_info.ts";
import type { functions } from "./workers_process.ts";

const JOBS = QUICK ? 5_000 : 100_000;
const ROUNDS = QUICK ? 1 : 3;
const LOOK_EVERY_MS = 2;
const PROGRAM = fileURLToPath(new URL("workers_process.ts", import.meta.url));
const RUN = "Deno" in globalThis ? ["run", "-A", "--no-check", "--no-lock"] : [];

type Client = ArqClient<typeof functions>;

/** Some workers in a process of their own. */
class WorkerProcess {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(url: string, workers: number, maxJobs: number) {
    const args = [...RUN, PROGRAM, url, String(workers), String(maxJobs), String(JOBS)];
    this.#child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    if (!this.#child.stdout) throw new Error("a child without output");
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Resolves when all its workers run. */
  async ready(): Promise<void> {
    await this.#nextLine();
  }

  /** Ends it; returns how often it ran each job. */
  async stop(): Promise<number[]> {
    this.#child.stdin?.end();
    const counts = JSON.parse(await this.#nextLine());
    await once(this.#child, "exit");
    return counts;
  }

  async #nextLine(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("a process of workers ended early");
    return value;
  }
}

/** Jobs a second that `processes` of `workers` workers each run. */
async function measure(
  { url, client, redis }: { url: string; client: Client; redis: RedisInfo },
  processes: number,
  workers: number,
  maxJobs: number,
): Promise<number> {
  const children = Array.from(
    { length: processes },
    () => new WorkerProcess(url, workers, maxJobs),
  );
  await Promise.all(children.map((child) => child.ready()));
  // Each list begins with an empty Redis: what is left by others makes it move its tables.
  const runAll = async () => {
    await redis.command("FLUSHALL");
    await client.pause();
    await client.enqueueJobs(
      Array.from({ length: JOBS }, (_, id) => ({ name: "count" as const, args: [id] as const })),
    );
    return await rate(JOBS, async () => {
      await client.resume();
      while (await redis.command("ZCARD", client.defaultQueueName) !== 0) {
        await pause(LOOK_EVERY_MS);
      }
    });
  };
  await runAll(); // The runtime compiles what is hot.
  const jobsPerSecond = await runAll();
  const counts = await Promise.all(children.map((child) => child.stop()));
  for (let id = 0; id < JOBS; id++) {
    const runs = counts.reduce((sum, count) => sum + (count[id] ?? 0), 0);
    if (runs !== 2) throw new Error(`Job ${id} of two lists ran ${runs} times`);
  }
  return jobsPerSecond;
}

async function compare(maxJobs: number): Promise<Figures> {
  await using server = await startRedis();
  await using client: Client = await createPool<typeof functions>(server.url);
  await using redis = await RedisInfo.connect(server.url);
  const place = { url: server.url, client, redis };
  const rates: { one: number; many: number }[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const many = i % 2 === 0 ? undefined : await measure(place, 2, 10, maxJobs);
    const one = await measure(place, 1, 1, maxJobs);
    rates.push({ one, many: many ?? await measure(place, 2, 10, maxJobs) });
  }
  const each = `${maxJobs} at a time each`;
  return {
    [`one worker, ${maxJobs} at a time, jobs/s`]: median(rates.map(({ one }) => one)),
    [`20 workers in 2 processes, ${each}, jobs/s`]: median(rates.map(({ many }) => many)),
    [`20 workers, ${each}, × one worker`]: median(rates.map(({ one, many }) => many / one)),
  };
}

print({ ...await compare(10), ...await compare(100) });
