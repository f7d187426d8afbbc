/** Programs whose clock is an hour ahead or behind: what decides is the store's. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { dashboard } from "../dashboard.ts";
import { createPool, JobExecutionFailed, type JobResult } from "../mod.ts";
import { createTestQueue } from "../testing.ts";
import { Visitor } from "./_dashboard.ts";
import { rejection } from "./_helpers.ts";
import { randomPrefix, testRedisUrl } from "./_redis.ts";
import { until } from "./_worker.ts";

const PROGRAM = fileURLToPath(new URL("data/shifted_program.ts", import.meta.url));
const HOUR_MS = 3_600_000;
/** A slow machine may be so late; a wrong clock is so for an hour. */
const LATE_MS = 30_000;
const SHIFTS = [["ahead", HOUR_MS], ["behind", -HOUR_MS]] as const;

/** What the program's functions return. */
interface When {
  readonly at: number;
  readonly score: number;
  readonly jobTry: number;
}

interface Program extends AsyncDisposable {
  readonly output: Promise<string>;
}

/** Starts the program; it is killed when disposed of. */
function start(shiftMs: number, connection: string, prefix: string, role: string): Program {
  const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : ["run"];
  const args = [...flags, PROGRAM, String(shiftMs), connection, prefix, role];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = Promise.withResolvers<void>();
  let output = "";
  child.stdout?.on("data", (chunk) => output += String(chunk));
  child.on("close", () => ended.resolve());
  return {
    output: ended.promise.then(() => output),
    [Symbol.asyncDispose]: async () => {
      kill(child);
      await ended.promise;
    },
  };
}

function kill({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid !== undefined && exitCode === null && signalCode === null) process.kill(pid, "SIGKILL");
}

function isOnTime({ at }: When, due: number, what: string): void {
  assert.ok(at >= due - 50 && at < due + LATE_MS, `${what}: ${at - due} ms after it was due`);
}

describe("A worker whose clock is an hour", () => {
  for (const [way, shiftMs] of SHIFTS) {
    it(`${way} runs jobs and slots when they are due, and keeps its leases`, async () => {
      const [url, prefix] = [await testRedisUrl(), randomPrefix()];
      await using arq = await createPool(url, { prefix });
      const expired = await arq.enqueueJob("when", [], { expires: 1 });
      await until("it expires", async () => await expired.info() === null);
      await using _worker = start(shiftMs, url, prefix, "worker");
      await using _other = start(-shiftMs, url, prefix, "worker");
      const result = async (options: Parameters<typeof arq.call>[2]) =>
        await arq.call("when", [], { timeout: 40_000, ...options }) as When;
      await result({}); // they have started
      const now = Date.now();
      const [atOnce, deferred, until_, alive, slow] = await Promise.all([
        result({}),
        result({ deferBy: 1_000 }),
        result({ deferUntil: now + 1_000 }),
        result({ expires: 30_000 }),
        arq.call("slow", [], { timeout: 40_000 }) as Promise<When>,
      ]);
      isOnTime(atOnce, now, "at once");
      isOnTime(deferred, now + 1_000, "deferBy");
      isOnTime(until_, now + 1_000, "deferUntil");
      isOnTime(alive, now, "expires");
      assert.equal(slow.jobTry, 1, "the other worker took a job whose lease was held");
      assert.ok(await rejection(expired.result()) instanceof JobExecutionFailed);
      let slots: JobResult[] = [];
      await until("some slots", async () => {
        slots = (await arq.allJobResults()).filter(({ functionName }) => functionName === "tick");
        return slots.length >= 3;
      });
      const due = slots.map(({ result }) => (result as When).score);
      assert.equal(new Set(due).size, due.length, "a slot has run twice");
      for (const { result, startTime, finishTime } of slots) {
        const when = result as When;
        isOnTime(when, when.score, "its slot");
        const skew = Math.abs(startTime.getTime() - when.at);
        assert.ok(Math.abs(skew - HOUR_MS) < LATE_MS, "a result's times are its worker's");
        assert.ok(finishTime.getTime() - startTime.getTime() < LATE_MS);
      }
    });
  }
});

describe("A client whose clock is an hour", () => {
  for (const [way, shiftMs] of SHIFTS) {
    it(`${way} has its jobs run when they are due`, async () => {
      const [url, prefix] = [await testRedisUrl(), randomPrefix()];
      await using _worker = start(0, url, prefix, "worker");
      const before = Date.now();
      await using client = start(shiftMs, url, prefix, "client");
      const { status, results, dateNow } = JSON.parse(await client.output) as {
        readonly status: string;
        readonly results: readonly [When, When, When, When];
        readonly dateNow: number;
      };
      assert.ok(Math.abs(dateNow - shiftMs) < LATE_MS, "its clock is wrong");
      assert.equal(status, "deferred");
      const [atOnce, deferred, until_, alive] = results;
      assert.ok(deferred.at - deferred.score < LATE_MS && deferred.at >= deferred.score - 50);
      isOnTime(deferred, atOnce.score + 1_000, "deferBy");
      isOnTime(until_, until_.score, "deferUntil");
      assert.ok(Math.abs(until_.score - deferred.score) < LATE_MS);
      isOnTime(alive, alive.score, "expires");
      assert.ok(atOnce.score >= before && atOnce.score < Date.now());
    });
  }
});

describe("A dashboard whose clock is an hour behind", () => {
  it("retries the failures that its list shows, and no others", async () => {
    const fail = () => {
      throw new RangeError("no such thing");
    };
    await using queue = await createTestQueue({ functions: { fail }, keepResult: "forever" });
    await queue.arq.enqueueJob("fail", [], { jobId: "old" });
    await rejection(queue.runDue());
    await queue.advance({ hours: 1 });
    await queue.arq.enqueueJob("fail", [], { jobId: "new" });
    await rejection(queue.runDue());
    const visitor = new Visitor(dashboard(queue.arq));
    const recent = "/jobs?status=failed&since=5m";
    const listed = await (await visitor.get(recent)).text();
    assert.deepEqual([...listed.matchAll(/job\?id=(\w+)/g)].map(([, id]) => id), ["new"]);
    const form = { action: "retry-all", ...await visitor.token(recent) };
    const { headers } = await visitor.post(recent, form);
    assert.match(headers.get("location") ?? "", /done=retried-all&count=1$/);
    assert.equal(await queue.arq.job("old").status(), "complete");
    assert.equal(await queue.arq.job("new").status(), "queued");
  });
});
