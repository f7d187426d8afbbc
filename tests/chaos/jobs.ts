/** The jobs of the chaos: what they do, and what their results must be. */
import { writeSync } from "node:fs";
import process from "node:process";
import { func, JobAborted, type JobContext, Retry } from "../../mod.ts";
import type { JobResult } from "../../mod.ts";

/** What a job is enqueued with: its number, which nobody else has, how long it takes, and its ballast. */
export type Args = readonly [n: number, ms: number, padding: string];

/** How often a job that kills its worker is tried. */
const POISON_TRIES = 3;

/**
 * - `add` returns at once, `nap` after a while, `again` only at its second try, `fails` never.
 * - `stall` keeps the event loop from everything else for a while.
 * - `poison` kills its worker.
 */
export type Kind = "add" | "nap" | "again" | "fails" | "stall" | "poison";

/** The functions of a worker that notes each start in the ledger with the descriptor `ledger`. */
export function makeFunctions(ledger: number) {
  const start = ({ jobTry }: JobContext, n: number): string => {
    const run = crypto.randomUUID();
    // In one write, so that what was begun before a SIGKILL is known, and nothing by halves.
    writeSync(ledger, `${n} ${run} ${jobTry} ${Date.now()}\n`);
    return run;
  };
  const value = (n: number, run: string) => ({ n, square: n * n, run });
  return {
    add: (ctx: JobContext, n: number) => value(n, start(ctx, n)),
    nap: async (ctx: JobContext, n: number, ms: number) => {
      const run = start(ctx, n);
      await new Promise((resolve) => setTimeout(resolve, ms));
      return value(n, run);
    },
    again: (ctx: JobContext, n: number, ms: number) => {
      const run = start(ctx, n);
      if (ctx.jobTry === 1) throw new Retry({ defer: ms });
      return value(n, run);
    },
    fails: (ctx: JobContext, n: number) => {
      start(ctx, n);
      throw new RangeError(`no ${n}`);
    },
    stall: (ctx: JobContext, n: number, ms: number) => {
      const run = start(ctx, n);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
      return value(n, run);
    },
    poison: func((ctx: JobContext, n: number) => {
      start(ctx, n);
      process.kill(process.pid, "SIGKILL");
    }, { maxTries: POISON_TRIES }),
  };
}

/** What is wrong with the end of a job; undefined if it is right. `runs` are those in the ledger. */
export function flawOf(
  kind: Kind,
  n: number,
  { success, result }: Pick<JobResult, "success" | "result">,
  runs: readonly string[],
): string | undefined {
  if (kind === "fails") return isError(result, "RangeError", `no ${n}`) ? undefined : show(result);
  if (kind === "poison") {
    const message = `max ${POISON_TRIES} tries exceeded`;
    return isError(result, "JobExecutionFailed", message) ? undefined : show(result);
  }
  const value = result as { n?: unknown; square?: unknown; run?: unknown } | null;
  const isRight = success && value?.n === n && value.square === n * n;
  if (!isRight) return show(result);
  return runs.includes(String(value.run)) ? undefined : "of a run that never was";
}

/** What is wrong with a job that was aborted before it was due; undefined if nothing is. */
export function flawOfAborted(
  end: Pick<JobResult, "result"> | undefined,
  runs: readonly string[],
): string | undefined {
  if (runs.length > 0) return "was started";
  return end?.result instanceof JobAborted ? undefined : show(end?.result);
}

function isError(value: unknown, name: string, message: string): boolean {
  return value instanceof Error && value.name === name && value.message === message;
}

function show(value: unknown): string {
  return value instanceof Error ? String(value) : JSON.stringify(value);
}
