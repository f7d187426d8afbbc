/** A job that kills its worker, again and again. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { createPool } from "../mod.ts";
import { Workers } from "./chaos/workers.ts";
import { startRedis } from "./_redis.ts";
import { Folder } from "./_sqlite.ts";

const TRIES = 3;
const NEIGHBOURS = 30;

/** Runs a poison job among others, and returns how all of them ended. */
async function endsBesidePoison(connection: string, folder: Folder) {
  const ledgers = join(folder.path, "ledgers");
  mkdirSync(ledgers);
  const workers = new Workers(ledgers, {
    connection,
    maxTries: TRIES,
    maxJobs: 20,
    lease: 1_000, // A neighbour that takes longer would let the next of its kind begin.
    pollDelay: 100,
  });
  await using arq = await createPool(connection);
  const poison = await arq.enqueueJob("poison", [0]);
  const requests = Array.from({ length: NEIGHBOURS }, (_, i) => ({ name: "nap", args: [i, 20] }));
  const neighbours = await arq.enqueueJobs(requests);
  try {
    workers.start(3);
    const results = await Promise.all(
      [poison, ...neighbours].map((job) =>
        job.result({ timeout: 30_000 }).then(() => "success", (error) => String(error))
      ),
    );
    const runs = workers.ledgers().flatMap(({ starts }) => starts.filter(({ n }) => n === 0));
    return { poison: results[0], neighbours: results.slice(1), runs: runs.length };
  } finally {
    await workers.end();
  }
}

describe("A job that kills its worker", () => {
  const check = async (connection: string, folder: Folder) => {
    const { poison, neighbours } = await endsBesidePoison(connection, folder);
    assert.equal(poison, `JobExecutionFailed: max ${TRIES} tries exceeded`);
    assert.deepEqual(neighbours, Array(NEIGHBOURS).fill("success"));
  };

  it("fails after maxTries on Redis, and none of its neighbours does", async () => {
    using folder = new Folder();
    await using server = await startRedis();
    await check(server.url, folder);
  });

  it("fails after maxTries in a SQLite file, and none of its neighbours does", async () => {
    using folder = new Folder();
    await check(folder.url(), folder);
  });
});
