/** What nobody should have written into a SQLite file: it spoils its own job at the most. */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { describe, it } from "node:test";
import { createPool } from "../client.ts";
import { ArqError } from "../errors.ts";
import { Worker } from "../worker.ts";
import { hostileBytes } from "./_hostile.ts";
import { within } from "./_helpers.ts";
import { fc } from "./_properties.ts";
import { Folder } from "./_sqlite.ts";
import { until } from "./_worker.ts";

const CALL = { timeout: 10_000 };
const echo = (_ctx: unknown, value: unknown) => value;

const LARGEST = 2n ** 63n - 1n;
const integer = fc.constantFrom<bigint | number>(0, 1, -1, 2n ** 53n, LARGEST, -LARGEST, 1_700e9);
const orNull = <T>(value: fc.Arbitrary<T>) => fc.oneof(value, fc.constant(null));

const hostileRow = fc.record({
  id: fc.oneof(fc.string(), fc.constantFrom("__proto__", "\u0001", "\u0001x", "\u0001n")),
  score: integer,
  starts: integer,
  handbacks: integer,
  abort_asked: integer,
  token: orNull(fc.string()),
  locked_until: orNull(integer),
  lease_until: orNull(integer),
  lease_score: orNull(integer),
  payload: orNull(hostileBytes),
  expires_at: integer,
  result: orNull(hostileBytes),
});
type Row = typeof hostileRow extends fc.Arbitrary<infer R> ? R : never;

function plant(path: string, rows: readonly Row[]): void {
  const database = new DatabaseSync(path);
  const queue = database.prepare("SELECT queue, space FROM queues").get() as
    | { queue: number; space: number }
    | undefined;
  assert.ok(queue, "there is a queue");
  for (const [i, row] of rows.entries()) {
    const { id, payload, expires_at: expiresAt, result, ...columns } = row;
    const names = Object.keys(columns);
    const marks = names.map(() => "?").join(", ");
    const { lastInsertRowid } = database.prepare(
      `INSERT INTO jobs (space, queue, job_id, ${names.join(", ")}) VALUES (?, ?, ?, ${marks})`,
    ).run(queue.space, queue.queue, `${id}${i}`, ...Object.values(columns));
    if (payload) {
      database.prepare("INSERT INTO payloads VALUES (?, ?, ?)")
        .run(lastInsertRowid, expiresAt, payload);
    }
    if (result) {
      database.prepare(
        "INSERT INTO results (space, job_id, expires_at, record) VALUES (?, ?, ?, ?)",
      ).run(queue.space, `${id}${i}`, expiresAt, result);
    }
  }
  database.close();
}

/** Counts, a worker and ends as nobody should have written them. */
function plantNumbers(path: string): void {
  using database = new DatabaseSync(path);
  const now = Date.now();
  const count = database.prepare("INSERT INTO counts VALUES (1, ?, ?, ?)");
  count.run(0, "complete:f", LARGEST);
  count.run(0, "x", -LARGEST);
  count.run(Math.floor(now / 60_000), "complete", LARGEST);
  count.run(LARGEST, "complete", 1);
  database.prepare("INSERT INTO workers VALUES (1, 'x', 'rubbish', ?)").run(LARGEST);
  const end = database.prepare(`
    INSERT INTO results (space, job_id, record, queue, success, finished_at, expires_at)
    VALUES (1, ?, x'c1', 1, ?, ?, ?)`);
  for (const [i, at] of [now, 0, -1, LARGEST, -LARGEST].entries()) {
    end.run(`bad ${i}`, i % 2, at, i < 2 ? null : LARGEST);
  }
}

async function endsInOrder(what: string, call: Promise<unknown>): Promise<void> {
  try {
    await within(5_000, what, call);
  } catch (error) {
    assert.ok(error instanceof ArqError || what.startsWith("result"), `${what}: ${error}`);
  }
}

describe("Hostile rows in a SQLite file", () => {
  it("spoil no other job, no reader and no prototype", async () => {
    const prototype = Object.getOwnPropertyNames(Object.prototype);
    await fc.assert(
      fc.asyncProperty(fc.array(hostileRow, { minLength: 20, maxLength: 40 }), async (rows) => {
        using folder = new Folder();
        await using arq = await createPool(folder.url());
        await arq.enqueueJob("echo", [1], { deferBy: 1 });
        plant(folder.file(), rows);
        const worker = new Worker({
          functions: { echo },
          connection: arq,
          pollDelay: 20,
          lease: 300,
          maxTries: 3,
        });
        const running = worker.run();
        try {
          assert.equal(await arq.call("echo", ["good"], CALL), "good");
          await endsInOrder("queuedJobs", arq.queuedJobs());
          await endsInOrder("allJobResults", arq.allJobResults());
          await Promise.all(rows.flatMap(({ id }, i) => {
            const job = arq.job(`${id}${i}`);
            return [
              endsInOrder(`result ${i}`, job.result({ timeout: 300 })),
              endsInOrder(`info ${i}`, job.info()),
              endsInOrder(`resultInfo ${i}`, job.resultInfo()),
              endsInOrder(`status ${i}`, job.status()),
            ];
          }));
          assert.equal(await arq.call("echo", ["still good"], CALL), "still good");
          const doneBefore = worker.jobsComplete + worker.jobsFailed;
          await until("nothing is running", () => worker.jobsOngoing === 0);
          assert.ok(doneBefore <= 3 * (rows.length + 3), "no job is run again and again");
        } finally {
          await within(5_000, "the worker ends", worker.close());
          await running;
        }
        assert.deepEqual(Object.getOwnPropertyNames(Object.prototype), prototype);
      }),
      { numRuns: 6, endOnFailure: true },
    );
  });

  it("are shown to operators as what they are, page by page to the end", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(hostileRow, { minLength: 5, maxLength: 30 }), async (rows) => {
        using folder = new Folder();
        await using arq = await createPool(folder.url());
        await arq.enqueueJob("echo", [1], { deferBy: 60_000 });
        plant(folder.file(), rows);
        plantNumbers(folder.file());
        let cursor: string | undefined;
        let pages = 0;
        do {
          cursor = (await arq.jobs({ limit: 2, cursor })).cursor;
          assert.ok(++pages < 2 * rows.length + 20, "it goes round in circles");
        } while (cursor !== undefined);
        const report = { workerId: "w", record: "{}", ttlMs: 60_000, reportId: "r" };
        const counts = new Map([["complete", 1]]);
        const more = { minute: counts, totals: new Map([["complete:f", 1]]) };
        await arq.store.inspection.report(arq.defaultQueueName, { ...report, ...more });
        await arq.stats();
        assert.deepEqual(await arq.workers(), []);
        await arq.retryJobs();
        for (const [i, { id }] of rows.entries()) {
          await arq.jobView(`${id}${i}`);
          await arq.removeJob(`${id}${i}`).catch((error) => assert.ok(error instanceof ArqError));
        }
      }),
      { numRuns: 8, endOnFailure: true },
    );
  });
});
