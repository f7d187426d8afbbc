/** Several processes that share a file of the embedded store, and those that are killed. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, it } from "node:test";
import { createPool } from "../client.ts";
import { runWorker } from "../worker.ts";
import { findBun } from "./_bun.ts";
import { eventually, within } from "./_helpers.ts";
import { Folder, IS_DENO, startBunChild, startChild } from "./_sqlite.ts";

const DAY_MS = 86_400_000;
const KILL_ROUNDS = 8;

/** Runs what is left in the queue. */
async function drain(url: string): Promise<void> {
  await runWorker({
    functions: { work: () => crypto.randomUUID() },
    connection: url,
    keepResult: "forever",
    burst: true,
    pollDelay: 50,
    handleSignals: false,
  });
}

/** Values of all results, by job id. */
async function readResults(url: string): Promise<Map<string, unknown>> {
  await using arq = await createPool(url);
  const results = await arq.allJobResults();
  return new Map(results.map(({ jobId, result }) => [jobId, result]));
}

describe("SQLite file shared by processes", () => {
  it("loses no accepted job and no result when writer and worker are killed", async () => {
    using folder = new Folder();
    const accepted: string[] = [];
    const recorded: string[] = [];
    for (let round = 0; round < KILL_ROUNDS; round++) {
      await using writer = startChild("write", [folder.url(), `r${round}`]);
      await using worker = startChild("work", [folder.url()]);
      await Promise.all([writer.printed(5), worker.printed(5)]);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 120));
      await Promise.all([writer.kill(), worker.kill()]);
      accepted.push(...writer.lines);
      recorded.push(...worker.lines);
    }
    await drain(folder.url());
    const results = await readResults(folder.url());
    assert.deepEqual(accepted.filter((id) => !results.has(id)), []);
    const lost = recorded.map((line) => line.split(" ") as [string, string])
      .filter(([id, value]) => results.get(id) !== value);
    assert.deepEqual(lost, [], "a recorded result was lost or written over");
    assert.ok(recorded.length >= 5 * KILL_ROUNDS);
  });

  it("runs every job once, whoever takes it", async () => {
    using folder = new Folder();
    await using arq = await createPool(folder.url());
    const both = folder.file("both");
    await using first = startChild("share", [folder.url(), both]);
    await using second = IS_DENO
      ? startBunChild(findBun(), "share", [folder.url(), both])
      : startChild("share", [folder.url(), both]);
    await Promise.all([first.printed(), second.printed()]); // that they are ready
    const requests = Array.from({ length: 1_000 }, () => ({ name: "work" as const }));
    const jobs = await arq.enqueueJobs(requests);
    const begun = Promise.all([first.printed(2), second.printed(2)]);
    await within(20_000, "both have begun a job", begun);
    writeFileSync(both, "");
    await Promise.all(jobs.map((job) => job?.result({ timeout: 20_000 })));
    const count = () => first.lines.length + second.lines.length - 4;
    await eventually(() => count() >= 1_000, "the workers print what they have done");
    assert.equal(count(), 1_000);
  });

  it("wakes a worker and a waiting caller of another process within 50 ms", async () => {
    using folder = new Folder();
    await using arq = await createPool(folder.url());
    await using worker = startChild("answer", [folder.url()]);
    await worker.printed();
    const delays: { there: number; back: number }[] = [];
    for (let i = 0; i < 15; i++) {
      const enqueuedAt = Date.now();
      const job = await arq.enqueueJob("work");
      const startedAt = await job.result({ timeout: 10_000, pollDelay: DAY_MS }) as number;
      delays.push({ there: startedAt - enqueuedAt, back: Date.now() - startedAt });
      await new Promise((resolve) => setTimeout(resolve, 20)); // until the worker is idle again
    }
    const median = (key: "there" | "back") => delays.map((d) => d[key]).sort((a, b) => a - b)[7];
    assert.ok((median("there") ?? NaN) < 50, `there: ${JSON.stringify(delays)}`);
    assert.ok((median("back") ?? NaN) < 50, `back: ${JSON.stringify(delays)}`);
  });

  it("tells the steps of a job that another process runs, within 50 ms", async () => {
    using folder = new Folder();
    await using arq = await createPool(folder.url());
    const job = await arq.enqueueJob("count", [7]);
    const delays: number[] = [];
    const kinds = new Set<string>();
    const values: number[] = [];
    const events = job.events();
    kinds.add((await events.next()).value?.kind ?? "none");
    await using _worker = startChild("count", [folder.url()]);
    for await (const event of events) {
      kinds.add("jobTry" in event ? `${event.kind} ${event.jobTry}` : event.kind);
      if (event.kind !== "progress") continue;
      const { n, at } = event.value as { readonly n: number; readonly at: number };
      values.push(n);
      delays.push(Date.now() - at);
    }
    const all = ["queued", "started 1", "retried 1", "started 2", "progress 2", "finished 2"];
    assert.deepEqual([...kinds], all);
    assert.equal(values.at(-1), 7); // one before may have had to make room, on a busy machine
    assert.deepEqual(values, [...new Set(values)].sort((a, b) => a - b));
    const median = delays.sort((a, b) => a - b)[delays.length >> 1] ?? NaN;
    assert.ok(median < 50, `${delays}`);
  });

  it("wakes a worker of another process for one deferred job after the other", async () => {
    using folder = new Folder();
    await using arq = await createPool(folder.url());
    await using worker = startChild("answer", [folder.url()]);
    await worker.printed();
    for (const nth of ["first", "second", "third"]) {
      const job = await arq.enqueueJob("work", [], { deferBy: 300 });
      const result = job.result({ pollDelay: DAY_MS });
      const startedAt = await within(10_000, `the ${nth} job runs`, result);
      const { enqueueTime } = await job.info() ?? {};
      const late = Number(startedAt) - Number(enqueueTime) - 300;
      assert.ok(late >= -5 && late < 3_000, `the ${nth}: ${late} ms late`);
    }
  });

  it("lets a process end that closes it while there are more ends of others to read", async () => {
    using folder = new Folder();
    await using caller = startChild("leave", [folder.url()]);
    await within(30_000, "the caller ends", caller.exited);
    assert.deepEqual(caller.lines, ["closed"]);
  });

  it("uses under 1 % of a core while a worker is idle", async () => {
    using folder = new Folder();
    await using worker = startChild("idle", [folder.url()]);
    const [percent] = await worker.printed();
    assert.ok(Number(percent) < 1, `${percent} %`);
  });

  it("keeps what was accepted when a file cannot grow", async () => {
    using folder = new Folder();
    const shell = "trap '' XFSZ; ulimit -f 2000"; // in blocks of 512 bytes
    await using child = startChild("fill", [folder.url()], { shell });
    await child.exited;
    const [error = "", ...accepted] = child.lines.toReversed();
    assert.match(error, /^QueueConnectionError: Cannot use sqlite:.*disk.* full.*$/);
    assert.ok(accepted.length > 10);
    await using arq = await createPool(folder.url());
    const ids = new Set((await arq.queuedJobs()).map(({ jobId }) => jobId));
    assert.deepEqual(accepted.filter((id) => !ids.has(id)), []);
  });

  it("names the permissions that Deno lacks", async () => {
    if (!IS_DENO) return; // Bun has none
    using folder = new Folder();
    const path = folder.file();
    const needed = [`--allow-read=${path}`, `--allow-write=${path}`];
    const connect = async (permissions: readonly string[]) => {
      await using child = startChild("connect", [folder.url()], { permissions });
      await child.exited;
      return child.lines;
    };
    assert.deepEqual(await connect(needed), ["connected"]);
    const message = `QueueConnectionError: Cannot use sqlite:${path}: Deno needs ${
      needed.join(" ")
    }`;
    assert.deepEqual(await connect(["--allow-env=NOTHING"]), [message]);
    assert.deepEqual(await connect(needed.slice(0, 1)), [message]);
  });

  it("has Deno ask for no permission but those it names", async () => {
    if (!IS_DENO) return; // Bun has none
    using folder = new Folder();
    const isAsked = async (name: string, besides: string) => {
      const [path, other] = [folder.file(name), folder.file(besides)];
      const permissions = [`--allow-read=${path}`, `--allow-write=${path}`];
      await using child = startChild("ask", [folder.url(name), other], { permissions });
      await child.exited;
      return child.lines;
    };
    assert.deepEqual(await isAsked("queue.db", "queue.db-wal"), ["prompt"]);
    const [error = "", state] = await isAsked("missing/queue.db", "missing");
    assert.match(error, /^QueueConnectionError: Cannot use sqlite:.*: it cannot be opened/);
    assert.equal(state, "prompt");
  });
});
