import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { createPool } from "../client.ts";
import { dashboard, type DashboardOptions } from "../dashboard.ts";
import { Worker } from "../worker.ts";
import { HOSTILE, LOCAL, openPool, PAGES, Stage, Visitor } from "./_dashboard.ts";

describe("dashboard without authorize", () => {
  it("serves a browser of this machine, by any of its names", async () => {
    await using arq = await openPool();
    const show = dashboard(arq);
    const names = ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "LOCALHOST", "arq.localhost"];
    for (const name of names) {
      const request = new Request(`http://${name}:8000/`, { headers: { host: `${name}:8000` } });
      assert.equal((await show(request, LOCAL)).status, 200, name);
    }
    for (const hostname of ["::1", "127.0.0.1", "::ffff:127.0.0.1"]) {
      const request = new Request("http://localhost/");
      assert.equal((await show(request, { remoteAddr: { hostname } })).status, 200, hostname);
      const server = { requestIP: () => ({ address: hostname, port: 1, family: "IPv4" }) };
      assert.equal((await show(request, server)).status, 200, hostname);
    }
  });

  it("refuses everybody else, and whom it cannot tell, and says what to do", async () => {
    await using arq = await openPool();
    const show = dashboard(arq);
    const from = (hostname: string) => ({ remoteAddr: { transport: "tcp", hostname } });
    const unix = { remoteAddr: { transport: "unix", path: "/run/arq.sock" } };
    const cases: readonly (readonly [string, unknown, Record<string, string>, RegExp])[] = [
      ["localhost", undefined, {}, /cannot tell where/],
      ["localhost", {}, {}, /cannot tell where/],
      ["localhost", unix, {}, /cannot tell where/],
      ["localhost", { requestIP: () => null }, {}, /cannot tell where/],
      ["localhost", from("192.0.2.7"), {}, /this machine only/],
      ["localhost", from("::ffff:192.0.2.7"), {}, /this machine only/],
      ["localhost", from("127.0.0.1.example.com"), {}, /this machine only/],
      ["localhost", { requestIP: () => ({ address: "192.0.2.7" }) }, {}, /this machine only/],
      ["evil.example", LOCAL, {}, /names of this machine/],
      ["localhost", LOCAL, { host: "evil.example" }, /names of this machine/],
      ["localhost", LOCAL, { host: "localhost.evil.example" }, /names of this machine/],
      ["127.0.0.1.evil.example", LOCAL, {}, /names of this machine/],
      ["evil.example", LOCAL, { host: "localhost" }, /names of this machine/],
      ["localhost", LOCAL, { "x-forwarded-for": "192.0.2.7" }, /proxy/],
      ["localhost", LOCAL, { forwarded: "for=192.0.2.7" }, /proxy/],
    ];
    for (const [host, info, headers, message] of cases) {
      for (const path of [...PAGES, "/live", "/style.css"]) {
        const response = await show(new Request(`http://${host}${path}`, { headers }), info);
        assert.equal(response.status, 403, `${host} ${path}`);
        const text = await response.text();
        assert.match(text, message);
        assert.match(text, /authorize/);
        assert.doesNotMatch(text, /<|arq:/);
      }
    }
  });
});

describe("dashboard with authorize", () => {
  it("serves whom it lets in, from anywhere, and nobody else", async () => {
    await using arq = await openPool();
    const show = dashboard(arq, {
      authorize: async (request) => {
        await Promise.resolve();
        const user = request.headers.get("user");
        return user === null ? new Response("Who are you?", { status: 401 }) : user === "ann";
      },
    });
    const visit = async (headers: Record<string, string>, path: string) =>
      await show(new Request(`https://arq.example${path}`, { headers }));
    for (const path of [...PAGES, "/live", "/style.css"]) {
      assert.equal((await visit({ user: "bob" }, path)).status, 403);
      const asked = await visit({}, path);
      assert.deepEqual([asked.status, await asked.text()], [401, "Who are you?"]);
    }
    const response = await visit({ user: "ann" }, "/");
    assert.equal(response.status, 200);
    assert.match(response.headers.get("set-cookie") ?? "", /; Secure$/);
  });

  it("serves nobody if it throws or returns something else", async () => {
    await using arq = await openPool();
    const truthy = (() => "yes") as unknown as () => boolean;
    assert.equal((await new Visitor(dashboard(arq, { authorize: truthy })).get("/")).status, 403);
    const broken = () => {
      throw new Error("the secret of the login");
    };
    const response = await new Visitor(dashboard(arq, { authorize: broken })).get("/");
    assert.equal(response.status, 500);
    assert.doesNotMatch(await response.text(), /secret/);
  });
});

describe("dashboard", () => {
  it("takes a pool, and not the promise of one", async () => {
    const opening = openPool();
    assert.throws(() => dashboard(opening as never), {
      name: "TypeError",
      message: "dashboard takes the pool that createPool resolves to, got a Promise; " +
        "is an await missing?",
    });
    await (await opening).close();
  });

  it("names what is wrong with an option", async () => {
    await using arq = await openPool();
    const cases: readonly (readonly [unknown, RegExp])[] = [
      [{ basepath: "/x" }, /unknown option "basepath"; did you mean "basePath"/],
      [{ basePath: "queues" }, /basePath must be a path such as "\/queues", got "queues"/],
      [{ basePath: "//evil.example" }, /basePath/],
      [{ basePath: "/a?b" }, /basePath/],
      [{ readOnly: "yes" }, /readOnly must be true or false, got "yes"/],
      [{ authorize: true }, /authorize must be a function, got true/],
    ];
    for (const [options, message] of cases) {
      assert.throws(() => dashboard(arq, options as DashboardOptions), {
        name: "TypeError",
        message,
      });
    }
  });

  it("works under any path, whether or not a router takes it off", async () => {
    await using arq = await openPool();
    for (const basePath of ["/admin/queues", "/admin/queues/"]) {
      const visitor = new Visitor(dashboard(arq, { basePath }));
      for (const path of ["/admin/queues/workers", "/workers"]) {
        const text = await (await visitor.get(path)).text();
        assert.match(text, /<h1>Workers<\/h1>/);
        const links = [...text.matchAll(/(?:href|src|action)="([^"#]+)"/g)].map(([, at]) => at);
        assert.ok(links.length > 5);
        for (const at of links) assert.match(at ?? "", /^\/admin\/queues\/[\w.]*(\?v=[\w-]+)?$/);
      }
      const bare = await visitor.get("/admin/queues?queue=x");
      assert.deepEqual(
        [bare.status, bare.headers.get("location")],
        [303, "/admin/queues/?queue=x"],
      );
      assert.equal((await visitor.get("/admin/queuesworkers")).status, 404);
    }
    const jobs = new Visitor(dashboard(arq, { basePath: "/jobs" }));
    const ways = [["/", "Overview"], ["/jobs/", "Overview"], ["/jobs", "Jobs"]] as const;
    for (const [path, head] of ways) {
      assert.match(await (await jobs.get(path)).text(), new RegExp(`<h1>${head}</h1>`), path);
    }
    const response = await new Visitor(dashboard(arq)).get("/queues/jobs");
    assert.equal(response.status, 404);
    assert.match(await response.text(), /basePath/);
  });

  it("sends strict headers with everything", async () => {
    await using arq = await openPool();
    const visitor = new Visitor(dashboard(arq));
    for (const path of [...PAGES, "/style.css", "/script.js", "/icon.svg", "/none", "/live"]) {
      const { headers, body } = await visitor.get(path);
      const policy = headers.get("content-security-policy") ?? "";
      assert.match(policy, /^default-src 'none'; /);
      assert.match(policy, /frame-ancestors 'none'; base-uri 'none'/);
      assert.doesNotMatch(policy, /unsafe|\*|https?:|data:/);
      assert.equal(headers.get("x-content-type-options"), "nosniff");
      assert.equal(headers.get("x-frame-options"), "DENY");
      assert.equal(headers.get("referrer-policy"), "same-origin");
      await body?.cancel();
    }
  });

  it("sends pages that load nothing but its own stylesheet, script and icon", async () => {
    await using arq = await openPool();
    const visitor = new Visitor(dashboard(arq));
    for (const path of PAGES) {
      const response = await visitor.get(path);
      assert.equal(response.headers.get("cache-control"), "no-store");
      const text = await response.text();
      assert.doesNotMatch(text, /\sstyle=|\son\w+=|<style|<script>|https?:/);
      const assets = [...text.matchAll(/(?:href|src)="(\/[\w.]+\?v=[^"]+)"/g)];
      assert.equal(assets.length, 2);
      for (const [, at = ""] of assets) {
        const asset = await visitor.get(at);
        assert.equal(asset.status, 200);
        assert.match(asset.headers.get("cache-control") ?? "", /immutable/);
        assert.doesNotMatch(await asset.text(), /https?:|url\(|@import/);
      }
    }
    const stale = await visitor.get("/style.css?v=older");
    assert.doesNotMatch(stale.headers.get("cache-control") ?? "", /immutable/);
  });

  it("answers HEAD without a body, and other methods with what is allowed", async () => {
    await using arq = await openPool();
    const show = dashboard(arq);
    const ask = (method: string, path: string) =>
      show(new Request(`http://localhost${path}`, { method }), LOCAL);
    const head = await ask("HEAD", "/");
    assert.deepEqual([head.status, await head.text()], [200, ""]);
    for (const [method, path] of [["PUT", "/"], ["DELETE", "/job?id=x"], ["POST", "/workers"]]) {
      const { status, headers } = await ask(method ?? "", path ?? "");
      assert.deepEqual([status, headers.has("allow")], [405, true]);
    }
  });

  it("says what is wrong with an address, and with the store", async () => {
    const arq = await openPool();
    const visitor = new Visitor(dashboard(arq));
    const strange = await visitor.get("/jobs?cursor=strange");
    assert.equal(strange.status, 400);
    assert.match(await strange.text(), /cursor/);
    assert.equal((await visitor.get("/jobs?status=odd&since=odd&function=")).status, 200);
    assert.equal((await visitor.get("/job")).status, 404);
    await arq.close();
    const closed = await visitor.get("/workers");
    assert.equal(closed.status, 503);
    assert.match(await closed.text(), /The store does not answer/);
  });

  it("leads from the failures of a function that no worker has to them", async () => {
    await using arq = await openPool();
    const { jobId } = await arq.enqueueJob("nobody's");
    await new Worker({ connection: arq, functions: { f: () => {} }, burst: true }).run();
    const visitor = new Visitor(dashboard(arq));
    const overview = await (await visitor.get("/")).text();
    const [, href = ""] = /<a class="bad" href="([^"]*)">1</.exec(overview) ?? [];
    const list = await visitor.get(href.replaceAll("&amp;", "&"));
    assert.match(await list.text(), new RegExp(jobId));
  });

  it("shows another queue by name, and keeps to it in every link", async () => {
    await using arq = await openPool();
    const queueName = `${arq.defaultQueueName}:"><b>`;
    const job = await arq.enqueueJob("other", [], { queueName });
    const visitor = new Visitor(dashboard(arq));
    const query = new URLSearchParams({ queue: queueName });
    for (const path of ["/", "/jobs", "/workers", "/cron"]) {
      const text = await (await visitor.get(`${path}?${query}`)).text();
      assert.doesNotMatch(text, /"><b>/);
      const links = [...text.matchAll(/<a [^>]*href="(\/[^"]*)"/g)].map(([, at = ""]) => at);
      assert.ok(links.length >= 4);
      for (const at of links) {
        const { searchParams } = new URL(at.replaceAll("&amp;", "&"), "http://localhost");
        assert.equal(searchParams.get("queue"), queueName, at);
      }
    }
    const list = await (await visitor.get(`/jobs?${query}`)).text();
    assert.match(list, new RegExp(job.jobId));
  });
});

describe("dashboard's buttons", () => {
  it("need the token of the browser's cookie, and a page of the same origin", async () => {
    await using arq = await openPool();
    const visitor = new Visitor(dashboard(arq));
    const good = await visitor.token();
    const other = await visitor.token();
    assert.match(good.token, /^[\w-]{32}$/);
    assert.notEqual(good.token, other.token);
    const pause = { action: "pause", ...good };
    const isPaused = async () => (await arq.stats()).paused;
    const site = "sec-fetch-site";
    const withoutSite = { [site]: "same-origin" };
    const refused: readonly Parameters<Visitor["post"]>[1][] = [
      { action: "pause" },
      { ...pause, token: "" },
      { ...pause, token: other.token },
      { ...pause, cookie: undefined },
      { ...pause, cookie: other.cookie },
      { ...pause, token: "", cookie: "arq_dashboard=" },
      { ...pause, headers: { [site]: "cross-site" } },
      { ...pause, headers: { [site]: "same-site" } },
      { ...pause, headers: { [site]: "none" } },
      { ...pause, headers: { [site]: "cross-site", origin: "http://localhost:8000" } },
      { ...pause, headers: { "content-type": "text/plain" } },
      { ...pause, padding: "x".repeat(20_000) },
    ];
    for (const form of refused) {
      const { status } = await visitor.post("/", form);
      assert.ok(status === 403 || status === 400, `${status} for ${JSON.stringify(form)}`);
    }
    assert.equal(await isPaused(), false);
    const done = await visitor.post("/", { ...pause, headers: withoutSite });
    assert.deepEqual([done.status, done.headers.get("location")], [303, "/?done=paused"]);
    assert.equal(await isPaused(), true);
  });

  it("go by the origin where the browser does not tell the site", async () => {
    await using arq = await openPool();
    const show = dashboard(arq, { authorize: () => true });
    const { token, cookie } = await new Visitor(show).token();
    const post = async (headers: Record<string, string>) => {
      const body = new URLSearchParams({ action: "pause", token });
      const request = new Request("http://inside:8000/", {
        method: "POST",
        body,
        headers: { cookie, ...headers },
      });
      return (await show(request)).status;
    };
    assert.equal(await post({}), 403);
    assert.equal(await post({ origin: "null" }), 403);
    assert.equal(await post({ origin: "https://evil.example" }), 403);
    assert.equal(await post({ origin: "http://inside" }), 403);
    assert.equal(await post({ origin: "http://inside:8000" }), 303);
    assert.equal(await post({ origin: "https://arq.example", host: "arq.example" }), 303);
  });

  it("retry a job on the queue that it ran on, whichever is shown", async () => {
    await using stage = await Stage.open();
    const { arq } = stage;
    const functions = {
      fail: () => {
        throw new Error("as ever");
      },
    };
    const worker = new Worker({ connection: arq, queueName: "mail", functions, burst: true });
    await arq.enqueueJob("fail", [], { jobId: "letter", queueName: "mail" });
    await worker.run();
    const visitor = new Visitor(dashboard(arq));
    const page = await (await visitor.get("/job?id=letter")).text();
    const [, target = ""] = /<form method="post" action="([^"]+)">/.exec(page) ?? [];
    const form = { action: "retry", ...await visitor.token() };
    const { headers } = await visitor.post(target.replaceAll("&amp;", "&"), form);
    assert.equal(headers.get("location"), "/job?queue=mail&id=letter&done=retried");
    assert.equal(await arq.job("letter", { queueName: "mail" }).status(), "queued");
  });

  it("say what they have done, in words that no link can choose", async () => {
    await using stage = await Stage.open();
    await stage.fill();
    const visitor = new Visitor(dashboard(stage.arq));
    const form = await visitor.token();
    const press = async (path: string, action: string) => {
      const { status, headers } = await visitor.post(path, { action, ...form });
      return [status, headers.get("location")];
    };
    assert.deepEqual(await press("/job?id=running", "abort"), [
      303,
      "/job?id=running&done=aborted",
    ]);
    assert.deepEqual(await press("/job?id=good", "abort"), [303, "/job?id=good&done=not-aborted"]);
    assert.deepEqual(await press("/job?id=never", "abort"), [303, "/job?id=never&done=not-there"]);
    assert.deepEqual(await press("/job?id=bad", "retry"), [303, "/job?id=bad&done=retried"]);
    assert.deepEqual(await press("/job?id=later", "remove"), [303, "/jobs?done=removed"]);
    assert.deepEqual(await press("/job?id=later", "remove"), [
      303,
      "/job?id=later&done=not-removed",
    ]);
    const [status] = await press("/job?id=good", "retry"); // it has not failed
    assert.equal(status, 409);
    for (const action of ["toString", "constructor", "pause", ""]) {
      assert.deepEqual(await press("/job?id=good", action), [400, null], action);
    }
    assert.match(await (await visitor.get("/?done=paused")).text(), /The queue is paused:/);
    for (const done of ["<b>You have won</b>", "toString", "__proto__"]) {
      const text = await (await visitor.get(`/?${new URLSearchParams({ done })}`)).text();
      assert.doesNotMatch(text, /You have won|class="notice"/);
    }
  });
});

describe("dashboard of a queue with jobs", () => {
  let stage: Stage;
  before(async () => {
    stage = await Stage.open();
    await stage.fill();
  });
  after(() => stage[Symbol.asyncDispose]());

  it("has no buttons, and does nothing, where it is read-only", async () => {
    const writable = new Visitor(dashboard(stage.arq));
    const visitor = new Visitor(dashboard(stage.arq, { readOnly: true }));
    const { token, cookie } = await writable.token();
    for (const path of [...PAGES, "/jobs?status=failed", "/job?id=bad", "/job?id=running"]) {
      const response = await visitor.get(path);
      assert.equal(response.headers.get("set-cookie"), null);
      assert.doesNotMatch(await response.text(), /method="post"|name="token"/);
    }
    const targets = [["/", "pause"], ["/job?id=bad", "retry"], [
      "/jobs?status=failed",
      "retry-all",
    ]];
    for (const [path = "", action = ""] of targets) {
      assert.equal((await visitor.post(path, { action, token, cookie })).status, 403);
    }
    const bad = await stage.arq.jobView("bad");
    assert.deepEqual([bad?.status, (await stage.arq.stats()).paused], ["failed", false]);
  });

  it("finds by status, function, id, argument and error, page by page", async () => {
    const visitor = new Visitor(dashboard(stage.arq));
    const ids = async (query: Record<string, string>) => {
      const text = await (await visitor.get(`/jobs?${new URLSearchParams(query)}`)).text();
      return [...text.matchAll(/href="\/job\?id=([^"&]+)"/g)].map(([, id]) => id).sort();
    };
    assert.equal((await ids({})).length, 5);
    assert.deepEqual(await ids({ status: "failed" }), ["bad"]);
    assert.deepEqual(await ids({ function: "double" }), ["good", "later"]);
    assert.deepEqual(await ids({ function: "double", status: "deferred" }), ["later"]);
    assert.deepEqual(await ids({ q: "later" }), ["later"]);
    assert.deepEqual(await ids({ q: "ITS ARGUMENT" }), ["bad"]);
    assert.deepEqual(await ids({ q: "no such thing", since: "5m" }), ["bad"]);
    assert.deepEqual(await ids({ q: "nothing like it" }), []);
    const letter = `Dear Ann, ${"and so on, ".repeat(50)}yours, Bob`;
    await stage.arq.enqueueJob("double", [letter], { deferBy: { hours: 2 }, jobId: "long" });
    assert.deepEqual(await ids({ q: "yours, bob" }), ["long"]); // more than the list shows
    await stage.arq.removeJob("long");
    for (let i = 0; i < 60; i++) {
      await stage.arq.enqueueJob("double", [i], { deferBy: { hours: 2 }, jobId: `many-${i}` });
    }
    const first = await (await visitor.get("/jobs?status=deferred")).text();
    const next = /href="([^"]+)" rel="next"/.exec(first)?.[1]?.replaceAll("&amp;", "&") ?? "";
    const second = await (await visitor.get(next)).text();
    const jobs = (text: string) => [...text.matchAll(/\/job\?id=/g)].length;
    assert.deepEqual([jobs(first), jobs(second)], [50, 11]);
    assert.match(second, />First page</);
  });

  it("shows the life of a job, what it got, and what became of it, as text that does nothing", async () => {
    const visitor = new Visitor(dashboard(stage.arq));
    const page = async (id: string) => {
      const response = await visitor.get(`/job?${new URLSearchParams({ id })}`);
      return await response.text();
    };
    const bad = await page("bad");
    for (const shown of ["RangeError", "no such thing", "TypeError", "deep below", "Caused by"]) {
      assert.match(bad, new RegExp(shown));
    }
    assert.match(bad, /&#39;its argument&#39;/);
    assert.match(bad, /Enqueued[^]*Started[^]*Failed/);
    const running = await page("running");
    assert.match(running, /In progress/);
    assert.match(running, /<progress max="1" value="0.4"[^>]*><\/progress>\s*40 %/);
    assert.match(running, new RegExp(`process ${globalThis.process?.pid ?? ""}`));
    const hostile = await page(HOSTILE);
    assert.ok(hostile.length < 100_000, `${hostile.length} characters`);
    assert.doesNotMatch(hostile, /<script>|<img|(?!\n)[\p{Cc}\p{Cf}]/u);
    assert.match(hostile, /\\u202e\\x00\\x1b\[31m/);
    assert.match(hostile, /Uint8Array\(5000\)/);
    assert.match(hostile, /Only the beginning is shown/);
  });
});

describe("dashboard of a program with another serializer", () => {
  it("shows a running job, and how to abort it, though it can read neither the job nor its progress", async () => {
    await using stage = await Stage.open();
    await stage.fill();
    const { prefix } = stage.arq.store;
    const jobDeserializer = () => {
      throw new TypeError("of another program");
    };
    await using arq = await createPool("sqlite::memory:", { prefix, jobDeserializer });
    const response = await new Visitor(dashboard(arq)).get("/job?id=running");
    assert.equal(response.status, 200);
    const text = await response.text();
    assert.match(text, /Nobody can read it as a whole: .*of another program/);
    assert.match(text, /<h2 id="progress-head">Progress<\/h2>.*of another program/);
    assert.match(text, />Abort<\/button>/);
  });
});
