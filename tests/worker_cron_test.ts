import assert from "node:assert/strict";
import { CronScheduler } from "../cron_scheduler.ts";
import { cron, type CronJob, type JobContext, Retry } from "../mod.ts";
import { resolveSettings } from "../worker_settings.ts";
import { Gate, scenarios, type Scene, until } from "./_worker.ts";

const EVERY_SECOND = "* * * * * *";

/** A cron job every second that notes the slots it runs in, by their due time. */
function noting(options: Parameters<typeof cron>[2] & { readonly millisecond?: number } = {}): {
  readonly job: CronJob<unknown>;
  readonly slots: number[];
  readonly ids: string[];
} {
  const slots: number[] = [];
  const ids: string[] = [];
  function note(ctx: JobContext): void { // a constant's function would have no name under Bun
    slots.push(ctx.score);
    ids.push(ctx.jobId);
  }
  return { job: cron(note, EVERY_SECOND, options), slots, ids };
}

/** A schedule whose only slot of the day has just passed, so that it does not come by itself. */
function notNow(): { hour: number; minute: number; timezone: string } {
  const { hour } = Temporal.Now.zonedDateTimeISO("UTC");
  return { hour: (hour + 12) % 24, minute: 0, timezone: "UTC" };
}

async function waitForSlots(slots: readonly number[], count: number): Promise<void> {
  await until(`${count} slots`, () => slots.length >= count);
}

function ends(scene: Scene): Promise<string[]> {
  return scene.keys().then((keys) =>
    keys.filter((key) => key !== "queue:health-check" && !key.startsWith("result:"))
  );
}

scenarios("A cron job", (scenario) => {
  scenario("runs on its slot, at millisecond 123, under Python's name and id", async (scene) => {
    const { job, slots, ids } = noting();
    const late: number[] = [];
    const onJobStart = ({ score }: JobContext) => void late.push(Date.now() - score);
    scene.start({ cronJobs: [job], onJobStart, pollDelay: 30_000 });
    await waitForSlots(slots, 2);
    const [first = 0, second = 0] = slots;
    assert.equal(first % 1_000, 123);
    assert.equal(second - first, 1_000);
    assert.deepEqual(ids.slice(0, 2), [`cron:note:${first}`, `cron:note:${second}`]);
    await until("one on time, on a busy machine", () => late.some((ms) => ms < 200));
    assert.ok(late.every((ms) => ms >= -20), `${late} ms late`);
    await tidy(scene);
  });

  scenario("runs once per slot, however many workers there are", async (scene) => {
    const { job, slots } = noting();
    for (const _ of [1, 2, 3]) scene.start({ cronJobs: [job] });
    await waitForSlots(slots, 2);
    assert.equal(new Set(slots).size, slots.length);
    await tidy(scene);
  });

  scenario(
    "runs once per slot in each queue, also of those with one of its name",
    async (scene) => {
      const queues = [noting(), noting(), noting({ jobId: "only" }), noting({ jobId: "other" })];
      for (const [i, { job }] of queues.entries()) {
        const queueName = `${scene.prefix}other${i}`;
        for (const _ of [1, 2]) scene.start({ cronJobs: [job], queueName });
      }
      for (const { slots } of queues) await waitForSlots(slots, 3);
      for (const { slots } of queues) assert.equal(new Set(slots).size, slots.length);
      await tidy(scene);
    },
  );

  scenario(
    "runs in its queue when it has run in another, and not again where it has",
    async (scene) => {
      const slot = Math.floor(Date.now() / 1_000) * 1_000 - 1_877; // the last but one
      const { job } = noting();
      const id = `cron:note:${slot}`;
      const enqueueIn = async (name: string, connection = scene.arq) => {
        const queueName = scene.prefix + name;
        const cronJobs = [job] as CronJob<never>[];
        const settings = resolveSettings({ cronJobs, connection, queueName });
        await new CronScheduler(settings).enqueueSlots(slot - 500);
        const entries = await scene.arq.store.queueEntries(queueName);
        return entries.map(({ jobId }) => jobId);
      };
      assert.deepEqual(await enqueueIn("other"), [id]);
      await scene.burst({ cronJobs: [job], queueName: `${scene.prefix}other` });
      assert.deepEqual(await enqueueIn("other"), []);
      assert.deepEqual(await enqueueIn("queue"), [`${id}:${scene.queueName}`]);
      const stranger = await scene.pool({
        jobSerializer: (record) => new TextEncoder().encode(JSON.stringify(record)),
        jobDeserializer: (bytes) => JSON.parse(new TextDecoder().decode(bytes)),
      });
      assert.deepEqual(await enqueueIn("third", stranger), [`${id}:${scene.prefix}third`]);
      await tidy(scene);
    },
  );

  scenario("runs once per worker if it is not unique", async (scene) => {
    const { job, slots } = noting({ unique: false });
    for (const _ of [1, 2, 3]) scene.start({ cronJobs: [job] });
    const runsOf = (slot: number) => slots.filter((other) => other === slot).length;
    await until("a slot in all workers", () => slots.some((slot) => runsOf(slot) === 3));
    assert.ok(slots.every((slot) => runsOf(slot) <= 3));
    await tidy(scene);
  });

  scenario("runs at the start, too, if it says so; in a burst as well", async (scene) => {
    let runs = 0;
    const count = () => void runs++;
    const worker = await scene.burst({
      cronJobs: [cron(count, { ...notNow(), runAtStartup: true })],
    });
    assert.equal(worker.jobsComplete, 1);
    assert.equal(runs, 1);
    await tidy(scene);
  });

  scenario("does not run at the start by default", async (scene) => {
    let runs = 0;
    await scene.burst({ cronJobs: [cron(() => void runs++, { ...notNow(), name: "count" })] });
    assert.equal(runs, 0);
  });

  scenario("keeps its slot locked for a minute, and its result as long at least", async (scene) => {
    const run = cron(() => {}, { ...notNow(), name: "run", runAtStartup: true });
    await scene.burst({ cronJobs: [run] });
    const [lock = "", result = ""] = await scene.keys();
    assert.match(lock, /^in-progress:run:\d+$/);
    assert.match(result, /^result:run:\d+$/);
    for (const key of [lock, result]) {
      const ttl = await scene.timeToLive(key) ?? 0;
      assert.ok(ttl > 55_000 && ttl <= 60_000, `${key} for ${ttl} ms`);
    }
    scene.leaves(lock);
  });

  scenario("keeps its result longer if it says so", async (scene) => {
    const options = { ...notNow(), runAtStartup: true, name: "run", keepResult: { minutes: 5 } };
    await scene.burst({ cronJobs: [cron(() => {}, options)] });
    const result = (await scene.keys()).find((key) => key.startsWith("result:")) ?? "";
    const ttl = await scene.timeToLive(result) ?? 0;
    assert.ok(ttl > 295_000 && ttl <= 300_000, `${ttl} ms`);
    await tidy(scene);
  });

  scenario("is refused a slot that has run, while it is locked", async (scene) => {
    const { job, slots, ids } = noting();
    scene.start({ cronJobs: [job] });
    await waitForSlots(slots, 1);
    const [jobId = "", deferUntil = 0] = [ids[0], slots[0]];
    await until("its end", async () => await scene.arq.job(jobId).status() === "complete");
    assert.equal(await scene.arq.enqueueScheduled("cron:note", { deferUntil }, jobId), false);
    await tidy(scene);
  });

  scenario("is refused a slot that is over a minute late", async (scene) => {
    const now = Date.now();
    const enqueue = (deferUntil: number) =>
      scene.arq.enqueueScheduled("cron:note", { deferUntil }, `cron:note:${deferUntil}`);
    assert.equal(await enqueue(now - 61_000), false);
    assert.equal(await enqueue(now - 55_000), true, "a little late is better than never");
    assert.equal(await enqueue(now - 55_000), false, "once");
    const worker = await scene.burst({
      cronJobs: [cron(() => {}, { ...notNow(), name: "cron:note" })],
    });
    assert.equal(worker.jobsComplete, 1);
    await tidy(scene);
  });

  scenario("is left out where it is over a minute late, unique or not", async (scene) => {
    const hour = 3_600_000;
    const slot = Date.UTC(2030, 0, 1, 9) + 123;
    const job = cron(() => {}, "0 * * * *", { name: "hourly", unique: false, timezone: "UTC" });
    const cronJobs = [job] as CronJob<never>[];
    const scheduler = new CronScheduler(resolveSettings({ cronJobs, connection: scene.arq }));
    await scheduler.enqueueSlots(slot - hour / 2);
    await scheduler.enqueueSlots(slot + 2.5 * hour); // the machine slept, or the store was away
    await scheduler.enqueueSlots(slot + 3 * hour + 50_000);
    const entries = await scene.arq.store.queueEntries(scene.arq.defaultQueueName);
    assert.deepEqual(entries.map(({ score }) => score), [slot + 3 * hour]);
    await tidy(scene);
  });

  scenario("does not keep a burst from its end", async (scene) => {
    const { job } = noting();
    const worker = await scene.burst({ cronJobs: [job] });
    assert.equal(worker.jobsComplete, 0);
  });

  scenario("has one job at a time under a fixed jobId, also across schedules", async (scene) => {
    const gate = new Gate();
    const ids: string[] = [];
    const wait = async (ctx: JobContext) => {
      ids.push(ctx.jobId);
      await gate.pass();
    };
    scene.start({
      cronJobs: [
        cron(wait, EVERY_SECOND, { jobId: "only" }),
        cron(wait, EVERY_SECOND, { name: "other", jobId: "only" }),
      ],
    });
    const witness = noting({ name: "witness" });
    scene.start({ cronJobs: [witness.job], queueName: `${scene.prefix}other` });
    await gate.reached();
    const from = witness.slots.length;
    await waitForSlots(witness.slots, from + 2);
    assert.deepEqual(ids, ["only"], "two slots have passed");
    gate.open();
    await tidy(scene);
  });

  scenario("has one run a slot under a fixed jobId, also when a worker is late", async (scene) => {
    const slots: number[] = [];
    const note = (ctx: JobContext) => void slots.push(ctx.score);
    const options = { ...notNow(), runAtStartup: true, name: "note", jobId: "only" };
    const job = cron(note, options);
    await scene.burst({ cronJobs: [job] });
    const [deferUntil = 0] = slots;
    const late = { jobId: "only", deferUntil };
    const slotId = `note:${deferUntil}:${scene.queueName}`;
    assert.equal(await scene.arq.enqueueScheduled("note", late, slotId), false);
    await scene.burst({ cronJobs: [job] });
    assert.equal(slots.length, 2, "the next slot is another");
    await tidy(scene);
  });

  scenario("is tried once by default, and as often as it says", async (scene) => {
    const tries = { default: 0, three: 0 };
    const again = (name: keyof typeof tries) => () => {
      tries[name]++;
      throw new Retry();
    };
    const when = { ...notNow(), runAtStartup: true };
    const worker = await scene.burst({
      cronJobs: [
        cron(again("default"), { ...when, name: "default" }),
        cron(again("three"), { ...when, name: "three", maxTries: 3 }),
      ],
    });
    assert.deepEqual(tries, { default: 1, three: 3 });
    assert.equal(worker.jobsFailed, 2);
    await tidy(scene);
  });

  scenario("has a timeout of its own", async (scene) => {
    const gate = new Gate();
    const when = { ...notNow(), runAtStartup: true, name: "slow", timeout: 30 };
    const worker = await scene.burst({ cronJobs: [cron((ctx) => gate.pass(ctx.signal), when)] });
    assert.equal(worker.jobsFailed, 1);
    await tidy(scene);
  });

  scenario("is read in the worker's time zone, or in its own", async (scene) => {
    const zone = (name: string) => Temporal.Now.zonedDateTimeISO(name);
    // This hour and the next of one zone are long past or to come in the other.
    const { hour: now } = zone("Asia/Tokyo");
    const hour = [now, (now + 1) % 24];
    const runs: string[] = [];
    const note = (ctx: JobContext) => void runs.push(ctx.functionName);
    const fields = { hour, second: Array.from({ length: 60 }, (_, second) => second) };
    scene.start({
      timezone: "Asia/Tokyo",
      cronJobs: [
        cron(note, { ...fields, name: "worker's" }),
        cron(note, { ...fields, name: "own", timezone: "America/New_York" }),
      ],
    });
    await until("the slot in Tokyo", () => runs.length >= 2);
    assert.deepEqual(new Set(runs), new Set(["worker's"]));
    await tidy(scene);
  });

  scenario("can be enqueued by hand under its name", async (scene) => {
    let runs = 0;
    const count = () => void runs++;
    await scene.arq.enqueueJob("cron:count", [], { jobId: "by hand" });
    await scene.burst({ cronJobs: [cron(count, notNow())] });
    assert.equal(runs, 1);
    await tidy(scene);
  });
});

/** What cron jobs leave by design: locks for a minute, and slots that come after the worker's end. */
async function tidy(scene: Scene): Promise<void> {
  await scene.stop();
  const own = /^(in-progress:|job:(.*:\d+(:.*)?|[\da-f]{32}|only|other)$|(queue|other\d?|third)$)/;
  scene.leaves(...(await ends(scene)).filter((key) => own.test(key)));
}
