/** Tests as a user writes them, which `testing_test.ts` runs under Deno without any permission. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { cron } from "../../mod.ts";
import { createTestQueue, runFunction } from "../../testing.ts";

const double = (_ctx: unknown, n: number): number => 2 * n;

describe("A program's own tests", () => {
  it("run jobs and cron jobs", async () => {
    const cronJobs = [cron(function hourly() {}, "0 * * * *")];
    await using queue = await createTestQueue({ functions: { double }, cronJobs }, {
      now: new Date("2030-01-01T12:00:30Z"),
    });
    await queue.arq.enqueueJob("double", [4], { deferBy: { minutes: 5 } });
    const results = await queue.advance({ hours: 2 });
    assert.deepEqual(results.map(({ functionName, result }) => [functionName, result]), [
      ["double", 8],
      ["cron:hourly", undefined],
      ["cron:hourly", undefined],
    ]);
  });

  it("run one function", async () => {
    assert.equal(await runFunction(double, [21]), 42);
  });
});
