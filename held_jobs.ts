/**
 * The jobs in a worker's hands: their leases are renewed and their time limits kept, and those that
 * are to be aborted, or whose lease was lost, are told to stop.
 * @module
 */
import { Buffer } from "node:buffer";
import type { JobRun } from "./job_run.ts";
import { LONGEST_TIMER_MS } from "./sleep.ts";
import type { Claim } from "./store.ts";
import { log } from "./worker_log.ts";
import type { ResolvedSettings } from "./worker_settings.ts";

/** Jobs whose lease the worker has: those that run, and those whose end is not recorded yet. */
export class HeldJobs implements Disposable {
  readonly #settings: ResolvedSettings;
  readonly #byToken: Map<string, JobRun> = new Map();
  readonly #running: Set<JobRun> = new Set();
  #renewedAt: number = performance.now();
  #deadline = Infinity;
  #deadlineTimer: ReturnType<typeof setTimeout> | undefined;

  /** Takes the worker's settings. */
  constructor(settings: ResolvedSettings) {
    this.#settings = settings;
  }

  /** The jobs that are running, the longest first. */
  get running(): ReadonlySet<JobRun> {
    return this.#running;
  }

  /** How many have ended and are not recorded yet. */
  get unrecorded(): number {
    return this.#byToken.size - this.#running.size;
  }

  /** What shows that the jobs are ours. */
  get claims(): readonly Claim[] {
    return [...this.#byToken.values()].map(({ claim }) => claim);
  }

  /** Takes a job that is about to run. */
  add(run: JobRun): void {
    this.#byToken.set(run.claim.token, run);
    this.#running.add(run);
  }

  /** From now on a job does not run any more; it is held until its end is recorded. */
  end(run: JobRun): void {
    this.#running.delete(run);
  }

  /** Lets go of a job whose end is recorded, or given up. */
  remove(run: JobRun): void {
    this.#byToken.delete(run.claim.token);
  }

  /**
   * Whether a claimed job is in our hands already, since its lease ended while nothing was renewed:
   * the event loop was blocked, or the store frozen. It goes on under the new lease, as does a
   * success that is not recorded yet.
   */
  adopt(claim: Claim): boolean {
    const run = [...this.#byToken.values()].find((held) =>
      isSameJob(held.claim, claim) && this.#goesOn(held)
    );
    if (run === undefined) return false;
    this.#byToken.delete(run.claim.token);
    run.claim = { ...claim, payload: run.claim.payload, starts: run.claim.starts };
    this.#byToken.set(claim.token, run);
    return true;
  }

  /** Whether a job is still worked on, or has succeeded: other ends under a lost lease are refused. */
  #goesOn(run: JobRun): boolean {
    return run.hasSucceeded || (this.#running.has(run) && run.stopReason !== "lost");
  }

  /** Notes the time by which a run must end. */
  onDeadline(run: JobRun): void {
    if (run.deadline >= this.#deadline) return;
    this.#deadline = run.deadline;
    clearTimeout(this.#deadlineTimer);
    const delay = Math.min(run.deadline - performance.now(), LONGEST_TIMER_MS);
    this.#deadlineTimer = setTimeout(() => this.#enforceDeadlines(), Math.max(0, delay));
  }

  /** Tells all running jobs that the worker ends. */
  stopAll(): void {
    for (const run of this.#running) this.#stop(run, "shutdown");
  }

  /** Renews all leases. */
  async renew(): Promise<void> {
    this.#renewedAt = performance.now();
    const runs = [...this.#byToken.values()];
    if (runs.length === 0) return;
    const { queueName, leaseMs, client: { store } } = this.#settings;
    try {
      const leases = runs.map(({ claim }) => claim);
      const renewed = await store.renew(queueName, leases, leaseMs);
      for (const [i, run] of runs.entries()) {
        const isOld = run.claim !== leases[i];
        if (!renewed[i] && !isOld && this.#running.has(run)) this.#stop(run, "lost");
      }
    } catch (error) {
      log.storeFailed("renew leases", error);
    }
  }

  /** Renews them if that should have been done long ago: timers come late on a busy event loop. */
  renewIfLate(): void {
    if (performance.now() - this.#renewedAt > this.#settings.leaseMs / 2) void this.renew();
  }

  /** Stops those of the running jobs that somebody wants aborted. */
  async stopAborted(): Promise<void> {
    const runs = [...this.#running];
    if (runs.length === 0) return;
    try {
      const { store } = this.#settings.client;
      const asked = await store.findAborts(runs.map(({ claim }) => claim.jobId));
      for (const run of runs) {
        if (asked.has(run.claim.jobId) && this.#running.has(run)) this.#stop(run, "abort");
      }
    } catch (error) {
      log.storeFailed("look for aborts", error);
    }
  }

  /** Leaves no timer behind. */
  [Symbol.dispose](): void {
    clearTimeout(this.#deadlineTimer);
  }

  #enforceDeadlines(): void {
    const now = performance.now();
    this.#deadline = Infinity;
    for (const run of this.#running) {
      if (run.deadline <= now) {
        if (run.stopReason === undefined) run.stop("timeout", this.#settings.abortGraceMs);
        else {
          log.abandoned(run);
          run.abandon();
        }
      }
      this.onDeadline(run);
    }
  }

  #stop(run: JobRun, reason: "abort" | "shutdown" | "lost"): void {
    run.stop(reason, this.#settings.abortGraceMs);
    this.onDeadline(run);
  }
}

/** Whether a job that is held was claimed once more, and not a new one under its id. */
function isSameJob(held: Claim, claim: Claim): boolean {
  if (held.jobId !== claim.jobId) return false;
  const hasBoth = held.payload && claim.payload; // It may have expired meanwhile.
  return !hasBoth || Buffer.compare(held.payload, claim.payload) === 0;
}
