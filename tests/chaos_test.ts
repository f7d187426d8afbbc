/** Short rounds of what `deno task chaos` does at length. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { killPlan, redisPlan, sqlitePlan } from "./chaos/plans.ts";
import { MAX_OVERTAKERS, type Plan, playRound, type Report, STOP_LIMIT_MS } from "./chaos/round.ts";

/** Plays a round, and checks what always holds. */
async function play(plan: Plan): Promise<Report> {
  const faults: string[] = [];
  const report = await playRound({ ...plan, onFault: (text) => void faults.push(text) });
  const story = `seed ${plan.seed}: ${faults.join("; ")}`;
  const { lost, wrong, lies, died, left } = report;
  assert.deepEqual(
    { lost, wrong, lies, died, left },
    { lost: [], wrong: [], lies: [], died: [], left: [] },
    story,
  );
  assert.ok(report.slowestStopMs <= STOP_LIMIT_MS, `a stop took ${report.slowestStopMs} ms`);
  return report;
}

const seed = Math.floor(Math.random() * 2 ** 31);

describe("Chaos", () => {
  it("loses none of 10,000 jobs of workers that are killed, and recovers them in time", async () => {
    const plan = killPlan(seed, "redis");
    const report = await play(plan);
    assert.equal(report.accepted, 10_000);
    assert.equal(report.run, 10_000);
    assert.ok(report.kills >= 2, `${report.kills} kills`);
    assert.ok(report.slowestOrphanMs > 0, "no worker was killed in the middle of a job");
    // Counted in jobs rather than in time: a crowded machine begins them later, but in this order.
    assert.ok(report.overtakers <= MAX_OVERTAKERS, `${report.overtakers} jobs before an orphan`);
  });

  it("loses nothing on Redis, whatever is done to it", async () => {
    await play({ ...redisPlan(seed, 4_000), longestMs: 1_500 });
  });

  it("loses nothing in a SQLite file, whatever is done to it", async () => {
    await play(sqlitePlan(seed, 3_000));
  });
});
