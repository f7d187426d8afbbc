/** The rounds that there are, short and long. */
import type { Mix } from "./load.ts";
import type { Plan } from "./round.ts";

const EVERYTHING: Mix = {
  kinds: { add: 60, nap: 30, again: 6, fails: 4, stall: 0.1, poison: 0.03 },
  ways: { one: 50, list: 3, given: 20, deferred: 10, call: 14, abort: 3 },
  napMs: 300,
  stallMs: 1_500,
};

const PACE = { leaseMs: 1_000, pollMs: 200, perSecond: 400, jobs: Infinity, mix: EVERYTHING };

/** Every fault on Redis. */
export function redisPlan(seed: number, ms: number): Plan {
  return {
    ...PACE,
    store: "redis",
    seed,
    ms,
    pauseMs: [50, 1_200],
    longestMs: 5_000,
    lanes: [
      { kill: 4, stop: 3, freeze: 1 },
      { restart: 2, freezeRedis: 1, pauseRedis: 1, killClients: 2, forgetScripts: 1 },
      { cut: 12, dropReply: 20, silence: 1 },
    ],
  };
}

/** Every fault on a SQLite file. */
export function sqlitePlan(seed: number, ms: number): Plan {
  return {
    ...PACE,
    store: "sqlite",
    seed,
    ms,
    pauseMs: [100, 1_500],
    longestMs: 2_000,
    lanes: [{ kill: 4, stop: 2, freeze: 1 }, { lock: 1, read: 1 }],
  };
}

/** Ten thousand short jobs while one worker after the other is killed. */
export function killPlan(seed: number, store: Plan["store"]): Plan {
  return {
    ...PACE,
    store,
    seed,
    ms: 30_000,
    jobs: 10_000,
    perSecond: Infinity,
    leaseMs: 500,
    pollMs: 100,
    longestMs: 0,
    // Far enough apart that each death is over before the next.
    pauseMs: [700, 1_000],
    mix: { kinds: { nap: 1 }, ways: { list: 1 }, napMs: 100, stallMs: 0 },
    lanes: [{ kill: 1 }],
    maxFaults: 4,
  };
}
