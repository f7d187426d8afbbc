/**
 * The program as a whole, and its command `worker`. What the process has no part in is called in
 * this one.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { describe, it } from "node:test";
import { ABORT, ENQUEUE, PAUSE, REMOVE, RESUME, RETRY } from "../cli_actions.ts";
import { commandHelp } from "../cli_arguments.ts";
import { JOB, JOBS } from "../cli_jobs.ts";
import { STATS, WORKERS } from "../cli_stats.ts";
import { UI } from "../cli_ui.ts";
import { WORKER } from "../cli_worker.ts";
import { createPool } from "../client.ts";
import {
  Cli,
  type CliEnd,
  IS_DENO,
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
import { Folder } from "./_sqlite.ts";

const TIME = /^\d\d:\d\d:\d\d: /;

function assertUsage({ code, stdout, stderr }: CliEnd, message: RegExp): void {
  assert.match(stderr, message);
  assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
  assert.equal(stdout, "");
  assert.equal(code, 2);
}

describe("arq", () => {
  it("has a help for the program and for each command that fits one screen", async () => {
    const program = (await runCli(["--help"])).stdout;
    const listed = [...program.matchAll(/^ {2}([a-z]+) .* {2}\S/gm)].map(([, name]) => name);
    const operations = [STATS, JOBS, JOB, WORKERS, ENQUEUE, RETRY, ABORT, REMOVE, PAUSE, RESUME];
    const commands = [...operations, UI];
    const specs = [WORKER, ...commands.map(({ spec }) => spec)];
    assert.deepEqual(listed, specs.map(({ name }) => name));
    for (const spec of specs) {
      const lines = commandHelp("arq", spec).split("\n");
      assert.ok(lines.length < 24, `${lines.length} lines of ${spec.name}`);
      assert.deepEqual(lines.filter((line) => line.length > 80), []);
    }
    for (const args of [["--help"], ["-h"], ["jobs", "--help"], ["worker", SETTINGS, "-h"]]) {
      const { code, stdout, stderr } = await callCli(args);
      const lines = stdout.trimEnd().split("\n");
      assert.ok(lines.length < 24, `${lines.length} lines`);
      assert.deepEqual(lines.filter((line) => line.length > 80), []);
      assert.match(stdout, /^Usage: arq /m);
      assert.equal(stderr, "");
      assert.equal(code, 0);
    }
  });

  it("prints the version of both manifests", async () => {
    for (const args of [["-V"], ["--version"], ["worker", "-V"]]) {
      const { code, stdout } = await callCli(args);
      assert.equal(code, 0);
      for (const file of ["deno.json", "package.json"]) {
        const { version } = JSON.parse(readFileSync(`${ROOT}/${file}`, "utf8"));
        assert.equal(stdout, `arq ${version}\n`);
      }
    }
  });

  it("prints its help as an error when there is no command", async () => {
    const { code, stdout, stderr } = await runCli([]);
    assert.match(stderr, /^Usage: arq COMMAND/m);
    assert.equal(stdout, "");
    assert.equal(code, 2);
  });

  it("refuses unknown options and commands with a suggestion", async () => {
    assertUsage(await callCli(["--hlep"]), /^arq: unknown option --hlep; did you mean --help\?$/m);
    assertUsage(
      await callCli(["wroker", SETTINGS]),
      /^arq: unknown command wroker; did you mean worker\?$/m,
    );
    assertUsage(
      await callCli(["settings.ts"]),
      /unknown command settings.ts; did you mean worker settings.ts\?/,
    );
    assertUsage(
      await callCli(["worker", SETTINGS, "--brust"]),
      /^arq: unknown option --brust; did you mean --burst\?$/m,
    );
    assertUsage(
      await callCli(["worker", SETTINGS, "-x"]),
      /^arq: unknown option -x; see arq worker --help$/m,
    );
    assertUsage(
      await callCli(["worker", SETTINGS, "--urll=redis://u:hidden@h/"]),
      /^arq: unknown option --urll; did you mean --url\?$/m,
    );
  });

  it("refuses arguments it cannot use", async () => {
    const wrong: readonly (readonly [string[], RegExp])[] = [
      [[], /worker needs SETTINGS; see arq worker --help/],
      [["a.ts", "b.ts"], /worker does not take "b.ts"/],
      [["a.ts", "--queue"], /--queue needs a value: --queue NAME/],
      [["a.ts", "--queue", "--burst"], /--queue needs a value/],
      [["a.ts", "--burst=yes"], /--burst takes no value/],
      [["a.ts", "--max-jobs", "many"], /--max-jobs must be .* got "many"/],
      [["a.ts", "--max-jobs=0"], /--max-jobs must be a whole number of 1 or more, got "0"/],
      [["a.ts", "--log-format", "xml"], /--log-format must be pretty or json, got "xml"/],
      [["a.ts", "--url", "http://h"], /--url: a connection string starts with redis:/],
      [["a.ts", "--url", "redis://h", "--url", "redis://i"], /--url was given twice/],
    ];
    for (const [args, message] of wrong) assertUsage(await callCli(["worker", ...args]), message);
  });
});

describe("arq worker", () => {
  it("runs jobs and logs them as the manual shows", async () => {
    await using scene = await openScene();
    const job = await scene.arq.enqueueJob("double", [21], { jobId: "one" });
    await scene.arq.enqueueJob("again", [], { jobId: "two" });
    await scene.arq.enqueueJob("greet", ["Ann"], { jobId: "three" });
    const { code, stdout, stderr } = await runCli([
      "worker",
      SETTINGS,
      "--burst",
      "--url",
      scene.url,
    ]);
    assert.equal(stderr, "");
    assert.equal(code, 0);
    const lines = stdout.trimEnd().split("\n");
    for (const line of lines) assert.match(line, TIME);
    const texts = lines.map((line) =>
      line.replace(TIME, "").replace(/ delayed=\S+/, "").replace(/\d+\.\d\ds/, "T") // on a busy machine
    );
    assert.match(texts[0] ?? "", /^Starting worker for 10 functions: double, slow, /);
    assert.match(texts[1] ?? "", /^redis_version=\S+ mem_usage=\S+ clients_connected=\d+ db_keys=/);
    for (
      const text of [
        "  T → one:double(21)",
        "  T ← one:double ● 42",
        "  T ↻ two:again retrying job in 0.00s",
        "  T → two:again() try=2",
        "  T ← two:again ● 2",
        "three:greet hello Ann",
      ]
    ) assert.ok(texts.includes(text), `${text} in\n${texts.join("\n")}`);
    assert.equal(await job?.result(), 42);
  });

  it("works on a file without any server, by --url and by ARQ_URL", async () => {
    using folder = new Folder();
    const url = folder.url();
    await using arq = await createPool(url);
    const first = await arq.enqueueJob("double", [21]);
    const byOption = await callCli(["worker", SETTINGS, "--burst", "--url", url]);
    assert.equal(byOption.code, 0, byOption.stderr);
    assert.match(byOption.stdout, /sqlite_version=\S+ file_size=\S+ jobs=1/);
    assert.equal(await first.result(), 42);
    const second = await arq.enqueueJob("double", [2]);
    const env = { ARQ_URL: url };
    assert.equal((await callCli(["worker", SETTINGS, "--burst"], { env })).code, 0);
    assert.equal(await second.result(), 4);
    assert.equal((await callCli(["worker", SETTINGS, "--check", "--url", url])).code, 1);
    const bad = await callCli(["worker", SETTINGS, "--url", `sqlite:${folder.path}`]);
    assert.equal(bad.code, 1);
    assert.match(bad.stderr, /Cannot use sqlite:.*: it is a directory/);
  });

  it("takes an empty TZ for UTC", async () => {
    using folder = new Folder();
    const url = folder.url();
    await using arq = await createPool(url);
    const { jobId } = await arq.enqueueJob("double", [21]);
    const env = { TZ: "" };
    const { code, stderr } = await runCli(["worker", SETTINGS, "--burst", "--url", url], { env });
    assert.equal(code, 0, stderr);
    const { stdout } = await runCli(["job", jobId, "--url", url], { env });
    const ended = (await arq.job(jobId).resultInfo())?.finishTime.toISOString() ?? "";
    assert.ok(stdout.includes(ended.slice(0, 19).replace("T", " ")), stdout);
  });

  it("shows where a function failed, and no line of the error's own making", async () => {
    await using scene = await openScene();
    await scene.arq.enqueueJob("fail", [], { jobId: "bad" });
    const { code, stdout } = await callCli(["worker", SETTINGS, "--burst", "--url", scene.url]);
    assert.equal(code, 0);
    assert.match(stdout, /! bad:fail failed, TypeError: no such thing/);
    assert.match(
      stdout,
      /\n +at .*cli_settings\.ts:\d.*(?:\n +\.\.\. .*)? \{\n +\[cause\]: RangeError: gone\n +at .*cli_settings\.ts:.* \{\n +code: 7\n +\}\n +\}\n/,
    );
    assert.doesNotMatch(stdout, /job_run|job_loop|telemetry|^12:00:00/m);
  });

  it("writes one JSON object a line for machines", async () => {
    await using scene = await openScene();
    await scene.arq.enqueueJob("double", [21], { jobId: "one" });
    await scene.arq.enqueueJob("fail", [], { jobId: "bad" });
    const args = ["worker", SETTINGS, "--burst", "--log-format", "json", "--url", scene.url];
    const { code, stdout, stderr } = await runCli(args);
    assert.equal(stderr, "");
    assert.equal(code, 0);
    const entries = stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
    for (const { time, level, logger, message } of entries) {
      assert.equal(new Date(time).toISOString(), time);
      assert.match(level, /^(info|error)$/);
      assert.match(logger, /^arq\./);
      assert.equal(typeof message, "string");
    }
    const find = (event: string, jobId: string) =>
      entries.find((entry) => entry.event === event && entry.jobId === jobId);
    const started = find("started", "one");
    assert.equal(started.function, "double");
    assert.equal(started.try, 1);
    assert.equal(typeof started.waitedMs, "number");
    const success = find("success", "one");
    assert.equal(success.try, 1);
    assert.equal(typeof success.durationMs, "number");
    const { error } = find("failure", "bad");
    assert.equal(error.name, "TypeError");
    assert.match(error.stack, /cli_settings\.ts/);
  });

  it("reports its failure as JSON too where JSON was asked for", async () => {
    const args = ["worker", `${SETTINGS}#wrong`, "--log-format", "json"];
    const { code, stderr } = await runCli(args);
    const { level, details, message } = JSON.parse(stderr);
    assert.equal(level, "fatal");
    assert.match(message, /cannot use the settings/);
    assert.equal(details.length, 5);
    assert.equal(code, 2);
  });

  it("has colours on a terminal only, and never with NO_COLOR or JSON", async () => {
    const seen = async (args: string[], env: Record<string, string>) => {
      await using scene = await openScene();
      await scene.arq.enqueueJob("double", [21]);
      const command = [process.execPath, ...RUN, "cli.ts", "worker"];
      const line = [...command, SETTINGS, "--burst", `--url='${scene.url}'`, ...args].join(" ");
      await using cli = new Cli("script", ["-qec", line, "/dev/null"], { env });
      const { code, stdout } = await cli.ended;
      assert.equal(code, 0);
      assert.match(stdout, /double/);
      return stdout.includes("\x1b[");
    };
    const colours = await Promise.all([
      seen([], { NO_COLOR: "" }),
      seen([], { NO_COLOR: "1" }),
      seen(["--log-format", "json"], { NO_COLOR: "" }),
    ]);
    assert.deepEqual(colours, [true, false, false]);
  });

  it("logs more with -v", async () => {
    await using scene = await openScene();
    await scene.arq.enqueueJob("greet", ["Ann"], { jobId: "one" });
    const { stdout } = await callCli(["worker", SETTINGS, "-v", "--burst", "--url", scene.url]);
    assert.match(stdout, /settings from file:\/\/.*cli_settings\.ts$/m);
    assert.match(stdout, /one:greet and more$/m);
  });

  it("takes the queue, the store and the number of jobs from its options", async () => {
    await using scene = await openScene();
    const queueName = `${scene.prefix}other`;
    await scene.arq.enqueueJobs([
      { name: "slow", args: [100], options: { queueName, jobId: "first" } },
      { name: "slow", args: [100], options: { queueName, jobId: "second", deferBy: 1 } },
    ]);
    const left = await scene.arq.enqueueJob("double", [1]);
    const options = ["--queue", queueName, "--max-jobs", "1", "--url", scene.url];
    const { code, stdout } = await callCli(["worker", SETTINGS, "--burst", ...options]);
    assert.equal(code, 0);
    const order = [...stdout.matchAll(/s ([→←]) (\w+):slow/g)].map(([, arrow, id]) => arrow + id!);
    assert.deepEqual(order, ["→first", "←first", "→second", "←second"]);
    assert.equal(await left.status(), "queued");
  });

  it("takes the store from ARQ_URL, unless --url is given", async () => {
    await using scene = await openScene();
    await using other = await openScene();
    const job = await scene.arq.enqueueJob("double", [2]);
    const otherJob = await other.arq.enqueueJob("double", [3]);
    const env = { ARQ_URL: scene.url };
    assert.equal((await callCli(["worker", SETTINGS, "--burst"], { env })).code, 0);
    assert.equal(await job.status(), "complete");
    assert.equal(await otherJob.status(), "queued");
    const args = ["worker", SETTINGS, "--burst", "--url", other.url];
    assert.equal((await callCli(args, { env: { ARQ_URL: "redis://nowhere.invalid" } })).code, 0);
    assert.equal(await otherJob.status(), "complete");
  });

  it("goes on after the last job with --no-burst, whatever the settings say", async () => {
    await using scene = await openScene();
    const args = ["worker", `${SETTINGS}#bursting`, "--no-burst", "--url", scene.url];
    await using cli = startCli(args);
    await cli.line("redis_version");
    assert.equal(await scene.arq.call("double", [4]), 8);
    assert.equal((await cli.end("SIGTERM")).code, 0);
    assert.equal((await callCli(["worker", `${SETTINGS}#bursting`, "--url", scene.url])).code, 0);
  });

  it("prints the sign of life with --check, and tells by its exit code if there is one", async () => {
    await using scene = await openScene();
    const args = ["worker", SETTINGS, "--url", scene.url];
    const none = await callCli([...args, "--check"]);
    assert.deepEqual({ ...none }, {
      code: 1,
      stdout: "",
      stderr: "arq: no worker has given a sign of life\n",
    });
    await using cli = startCli(args);
    await cli.line("recording health");
    const { code, stdout, stderr } = await callCli([...args, "--check"]);
    assert.match(
      stdout,
      /^\w{3}-\d\d \d\d:\d\d:\d\d j_complete=0 j_failed=0 j_retried=0 j_ongoing=0 queued=0\n$/,
    );
    assert.equal(stderr, "");
    assert.equal(code, 0);
  });

  it("logs as a LogTape configuration says", async () => {
    await using scene = await openScene();
    const config = "tests/fixtures/cli_log_config.ts";
    const args = ["worker", SETTINGS, "--burst", "--url", scene.url, "--log-config"];
    const { code, stdout } = await callCli([...args, config]);
    assert.equal(code, 0);
    for (const line of stdout.trimEnd().split("\n")) assert.match(line, /^mine: info /);
    assertUsage(await callCli([...args, `${config}#broken`]), /--log-config .*missing/);
    assertUsage(await callCli([...args, "tests/fixtures/cli_default.ts"]), /has sinks and loggers/);
    assertUsage(await callCli([...args, "nowhere.ts"]), /cannot load nowhere.ts: there is no such/);
    assertUsage(await callCli([...args, config, "--log-format", "json"]), /exclude each other/);
  });

  it("leaves the log alone where the settings' module has set it up", async () => {
    await using scene = await openScene();
    const args = ["worker", "tests/fixtures/cli_logs_itself.ts", "--url", scene.url];
    const [{ code, stdout }, json] = await Promise.all([
      runCli(args),
      runCli([...args, "--log-format", "json"]),
    ]);
    assert.equal(code, 0);
    for (const line of stdout.trimEnd().split("\n")) assert.match(line, /^own: /);
    assert.equal(JSON.parse(json.stdout.split("\n")[0] ?? "").event, "starting");
  });
});

/** The README's block that begins with the name of its file. */
function readmeBlock(file: string): string {
  const readme = readFileSync(`${ROOT}/README.md`, "utf8");
  const block = readme.split("```ts\n").find((text) => text.startsWith(`// ${file}\n`));
  assert.ok(block !== undefined, `README.md has a block ${file}`);
  return block.split("```")[0] ?? "";
}

describe("README's first program", () => {
  it("is run by the command line", async () => {
    const source = (file: string) =>
      readmeBlock(file).replaceAll('"@arq/arq"', JSON.stringify(LIBRARY));
    using project = new Project({
      "tasks.ts": source("tasks.ts"),
      "enqueue.ts": source("enqueue.ts"),
    });
    const runtime = IS_DENO ? [...RUN, "--no-lock", "--config", `${ROOT}/deno.json`] : [];
    await using client = new Cli(process.execPath, [...runtime, "enqueue.ts"], {
      cwd: project.folder,
    });
    const enqueued = await client.ended;
    assert.equal(enqueued.stderr, "");
    assert.equal(enqueued.stdout, "queued\n");
    const args = ["worker", "tasks.ts", "--burst"];
    const { code, stdout } = await runCli(args, { cwd: project.folder });
    assert.match(stdout, /→ \w+:downloadContent\('data:,Hello'\)/);
    assert.match(stdout, /← \w+:downloadContent ● 5$/m);
    assert.equal(code, 0);
  });
});
