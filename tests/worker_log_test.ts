import { configure, type LogRecord, reset } from "@logtape/logtape";
import assert from "node:assert/strict";
import { after } from "node:test";
import { inspect } from "node:util";
import { cron, func, type JobContext, Retry, type WorkerSettings } from "../mod.ts";
import { Gate, pause, scenarios, type Scene, until } from "./_worker.ts";

interface Line {
  readonly category: string;
  readonly level: string;
  readonly text: string;
  readonly properties: Record<string, unknown>;
}

const lines: Line[] = [];

function collect({ category, level, message, properties }: LogRecord): void {
  lines.push({ category: category.join(" "), level, text: message.join(""), properties });
}

/** Collects what the library logs from now on; `lowestLevel` is the application's choice. */
async function listen(lowestLevel: "debug" | "warning" = "debug"): Promise<void> {
  lines.length = 0;
  await configure({
    sinks: { memory: collect },
    loggers: [
      { category: ["arq"], lowestLevel, sinks: ["memory"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["memory"] },
    ],
    reset: true,
  });
}

function texts(): string[] {
  return lines.filter(({ category }) => category === "arq worker").map(({ text }) => text);
}

/** The one line that matches. */
function line(pattern: RegExp): Line {
  const found = lines.filter(({ text }) => pattern.test(text));
  assert.equal(found.length, 1, `${pattern} in\n${lines.map(({ text }) => text).join("\n")}`);
  return found[0] as Line;
}

/** Runs one job called `x` under the id `x` and returns what the worker logged about it. */
async function logOf(
  scene: Scene,
  fn: (ctx: JobContext, ...args: unknown[]) => unknown,
  args: unknown[] = [],
  settings: WorkerSettings = {},
): Promise<{ started: string; ended: string }> {
  await listen();
  await scene.arq.enqueueJob("x", args, { jobId: "x" });
  await scene.burst({ functions: { x: fn }, ...settings });
  const [started = "", ended = ""] = texts().filter((text) => /[→←!⊘↻]/.test(text));
  return { started, ended };
}

after(() => reset());

scenarios("The log", (scenario) => {
  scenario(
    "tells the functions and the store at the start, and counts at the end",
    async (scene) => {
      await listen();
      const { worker } = scene.start({ functions: { one: () => 1, two: () => 2 } });
      await scene.arq.call("one");
      await until("the count", () => worker.jobsComplete === 1);
      await worker.close();
      const [first, second] = texts();
      assert.equal(first, "Starting worker for 2 functions: one, two");
      assert.match(
        second ?? "",
        /^(redis_version=[\d.]+ mem_usage=\S+ clients_connected=\d+ db_keys=\d+|sqlite_version=[\d.]+ file_size=\S+ jobs=\d+) /,
      );
      const where = ` store=${scene.arq.store.address} queue=${scene.queueName}`;
      assert.ok(second?.endsWith(where), second);
      assert.equal(
        line(/^shutdown/).text,
        "shutdown on close ◆ 1 jobs complete ◆ 0 failed ◆ 0 retries ◆ 0 ongoing to cancel",
      );
    },
  );

  scenario(
    "tells at the start that the queue is paused, and nothing of it once it is not",
    async (scene) => {
      await scene.arq.pause();
      await scene.arq.enqueueJob("one");
      await listen();
      const { worker } = scene.start({ functions: { one: () => 1 }, burst: true });
      await until(
        "the warning",
        () => lines.some(({ properties }) => properties.event === "paused"),
      );
      const { level, text } = line(/paused/);
      const queue = JSON.stringify(scene.queueName);
      assert.equal(text, `The queue ${queue} is paused: nothing is run until it is resumed`);
      assert.equal(level, "warning");
      await scene.arq.resume();
      await until("the end", () => worker.jobsComplete === 1);
      await worker.close();
      await listen();
      await scene.burst({ functions: { one: () => 1 } });
      assert.deepEqual(texts().filter((text) => text.includes("paused")), []);
    },
  );

  scenario("tells machines the counts at the end, and nothing of the settings", async (scene) => {
    await listen();
    const { worker } = scene.start({ functions: { one: () => 1 }, ctx: { password: "secret" } });
    await scene.arq.call("one");
    await until("the count", () => worker.jobsComplete === 1);
    await worker.close();
    assert.deepEqual(line(/^shutdown/).properties, {
      event: "stopping",
      jobsComplete: 1,
      jobsFailed: 0,
      jobsRetried: 0,
      ongoing: 0,
    });
    assert.ok(lines.every((each) => !inspect(each, { depth: 9 }).includes("secret")));
  });

  scenario("is as in the manual for a job that succeeds", async (scene) => {
    const { started, ended } = await logOf(scene, () => 42, ["https://deno.com", 3]);
    assert.match(started, /^ {2}\d\.\d\ds → x:x\('https:\/\/deno\.com', 3\)$/);
    assert.match(ended, /^ {2}\d\.\d\ds ← x:x ● 42$/);
    const { level, category, properties } = line(/→/);
    assert.deepEqual([level, category], ["info", "arq worker"]);
    assert.deepEqual([properties.jobId, properties.function, properties.try], ["x", "x", 1]);
  });

  scenario("shows no result where there is none", async (scene) => {
    const { started, ended } = await logOf(scene, () => {});
    assert.match(started, /→ x:x\(\)$/);
    assert.match(ended, /← x:x ●$/);
  });

  scenario("leaves results out with logResults false", async (scene) => {
    const { ended } = await logOf(scene, () => "secret", [], { logResults: false });
    assert.match(ended, /← x:x ●$/);
    assert.ok(!JSON.stringify(lines).includes("secret"));
  });

  scenario("tells keyword arguments", async (scene) => {
    await listen();
    await scene.arq.enqueueJob("x", [1], { kwargs: { size: 2 } });
    await scene.burst({ functions: { x: () => {} } });
    line(/→ \w+:x\(1, size=2\)$/);
  });

  scenario("tells how long a job was delayed, if more than a little", async (scene) => {
    await listen();
    await scene.arq.enqueueJob("x", [], { deferUntil: Date.now() - 10_230 });
    await scene.burst({ functions: { x: () => {} } });
    line(/→ \w+:x\(\) delayed=1\d\.\d\ds$/);
  });

  scenario("tells retries and the number of the try", async (scene) => {
    await listen();
    const again = ({ jobTry }: JobContext) => {
      if (jobTry < 2) throw new Retry({ defer: 10, cause: new Error("busy line") });
    };
    await scene.arq.enqueueJob("again", [], { jobId: "r" });
    await scene.burst({ functions: { again } });
    const { text } = line(/↻/);
    assert.match(text, /^ {2}\d\.\d\ds ↻ r:again retrying job in 0\.01s, Error: busy line$/);
    line(/→ r:again\(\) try=2$/);
  });

  scenario("tells what a job failed of whose tries are over", async (scene) => {
    const again = () => Promise.reject(new Retry({ cause: new Error("busy line") }));
    const { ended } = await logOf(scene, again, [], { maxTries: 1 });
    assert.match(ended, /failed, JobExecutionFailed: max 1 tries exceeded, Error: busy line$/);
  });

  scenario("tells failures with the error, as an error", async (scene) => {
    const { ended } = await logOf(scene, () => Promise.reject(new RangeError("no luck")));
    assert.match(ended, /^ {2}\d\.\d\ds ! x:x failed, RangeError: no luck$/);
    const { level, properties } = line(/ ! /);
    assert.equal(level, "error");
    assert.ok(properties.error instanceof RangeError);
  });

  scenario("tells what fails before it starts", async (scene) => {
    await listen();
    await scene.arq.enqueueJob("unknown", [], { jobId: "u" });
    await scene.arq.enqueueJob("x", [], { jobId: "t", jobTry: 9 });
    await scene.arq.enqueueJob("x", [], { jobId: "e", expires: 1 });
    await until("its expiry", async () => !(await scene.keys()).includes("job:e"));
    await scene.burst({ functions: { x: () => {} } });
    line(/! u:unknown failed, JobExecutionFailed: Function "unknown" is not registered/);
    line(/! t:x failed, JobExecutionFailed: max 5 tries exceeded$/);
    line(/! e:<unknown> failed, JobExecutionFailed: Job e expired$/);
  });

  scenario("tells a result that cannot be serialized as a failure", async (scene) => {
    const { ended } = await logOf(scene, () => ({ f: () => {} }));
    assert.match(ended, /! x:x failed, SerializationError: .*f/);
  });

  scenario("tells timeouts, and functions that ignore their signal", async (scene) => {
    await listen();
    const gate = new Gate();
    await scene.arq.enqueueJob("deaf", [], { jobId: "d" });
    await scene.burst({ functions: { deaf: () => gate.pass() }, jobTimeout: 20, abortGrace: 20 });
    gate.open();
    assert.equal(line(/d:deaf goes on .* it is abandoned/).level, "warning");
    line(/! d:deaf failed, JobTimeoutError: Job d did not end within 0.02 s$/);
  });

  scenario("tells aborts", async (scene) => {
    await listen();
    const gate = new Gate();
    scene.start({ functions: { x: (ctx) => gate.pass(ctx.signal) }, pollDelay: 20 });
    const job = await scene.arq.enqueueJob("x", [], { jobId: "a" });
    await gate.reached();
    await job?.abort({ timeout: 5_000 });
    line(/^ {2}\d\.\d\ds ⊘ a:x aborted$/);
  });

  scenario("tells what a shutdown cut short, and its reason", async (scene) => {
    await listen();
    const gate = new Gate();
    const worker = scene.worker({ functions: { x: (ctx) => gate.pass(ctx.signal) } });
    const stop = new AbortController();
    const ended = worker.run({ signal: stop.signal });
    await scene.arq.enqueueJob("x", [], { jobId: "s" });
    await gate.reached();
    stop.abort("SIGTERM");
    await ended;
    line(/^shutdown on SIGTERM ◆ 0 jobs complete ◆ 0 failed ◆ 0 retries ◆ 1 ongoing to cancel$/);
    line(/^ {2}\d\.\d\ds ↻ s:x cancelled, will be run again$/);
    await scene.burst({ functions: { x: () => {} } });
    line(/→ s:x\(\) try=2/);
  });

  scenario("tells how long jobs may go on", async (scene) => {
    await listen();
    const { worker } = scene.start({ functions: { x: () => {} }, jobCompletionWait: 2_500 });
    await scene.arq.call("x");
    await worker.close();
    line(/^shutdown on close .* 0 ongoing to finish within 2\.50s$/);
  });

  scenario("names a cron job without its id", async (scene) => {
    await listen();
    const hour = (Temporal.Now.zonedDateTimeISO("UTC").hour + 12) % 24;
    const when = { hour, minute: 0, timezone: "UTC", runAtStartup: true };
    const report = () => {};
    await scene.burst({ cronJobs: [cron(report, when)] });
    line(/→ cron:report\(\)$/);
    line(/← cron:report ●$/);
    scene.leaves(...(await scene.keys()).filter((key) => key.startsWith("in-progress:")));
  });

  scenario("tells hooks that throw", async (scene) => {
    await listen();
    await scene.arq.enqueueJob("x");
    const onJobStart = () => Promise.reject(new Error("broken hook"));
    await scene.burst({ functions: { x: () => {} }, onJobStart });
    assert.equal(line(/^onJobStart failed, Error: broken hook$/).level, "error");
  });

  scenario("tells the sign of life once as long as it is the same", async (scene) => {
    await listen();
    const settings = { functions: { x: () => {} }, healthCheckInterval: 10, pollDelay: 10 };
    scene.start(settings);
    const pattern =
      /^recording health: \w{3}-\d\d [\d:]{8} j_complete=0 j_failed=0 j_retried=0 j_ongoing=0 queued=0$/;
    await until("the first sign of life", () => lines.some(({ text }) => pattern.test(text)));
    await pause(100); // several more
    line(pattern);
  });

  scenario("has a logger for each job", async (scene) => {
    await logOf(scene, (ctx) => ctx.logger.info("page {page}", { page: 7 }));
    const { category, text, properties } = line(/^page/);
    assert.equal(category, "arq job");
    assert.equal(text, "page 7");
    assert.deepEqual([properties.jobId, properties.function], ["x", "x"]);
  });

  scenario("holds nothing below the application's level", async (scene) => {
    await listen("warning");
    await scene.arq.enqueueJob("x");
    await scene.burst({ functions: { x: () => 1 } });
    assert.deepEqual(lines, []);
  });
});

scenarios("Arguments and results in the log", (scenario) => {
  scenario("are cut at 80 characters", async (scene) => {
    const long = "y".repeat(200);
    const { started, ended } = await logOf(scene, () => long, [long, 1, 2]);
    const args = /→ x:x\((.*)\)$/.exec(started)?.[1] ?? "";
    const result = /● (.*)$/.exec(ended)?.[1] ?? "";
    assert.equal(args.length, 80);
    assert.match(args, /^'y{79}$|^'y+…$/);
    assert.equal(result.length, 80);
  });

  scenario("are cut as a whole, however many there are", async (scene) => {
    const { started } = await logOf(scene, () => {}, Array.from({ length: 100 }, (_, i) => i));
    const args = /→ x:x\((.*)\)$/.exec(started)?.[1] ?? "";
    assert.equal(args.length, 80);
    assert.ok(args.startsWith("0, 1, 2, 3"));
  });

  for (
    const [name, text] of [
      ["line feed", "a\n  0.00s ← forged ●"],
      ["carriage return", "a\r  0.00s ← forged ●"],
      ["escape sequence", "a\x1b[2Jforged"],
      ["next line", "a\x85forged"],
      ["line separator", "a\u2028forged"],
    ] as const
  ) {
    scenario(`cannot forge lines with a ${name}: argument, name, id, error`, async (scene) => {
      await listen();
      const throws = () => Promise.reject(new Error(text));
      await scene.arq.enqueueJob("throws", [text, [text], { [text]: text }], { jobId: text });
      await scene.arq.enqueueJob(text, [], { kwargs: { [text]: text } });
      await scene.burst({ functions: { throws, [text]: func(() => text) } });
      const forged = texts().filter((line) => /[\p{Cc}\u2028\u2029]/u.test(line));
      assert.deepEqual(forged, []);
      assert.ok(texts().length >= 6);
    });
  }

  scenario("keep their braces", async (scene) => {
    const { started, ended } = await logOf(
      scene,
      () => ({ jobId: "{try}" }),
      [{ a: "{jobId} {{function}}" }],
    );
    assert.match(started, /→ x:x\(\{ a: '\{jobId\} \{\{function\}\}' \}\)$/);
    assert.match(ended, /● \{ jobId: '\{try\}' \}$/);
  });

  scenario("may be objects that resist being shown", async (scene) => {
    const hostile = {
      get a(): never {
        throw new Error("hands off");
      },
      [Symbol.for("nodejs.util.inspect.custom")]() {
        throw new Error("hands off");
      },
    };
    const { ended } = await logOf(scene, () => hostile);
    assert.match(ended, /! x:x failed, |← x:x ● \(cannot be shown\)$/);
  });
});
