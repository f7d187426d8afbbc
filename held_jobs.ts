/**
 * The jobs in a worker's hands: they wait for a slot and run, their leases are renewed and their time
 * limits kept, and those that are to be aborted, or whose lease was lost, are told to stop.
 * @module
 */
import { Buffer } from "node:buffer";
import { Bag } from "./bag.ts";
import { ClaimPace } from "./claim_pace.ts";
import type { JobRun } from "./job_run.ts";
import { LONGEST_TIMER_MS } from "./sleep.ts";
import type { Claim, SuspectRule } from "./store.ts";
import { firstLastTry, mayTakeAhead } from "./worker_functions.ts";
import { log } from "./worker_log.ts";
import type { ResolvedSettings } from "./worker_settings.ts";

/** A job that has waited this long for a slot goes back to the queue. */
const WAIT_MS = 50;

/** Jobs whose lease the worker has: those that wait, that run, and whose end is not recorded yet. */
export class HeldJobs implements Disposable {
  readonly #settings: ResolvedSettings;
  readonly #all: Bag<JobRun> = new Bag();
  #waiting: JobRun[] = [];
  #running = 0;
  /** A job that may have killed its workers: no other such is put beside it at first. */
  #suspect: JobRun | undefined;
  readonly #lastTry: number | undefined;
  readonly #pace: ClaimPace;
  readonly #onBlocked: () => void;
  #waitTimer: ReturnType<typeof setTimeout> | undefined;
  #renewedAt: number = performance.now();
  #isLookingForAborts = false;
  #deadline = Infinity;
  #deadlineTimer: ReturnType<typeof setTimeout> | undefined;

  /** Takes the worker's settings, and what is called when jobs have waited for too long. */
  constructor(settings: ResolvedSettings, onBlocked: () => void) {
    this.#settings = settings;
    this.#onBlocked = onBlocked;
    this.#lastTry = firstLastTry(settings.functions);
    this.#pace = new ClaimPace(mayTakeAhead(settings.functions) ? settings.queueReadLimit : 0);
  }

  /** How many jobs may wait for a slot, where there are more to take. */
  get ahead(): number {
    return this.#pace.ahead;
  }

  /** How many are running. */
  get running(): number {
    return this.#running;
  }

  /** How many wait for a slot. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** How many have ended and are not recorded yet. */
  get unrecorded(): number {
    return this.#all.size - this.#running - this.#waiting.length;
  }

  /** The jobs that are running, the longest first. */
  get runs(): readonly JobRun[] {
    return [...this.#all].filter(({ phase }) => phase === "running")
      .sort((a, b) => a.startMs - b.startMs);
  }

  /** What shows that the jobs are ours. */
  get claims(): readonly Claim[] {
    return [...this.#all].flatMap(({ claim, former }) => former ? [claim, former] : claim);
  }

  /**
   * One suspect at a time, unless it has let its worker live for as long as a lease; and only where
   * it begins at once: had it to wait, it could lose its last try with its worker before it began, or
   * go back to the queue as a job like any other, which may be begun beside a suspect. Undefined
   * where no orphan can be one.
   */
  get suspects(): SuspectRule | undefined {
    if (this.#lastTry === undefined) return undefined;
    const { maxJobs, leaseMs } = this.#settings;
    const age = this.#suspect ? performance.now() - this.#suspect.since : Infinity;
    const hasSlot = this.#running + this.#waiting.length < maxJobs;
    return { lastTry: this.#lastTry, mayTake: hasSlot && age > leaseMs };
  }

  /** Takes a job that is to run when there is a slot for it; a suspect is the next. */
  add(run: JobRun): void {
    this.#all.add(run);
    if (run.claim.isSuspect) {
      this.#suspect = run;
      this.#waiting.unshift(run);
    } else this.#waiting.push(run);
  }

  /** The job that is next runs from now on; undefined if none waits. */
  begin(): JobRun | undefined {
    const run = this.#waiting.shift();
    if (run === undefined) return undefined;
    const waitedMs = run.begin();
    this.#running++;
    if (this.#waiting.length === 0) this.#pace.noteWait(waitedMs);
    return run;
  }

  /** Takes all those out that wait. */
  takeWaiting(): readonly JobRun[] {
    return this.#waiting.splice(0);
  }

  /**
   * Takes out those that wait once one has waited for too long: another worker may have a slot for
   * them. All of them, lest a later one begin first; but for a suspect that has just come.
   */
  takeBlocked(): readonly JobRun[] {
    const [next, second] = this.#waiting; // One of them has waited longest: a suspect is put first.
    if (next === undefined) return [];
    const since = performance.now() - WAIT_MS;
    if (Math.min(next.since, second?.since ?? Infinity) > since) return [];
    this.#pace.noteBlocked();
    return this.#waiting.splice(next.since > since ? 1 : 0);
  }

  /** Sees to it that those who wait do not do so for too long. */
  watchWaiting(): void {
    const [next] = this.#waiting;
    if (next === undefined) return;
    this.#waitTimer ??= setTimeout(() => {
      this.#waitTimer = undefined;
      this.#onBlocked();
    }, Math.max(0, next.since + WAIT_MS - performance.now()));
  }

  /** From now on a job does not run any more; it is held until its end is recorded. */
  end(run: JobRun): void {
    if (run.phase === "running") {
      this.#running--;
      this.#pace.noteJob(performance.now() - run.since);
    }
    run.phase = "ended";
    if (this.#suspect === run) this.#suspect = undefined;
  }

  /** Lets go of a job whose end is recorded, or given up. */
  remove(run: JobRun): void {
    this.#all.delete(run);
  }

  /**
   * Whether a claimed job is in our hands already, since its lease ended while nothing was renewed:
   * the event loop was blocked, or the store frozen. It goes on under the new lease, as does a
   * success that is not recorded yet.
   */
  adopt(claim: Claim): boolean {
    const run = [...this.#all].find((held) => isSameJob(held.claim, claim) && this.#goesOn(held));
    if (run === undefined) return false;
    run.former = run.claim;
    run.claim = { ...claim, payload: run.claim.payload, starts: run.claim.starts };
    return true;
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
    for (const run of this.runs) this.#stop(run, "shutdown");
  }

  /** Renews all leases. */
  async renew(): Promise<void> {
    this.#renewedAt = performance.now();
    const runs = [...this.#all];
    if (runs.length === 0) return;
    const { queueName, leaseMs, client: { store } } = this.#settings;
    try {
      const leases = runs.map(({ claim }) => claim);
      const renewed = await store.renew(queueName, leases, leaseMs);
      let isInDoubt = false;
      for (const [i, run] of runs.entries()) {
        const { claim, former } = run;
        if (claim !== leases[i]) continue;
        run.former = undefined;
        if (renewed[i] || run.phase === "ended") continue;
        if (former === undefined) this.#stop(run, "lost");
        else {
          run.claim = former;
          isInDoubt = true;
        }
      }
      if (isInDoubt) void this.renew();
    } catch (error) {
      log.storeFailed("renew leases", error);
    }
  }

  /** Renews them if that should have been done long ago: timers come late on a busy event loop. */
  renewIfLate(): void {
    if (performance.now() - this.#renewedAt > this.#settings.leaseMs / 2) void this.renew();
  }

  /**
   * Stops those of the jobs that somebody wants aborted. One look at a time: while the store is away
   * each takes its whole `timeout`, and is in the log.
   */
  async stopAborted(): Promise<void> {
    if (this.#isLookingForAborts) return;
    const runs = [...this.#all].filter(({ phase }) => phase !== "ended");
    if (runs.length === 0) return;
    this.#isLookingForAborts = true;
    try {
      const { store } = this.#settings.client;
      const asked = await store.findAborts(runs.map(({ claim }) => claim.jobId));
      for (const run of runs) {
        if (asked.has(run.claim.jobId) && run.phase !== "ended") this.#stop(run, "abort");
      }
    } catch (error) {
      log.storeFailed("look for aborts", error);
    } finally {
      this.#isLookingForAborts = false;
    }
  }

  /** Leaves no timer behind. */
  [Symbol.dispose](): void {
    clearTimeout(this.#deadlineTimer);
    clearTimeout(this.#waitTimer);
  }

  /** Whether a job is still worked on, or has succeeded: other ends under a lost lease are refused. */
  #goesOn(run: JobRun): boolean {
    return run.hasSucceeded || (run.phase !== "ended" && run.stopReason !== "lost");
  }

  #enforceDeadlines(): void {
    const now = performance.now();
    this.#deadline = Infinity;
    for (const run of this.runs) {
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
