/** Short rounds of what `deno task chaos` does at length. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { killPlan, redisPlan, sqlitePlan } from "./chaos/plans.ts";
import { type Plan, playRound, type Report, STOP_LIMIT_MS } from "./chaos/round.ts";

/** A crowded machine may take so long to do what takes no time. */
const CROWD_MS = 1_500;

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
    const limit = plan.leaseMs + plan.pollMs + CROWD_MS;
    assert.ok(report.slowestOrphanMs <= limit, `an orphan waited ${report.slowestOrphanMs} ms`);
  });

  it("loses nothing on Redis, whatever is done to it", async () => {
    await play({ ...redisPlan(seed, 4_000), longestMs: 1_500 });
  });

  it("loses nothing in a SQLite file, whatever is done to it", async () => {
    await play(sqlitePlan(seed, 3_000));
  });
});
