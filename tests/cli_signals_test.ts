import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openScene, Project, runCli, type Scene, SETTINGS, startCli } from "./_cli.ts";
import { callCli } from "./_cli_call.ts";
import { startRedis } from "./_redis.ts";

/** Longer than two signals may be one. */
const ECHO_MS = 400;
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

type Signal = keyof typeof SIGNALS;

function worker({ url }: Pick<Scene, "url">, name = "") {
  return startCli(["worker", SETTINGS + name, "--url", url]);
}

async function handsBack(signal: Signal): Promise<void> {
  await using scene = await openScene();
  await scene.arq.enqueueJob("slow", [60_000], { jobId: "one" });
  await using first = worker(scene);
  await first.line("→ one:slow(60000)");
  first.kill(signal);
  await first.line(
    `shutdown on ${signal} ◆ 0 jobs complete ◆ 0 failed ◆ 0 retries ◆ 1 ongoing to cancel`,
  );
  await first.line("↻ one:slow cancelled, will be run again");
  const { code, stderr } = await first.ended;
  assert.equal(stderr, "");
  assert.equal(code, 0);
  assert.equal(await scene.arq.job("one").status(), "queued", "the lease is given back");
  if (signal !== "SIGTERM") return; // what comes next is the same
  await using second = worker(scene);
  await second.line("redis_version");
  const startedAt = Date.now();
  await second.line(/→ one:slow\(60000\) try=2/);
  assert.ok(Date.now() - startedAt < 15_000, "long before a lease of 30 s would have ended");
}

async function endsAtSecond(signal: Signal): Promise<void> {
  await using scene = await openScene();
  await scene.arq.enqueueJob("stubborn", [], { jobId: "one" });
  await using cli = worker(scene, "#graceful");
  await cli.line("→ one:stubborn()");
  cli.kill("SIGTERM");
  await cli.line("shutdown on SIGTERM");
  await sleep(ECHO_MS);
  const { code, stderr } = await cli.end(signal);
  assert.equal(stderr, "");
  assert.equal(code, SIGNALS[signal], signal);
}

describe("arq worker, told to end,", () => {
  it("hands a job back, and the next worker starts it at once", async () => {
    await Promise.all((Object.keys(SIGNALS) as Signal[]).map(handsBack));
  });

  it("lets running jobs end within jobCompletionWait, and takes no others", async () => {
    await using scene = await openScene();
    using files = new Project({});
    await scene.arq.enqueueJob("untilFile", [files.path("end")], { jobId: "one" });
    await using cli = worker(scene, "#patient");
    await cli.line("→ one:untilFile");
    cli.kill("SIGTERM");
    await cli.line(/shutdown on SIGTERM .* 1 ongoing to finish within 10.00s/);
    await scene.arq.enqueueJob("double", [1], { jobId: "two" });
    files.write("end", "");
    await cli.line("← one:untilFile ● 'ended'");
    assert.equal((await cli.ended).code, 0);
    assert.equal(cli.count(/two/), 0);
  });

  it("ends at once at a second signal", async () => {
    await Promise.all((Object.keys(SIGNALS) as Signal[]).map(endsAtSecond));
  });

  it("takes a Ctrl-C that arrives twice, as under bunx, for one", async () => {
    await using scene = await openScene();
    using files = new Project({});
    await scene.arq.enqueueJob("untilFile", [files.path("end")], { jobId: "one" });
    await using cli = worker(scene, "#patient");
    await cli.line("→ one:untilFile");
    // Both are on their way at once, however late they are; two of a kind would be one by then.
    cli.kill("SIGINT");
    cli.kill("SIGTERM");
    await cli.line("shutdown on SIG");
    await sleep(ECHO_MS);
    files.write("end", "");
    await cli.line("← one:untilFile ● 'ended'");
    assert.equal((await cli.ended).code, 0);
  });

  it("leaves signals alone where the settings say so", async () => {
    await using scene = await openScene();
    await using cli = worker(scene, "#withoutSignals");
    await cli.line("recording health");
    const { code } = await cli.end("SIGTERM");
    assert.ok(code === "SIGTERM" || code === 143, `not handled, ended by ${code}`);
    assert.equal(cli.count(/shutdown/), 0);
  });
});

describe("arq worker, when something throws where nobody can catch it,", () => {
  const cases = [
    ["reject", "unhandled rejection: RangeError: nobody waits for redis://***@host/"],
    ["throwLater", "uncaught exception: RangeError: too late"],
  ] as const;
  it("says so in one line and exits with 1", async () => {
    await Promise.all(cases.map(async ([name, text]) => {
      await using scene = await openScene();
      await scene.arq.enqueueJob(name, []);
      await using cli = worker(scene);
      const { code, stderr } = await cli.ended;
      assert.ok(stderr.startsWith(`arq: it ends because of an ${text} at `), stderr);
      assert.match(stderr, /cli_settings\.ts:\d+:\d+\n$/);
      assert.equal(stderr.trimEnd().split("\n").length, 1);
      assert.equal(code, 1);
    }));
  });

  it("records what has ended and hands back the neighbours, whose tries do not count", async () => {
    await using scene = await openScene();
    const ended = await scene.arq.enqueueJob("double", [21]);
    await scene.arq.enqueueJob("slow", [60_000], { jobId: "neighbour" });
    await using first = worker(scene, "#fragile");
    await first.line("→ neighbour:slow");
    const poison = await scene.arq.enqueueJob("reject", []);
    await first.line("shutdown on unhandled rejection");
    assert.equal((await first.ended).code, 1);
    assert.equal(await ended.result(), 42);
    assert.equal(await scene.arq.job("neighbour").status(), "queued");
    assert.equal(await poison.status(), "queued", "nobody knows that it was this one");
    await poison.abort();
    await using second = worker(scene, "#fragile");
    await second.line(/→ neighbour:slow\(60000\) try=2/);
    assert.equal((await second.end("SIGTERM")).code, 0);
    assert.equal(await scene.arq.job("neighbour").status(), "queued");
  });

  it("ends at once at a signal that follows", async () => {
    await using scene = await openScene();
    await scene.arq.enqueueJob("reject", []);
    await using cli = worker(scene, "#graceful");
    await cli.line("shutdown on unhandled rejection");
    assert.equal((await cli.end("SIGTERM")).code, 143);
  });

  it("takes several errors of one moment for one, and ends at once at a later one", async () => {
    using project = new Project({
      "settings.ts": `
        const fail = () => void Promise.reject(new RangeError("of one moment"));
        const again = () => void setTimeout(fail, ${ECHO_MS});
        const failAgain = (ctx) => {
          fail();
          ctx.signal.addEventListener("abort", again); // once the first has been heard of
          return new Promise(() => {});
        };
        const slow = () => new Promise((resolve) => setTimeout(resolve, 100));
        export const functions = {
          several: () => (fail(), fail(), slow()),
          later: failAgain,
        };
        export const abortGrace = 60_000;
      `,
    });
    await using scene = await openScene();
    const args = ["worker", project.path("settings.ts"), "--url", scene.url];
    const several = await scene.arq.enqueueJob("several" as "double", [0]);
    const first = await runCli(args);
    assert.equal(first.stderr.match(/RangeError: of one moment/g)?.length, 2);
    assert.equal(first.code, 1);
    assert.equal(await several.status(), "complete", "it was awaited");
    await scene.arq.enqueueJob("later" as "double", [0]);
    const second = await runCli(args);
    assert.equal(second.stderr.match(/RangeError: of one moment/g)?.length, 2);
    assert.equal(second.code, 1);
  });
});

describe("arq worker, without its Redis,", () => {
  it("tries connRetries times more and exits with one line", async () => {
    const url = "redis://user:hidden@127.0.0.1:1?connRetries=2&connRetryDelay=20";
    const { code, stdout, stderr } = await runCli(["worker", SETTINGS, "--url", url]);
    assert.equal(stdout.match(/127\.0\.0\.1:1: connection refused/g)?.length, 2, stdout);
    assert.equal(
      stderr,
      "arq: Redis at 127.0.0.1:1: connection refused; is the server running there?\n",
    );
    assert.equal(code, 1);
    const check = await callCli(["worker", SETTINGS, "--check", "--url", url]);
    assert.equal(check.stdout, "");
    assert.equal(check.code, 1);
  });

  it("ends at a signal while it tries to connect", async () => {
    const url = "redis://127.0.0.1:1?connRetries=1000&connRetryDelay=100";
    await using cli = startCli(["worker", SETTINGS, "--url", url]);
    await cli.line("attempts left");
    const { code, stderr } = await cli.end("SIGTERM");
    assert.equal(stderr, "");
    assert.equal(code, 0);
  });

  it("waits for it and goes on when it is there again", async () => {
    await using server = await startRedis();
    await using scene = await openScene(server.url);
    await using cli = worker(scene);
    await cli.line("redis_version");
    assert.equal(await scene.arq.call("double", [1]), 2);
    server.kill("SIGKILL");
    await cli.line(/connecting again|trying again/);
    await server.restart();
    assert.equal(await scene.arq.call("double", [2], { timeout: 15_000 }), 4);
    const { code, stderr } = await cli.end("SIGTERM");
    assert.equal(stderr, "");
    assert.equal(code, 0);
  });
});
