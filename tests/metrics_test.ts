import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createPool } from "../client.ts";
import { metrics } from "../metrics.ts";
import { IS_DENO, runCli, SETTINGS, startCli } from "./_cli.ts";
import { eventually } from "./_helpers.ts";
import { type Family, parseOpenMetrics } from "./_open_metrics.ts";
import { startRedis } from "./_redis.ts";
import { Folder } from "./_sqlite.ts";
import { scenarios } from "./_worker.ts";

function get(path: string, method = "GET"): Request {
  return new Request(`http://localhost${path}`, { method });
}

async function read(handler: ReturnType<typeof metrics>): Promise<Map<string, Family>> {
  const response = await handler(get("/metrics"));
  const text = await response.text();
  assert.equal(response.status, 200, text);
  assert.equal(
    response.headers.get("content-type"),
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
  );
  return parseOpenMetrics(text);
}

/** The value of the one sample with these labels, among others. */
function valueOf(
  families: Map<string, Family>,
  name: string,
  labels: Readonly<Record<string, string>>,
): number | undefined {
  const samples = [...families.values()].flatMap((family) => family.samples);
  const found = samples.filter((sample) =>
    sample.name === name &&
    Object.entries(labels).every(([key, value]) => sample.labels[key] === value)
  );
  assert.ok(found.length < 2, `${found.length} samples of ${name}`);
  return found[0]?.value;
}

const functions = {
  echo: (_ctx: unknown, value: unknown) => value,
  fail: () => {
    throw new TypeError("no");
  },
};

scenarios("metrics", (scenario) => {
  scenario("tells of queue, functions and workers in OpenMetrics text", async (scene) => {
    const { arq, queueName: queue } = scene;
    const handler = metrics(arq);
    const empty = await read(handler);
    assert.equal(valueOf(empty, "arq_workers", {}), 0);
    scene.start({ functions, maxJobs: 7 });
    await Promise.all([
      ...[1, 2, 3].map((n) => arq.call("echo", [n])),
      assert.rejects(arq.call("fail")),
    ]);
    await arq.enqueueJob("echo", [], { deferBy: 60_000, jobId: "later" });
    const families = await eventually(async () => {
      const families = await read(handler);
      const ended = families.get("arq_jobs")?.samples.reduce((sum, { value }) => sum + value, 0);
      return ended === 4 && families;
    }, "counts of four jobs");
    assert.deepEqual(
      [...families.values()].map(({ name, type, unit }) => [name, type, unit]),
      [
        ["arq_queue_jobs", "gauge", undefined],
        ["arq_queue_oldest_due_seconds", "gauge", "seconds"],
        ["arq_queue_paused", "gauge", undefined],
        ["arq_jobs", "counter", undefined],
        ["arq_job_retries", "counter", undefined],
        ["arq_job_run_seconds", "histogram", "seconds"],
        ["arq_job_wait_seconds", "histogram", "seconds"],
        ["arq_workers", "gauge", undefined],
        ["arq_worker_slots", "gauge", undefined],
        ["arq_worker_memory_bytes", "gauge", "bytes"],
      ],
    );
    const expected: readonly (readonly [string, Record<string, string>, number])[] = [
      ["arq_queue_jobs", { queue, status: "queued" }, 0],
      ["arq_queue_jobs", { queue, status: "deferred" }, 1],
      ["arq_queue_jobs", { queue, status: "in_progress" }, 0],
      ["arq_queue_oldest_due_seconds", { queue }, 0],
      ["arq_queue_paused", { queue }, 0],
      ["arq_jobs_total", { queue, function: "echo", outcome: "complete" }, 3],
      ["arq_jobs_total", { queue, function: "echo", outcome: "failed" }, 0],
      ["arq_jobs_total", { queue, function: "fail", outcome: "failed" }, 1],
      ["arq_job_retries_total", { queue, function: "echo" }, 0],
      ["arq_job_run_seconds_count", { queue, function: "echo" }, 3],
      ["arq_job_wait_seconds_bucket", { queue, function: "echo", le: "+Inf" }, 3],
      ["arq_workers", { queue }, 1],
      ["arq_worker_slots", { queue }, 7],
    ];
    for (const [name, labels, value] of expected) {
      assert.equal(valueOf(families, name, labels), value, `${name} ${JSON.stringify(labels)}`);
    }
    const { functions: [echo] } = await arq.stats();
    assert.ok(echo && echo.functionName === "echo");
    const labels = { queue, function: "echo" };
    assert.equal(valueOf(families, "arq_job_run_seconds_sum", labels), echo.runTime.sumMs / 1_000);
    const buckets = families.get("arq_job_run_seconds")?.samples.filter(({ name, labels }) =>
      name.endsWith("_bucket") && labels.function === "echo"
    );
    assert.deepEqual(
      buckets?.map((
        { labels: { le = "" }, value },
      ) => [Number(le.replace("+Inf", "Infinity")), value]),
      echo.runTime.buckets.map(({ leMs, count }) => [leMs / 1_000, count]),
    );
    assert.ok((valueOf(families, "arq_worker_memory_bytes", { queue }) ?? 0) > 1e6);
    await arq.removeJob("later");
  });

  scenario(
    "tells how long the oldest job waits, and escapes what labels cannot hold",
    async (scene) => {
      const queueName = `${scene.prefix}"a\\b\n\x1b\u202e`;
      const job = await scene.arq.enqueueJob("echo", [], { queueName });
      await scene.arq.pause(queueName);
      const families = await eventually(async () => {
        const families = await read(metrics(scene.arq, { queueNames: [queueName] }));
        return Number(valueOf(families, "arq_queue_oldest_due_seconds", {})) > 0 && families;
      }, "a job that waits");
      const queue = `${scene.prefix}"a\\b\\n\\x1b\\u202e`;
      assert.equal(valueOf(families, "arq_queue_jobs", { queue, status: "queued" }), 1);
      assert.equal(valueOf(families, "arq_queue_paused", { queue }), 1);
      await scene.arq.resume(queueName);
      await scene.arq.removeJob(job.jobId, { queueName });
    },
  );

  scenario("is healthy as long as each queue has a live worker", async (scene) => {
    const health = async (handler = metrics(scene.arq)) => {
      const response = await handler(get("/under/any/path/healthz"));
      return [response.status, await response.text()];
    };
    const queueNames = [scene.queueName];
    const idle = metrics(scene.arq, { queueNames: [...queueNames, "other"] });
    assert.deepEqual(await health(), [503, `no live worker of ${scene.queueName}\n`]);
    scene.start({ functions });
    await eventually(async () => (await health())[0] === 200, "a live worker");
    assert.deepEqual(await health(), [200, "ok, 1 live\n"]);
    assert.deepEqual(await health(idle), [503, "no live worker of other\n"]);
    await scene.stop();
    assert.equal((await health(metrics(scene.arq, { queueNames })))[0], 503);
  });

  scenario("answers nothing else, and takes no other options", async (scene) => {
    const handler = metrics(scene.arq);
    assert.equal((await handler(get("/"))).status, 404);
    const refused = await handler(get("/metrics", "POST"));
    assert.deepEqual([refused.status, refused.headers.get("allow")], [405, "GET, HEAD"]);
    assert.equal((await handler(get("/metrics", "HEAD"))).status, 200);
    const wrong: readonly (readonly [object, RegExp])[] = [
      [{ queueName: "a" }, /metrics: unknown option "queueName"; did you mean "queueNames"\?/],
      [{ queueNames: [] }, /metrics: queueNames must be a list of names, got \[\]/],
      [{ queueNames: "mail" }, /metrics: queueNames must be a list of names, got "mail"/],
      [{ timeout: 0 }, /timeout must be/],
    ];
    for (const [options, message] of wrong) {
      assert.throws(() => metrics(scene.arq, options), message);
    }
    const url = "redis://localhost" as never;
    assert.throws(() => metrics(url), /^TypeError: metrics takes the pool that .*, got "redis:/);
  });
});

describe("metrics of a store that is away", () => {
  it("are a 503 that tells why, in time", async () => {
    const server = await startRedis();
    await using arq = await createPool(`${server.url}?timeout=300`);
    const [slow, patient] = [metrics(arq, { timeout: 50 }), metrics(arq)];
    server.kill("SIGSTOP");
    const late = await slow(get("/healthz"));
    assert.deepEqual([late.status, await late.text()], [
      503,
      "The store did not answer within 0.05 s\n",
    ]);
    server.kill("SIGCONT");
    await server.stop();
    for (const path of ["/healthz", "/metrics"]) {
      const response = await patient(get(path));
      assert.equal(response.status, 503);
      assert.match(await response.text(), /^[^\n]*127\.0\.0\.1[^\n]*\n$/);
    }
  });
});

describe("arq worker --metrics-port", () => {
  it("serves as long as the worker runs, and says if the port is taken", async () => {
    using folder = new Folder();
    const args = ["worker", SETTINGS, "--url", folder.url(), "--metrics-port"];
    await using cli = startCli([...args, "localhost:0"]);
    const url = /http:\S+(?=\/metrics)/.exec(await cli.line("metrics on http"))?.[0] ?? "";
    await eventually(async () => (await fetch(`${url}/healthz`)).status === 200, "a live worker");
    const response = await fetch(`${url}/metrics`);
    assert.equal(valueOf(parseOpenMetrics(await response.text()), "arq_workers", {}), 1);
    const { host } = new URL(url);
    const second = await runCli([...args, host]);
    assert.equal(
      second.stderr,
      `arq: --metrics-port: cannot listen on ${host}: it is taken by another program\n`,
    );
    assert.equal(second.code, 2);
    assert.equal((await cli.end("SIGTERM")).code, 0);
    await assert.rejects(fetch(url));
  });

  it("refuses what is no port, and names the permission that is missing", async () => {
    for (const text of ["x", "70000", ":80", "host:"]) {
      const { code, stderr } = await runCli(["worker", SETTINGS, "--metrics-port", text]);
      assert.equal(stderr, `arq: --metrics-port must be a port or HOST:PORT, got "${text}"\n`);
      assert.equal(code, 2);
    }
    if (!IS_DENO) return; // Bun has no permissions
    using folder = new Folder();
    const runtimeArgs = ["run", "--quiet", "--no-prompt", "--allow-read", "--allow-write"];
    const args = ["worker", SETTINGS, "--url", folder.url(), "--metrics-port", "9464"];
    const { code, stderr } = await runCli(args, { runtimeArgs });
    assert.equal(stderr, "arq: --metrics-port: start Deno with --allow-net=127.0.0.1:9464\n");
    assert.equal(code, 2);
  });
});
