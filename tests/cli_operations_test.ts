/**
 * The commands for operators, on Redis and on a file. They are called in this process; the last
 * tests are for what only processes show.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import process from "node:process";
import { describe, it } from "node:test";
import { reset } from "@logtape/logtape";
import { ABORT, ENQUEUE, RETRY } from "../cli_actions.ts";
import { Arguments, checkOperands } from "../cli_arguments.ts";
import type { Command, Host } from "../cli_host.ts";
import { JOB, JOBS } from "../cli_jobs.ts";
import { STATS } from "../cli_stats.ts";
import { type ArqClient, createPool } from "../client.ts";
import { Worker } from "../worker.ts";
import {
  Cli,
  type CliEnd,
  LIBRARY,
  openScene,
  Project,
  ROOT,
  RUN,
  runCli,
  SETTINGS,
  startCli,
} from "./_cli.ts";
import { callCli } from "./_cli_call.ts";
import { functions } from "./fixtures/cli_settings.ts";
import { eventually, rejection } from "./_helpers.ts";
import { Folder } from "./_sqlite.ts";

/** A command, its arguments and options. */
type Line = readonly [command: string, ...more: readonly string[]];

/** A queue with a client, and the command line on it. */
class Stage implements AsyncDisposable {
  readonly url: string;
  readonly arq: ArqClient;
  readonly #resources: AsyncDisposableStack;

  constructor(url: string, arq: ArqClient, resources: AsyncDisposableStack) {
    this.url = url;
    this.arq = arq;
    this.#resources = resources;
  }

  /** Runs a command to its end. */
  run(command: string, ...more: readonly string[]): Promise<CliEnd> {
    return callCli([command, "--url", this.url, ...more]);
  }

  /** Runs a command that must end with `code`; returns what it printed. */
  async expect(code: number, ...[command, ...more]: Line): Promise<string> {
    const end = await this.run(command, ...more);
    assert.equal(end.code, code, `${command} ${more.join(" ")}\n${end.stdout}${end.stderr}`);
    return code === 0 ? end.stdout : end.stdout + end.stderr;
  }

  /** Runs a command with --json; returns what it printed. */
  async json(code: number, ...[command, ...more]: Line): Promise<Record<string, unknown>[]> {
    const { stdout, ...end } = await this.run(command, "--json", ...more);
    assert.equal(end.code, code, stdout + end.stderr);
    return stdout.split("\n").filter((text) => text !== "").map((text) => JSON.parse(text));
  }

  /** Starts a worker, in a process whose log does not mix with what the commands print. */
  async work(): Promise<Cli> {
    const cli = startCli(["worker", `${SETTINGS}#keeping`, "--url", this.url]);
    this.#resources.use(cli);
    await cli.line("Starting worker");
    return cli;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

async function openStage(kind: "Redis" | "a file"): Promise<Stage> {
  const resources = new AsyncDisposableStack();
  if (kind === "Redis") {
    const { url, arq } = resources.use(await openScene());
    return new Stage(url, arq as unknown as ArqClient, resources);
  }
  const url = resources.use(new Folder()).url();
  return new Stage(url, resources.use(await createPool(url)), resources);
}

for (const kind of ["Redis", "a file"] as const) {
  describe(`The command line on ${kind}`, () => {
    it("enqueues, lists, shows and removes jobs", async () => {
      await using stage = await openStage(kind);
      const { url, arq } = stage;
      assert.equal(await stage.expect(0, "enqueue", "double", "21", "--job-id", "one"), "one\n");
      const options = ["--kwargs", '{"b": [null]}', "--defer-by", "1h30m"];
      const [later] = await stage.json(0, "enqueue", "greet", '"Ann"', ...options);
      assert.equal(later?.queueName, arq.defaultQueueName);
      const laterId = String(later?.jobId);
      const [first, second, none] = await Promise.all([
        stage.json(0, "jobs"),
        stage.expect(0, "jobs", "--status", "deferred", "--function", "greet"),
        stage.expect(0, "jobs", "--status=failed", "--since", "1h"),
      ]);
      assert.deepEqual(first.map(({ jobId, status, args }) => [jobId, status, args]), [
        ["one", "queued", [21]],
        [laterId, "deferred", ["Ann"]],
      ]);
      assert.match(second, /^JOB +STATUS +TRY +WHEN +CALL +RESULT\n/);
      assert.match(second, /^\w+ +deferred +0 +due in 1h (29|30)m +greet\('Ann', b=\[ null \]\)$/m);
      assert.equal(second.trimEnd().split("\n").length, 2);
      assert.equal(none, "no such jobs\n");
      assert.match(await stage.expect(0, "job", laterId), /^status +deferred$/m);
      const [taken, removed, gone] = [
        await stage.expect(4, "enqueue", "double", "1", "--job-id", "one"),
        await stage.expect(3, "remove", "one", "nowhere", laterId),
        await stage.expect(3, "job", "one"),
      ];
      assert.equal(taken, "arq: The id one is taken: by a job, or its result\n");
      const unsafe = await stage.expect(2, "enqueue", "double", '{"__proto__": 1}');
      assert.match(unsafe, /^arq: Cannot enqueue "double": Cannot serialize .*__proto__/);
      assert.match(removed, /^removed one\n/);
      assert.match(removed, /^arq: There is no job nowhere in queue /m);
      assert.match(removed, new RegExp(`^removed ${laterId}$`, "m"));
      assert.match(gone, /^arq: There is no job one in queue/);
      assert.equal((await arq.jobs()).jobs.length, 0, url);
    });

    it("waits for results, aborts and retries", async () => {
      await using stage = await openStage(kind);
      await stage.work();
      const [value, failure, late] = await Promise.all([
        stage.expect(0, "enqueue", "double", "--wait", "--", "-21"),
        stage.expect(5, "enqueue", "fail", "--wait", "--job-id", "bad"),
        stage.expect(6, "enqueue", "stubborn", "--timeout", "300ms", "--job-id", "stuck"),
      ]);
      assert.equal(value, "-42\n");
      assert.match(failure, /^arq: job bad failed: TypeError: no such thing\\n12:00:00: forged$/m);
      assert.match(failure, /^ +at .*cli_settings\.ts/m);
      assert.equal(late, "arq: Job stuck has no result yet after 0.3 s\n");
      await eventually(
        async () => await stage.arq.job("stuck").status() === "in_progress",
        "its start",
      );
      const [page, running] = await Promise.all([
        stage.expect(0, "job", "bad"),
        stage.expect(4, "remove", "stuck"),
      ]);
      assert.match(page, /^status +failed$/m);
      assert.match(page, /^arguments +\[\]$/m);
      assert.match(page, /^tries +1$/m);
      assert.match(page, /^ended +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \((?:now|[\d.]+s ago)\)$/m);
      assert.match(
        page,
        /^error +TypeError: no such thing\\n12:00:00: forged\n +at .*cli_settings/m,
      );
      assert.match(running, /^arq: Cannot remove job stuck: it is running; abort it first$/m);
      assert.equal(await stage.expect(0, "abort", "stuck"), "aborted stuck\n");
      assert.match(await stage.expect(4, "abort", "stuck"), /stuck was not aborted: it is failed/);
      assert.deepEqual(await stage.json(3, "abort", "nowhere"), [{
        jobId: "nowhere",
        aborted: false,
        problem:
          `There is no job nowhere in queue ${stage.arq.defaultQueueName}, and no result of it`,
      }]);
      assert.equal(await stage.expect(0, "retry", "bad"), "retried bad\n");
      await rejection(stage.arq.job("bad").result());
      await stage.expect(0, "pause");
      const [bulk] = await stage.json(0, "retry", "--failed", "--function", "fail");
      assert.deepEqual(bulk, { queueName: stage.arq.defaultQueueName, retried: 1 });
      assert.equal((await stage.arq.jobView("bad"))?.status, "queued");
      assert.equal(await stage.expect(0, "resume"), `resumed ${stage.arq.defaultQueueName}\n`);
      await rejection(stage.arq.job("bad").result());
    });

    it("tells of the workers and of what they did", async () => {
      await using stage = await openStage(kind);
      const { arq } = stage;
      assert.equal(await stage.expect(0, "workers"), "no worker is alive\n");
      const { pid } = await stage.work();
      await Promise.all([
        arq.call("double", [1]),
        assert.rejects(arq.call("fail"), TypeError),
        arq.enqueueJob("tell", [], { jobId: "stuck" }),
        arq.enqueueJob("double", [1], { deferBy: 3_600_000 }),
      ]);
      const report = await eventually(async () => {
        const [[worker], { functions }] = await Promise.all([arq.workers(), arq.stats()]);
        return worker?.running.length === 1 && functions.length === 2 && worker;
      }, "a report of it all");
      await eventually(() => arq.job("stuck").progress(), "its progress");
      const [workers, stats, job, [asJson]] = await Promise.all([
        stage.expect(0, "workers"),
        stage.expect(0, "stats"),
        stage.expect(0, "job", "stuck"),
        stage.json(0, "stats", "--queue", arq.defaultQueueName, "--history=3h"),
      ]);
      assert.match(await stage.expect(0, "stats", "--history=2h30m"), /each 3m .*\n▁{48,49}[▂-█]/);
      const [head = "", line = "", ...more] = workers.split("\n");
      assert.match(head, /^WORKER +HOST +PID +RUNTIME +QUEUE +RUNNING +COMPLETE +FAILED +RETRIED/);
      assert.ok(line.startsWith(report.workerId), workers);
      assert.match(line, new RegExp(` ${pid} .* 1/10 +1 +1 +0 +[\\d.]+ MiB +\\S+`));
      assert.match(more.join("\n"), /^JOB +FUNCTION +TRY +FOR +WORKER\nstuck +tell +1 +\S+ /m);
      assert.match(stats, /^QUEUE +STATE +DUE +OLDEST +RUNNING +DEFERRED +COMPLETE +FAILED +WAIT/);
      assert.match(stats, / open +0 +- +1 +1 +1 +1 +\S+\/\S+ +\S+\/\S+$/m);
      assert.match(stats, /jobs ended in each 1m of the last 1h\n[▁-█]{60}\n/);
      assert.match(stats, /^double +1 +0 +0 +0 +\S+ +\S+$/m);
      assert.match(stats, /^fail +0 +1 +0 +0 +\S+ +\S+$/m);
      assert.match(job, new RegExp(`^worker +${report.workerId}, process ${pid}`, "m"));
      assert.match(job, /^progress +\{ part: 0\.5 \}$/m);
      assert.deepEqual(
        [asJson?.queueName, asJson?.inProgress, asJson?.deferred],
        [arq.defaultQueueName, 1, 1],
      );
    });
  });
}

describe("The commands for operators", () => {
  it("show hostile names and payloads harmlessly", async () => {
    await using stage = await openStage("Redis");
    const { arq } = stage;
    const evil = "\x1b]0;title\x07\x1b[2J\u202egpj.exe\nforged";
    const values = [evil, new Uint8Array([0, 27, 155]), { [evil]: "x".repeat(100_000) }];
    await arq.enqueueJob(evil, values, { jobId: evil, kwargs: { [evil]: evil } });
    await new Worker({ functions, connection: stage.url, burst: true }).run();
    await rejection(arq.job(evil).result());
    const outputs = await Promise.all([
      stage.expect(0, "jobs"),
      stage.expect(0, "job", evil),
      stage.expect(0, "jobs", "--json"),
    ]);
    outputs.push(await stage.expect(3, "remove", evil, evil));
    for (const output of outputs) {
      assert.doesNotMatch(output.replaceAll("\n", ""), /[\p{Cc}\p{Cf}]/u);
      assert.doesNotMatch(output, /^forged/m);
      assert.ok(output.length < 300_000, `${output.length} characters`);
    }
    assert.match(outputs[1] ?? "", /Uint8Array\(3\) <00 1b 9b>/);
    const { jobId, args } = JSON.parse(outputs[2] ?? "");
    assert.equal(jobId, evil);
    assert.deepEqual(args, [evil, "ABub", values[2]]);
  });

  it("take the store, the queue and the serializer from a settings module", async () => {
    using folder = new Folder();
    using project = new Project({
      "settings.ts": `
        export default {
          functions: { f: () => {} },
          connection: ${JSON.stringify(folder.url())},
          queueName: "arq:mail",
          jobSerializer: (job) => new TextEncoder().encode(JSON.stringify(job)),
          jobDeserializer: (bytes) => JSON.parse(new TextDecoder().decode(bytes)),
        };`,
      "wrong.ts": "export default { maxJobs: -1 };",
    });
    const settings = ["--settings", project.path("settings.ts")];
    const { code, stdout, stderr } = await runCli(["enqueue", "f", "[1]", "--json", ...settings]);
    assert.equal(code, 0, stderr);
    const { jobId, queueName } = JSON.parse(stdout);
    assert.equal(queueName, "arq:mail");
    await using arq = await createPool(folder.url());
    const [entry] = await arq.store.queueEntries("arq:mail");
    assert.equal(entry?.jobId, jobId);
    assert.deepEqual(JSON.parse(new TextDecoder().decode(entry?.payload)).a, [[1]]);
    const [listed, elsewhere, wrong] = await Promise.all([
      callCli(["jobs", ...settings]),
      callCli(["jobs", ...settings, "--queue", "arq:other"]),
      callCli(["jobs", "--settings", project.path("wrong.ts")]),
    ]);
    assert.match(listed.stdout, /queued .* f\(\[ 1 \]\)/);
    assert.equal(elsewhere.stdout, "no such jobs\n");
    assert.match(wrong.stderr, /cannot use the settings of .*wrong\.ts:\n +maxJobs must be/);
    assert.equal(wrong.code, 2);
  });

  it("keep what the settings' pool says of its queue where they go to another store", async () => {
    using folder = new Folder();
    using other = new Folder();
    using project = new Project({
      "settings.ts": `
        import { createPool } from "${LIBRARY}";
        export const functions = { f: () => {} };
        export const connection = await createPool("${folder.url()}", {
          prefix: "app:",
          defaultQueueName: "app:mail",
          jobSerializer: (job) => new TextEncoder().encode(JSON.stringify(job)),
          jobDeserializer: (bytes) => JSON.parse(new TextDecoder().decode(bytes)),
        });`,
    });
    const line = ["enqueue", "f", "[1]", "--json", "--settings", project.path("settings.ts")];
    await (await createPool(other.url())).close();
    const { stdout, stderr } = await callCli(line, { env: { ARQ_URL: other.url() } });
    assert.equal(stderr, "");
    assert.equal(JSON.parse(stdout).queueName, "app:mail");
    await using arq = await createPool(other.url(), { prefix: "app:" });
    const [entry] = await arq.store.queueEntries("app:mail");
    assert.deepEqual(JSON.parse(new TextDecoder().decode(entry?.payload)).a, [[1]]);
    const named = await callCli([...line, "--url", `${other.url()}?prefix=b:`, "--queue", "b:x"]);
    assert.equal(JSON.parse(named.stdout).queueName, "b:x");
    await using second = await createPool(other.url(), { prefix: "b:" });
    assert.equal((await second.store.queueEntries("b:x")).length, 1);
  });

  it("take the prefix of a connection string before that of the settings", async () => {
    using folder = new Folder();
    using project = new Project({
      "settings.ts": `
        export const functions = { f: () => {} };
        export const prefix = "app:";`,
    });
    await using arq = await createPool(folder.url(), { prefix: "b:" });
    const options = [
      "--settings",
      project.path("settings.ts"),
      "--url",
      `${folder.url()}?prefix=b:`,
    ];
    const { stdout, stderr } = await callCli(["enqueue", "f", ...options]);
    assert.equal(stderr, "");
    assert.equal((await arq.job(stdout.trim()).info())?.functionName, "f");
    const other = await callCli(["enqueue", "f", ...options, "--prefix", "c:", "--json"]);
    assert.equal(JSON.parse(other.stdout).queueName, "c:queue");
    assert.equal((await arq.queuedJobs()).length, 1);
    const worker = ["worker", project.path("settings.ts"), "--url", `${folder.url()}?prefix=b:`];
    assert.equal((await callCli([...worker, "--burst"])).code, 0);
    assert.equal((await arq.queuedJobs()).length, 0);
  });

  it("tell that they have made a file, which would pass for a queue without jobs", async () => {
    using folder = new Folder();
    const first = await callCli(["stats", "--url", folder.url()]);
    assert.match(first.stderr, /: there was no sqlite:\/.*: it has been made\n$/);
    assert.equal(first.code, 0);
    const second = await callCli(["stats", "--url", folder.url()]);
    assert.equal(second.stderr, "");
    const memory = await callCli(["stats", "--url", "sqlite::memory:"]);
    assert.equal(memory.stderr, "");
  });

  it("go on behind a job whose result nobody can read", async () => {
    await using stage = await openStage("Redis");
    const { arq } = stage;
    for (const jobId of ["odd", "bad"]) await arq.enqueueJob("fail", [], { jobId });
    await new Worker({ functions, connection: stage.url, burst: true }).run();
    const spoil = ["SET", `${arq.store.prefix}result:odd`, "of another program", "KEEPTTL"];
    await arq.redis.sendCommand(spoil);
    const retried = await stage.run("retry", "odd", "bad");
    assert.match(retried.stderr, /^arq: Job odd: Cannot read [^\n]+\n$/);
    assert.deepEqual([retried.code, retried.stdout], [1, "retried bad\n"]);
    assert.equal(await arq.job("bad").status(), "queued");
    const [unread, nothing] = await stage.json(3, "retry", "odd", "nowhere");
    assert.deepEqual([unread?.jobId, unread?.retried, nothing?.jobId], ["odd", false, "nowhere"]);
    assert.match(String(unread?.problem), /^Cannot read /);
    assert.equal(await stage.expect(0, "remove", "odd", "bad"), "removed odd\nremoved bad\n");
  });

  it("tell in JSON what is wrong with the line, where JSON is asked for", async () => {
    const wrong: readonly Line[] = [
      ["jobs", "--json", "--bogus"],
      ["jobs", "--limit", "--json"],
      ["worker", "--log-format", "json", "--bogus"],
      ["worker", "--log-format=json"],
      ["jbos", "--json"],
    ];
    for (const line of wrong) {
      const { code, stdout, stderr } = await callCli(line);
      assert.deepEqual([code, stdout], [2, ""], line.join(" "));
      assert.equal(JSON.parse(stderr).event, "failed");
    }
    for (const line of [["jobs", "--bogus"], ["jobs", "--bogus", "--", "--json"]]) {
      assert.match((await callCli(line)).stderr, /^arq: unknown option --bogus/);
    }
  });

  it("refuse what cannot be meant, before anything is connected", async () => {
    const host: Host = {
      hasColours: false,
      isReplaceable: false,
      stopSignal: () => new AbortController().signal,
      mayStart: () => Promise.resolve(),
    };
    const follow = async ({ spec, run }: Command, line: readonly string[]) => {
      const url = line.includes("--url") ? [] : ["--url", "redis://nowhere.invalid"];
      const args = new Arguments(`arq ${spec.name}`, [...url, ...line], spec.options);
      checkOperands("arq", spec, args.operands);
      return await run(args, host, line);
    };
    const wrong: readonly (readonly [Command, readonly string[], RegExp])[] = [
      [
        JOBS,
        ["--status", "faild"],
        /^--status must be one of .*; got "faild"; did you mean failed\?$/,
      ],
      [JOBS, ["--limit", "0"], /^--limit must be a whole number of 1 or more, got "0"$/],
      [JOBS, ["--interval", "5"], /^--interval must be a duration .*, got "5"; did you mean 5s\?$/],
      [STATS, ["--history", "4h"], /^--history must be from 1m to 3h, got "4h"$/],
      [JOB, ["a", "b"], /^job does not take "b"/],
      [JOB, [""], /^job was given an empty argument; see arq job --help$/],
      [ENQUEUE, [], /^enqueue needs NAME; see arq enqueue --help$/],
      [ENQUEUE, ["f", "Ann"], /^argument 1 is not JSON: "Ann"; a text is written '"Ann"'$/],
      [
        ENQUEUE,
        ["f", "[1, 12345678901234567]"],
        /^argument 1 .*: 12345678901234567; make it a text$/,
      ],
      [ENQUEUE, ["f", '--kwargs={"a": 1e400}'], /^--kwargs .* not arrive as it is: 1e400; make it/],
      [ENQUEUE, ["f", "-1"], /^unknown option -1; put -- before values that begin with a dash$/],
      [ENQUEUE, ["f", "--kwargs", "[]"], /^--kwargs must be an object such as .*, got "\[\]"$/],
      [ENQUEUE, ["f", "--defer-by=1s", "--defer-until=2032-01-28"], /exclude each other$/],
      [ENQUEUE, [""], /^enqueue was given an empty argument; see arq enqueue --help$/],
      [ENQUEUE, ["f", "--expires", "0s"], /^--expires must be 1ms or more$/],
      [ENQUEUE, ["f", "--expires=1s", "--defer-by=1s"], /^--expires .* longer than --defer-by$/],
      [ENQUEUE, ["f", `--defer-by=${"9".repeat(20)}d`], /^--defer-by must be a duration /],
      [RETRY, [], /^retry needs an ID, or --failed/],
      [RETRY, ["a", "--failed"], /^retry takes ids or --failed, not both$/],
      [RETRY, ["a", "--since", "1h"], /^--function and --since go with --failed$/],
      [ABORT, [], /^abort needs ID; see/],
      [STATS, ["--queue", "a:ops:b"], /^--queue: A queue's name must not contain ":ops:"/],
      [
        STATS,
        ["--url", "redis+cluster://nowhere.invalid"],
        /^On a Cluster the prefix needs a hash/,
      ],
    ];
    for (const [command, line, message] of wrong) {
      await assert.rejects(follow(command, line), { name: "UsageError", message });
    }
    await reset();
  });

  it("tell in one line, or one object, that the store is away", async () => {
    const url = "redis://127.0.0.1:1?connRetries=0";
    const { code, stdout, stderr } = await runCli(["jobs", "--url", url, "--json"]);
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(JSON.parse(stderr).message, /127\.0\.0\.1:1: connection refused/);
  });

  it("end in order by a signal, and when nobody reads any more", async () => {
    using folder = new Folder();
    await using arq = await createPool(folder.url());
    await arq.enqueueJobs([{ name: "f" }, { name: "f" }]);
    const url = `--url=${folder.url()}`;
    const shell = `"$@" | head -n 2; echo "\${PIPESTATUS[0]}"`;
    const line = [
      process.execPath,
      ...RUN,
      `${ROOT}/cli.ts`,
      "jobs",
      "--watch",
      "--json",
      "--interval=100ms",
      url,
    ];
    await using head = new Cli("bash", ["-c", shell, "bash", ...line], {});
    await using watching = startCli(["jobs", "--watch", "--interval=100ms", "--limit=1", url]);
    await using waiting = startCli(["enqueue", "f", "--wait", "--job-id=mine", url]);
    for (let i = 0; i < 2; i++) await watching.line("more than 1 job;");
    await eventually(async () => await arq.job("mine").status() === "queued", "the job");
    const { stdout, stderr } = await head.ended;
    assert.equal(stderr, "");
    assert.match(stdout, /^\{.*\}\n\{.*\}\n0\n$/);
    assert.equal((await watching.end("SIGTERM")).code, 0);
    assert.equal((await waiting.end("SIGTERM")).code, 143);
  });

  it("fail where what they print cannot be written", async () => {
    if (!existsSync("/dev/full")) return; // Linux has it, others have no such disk at hand
    using folder = new Folder();
    await using arq = await createPool(folder.url());
    await arq.enqueueJob("f");
    const line = [process.execPath, ...RUN, `${ROOT}/cli.ts`, "jobs", `--url=${folder.url()}`];
    await using jobs = new Cli("bash", ["-c", `exec "$@" > /dev/full`, "bash", ...line], {});
    const { code, stderr } = await jobs.ended;
    assert.equal(code, 1);
    assert.match(stderr, /^arq: .*no space left on device/i);
  });

  it("draw anew and show a progress bar on a terminal only", async () => {
    await using stage = await openStage("a file");
    await stage.arq.enqueueJobs(Array.from({ length: 300 }, () => ({ name: "gone" })));
    await new Worker({ functions, connection: stage.url, burst: true }).run();
    const onTerminal = async (line: Line, until: RegExp) => {
      const words = [process.execPath, ...RUN, "cli.ts", ...line, "--url", `'${stage.url}'`];
      const env = { NO_COLOR: "" };
      const command = `echo $$; exec ${words.join(" ")}`; // a signal to `script` would take long
      await using cli = new Cli("script", ["-qec", command, "/dev/null"], { env });
      const pid = Number(await cli.line(/^\d+/));
      await cli.line(until);
      if (line.includes("--watch")) process.kill(pid, "SIGTERM");
      return (await cli.ended).stdout.replace(/^\d+\r?\n/, "");
    };
    const jobs: Line = ["jobs", "--limit=2", "--status=failed"];
    const [watched, listed] = await Promise.all([
      onTerminal([...jobs, "--watch", "--interval=100ms"], /more than 2 jobs/),
      stage.expect(0, ...jobs),
    ]);
    assert.match(shown(watched), /^ESC\[\?7lESC\[H.*JOB.*ESC\[K\r?\n/);
    assert.match(shown(watched), /ESC\[31mfailed/);
    assert.doesNotMatch(shown(listed), /ESC/);
    await stage.arq.pause();
    const retried = shown(await onTerminal(["retry", "--failed"], /retried 300 jobs/));
    assert.match(retried, /\r[█░]{24} +\d+% +\d+ of 300 failuresESC\[K/);
    assert.match(retried, /\rESC\[Kretried 300 jobs/);
    const { stdout, stderr } = await stage.run("retry", "--failed");
    assert.deepEqual([stdout, stderr], ["retried 0 jobs\n", ""]);
  });
});

/** What a terminal got, with its escape sequences visible. */
function shown(text: string): string {
  return text.replaceAll("\x1b", "ESC");
}
