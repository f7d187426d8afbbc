/**
 * The worker's engine: claims jobs, runs them, records how they ended, and renews their leases.
 *
 * Everything that happens (a job ends, a wake-up, a timer) only notes what is to be done and takes
 * a *turn*. While jobs are running a turn comes once the event loop is free, so that the ends of
 * many jobs and the next claim travel in one write.
 * @module
 */
import { callHook, execute, type Executor } from "./execution.ts";
import type { JobOutcome } from "./functions.ts";
import { JobRun } from "./job_run.ts";
import { encodeResult, type ResultRecord, type Serializer } from "./serializer.ts";
import { LONGEST_TIMER_MS, sleep } from "./sleep.ts";
import type { ClaimReply, Finish, GiveBack, Settled, Store } from "./store.ts";
import { type Counters, log } from "./worker_log.ts";
import type { ResolvedSettings } from "./worker_settings.ts";

/** A slot of a unique cron job stays locked this long after its end, as Python expects. */
const SLOT_LOCK_MS = 60_000;
/** Whatever hangs (a hook, the store), the loop ends this long after the grace of its jobs. */
const SHUTDOWN_LIMIT_MS = 15_000;
const NOTHING = new Uint8Array();

interface Ended {
  readonly run: JobRun;
  readonly outcome: JobOutcome;
  /** The encoded end, where the outcome is one. */
  readonly record?: Uint8Array;
}

/** Runs the jobs of one queue until it is stopped. */
export class JobLoop implements Executor, Counters {
  readonly settings: ResolvedSettings;
  readonly state: Readonly<Record<string, unknown>>;
  jobsComplete = 0;
  jobsFailed = 0;
  jobsRetried = 0;
  /** How many jobs the queue holds, as of the last claim. */
  queued = 0;
  /** Called for each job that fails for good. */
  readonly onFailure: ((jobId: string, error: unknown) => void) | undefined;
  readonly #store: Store;
  readonly #holder: string = crypto.randomUUID().slice(-12);
  /** Runs whose lease we hold: those whose function runs, and those whose end is not recorded. */
  readonly #held: Map<string, JobRun> = new Map();
  readonly #active: Set<JobRun> = new Set();
  readonly #done = Promise.withResolvers<void>();
  readonly #stopListening = new AbortController();
  #ended: Ended[] = [];
  #started = 0;
  #claiming = 0;
  #claimed = 0;
  #settling = 0;
  /** How many `afterJobEnd` are under way. */
  #afterwards = 0;
  #wakeUps = 0;
  #mayHaveWork = true;
  #isEmpty = false;
  #hasBacklog = false;
  #mayHoldUnknown = false;
  #turnAsked = false;
  #stopping = false;
  #givingUp = false;
  #clockOffset: number | undefined;
  #renewedAt: number = performance.now();
  #dueTimer: ReturnType<typeof setTimeout> | undefined;
  #deadlineTimer: ReturnType<typeof setTimeout> | undefined;
  #deadline = Infinity;
  #onIdle: (() => void) | undefined;

  /** Takes the worker's settings, the state that `onStartup` has filled, and who hears of failures. */
  constructor(
    settings: ResolvedSettings,
    state: Readonly<Record<string, unknown>>,
    onFailure?: JobLoop["onFailure"],
  ) {
    this.settings = settings;
    this.state = state;
    this.onFailure = onFailure;
    this.#store = settings.client.store;
  }

  /** How many jobs are running. */
  get ongoing(): number {
    return this.#active.size;
  }

  /** The store's time, epoch milliseconds; undefined until it has answered once. */
  get now(): number | undefined {
    return this.#clockOffset && performance.now() + this.#clockOffset;
  }

  /** Runs jobs; resolves when the loop was stopped, or in burst mode when the queue is empty. */
  async run(): Promise<void> {
    const { pollDelayMs, leaseMs } = this.settings;
    const ticks = setInterval(() => this.#tick(), pollDelayMs);
    const renewals = setInterval(() => this.#renew(), leaseMs / 3);
    using _reconnects = this.#store.onReconnect(() => this.#mayHoldUnknown = true);
    const listening = this.#listen();
    this.#turn();
    try {
      await this.#done.promise;
    } finally {
      clearInterval(ticks);
      clearInterval(renewals);
      clearTimeout(this.#dueTimer);
      clearTimeout(this.#deadlineTimer);
      this.#stopListening.abort();
      await listening;
    }
  }

  /**
   * Claims nothing more, lets jobs run for `waitMs`, then aborts them and gives their leases back.
   * Ends within `waitMs`, the grace, and the store's timeout.
   */
  async stop(waitMs: number): Promise<void> {
    this.#stopping = true;
    this.#askForTurn();
    await Promise.race([
      this.#done.promise,
      sleep(waitMs, this.#stopListening.signal).catch(() => {}),
    ]);
    for (const run of this.#active) this.#stopRun(run, "shutdown");
    this.#givingUp = true;
    this.#askForTurn();
    const limitMs = this.settings.abortGraceMs + SHUTDOWN_LIMIT_MS;
    await Promise.race([
      this.#done.promise,
      sleep(limitMs, this.#stopListening.signal).catch(() => {}),
    ]);
    this.#done.resolve();
  }

  /** Notes the time by which a run must end. */
  onDeadline(run: JobRun): void {
    if (run.deadline >= this.#deadline) return;
    this.#deadline = run.deadline;
    clearTimeout(this.#deadlineTimer);
    const delay = Math.min(run.deadline - performance.now(), LONGEST_TIMER_MS);
    this.#deadlineTimer = setTimeout(() => this.#enforceDeadlines(), Math.max(0, delay));
  }

  #enforceDeadlines(): void {
    const now = performance.now();
    this.#deadline = Infinity;
    for (const run of this.#active) {
      if (run.deadline <= now) {
        if (run.stopReason === undefined) run.stop("timeout", this.settings.abortGraceMs);
        else {
          log.abandoned(run);
          run.abandon();
        }
      }
      this.onDeadline(run);
    }
  }

  #stopRun(run: JobRun, reason: "abort" | "shutdown" | "lost"): void {
    run.stop(reason, this.settings.abortGraceMs);
    this.onDeadline(run);
  }

  /** Every `pollDelay`: the safety net for wake-ups, and the look at aborts. */
  #tick(): void {
    this.#mayHaveWork = true;
    if (this.settings.allowAbortJobs && this.#active.size > 0) void this.#findAborts();
    this.#turn();
  }

  #askForTurn(): void {
    if (this.#turnAsked) return;
    this.#turnAsked = true;
    setImmediate(() => {
      this.#turnAsked = false;
      this.#turn();
    });
  }

  #turn(): void {
    if (performance.now() - this.#renewedAt > this.settings.leaseMs / 2) this.#renew();
    if (this.#ended.length > 0) void this.#settle(this.#ended.splice(0));
    if (this.#mayHoldUnknown && this.#claiming === 0 && !this.#stopping) {
      void this.#releaseUnknown();
    }
    if (this.#shouldClaim()) void this.#claim(this.#claimSize());
    if (this.#isDone()) this.#done.resolve();
    else if (this.#isIdle()) this.#onIdle?.();
  }

  #isIdle(): boolean {
    return !this.#mayHaveWork && !this.#stopping && this.#room() > 0;
  }

  /** How many more jobs may be taken. */
  #room(): number {
    const { maxJobs, maxBurstJobs, burst } = this.settings;
    const free = maxJobs - this.#active.size - this.#claimed;
    const unrecorded = this.#held.size - this.#active.size;
    if (unrecorded >= 2 * maxJobs) return 0;
    return burst ? Math.min(free, maxBurstJobs - this.#started - this.#claimed) : free;
  }

  #shouldClaim(): boolean {
    return !this.#stopping && this.#mayHaveWork && !this.#mayHoldUnknown &&
      this.#claiming === 0 && this.#room() > 0;
  }

  /** With a backlog the slots are filled in halves, so that neither side waits for the other. */
  #claimSize(): number {
    const { maxJobs, queueReadLimit } = this.settings;
    const share = this.#hasBacklog ? Math.ceil(maxJobs / 2) : maxJobs;
    return Math.min(this.#room(), share, queueReadLimit);
  }

  async #claim(limit: number): Promise<void> {
    const wakeUps = this.#wakeUps;
    this.#claiming++;
    this.#claimed += limit;
    let reply: ClaimReply | undefined;
    try {
      reply = await this.#store.claim(
        this.settings.queueName,
        this.#holder,
        limit,
        this.settings.leaseMs,
      );
    } catch (error) {
      log.storeFailed("claim jobs", error);
      this.#mayHoldUnknown = true;
    }
    this.#claiming--;
    this.#claimed -= limit;
    if (!reply) {
      this.#mayHaveWork = false;
      this.#isEmpty = false;
      return;
    }
    this.#clockOffset = reply.now - performance.now();
    this.queued = reply.queued;
    this.#isEmpty = reply.queued === 0;
    this.#hasBacklog = reply.claims.length === limit;
    if (!this.#hasBacklog && wakeUps === this.#wakeUps) this.#mayHaveWork = false;
    if (reply.nextDueMs !== undefined) this.#awaken(reply.nextDueMs);
    this.#take(reply.claims.map((claim) => new JobRun(claim)));
  }

  /** Starts jobs; with a backlog the next claim is written first, so that the store works meanwhile. */
  #take(runs: readonly JobRun[]): void {
    this.#started += runs.length;
    for (const run of runs) {
      this.#held.set(run.claim.token, run);
      this.#active.add(run);
    }
    const start = () => {
      for (const run of runs) void this.#runJob(run);
      this.#askForTurn();
    };
    if (!this.#hasBacklog) return start();
    this.#turn();
    setImmediate(start);
  }

  /** Claims again when the next known job is due, if that is before the next tick. */
  #awaken(delayMs: number): void {
    if (delayMs >= this.settings.pollDelayMs) return;
    clearTimeout(this.#dueTimer);
    this.#dueTimer = setTimeout(() => {
      this.#mayHaveWork = true;
      this.#turn();
    }, delayMs);
  }

  async #runJob(run: JobRun): Promise<void> {
    const ended = this.#encodeEnd(run, await execute(run, this));
    const { outcome } = ended;
    this.#count(run, outcome);
    log.ended(run, outcome, this.settings.logResults);
    const { onJobEnd } = this.settings.hooks;
    const { ctx } = run;
    if (onJobEnd && ctx) {
      await callHook("onJobEnd", () => run.untilAbandoned(onJobEnd(ctx, outcome)));
    }
    this.#active.delete(run);
    this.#ended.push(ended);
    if (this.#active.size === 0) this.#turn();
    else this.#askForTurn();
  }

  #count(run: JobRun, outcome: JobOutcome): void {
    if (outcome.kind === "success") this.jobsComplete++;
    else if (outcome.kind === "failure" || outcome.kind === "aborted") {
      this.jobsFailed++;
      this.onFailure?.(run.claim.jobId, outcome.error);
    } else this.jobsRetried++;
  }

  /** Records how jobs ended; what the store did not take is kept for another attempt. */
  async #settle(ended: readonly Ended[]): Promise<void> {
    const { queueName } = this.settings;
    const ends = ended.filter(({ outcome }) => isEnd(outcome));
    const returned = ended.filter(({ outcome }) => isReturn(outcome));
    for (const { run, outcome } of ended) {
      if (outcome.kind === "lost") this.#held.delete(run.claim.token);
    }
    this.#settling++;
    await Promise.all([
      this.#record(
        ends,
        () => this.#store.finish(queueName, ends.map((end) => this.#finishOf(end))),
      ),
      this.#record(returned, () => this.#store.giveBack(queueName, returned.map(giveBackOf))),
    ]);
    this.#settling--;
    if (this.settings.burst && this.#active.size === 0) this.#mayHaveWork = true;
    this.#askForTurn();
  }

  async #record(ended: readonly Ended[], send: () => Promise<Settled[]>): Promise<void> {
    if (ended.length === 0) return;
    let settled: Settled[];
    try {
      settled = await send();
    } catch (error) {
      return await this.#keepForLater(ended, error);
    }
    const { afterJobEnd } = this.settings.hooks;
    for (const [i, { run, outcome }] of ended.entries()) {
      this.#held.delete(run.claim.token);
      log.settled(run, settled[i] ?? "refused");
      const { ctx } = run;
      if (afterJobEnd && ctx) {
        this.#afterwards++;
        void callHook("afterJobEnd", () => afterJobEnd(ctx as never, outcome)).then(() => {
          this.#afterwards--;
          this.#askForTurn();
        });
      }
    }
  }

  async #keepForLater(ended: readonly Ended[], error: unknown): Promise<void> {
    if (this.#givingUp) {
      log.unrecorded(ended.map(({ run }) => run), error);
      for (const { run } of ended) this.#held.delete(run.claim.token);
      return;
    }
    log.storeFailed("record results", error);
    await sleep(this.settings.pollDelayMs);
    this.#ended.push(...ended);
  }

  #finishOf({ run, outcome, record = NOTHING }: Ended): Finish {
    const { claim, fn } = run;
    const keepMs = fn?.keepMs ?? this.settings.keepResultMs;
    return {
      lease: claim,
      success: outcome.kind === "success",
      record,
      keepMs: fn?.isSlot && keepMs !== "forever" ? Math.max(keepMs, SLOT_LOCK_MS) : keepMs,
      lockTailMs: fn?.isSlot ? SLOT_LOCK_MS : 0,
    };
  }

  /** A result that cannot travel makes a failure of a success. */
  #encodeEnd(run: JobRun, outcome: JobOutcome): Ended {
    if (!isEnd(outcome)) return { run, outcome };
    const { queueName, client: { serializer } } = this.settings;
    const success = outcome.kind === "success";
    const record: ResultRecord = {
      ...run.record,
      t: run.jobTry,
      s: success,
      r: success ? outcome.value : (outcome as { readonly error?: unknown }).error,
      st: run.startMs,
      ft: Date.now(),
      q: queueName,
      id: run.claim.jobId,
    };
    try {
      return { run, outcome, record: encodeResult(record, serializer) };
    } catch (error) {
      const failed = { ...record, a: [], k: {}, s: false, r: error };
      return { run, outcome: { kind: "failure", error }, record: encodeAnyhow(failed, serializer) };
    }
  }

  async #renew(): Promise<void> {
    this.#renewedAt = performance.now();
    const runs = [...this.#held.values()];
    if (runs.length === 0) return;
    try {
      const leases = runs.map(({ claim }) => claim);
      const renewed = await this.#store.renew(
        this.settings.queueName,
        leases,
        this.settings.leaseMs,
      );
      for (const [i, run] of runs.entries()) {
        if (!renewed[i] && this.#active.has(run)) this.#stopRun(run, "lost");
      }
    } catch (error) {
      log.storeFailed("renew leases", error);
    }
  }

  async #findAborts(): Promise<void> {
    const runs = [...this.#active];
    try {
      const asked = await this.#store.findAborts(runs.map(({ claim }) => claim.jobId));
      for (const run of runs) {
        if (asked.has(run.claim.jobId) && this.#active.has(run)) this.#stopRun(run, "abort");
      }
    } catch (error) {
      log.storeFailed("look for aborts", error);
    }
  }

  /** After a lost reply, jobs may have been claimed that we never heard of. */
  async #releaseUnknown(): Promise<void> {
    this.#claiming++;
    try {
      const known = [...this.#held.values()].map(({ claim }) => claim);
      await this.#store.releaseUnknown(this.settings.queueName, this.#holder, known);
      this.#mayHoldUnknown = false;
    } catch (error) {
      log.storeFailed("hand back lost claims", error);
      await sleep(this.settings.pollDelayMs);
    }
    this.#claiming--;
    this.#askForTurn();
  }

  /** While idle, waits to be woken; a wake-up that finds no room is passed on to another worker. */
  async #listen(): Promise<void> {
    const { queueName, pollDelayMs } = this.settings;
    const { signal } = this.#stopListening;
    using line = this.#store.openWakeLine(queueName);
    const stopped = new Promise<false>((resolve) =>
      signal.addEventListener("abort", () => resolve(false), { once: true })
    );
    while (!signal.aborted) {
      if (!this.#isIdle()) {
        await Promise.race([stopped, new Promise<void>((resolve) => this.#onIdle = resolve)]);
      }
      try {
        const woken = !signal.aborted && await Promise.race([stopped, line.wait()]);
        if (woken && (this.#stopping || this.#room() <= 0)) await this.#store.wake(queueName);
        else if (woken) {
          this.#wakeUps++;
          this.#mayHaveWork = true;
          this.#turn();
        }
      } catch (error) {
        if (!signal.aborted) log.storeFailed("wait to be woken", error);
        await Promise.race([stopped, sleep(pollDelayMs)]);
      }
    }
  }

  #isDone(): boolean {
    const isAtRest = this.#active.size === 0 && this.#ended.length === 0 &&
      this.#settling === 0 && this.#claiming === 0 && this.#afterwards === 0;
    if (!isAtRest) return false;
    if (this.#stopping) return true;
    if (!this.settings.burst) return false;
    return this.#started >= this.settings.maxBurstJobs ||
      (!this.#mayHaveWork && this.#isEmpty);
  }
}

/** A job must end even if the program's own serializer can write nothing at all. */
function encodeAnyhow(record: ResultRecord, serializer: Serializer | undefined): Uint8Array {
  try {
    return encodeResult(record, serializer);
  } catch {
    return encodeResult(record);
  }
}

function isEnd({ kind }: JobOutcome): boolean {
  return kind === "success" || kind === "failure" || kind === "aborted";
}

function isReturn({ kind }: JobOutcome): boolean {
  return kind === "retry" || kind === "released";
}

function giveBackOf({ run, outcome }: Ended): GiveBack {
  return {
    lease: run.claim,
    kind: outcome.kind === "released" ? "release" : "retry",
    deferMs: outcome.kind === "retry" ? outcome.delayMs : undefined,
    starts: run.jobTry,
  };
}
