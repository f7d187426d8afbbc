import assert from "node:assert/strict";
import process from "node:process";
import { checkHealth, func, JobAborted, type JobContext, Worker } from "../mod.ts";
import type { GiveBack, Lease } from "../store.ts";
import { Gate, pause, scenarios, until } from "./_worker.ts";

const one = () => 1;

/** A function that waits at the gate and heeds its signal. */
function waitAt(gate: Gate): (ctx: JobContext) => Promise<string> {
  return async (ctx) => {
    await gate.pass(ctx.signal);
    return `try ${ctx.jobTry}`;
  };
}

scenarios("A worker that is told to stop", (scenario) => {
  scenario("ends at once when it is idle, by close or by its signal", async (scene) => {
    const { worker, ended } = scene.start({ functions: { one }, pollDelay: 30_000 });
    await scene.arq.call("one");
    const closedAt = performance.now();
    await worker.close();
    await ended;
    const stop = new AbortController();
    const took = [performance.now() - closedAt];
    const again = worker.run({ signal: stop.signal });
    await scene.arq.call("one");
    const stoppedAt = performance.now();
    stop.abort();
    await again;
    took.push(performance.now() - stoppedAt);
    assert.ok(Math.max(...took) < 3_000, `took ${took} ms`); // it was to be woken within five seconds
  });

  scenario("does not start with a signal that is aborted already", async (scene) => {
    const job = await scene.arq.enqueueJob("one");
    const worker = scene.worker({ functions: { one } });
    await worker.run({ signal: AbortSignal.abort() });
    assert.equal(await job.status(), "queued");
    await scene.burst({ functions: { one } });
  });

  scenario("may be closed before it ran, and twice", async (scene) => {
    const worker = scene.worker({ functions: { one } });
    await worker.close();
    await worker.close();
  });

  scenario("ends with a clear error when the owner of its pool closes that", async (scene) => {
    const gate = new Gate();
    let aborted = 0;
    const wait = async (ctx: JobContext) => {
      ctx.signal.addEventListener("abort", () => aborted++);
      await gate.pass(ctx.signal);
      return `try ${ctx.jobTry}`;
    };
    const functions = { wait };
    for (const isIdle of [true, false]) {
      const pool = await scene.pool();
      const worker = new Worker({ functions, connection: pool, lease: 300 });
      const ended = assert.rejects(worker.run(), {
        name: "QueueConnectionError",
        message:
          /^The pool on \S.* was closed while its worker was running; close the worker first$/,
      });
      await until(
        "its sign of life",
        async () => (await scene.keys()).includes("queue:health-check"),
      );
      if (!isIdle) await scene.arq.enqueueJob("wait", [], { jobId: "w" });
      if (!isIdle) await gate.reached();
      await pool.close();
      await ended;
      await scene.arq.store.removeHealth(`${scene.queueName}:health-check`);
    }
    assert.equal(aborted, 1);
    gate.open();
    const { worker } = scene.start({ functions, pollDelay: 50 });
    assert.equal(await scene.arq.job("w").result({ timeout: 10_000 }), "try 2");
    await worker.close();
  });

  scenario("ends with an error if its pool is closed already", async (scene) => {
    const pool = await scene.pool();
    await pool.close();
    const worker = new Worker({ functions: { one }, connection: pool });
    await assert.rejects(worker.run(), { name: "QueueConnectionError", message: / is closed$/ });
  });

  scenario("ends with an error if its pool is closed while it starts", async (scene) => {
    const pool = await scene.pool();
    const { store } = pool;
    const { writeHealth } = store;
    store.writeHealth = async (...sign) => {
      await writeHealth.apply(store, sign);
      await pool.close();
    };
    const worker = new Worker({ functions: { one }, connection: pool });
    await assert.rejects(worker.run(), { name: "QueueConnectionError", message: /was closed/ });
    await scene.arq.store.removeHealth(`${scene.queueName}:health-check`);
  });

  scenario(
    "aborts the running job and gives it back; the next worker starts it at once",
    async (scene) => {
      const gate = new Gate();
      let reason: unknown;
      const wait = async (ctx: JobContext) => {
        await gate.pass(ctx.signal).catch((error) => {
          reason = error;
          throw error;
        });
        return `try ${ctx.jobTry}`;
      };
      const first = scene.start({ functions: { wait } });
      const job = await scene.arq.enqueueJob("wait", [], { jobId: "x" });
      await gate.reached();
      await first.worker.close();
      assert.ok(reason instanceof JobAborted);
      assert.equal(await job?.status(), "queued");
      assert.equal(
        String(first.worker),
        "<Worker j_complete=0 j_failed=0 j_retried=1 j_ongoing=0>",
      );
      scene.start({ functions: { wait }, pollDelay: 30_000 });
      await gate.reached(2);
      gate.open();
      assert.equal(await job?.result({ timeout: 5_000 }), "try 2");
      await until("the keys", async () => String(await scene.keys()).includes("result:x"));
      assert.deepEqual(await scene.keys(), ["queue:health-check", "result:x"]);
    },
  );

  scenario("hands its job over to a worker that is idle", async (scene) => {
    const gate = new Gate();
    const functions = { wait: waitAt(gate) };
    const first = scene.start({ functions });
    const job = await scene.arq.enqueueJob("wait");
    await gate.reached();
    scene.start({ functions, pollDelay: 30_000 });
    await pause(50); // so that it waits to be woken
    void first.worker.close();
    await gate.reached(2);
    gate.open();
    assert.equal(await job.result({ timeout: 5_000 }), "try 2");
  });

  scenario("does not use up a job's tries, however often it happens", async (scene) => {
    const gate = new Gate();
    const functions = { wait: func(waitAt(gate), { maxTries: 1 }) };
    const job = await scene.arq.enqueueJob("wait");
    for (const start of [1, 2, 3]) {
      const { worker } = scene.start({ functions });
      await gate.reached(start);
      await worker.close();
    }
    gate.open();
    await scene.burst({ functions });
    assert.equal(await job.result(), "try 4");
  });

  scenario("fails the job instead where retryJobs is false", async (scene) => {
    const gate = new Gate();
    const { worker } = scene.start({ functions: { wait: waitAt(gate) }, retryJobs: false });
    const job = await scene.arq.enqueueJob("wait");
    await gate.reached();
    await worker.close();
    await assert.rejects(job.result(), JobAborted);
  });

  scenario("records a job that returns in spite of its signal", async (scene) => {
    const gate = new Gate();
    const stubborn = async (ctx: JobContext) => {
      await gate.pass(ctx.signal).catch(() => {});
      return "done";
    };
    const { worker } = scene.start({ functions: { stubborn } });
    const job = await scene.arq.enqueueJob("stubborn");
    await gate.reached();
    await worker.close();
    assert.equal(await job.result(), "done");
  });

  scenario("gives a job back whose function ignores its signal", async (scene) => {
    const gate = new Gate();
    const { worker } = scene.start({ functions: { deaf: () => gate.pass() }, abortGrace: 30 });
    const job = await scene.arq.enqueueJob("deaf");
    await gate.reached();
    const startedAt = performance.now();
    await worker.close();
    assert.ok(performance.now() - startedAt < 5_000);
    assert.equal(await job.status(), "queued");
    gate.open();
    await scene.burst({ functions: { deaf: one } });
  });

  scenario("lets jobs finish within jobCompletionWait and takes no more", async (scene) => {
    const gate = new Gate();
    const settings = { functions: { wait: waitAt(gate), one }, jobCompletionWait: { seconds: 20 } };
    const { worker, ended } = scene.start(settings);
    const job = await scene.arq.enqueueJob("wait");
    await gate.reached();
    void worker.close();
    const later = await scene.arq.enqueueJob("one");
    await pause(30); // time enough to take it
    assert.equal(await later.status(), "queued");
    assert.equal(await job.status(), "in_progress");
    gate.open();
    await ended;
    assert.equal(await job.result(), "try 1");
    await scene.burst(settings);
  });

  scenario("aborts what still runs after jobCompletionWait", async (scene) => {
    const gate = new Gate();
    const { worker } = scene.start({ functions: { wait: waitAt(gate) }, jobCompletionWait: 50 });
    const job = await scene.arq.enqueueJob("wait");
    await gate.reached();
    const startedAt = performance.now();
    await worker.close();
    const took = performance.now() - startedAt;
    assert.ok(took >= 45 && took < 5_000, `took ${took} ms`);
    assert.equal(await job.status(), "queued");
    gate.open();
    await scene.burst({ functions: { wait: waitAt(gate) } });
  });
});

scenarios("A lease", (scenario) => {
  scenario("that nobody renews ends, and another worker runs the job", async (scene) => {
    const job = await scene.arq.enqueueJob("tell");
    const { claims } = await scene.arq.store.claim(scene.queueName, {
      holder: "killed",
      limit: 1,
      leaseMs: 60_000,
    });
    assert.equal(claims.length, 1);
    assert.equal(await job.status(), "in_progress");
    assert.deepEqual(await scene.arq.store.renew(scene.queueName, claims, 150), [true]);
    scene.start({ functions: { tell: (ctx: JobContext) => ctx.jobTry }, pollDelay: 20 });
    assert.equal(await job.result({ timeout: 5_000 }), 2);
  });

  scenario("that ended puts its job ahead of the backlog", async (scene) => {
    const order: unknown[] = [];
    const note = (_ctx: JobContext, n: number) => void order.push(n);
    const base = Date.now() - 60_000;
    await scene.arq.enqueueJob("note", [0], { deferUntil: base + 50 });
    await scene.arq.store.claim(scene.queueName, { holder: "killed", limit: 1, leaseMs: 100 });
    for (const n of [1, 2, 3]) await scene.arq.enqueueJob("note", [n], { deferUntil: base + n });
    await pause(120); // the lease is over, by any clock
    await scene.burst({ functions: { note }, maxJobs: 1 });
    assert.equal(order[0], 0);
  });

  scenario(
    "that ended with the last try but one lets no other such job be begun beside its own",
    async (scene) => {
      const jobs = [await scene.arq.enqueueJob("suspect"), await scene.arq.enqueueJob("suspect")];
      for (let death = 1; death <= 2; death++) await scene.dieWithLease();
      const gate = new Gate();
      const functions = { suspect: waitAt(gate), one };
      const { worker } = scene.start({ functions, maxTries: 3, pollDelay: 20 });
      await gate.reached();
      assert.equal(await scene.arq.call("one", [], { timeout: 5_000 }), 1, "others are run");
      await pause(60); // three looks at the queue
      assert.equal(worker.jobsOngoing, 1);
      gate.open();
      for (const job of jobs) await job.result({ timeout: 5_000 });
    },
  );

  scenario(
    "that ended with the last try but one holds up others for no longer than a lease",
    async (scene) => {
      for (const _ of [1, 2]) await scene.arq.enqueueJob("suspect");
      for (let death = 1; death <= 2; death++) await scene.dieWithLease();
      const gate = new Gate();
      const functions = { suspect: waitAt(gate) };
      scene.start({ functions, maxTries: 3, pollDelay: 20, lease: 200 });
      await gate.reached(2);
      gate.open();
    },
  );

  scenario(
    "that ended with the last try but one puts its job ahead of a backlog of short ones",
    async (scene) => {
      const { queueName, arq } = scene;
      const orphan = await arq.enqueueJob("orphan");
      const { claims } = await arq.store.claim(queueName, {
        holder: "dead",
        limit: 1,
        leaseMs: 60_000,
      });
      const MANY = 5_000;
      let begun = 0;
      let ranAfter: number | undefined;
      const functions = {
        // There is always a backlog, until the orphan has run or too many others have.
        short: async () => {
          begun++;
          if (begun === 500) await arq.store.renew(queueName, claims, 1);
          if (ranAfter === undefined && begun < MANY) await arq.enqueueJob("short");
        },
        orphan: () => ranAfter = begun,
      };
      await arq.enqueueJobs(Array.from({ length: 200 }, () => ({ name: "short" })));
      await scene.burst({ functions, connection: arq, maxTries: 2, keepResult: 0 });
      assert.ok(ranAfter !== undefined && ranAfter < MANY, `it ran after ${ranAfter} others`);
      assert.equal(await orphan.status(), "not_found");
    },
  );

  scenario("is kept for a job that takes longer", async (scene) => {
    let runs = 0;
    const slow = async () => {
      runs++;
      await pause(1_500);
      return "slow";
    };
    const functions = { slow };
    // On a busy machine a shorter lease may end between two renewals.
    scene.start({ functions, lease: 1_000, pollDelay: 20 });
    scene.start({ functions, lease: 1_000, pollDelay: 20 });
    assert.equal(await scene.arq.call("slow", [], { timeout: 10_000 }), "slow");
    assert.equal(runs, 1);
  });

  scenario("that is lost aborts the signal; the other worker's end counts", async (scene) => {
    const gate = new Gate();
    let reason: unknown;
    const wait = async (ctx: JobContext) => {
      await gate.pass(ctx.signal).catch((error) => {
        reason = error;
        throw error;
      });
    };
    const { worker } = scene.start({ functions: { wait }, lease: 600, maxJobs: 1 });
    const job = await scene.arq.enqueueJob("wait");
    await gate.reached();
    const stolen = await scene.stealLeases();
    await until("the signal", () => reason !== undefined);
    assert.match(String(reason), /lost its lease/);
    await until("the count", () => worker.jobsRetried === 1);
    await worker.close();
    assert.equal(await job.status(), "in_progress", "it is the other worker's");
    await scene.arq.store.giveBack(scene.queueName, stolen.map(release));
    await scene.burst({ functions: { wait: () => "by another" } });
    assert.equal(await job.result(), "by another");
  });

  scenario("that is lost makes a failure void, but no success", async (scene) => {
    const gate = new Gate();
    const functions = {
      good: () => gate.pass().then(() => "done"),
      bad: () => gate.pass().then(() => Promise.reject(new Error("late"))),
    };
    // It takes neither again while both are stolen.
    const { worker } = scene.start({ functions, pollDelay: 60_000 });
    const good = await scene.arq.enqueueJob("good");
    const bad = await scene.arq.enqueueJob("bad");
    await gate.reached(2);
    const stolen = await scene.stealLeases();
    gate.open();
    assert.equal(await good.result({ timeout: 5_000 }), "done");
    await worker.close();
    assert.equal(await bad.status(), "in_progress");
    await scene.arq.store.giveBack(scene.queueName, stolen.map(release));
    await scene.burst({ functions: { bad: () => "by another" } });
    assert.equal(await bad.result(), "by another");
    assert.equal(await good.result(), "done");
  });
});

/** Hands a stolen job back, as a worker that shuts down does. */
function release(lease: Lease): GiveBack {
  return { lease, kind: "release", starts: 1 };
}

scenarios("A health check", (scenario) => {
  scenario("finds the sign of life of a worker, and none after its end", async (scene) => {
    const { connection, prefix } = scene;
    const settings = { functions: { one }, connection, prefix };
    assert.equal(await checkHealth(settings), undefined);
    const { worker } = scene.start({ functions: { one }, healthCheckInterval: { seconds: 20 } });
    await until("the sign of life", async () => await checkHealth(settings) !== undefined);
    assert.match(
      await checkHealth(settings) ?? "",
      /^[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d j_complete=0 j_failed=0 j_retried=0 j_ongoing=0 queued=0$/,
    );
    const ttl = await scene.timeToLive("queue:health-check") ?? 0;
    assert.ok(ttl > 18_000 && ttl <= 21_000, `${ttl} ms`);
    await worker.close();
    assert.equal(await checkHealth(settings), undefined);
  });

  scenario("tells what the worker has done", async (scene) => {
    const { connection, prefix } = scene;
    const healthCheckKey = `${prefix}alive`;
    const settings = { functions: { one }, connection, prefix, healthCheckKey };
    scene.start({ functions: { one }, healthCheckKey, healthCheckInterval: 20, pollDelay: 20 });
    await scene.arq.call("one");
    await scene.arq.enqueueJob("one", [], { jobId: "later", deferBy: { hours: 1 } });
    await until(
      "the counts",
      async () =>
        /j_complete=1 j_failed=0 j_retried=0 j_ongoing=0 queued=1$/.test(
          await checkHealth(settings) ?? "",
        ),
    );
    await scene.arq.job("later").abort();
  });

  scenario("needs no functions", async (scene) => {
    const { connection, prefix } = scene;
    assert.equal(await checkHealth({ connection, prefix }), undefined);
    scene.start({ functions: { one } });
    await until(
      "the sign of life",
      async () => await checkHealth({ connection, prefix }) !== undefined,
    );
  });

  scenario("is written by a burst, too", async (scene) => {
    const { connection, prefix } = scene;
    let seen: string | undefined;
    const look = async () =>
      void (seen = await checkHealth({ functions: { one }, connection, prefix }));
    await scene.arq.enqueueJob("look");
    await scene.burst({ functions: { look } });
    assert.match(seen ?? "", /queued=/);
  });

  scenario("uses the time zone of the settings", async (scene) => {
    const { connection, prefix } = scene;
    for (const timezone of ["Asia/Tokyo", "America/New_York"]) {
      const { worker } = scene.start({ functions: { one }, timezone });
      const settings = { functions: { one }, connection, prefix };
      await until("the sign of life", async () => await checkHealth(settings) !== undefined);
      const text = await checkHealth(settings) ?? "";
      const near = [-10_000, 0, 1_000].map((ms) =>
        new Intl.DateTimeFormat("en-GB", {
          timeZone: timezone,
          hour: "2-digit",
          minute: "2-digit",
        }).format(Date.now() + ms)
      );
      assert.ok(near.some((time) => text.includes(` ${time}:`)), text);
      await worker.close();
    }
  });
});

scenarios("A worker in a bigger program", (scenario) => {
  scenario("registers no signal handlers unless asked to", async (scene) => {
    const listeners = () => process.listenerCount("SIGTERM");
    const before = listeners();
    scene.start({ functions: { one } });
    await scene.arq.call("one");
    assert.equal(listeners(), before);
  });
});
