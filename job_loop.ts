/**
 * The worker's engine: claims jobs, runs them, and records how they ended.
 *
 * Everything that happens (a job ends, a wake-up, a timer) only notes what is to be done and takes
 * a *turn*. While jobs are running a turn comes once the event loop is free, so that the ends of
 * many jobs and the next claim travel in one write.
 * @module
 */
import { QueueConnectionError } from "./errors.ts";
import { callHook, execute, type Executor } from "./execution.ts";
import { ClaimHolders } from "./claim_holders.ts";
import type { JobOutcome } from "./functions.ts";
import { HeldJobs } from "./held_jobs.ts";
import type { Isolation } from "./isolation.ts";
import { type Ended, JobRecorder, OUTCOMES } from "./job_recorder.ts";
import { JobRun } from "./job_run.ts";
import { ProgressReporter } from "./progress_reporter.ts";
import { QueueOutlook } from "./queue_outlook.ts";
import { UNREADABLE } from "./serializer.ts";
import { atMost } from "./sleep.ts";
import type { ClaimReply, ClaimRequest, Store } from "./store.ts";
import { within } from "./telemetry.ts";
import { Tally } from "./tally.ts";
import { type Sleeper, WakeListener } from "./wake_listener.ts";
import { type Counters, log } from "./worker_log.ts";
import type { ResolvedSettings } from "./worker_settings.ts";

/** How long a worker that ends waits for its last claim to be called off. */
const DISARM_MS = 1_000;
/** Whatever hangs (a hook, the store), the loop ends this long after the grace of its jobs. */
const SHUTDOWN_LIMIT_MS = 15_000;

/**
 * - `running`: claims jobs and runs them; a stop makes it `draining`.
 * - `draining`: claims nothing, lets jobs run; `ending` once they had their time.
 * - `ending`: jobs were told to stop; what cannot be recorded now is given up.
 */
type Phase = "running" | "draining" | "ending";

/**
 * The claim that a wake-up is to make by itself.
 *
 * - `none`: a wake-up only tells.
 * - `armed`: the next wake-up takes a job; its reply makes it `none` again.
 * - `disarmed`: the loop ends, and the store was told that no wake-up takes anything any more; one may
 *   have come before.
 */
type WakeUpClaim = "none" | "armed" | "disarmed";

/**
 * Runs the jobs of one queue until it is stopped.
 *
 * What is to be done next follows from the phase, from what is known of the queue, from the jobs in
 * its hands, and from what the store was asked for: one claim, or look for lost ones, at a time, and
 * beside that the claim of a wake-up.
 */
export class JobLoop implements Executor, Counters, Sleeper {
  readonly settings: ResolvedSettings;
  readonly state: Readonly<Record<string, unknown>>;
  readonly isolation: Isolation | undefined;
  jobsComplete = 0;
  jobsFailed = 0;
  jobsRetried = 0;
  /** What ended, for operators. */
  readonly tally: Tally = new Tally();
  /** Called for each job that fails for good. */
  readonly onFailure: ((jobId: string, error: unknown) => void) | undefined;
  readonly #store: Store;
  readonly #queue: QueueOutlook;
  readonly #holders: ClaimHolders;
  readonly #jobs: HeldJobs;
  readonly #recorder: JobRecorder;
  readonly #reporter: ProgressReporter;
  #listener: WakeListener | undefined;
  /** Resolves when there is nothing left to do, or no time for it. */
  readonly #done = Promise.withResolvers<void>();
  /** Aborts after that, so that nothing pauses any more. */
  readonly #ended = new AbortController();
  #phase: Phase = "running";
  #failure: QueueConnectionError | undefined;
  #started = 0;
  #turnAsked = false;
  /** Whether a claim of the loop's own, or a look for lost claims, is under way. */
  #isAsking = false;
  #wakeUpClaim: WakeUpClaim = "none";
  /** How many jobs the claims that are under way may bring, that of a wake-up among them. */
  #claimed = 0;
  /** Whether nothing is taken ahead until a claim has found a free slot, as suspects need one. */
  #needsSlot = false;

  /** Takes the worker's settings and processes, the state that `onStartup` has filled, and who hears of failures. */
  constructor(
    settings: ResolvedSettings,
    isolation: Isolation | undefined,
    state: Readonly<Record<string, unknown>>,
    onFailure?: JobLoop["onFailure"],
  ) {
    this.settings = settings;
    this.isolation = isolation;
    this.state = state;
    this.onFailure = onFailure;
    this.#store = settings.client.store;
    this.#queue = new QueueOutlook(settings.pollDelayMs, () => this.#turn());
    this.#holders = new ClaimHolders(settings);
    this.#jobs = new HeldJobs(settings, () => this.#fill());
    this.#recorder = new JobRecorder(settings, {
      onGone: (run) => this.#jobs.remove(run),
      onRecorded: () => this.#onRecorded(),
    });
    this.#reporter = new ProgressReporter(settings);
  }

  /** The jobs that are running, the longest first. */
  get runs(): readonly JobRun[] {
    return this.#jobs.runs;
  }

  /** Grows with each job that starts or ends. */
  get events(): number {
    return this.#started + this.jobsComplete + this.jobsFailed + this.jobsRetried;
  }

  /** How many jobs are running. */
  get ongoing(): number {
    return this.#jobs.running;
  }

  /** How many jobs the queue holds, as of the last claim. */
  get queued(): number {
    return this.#queue.queued;
  }

  /** The store's time, epoch milliseconds; undefined until it has answered once. */
  get now(): number | undefined {
    return this.#queue.now;
  }

  /**
   * Runs jobs; resolves when the loop was stopped, or in burst mode when the queue is empty.
   *
   * @throws {QueueConnectionError} if the store's owner closes it meanwhile.
   */
  async run(): Promise<void> {
    const { pollDelayMs, leaseMs } = this.settings;
    const ticks = setInterval(() => this.#tick(), pollDelayMs);
    const renewals = setInterval(() => this.#jobs.renew(), leaseMs / 3);
    using _reconnects = this.#store.onReconnect(() => {
      this.#holders.doubt(this.#holders.own);
      this.#recorder.retry();
      this.onGap();
    });
    using _closing = this.#store.onClose(() => this.#onClose());
    using _jobs = this.#jobs;
    using _recorder = this.#recorder;
    using _reporter = this.#reporter;
    using listener = new WakeListener(this.#store.openWakeLine(this.settings.queueName), this);
    this.#listener = listener;
    void listener.run();
    if (!this.#store.isOpen) this.#onClose(); // Nobody was listening yet.
    this.#turn();
    try {
      await this.#done.promise;
    } finally {
      clearInterval(ticks);
      clearInterval(renewals);
      this.#queue[Symbol.dispose]();
      this.#ended.abort();
    }
    listener[Symbol.dispose]();
    if (this.#wakeUpClaim !== "none") this.#holders.doubt(this.#holders.ofWakeUp);
    if (this.#holders.anyDoubted && !this.#failure) await this.#releaseUnknown();
    if (this.#failure) throw this.#failure;
  }

  /**
   * Claims nothing more, lets jobs run for `waitMs`, then aborts them and releases their leases.
   * Ends within `waitMs`, the grace, and a few seconds; with a lost store, within its timeout.
   */
  async stop(waitMs: number): Promise<void> {
    this.#phase = "draining";
    this.#giveBack(this.#jobs.takeWaiting());
    this.#askForTurn();
    // What is given back must not come to us again by a wake-up.
    await Promise.all([atMost(waitMs, this.#done.promise), atMost(DISARM_MS, this.#disarm())]);
    this.#phase = "ending";
    this.#jobs.stopAll();
    this.#recorder.close();
    this.#askForTurn();
    await atMost(this.settings.abortGraceMs + SHUTDOWN_LIMIT_MS, this.#done.promise);
    this.#done.resolve();
  }

  /** Notes the time by which a run must end. */
  onDeadline(run: JobRun): void {
    this.#jobs.onDeadline(run);
  }

  /** Takes what a function tells of its progress, until its end is to be recorded. */
  onProgress(run: JobRun, value: unknown): void {
    if (run.phase === "running") this.#reporter.report(run, value);
  }

  /** Whether there is room for a job, and none is known of. */
  isIdle(): boolean {
    return !this.#queue.mayHaveWork && this.#phase === "running" && this.#room() > 0;
  }

  /**
   * A wake-up brings a job with it; what else is due is claimed after that. It counts as taken
   * meanwhile, so that a worker with a single slot, which must also poll, has none to give.
   */
  prepareClaim(): ClaimRequest | undefined {
    if (this.settings.burst || this.#room() < 2) return undefined;
    this.#claimed++;
    this.#wakeUpClaim = "armed";
    const { suspects } = this.#jobs;
    return {
      holder: this.#holders.nextWakeUp(),
      limit: 1,
      leaseMs: this.settings.leaseMs,
      // Another may run here by the time of the wake-up: suspects are left to the looks.
      suspects: suspects && { ...suspects, mayTake: false },
    };
  }

  /** What came of such a wake-up's claim. */
  onClaimed(reply: ClaimReply | "none" | "unknown"): void {
    this.#claimed--;
    if (this.#wakeUpClaim === "armed") this.#wakeUpClaim = "none";
    if (reply === "unknown") {
      this.#holders.doubt(this.#holders.ofWakeUp);
      this.#askForTurn();
    } else if (reply !== "none") {
      this.#queue.noteReply(reply);
      this.#onClaims(reply);
      // The wake-up may have been for a job that is due when we have left.
      if (this.#phase !== "running") void this.#wakeAny();
    }
  }

  /** A wake-up that finds no room is passed on to another worker. */
  async onWake(): Promise<void> {
    if (this.#phase !== "running" || this.#room() <= 0) {
      return await this.#store.wake(this.settings.queueName);
    }
    this.#queue.noteWakeUp();
    this.#turn();
  }

  /** A wake-up waits for some seconds, after which the job is found by a look only. */
  onGap(): void {
    this.#queue.noteWakeUp();
    this.#askForTurn();
  }

  async #disarm(): Promise<void> {
    if (this.#wakeUpClaim !== "armed") return;
    this.#wakeUpClaim = "disarmed";
    try {
      await this.#listener?.disarm(this.#holders.ofWakeUp);
    } catch (error) {
      log.storeFailed("stop claiming", error);
    }
  }

  /** Nothing can be claimed, renewed or recorded any more; what runs will be run again. */
  #onClose(): void {
    if (this.#phase === "running") {
      const message =
        `The pool on ${this.#store.address} was closed while its worker was running; ` +
        "close the worker first";
      this.#failure = new QueueConnectionError(message);
    }
    this.#listener?.[Symbol.dispose]();
    void this.stop(0);
  }

  /** Every `pollDelay`: the safety net for wake-ups and suspects, and the look at aborts. */
  #tick(): void {
    this.#queue.mayHaveWork = true;
    this.#needsSlot = this.#jobs.suspects !== undefined;
    if (this.settings.allowAbortJobs) void this.#jobs.stopAborted();
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
    this.#jobs.renewIfLate();
    this.#recorder.flush();
    if (this.#holders.anyDoubted && !this.#isAsking && this.#phase === "running") {
      void this.#releaseUnknown();
    }
    if (this.#shouldClaim()) {
      if (this.#room() > 0) {
        void this.#claim(this.#claimSize());
        this.#needsSlot = false;
      } else if (this.#isLastSlotArmed()) {
        // Work that came without a wake-up, a deferred job for example, must not wait for the next one.
        this.#queue.mayHaveWork = false;
        void this.#wakeAny();
      }
    }
    if (this.#isDone()) this.#done.resolve();
    else if (this.isIdle()) this.#listener?.notify();
  }

  /** How many jobs may be in hand: as many as there are slots, with a backlog of short ones some more. */
  get #capacity(): number {
    const isAhead = this.#queue.hasBacklog && !this.#needsSlot;
    return this.settings.maxJobs + (isAhead ? this.#jobs.ahead : 0);
  }

  /** How many more jobs may be taken. */
  #room(): number {
    const { maxBurstJobs, burst } = this.settings;
    const free = this.#capacity - this.ongoing - this.#jobs.waiting - this.#claimed;
    if (this.#jobs.unrecorded >= 2 * this.#capacity) return 0;
    const begun = this.#started + this.#jobs.waiting + this.#claimed;
    return burst ? Math.min(free, maxBurstJobs - begun) : free;
  }

  /** Whether there may be work, and nothing is in the way of asking for it. */
  #shouldClaim(): boolean {
    return this.#phase === "running" && this.#queue.mayHaveWork && !this.#holders.anyDoubted &&
      !this.#isAsking;
  }

  /** Whether the one free slot is kept for a wake-up. */
  #isLastSlotArmed(): boolean {
    return this.#wakeUpClaim === "armed" && this.ongoing + this.#claimed === this.settings.maxJobs;
  }

  /** Wakes a worker of the queue, this one or another. */
  async #wakeAny(): Promise<void> {
    try {
      await this.#store.wake(this.settings.queueName);
    } catch (error) {
      log.storeFailed("claim jobs", error);
    }
  }

  /** With a backlog a worker takes half of what it may have, so that neither side waits for the other. */
  #claimSize(): number {
    const { queueReadLimit } = this.settings;
    const share = this.#queue.hasBacklog ? Math.ceil(this.#capacity / 2) : this.#capacity;
    return Math.min(this.#room(), share, queueReadLimit);
  }

  async #claim(limit: number): Promise<void> {
    this.#queue.beginClaim();
    this.#isAsking = true;
    this.#claimed += limit;
    let reply: ClaimReply | undefined;
    try {
      const { queueName, leaseMs } = this.settings;
      const { suspects } = this.#jobs;
      const request = { holder: this.#holders.own, limit, leaseMs, suspects };
      reply = await this.#store.claim(queueName, request);
    } catch (error) {
      log.storeFailed("claim jobs", error);
      this.#holders.doubt(this.#holders.own);
    }
    this.#isAsking = false;
    this.#claimed -= limit;
    this.#queue.endClaim(reply);
    if (reply?.wasRepeated) this.#holders.doubt(this.#holders.own);
    if (reply) this.#onClaims(reply);
  }

  /** Runs what was claimed, or goes on with it where it is in our hands already. */
  #onClaims({ claims, now }: ClaimReply): void {
    const others = claims.filter((claim) => claim.starts === 1 || !this.#jobs.adopt(claim));
    if (others.length < claims.length) void this.#jobs.renew(); // Tells which claim it is.
    this.#take(others.map((claim) => new JobRun(claim, now)));
  }

  /** Takes jobs; with a backlog the next claim is written first, so that the store works meanwhile. */
  #take(runs: readonly JobRun[]): void {
    for (const run of runs) this.#jobs.add(run);
    if (!this.#queue.hasBacklog) return this.#fill();
    this.#turn();
    setImmediate(() => this.#fill());
  }

  /** Starts jobs in all free slots; those go back that wait for too long, or for a stop. */
  #fill(): void {
    const isStopping = this.#phase !== "running";
    this.#giveBack(isStopping ? this.#jobs.takeWaiting() : this.#jobs.takeBlocked());
    while (this.ongoing < this.settings.maxJobs) {
      const run = this.#jobs.begin();
      if (run === undefined) break;
      this.#started++;
      void this.#runJob(run);
    }
    this.#jobs.watchWaiting();
    this.#askForTurn();
  }

  /** Gives jobs back to the queue that were taken and did not run. */
  #giveBack(runs: readonly JobRun[]): void {
    for (const run of runs) this.#settle({ run, outcome: { kind: "released" } });
    if (runs.length > 0) this.#turnSoon();
  }

  async #runJob(run: JobRun): Promise<void> {
    const ended = this.#recorder.encode(run, await execute(run, this));
    const { outcome } = ended;
    run.hasSucceeded = outcome.kind === "success";
    run.telemetry?.end(outcome);
    this.#count(run, outcome);
    log.ended(run, outcome, this.settings.logResults);
    const { onJobEnd } = this.settings.hooks;
    const { ctx } = run;
    if (onJobEnd && ctx) {
      const end = () => onJobEnd(ctx, Object.freeze(outcome)); // It is recorded as it is.
      await callHook("onJobEnd", () => run.untilAbandoned(within(run.telemetry, end)));
    }
    if (this.#reporter.isTelling(run)) await this.#reporter.settle(run);
    this.#settle(ended);
    if (this.#jobs.waiting > 0) this.#fill();
    this.#turnSoon();
  }

  #settle(ended: Ended): void {
    this.#jobs.end(ended.run);
    if (ended.run.claim.isSuspect) this.#queue.mayHaveWork = true; // another may be taken now
    this.#recorder.add(ended);
  }

  /** Where nothing runs there is nothing to wait for. */
  #turnSoon(): void {
    if (this.ongoing === 0) this.#turn();
    else this.#askForTurn();
  }

  #onRecorded(): void {
    if (this.settings.burst && this.ongoing === 0) this.#queue.mayHaveWork = true;
    this.#askForTurn();
  }

  #count(run: JobRun, outcome: JobOutcome): void {
    const end = OUTCOMES[outcome.kind];
    // Names come from whoever enqueues: those that nobody has registered are counted as one.
    const name = run.fn ? run.record.f : UNREADABLE.f;
    if (end) this.tally.add(name, end, performance.now() - run.since, run.waitedMs);
    if (outcome.kind === "success") this.jobsComplete++;
    else if (outcome.kind === "failure" || outcome.kind === "aborted") {
      this.jobsFailed++;
      this.onFailure?.(run.claim.jobId, outcome.error);
    } else this.jobsRetried++;
  }

  /** After a lost reply, jobs may have been claimed that we never heard of. */
  async #releaseUnknown(): Promise<void> {
    this.#isAsking = true;
    const disarm = (holder: string) => this.#listener?.disarm(holder);
    await this.#holders.releaseUnknown(this.#jobs.claims, disarm, this.#ended.signal);
    this.#isAsking = false;
    this.#askForTurn();
  }

  #isDone(): boolean {
    if (this.ongoing + this.#jobs.waiting > 0 || this.#isAsking || !this.#recorder.isAtRest) {
      return false;
    }
    if (this.#phase !== "running") return true;
    if (!this.settings.burst) return false;
    return this.#started >= this.settings.maxBurstJobs || this.#queue.isEmpty;
  }
}
