/**
 * The dashboard as it is served: over HTTP by each runtime, whose servers differ, and in Chromium.
 * What Chromium gets is the same under both, so it looks at it under one of them, Deno.
 */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import type { Page } from "playwright-core";
import { IS_DENO } from "./_cli.ts";
import { HOSTILE, Stage } from "./_dashboard.ts";
import { eventually, within } from "./_helpers.ts";

const PAGES = {
  overview: "/",
  minutes: "/minutes",
  jobs: "/jobs",
  failed: "/jobs?status=failed",
  "no jobs": "/jobs?q=nothing+like+it",
  "a failed job": "/job?id=bad",
  "a running job": "/job?id=running",
  "a deferred job": "/job?id=later",
  "a hostile job": `/job?${new URLSearchParams({ id: HOSTILE })}`,
  workers: "/workers",
  cron: "/cron",
};
const PHONE = { width: 360, height: 740 };
const DESK = { width: 1280, height: 720 };

function text(page: Page, selector: string): Promise<string> {
  return page.innerText(selector);
}

/** Counts the looks at the store; returns how many there were so far. */
function countLooks({ arq }: Stage): () => number {
  const { stats } = arq;
  let looks = 0;
  arq.stats = (options) => {
    looks++;
    return stats.call(arq, options);
  };
  return () => looks;
}

async function looksEnd(looks: () => number): Promise<void> {
  await eventually(async () => {
    const before = looks();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    return looks() === before;
  }, "the end of the looks");
}

describe("dashboard over HTTP", () => {
  it("serves whole pages, takes forms, and streams until its reader goes", async () => {
    await using stage = await Stage.open();
    await stage.fill();
    await using server = stage.serve();
    let cookie = "";
    let token = "";
    for (const [name, path] of Object.entries(PAGES)) {
      const response = await fetch(server.url + path);
      const page = await response.text();
      assert.equal(response.status, 200, name);
      assert.match(response.headers.get("content-security-policy") ?? "", /default-src 'none'/);
      assert.ok(/^\s*<!doctype html>[^]*<h1>[^]*<\/html>\s*$/.test(page), name);
      cookie ||= response.headers.get("set-cookie")?.split(";")[0] ?? "";
      token ||= /name="token" value="([^"]+)"/.exec(page)?.[1] ?? "";
    }
    const paused = await fetch(server.url, {
      method: "POST",
      body: new URLSearchParams({ action: "pause", token }),
      headers: { cookie, origin: server.url },
      redirect: "manual",
    });
    assert.deepEqual([paused.status, paused.headers.get("location")], [303, "/?done=paused"]);
    assert.equal((await stage.arq.stats()).paused, true);

    const looks = countLooks(stage);
    const leaving = new AbortController();
    const stream = await fetch(`${server.url}/live`, { signal: leaving.signal });
    assert.equal(stream.headers.get("content-type"), "text/event-stream");
    const reader = stream.body?.pipeThrough(new TextDecoderStream()).getReader();
    const readTo = async (pattern: RegExp) => {
      for (let all = ""; !pattern.test(all);) all += (await reader?.read())?.value ?? assert.fail();
    };
    await within(20_000, "the numbers", readTo(/"tiles"/));
    await stage.arq.resume();
    await within(20_000, "the change", readTo(/"state"/));
    leaving.abort();
    await looksEnd(looks);
    stage.gate.open();
  });
});

async function describeInChromium(): Promise<void> {
  const { faintTexts, startChromium, Tab } = await import("./_chromium.ts");
  const browser = await startChromium(); // which may have to be installed first
  describe("dashboard in Chromium", () => {
    after(() => browser.close());

    it("shows every page, in both themes and on a phone, legibly and without a complaint", async () => {
      await using stage = await Stage.open();
      await stage.fill();
      const queueName = `${stage.arq.defaultQueueName}-${"of-a-long-name".repeat(5)}`;
      await stage.arq.enqueueJob("double", [1], { queueName }); // so that there is one to choose
      await using server = stage.serve();
      await using tab = await Tab.open(browser, { reducedMotion: "reduce" });
      const { page } = tab;
      const isDark = "getComputedStyle(document.body).backgroundColor === 'rgb(18, 21, 26)'";
      for (const [name, path] of Object.entries(PAGES)) {
        const response = await page.goto(server.url + path);
        assert.equal(response?.status(), 200, name);
        assert.equal(await page.locator("h1").count(), 1, name);
        for (const landmark of ["banner", "main", "contentinfo"] as const) {
          assert.equal(await page.getByRole(landmark).count(), 1, `${name}: ${landmark}`);
        }
        for (const colorScheme of ["light", "dark"] as const) {
          await page.emulateMedia({ colorScheme });
          assert.equal(await page.evaluate(isDark), colorScheme === "dark");
          assert.deepEqual(await faintTexts(page), [], `${name} in ${colorScheme}`);
        }
        for (const viewport of [PHONE, DESK]) {
          await page.setViewportSize(viewport);
          const width = await page.evaluate<number>("document.documentElement.scrollWidth");
          assert.ok(width <= viewport.width, `${name} is ${width} wide in ${viewport.width}`);
        }
        assert.equal(await page.evaluate("globalThis.pwned"), undefined, name);
        assert.deepEqual(tab.complaints(), [], name);
      }
    });

    it("keeps the numbers alive while somebody looks, and asks for nothing when the page is left", async () => {
      await using stage = await Stage.open();
      await using server = stage.serve();
      await using tab = await Tab.open(browser);
      const { page } = tab;
      await page.goto(server.url);
      await page.getByText("Live", { exact: true }).waitFor();
      const tile = page.locator("#tiles li", { hasText: "Deferred" }).locator("strong");
      assert.equal(await tile.innerText(), "0");
      await stage.arq.enqueueJob("double", [1], { deferBy: { hours: 1 } });
      await page.locator("#tiles strong").getByText("1", { exact: true }).first().waitFor();
      assert.equal(await tile.innerText(), "1");
      await stage.arq.enqueueJob("wait");
      const depth = page.locator("#depth-marks .line.progress");
      await eventually(
        async () => / 0(?![.\d])/.test(await depth.getAttribute("d") ?? ""),
        "the mark",
      );
      await stage.arq.pause();
      await page.getByRole("button", { name: "Resume" }).waitFor();
      assert.equal(await text(page, "#state"), "Paused");
      stage.gate.open();

      const looks = countLooks(stage);
      await page.goto("about:blank");
      await looksEnd(looks);
    });

    it("leaves alone what has the focus, and shows what it has missed once that is elsewhere", async () => {
      await using stage = await Stage.open();
      await using server = stage.serve();
      await using tab = await Tab.open(browser);
      const { page } = tab;
      const complete = page.locator("#functions td").first();
      await stage.arq.call("double", [1]);
      await page.goto(server.url);
      await complete.getByText("1", { exact: true }).waitFor();
      await page.locator("#functions a").first().focus();
      await stage.arq.call("double", [2]);
      await eventually(async () => (await stage.arq.stats()).functions[0]?.complete === 2, "2");
      await stage.arq.pause();
      await page.getByRole("button", { name: "Resume" }).waitFor(); // told together, or later
      assert.equal(await complete.innerText(), "1");
      await page.keyboard.press("Shift+Tab");
      await complete.getByText("2", { exact: true }).waitFor();
    });

    it("does what its buttons say, with a word about it", async () => {
      await using stage = await Stage.open();
      await stage.fill();
      await using server = stage.serve();
      await using tab = await Tab.open(browser);
      const { page } = tab;
      const { arq } = stage;
      const press = async (name: string, notice: RegExp) => {
        await page.getByRole("button", { name, exact: true }).click();
        const shown = page.locator(".notice");
        await shown.waitFor();
        assert.match(await shown.innerText(), notice);
        // So it is read out, and the next Tab goes on from there.
        await page.locator(".notice:focus").waitFor();
      };
      await page.goto(server.url);
      await press("Pause", /paused/);
      assert.equal((await arq.stats()).paused, true);
      await page.goto(`${server.url}/jobs`);
      assert.match(await text(page, "header"), /Paused/);
      await page.goto(server.url);
      await press("Resume", /open again/);
      assert.equal((await arq.stats()).paused, false);

      await page.goto(`${server.url}/job?id=running`);
      await press("Abort", /was aborted/);
      assert.equal((await arq.jobView("running"))?.success, false);
      await press("Retry", /enqueued again/);
      await eventually(
        async () => (await arq.jobView("running"))?.status === "in_progress",
        "a retry",
      );
      await page.reload(); // to see how far it is, not to be told once more
      assert.equal(await text(page, ".badge"), "In progress");
      assert.equal(await page.locator(".notice").count(), 0);
      await page.goto(`${server.url}/jobs?status=failed`);
      await page.getByText("Retry all…").click();
      await press("Retry all", /enqueued again: 1 job/);

      await page.goto(`${server.url}/job?id=later`);
      await page.getByText("Remove…").click();
      await press("Remove", /was removed/);
      assert.equal(await arq.jobView("later"), null);
      const hostile = new URLSearchParams({ id: HOSTILE });
      await page.goto(`${server.url}/job?${hostile}`);
      await page.getByText("Remove…").click();
      await press("Remove", /was removed/);
      assert.equal(await arq.jobView(HOSTILE), null);
      stage.gate.open();
    });

    it("works without JavaScript", async () => {
      await using stage = await Stage.open();
      await stage.fill();
      await using server = stage.serve();
      await using tab = await Tab.open(browser, { javaScriptEnabled: false });
      const { page } = tab;
      await page.goto(server.url);
      assert.equal(await page.locator("svg path.bar").count(), 4);
      await page.getByRole("button", { name: "Pause" }).click();
      assert.match(await text(page, ".notice"), /paused/);
      await page.getByRole("button", { name: "Resume" }).click();
      await page.getByRole("link", { name: "Jobs", exact: true }).click();
      await page.getByLabel("Search").fill("its argument");
      await page.getByRole("button", { name: "Filter" }).click();
      await page.getByRole("link", { name: "fail bad" }).click();
      assert.match(await text(page, "main"), /RangeError no such thing/);
      await page.getByText("Remove…").click();
      await page.getByRole("button", { name: "Remove", exact: true }).click();
      assert.equal(await stage.arq.jobView("bad"), null);
    });

    it("is reached by keyboard: past the navigation, to each control in turn", async () => {
      await using stage = await Stage.open();
      await stage.fill();
      await using server = stage.serve();
      await using tab = await Tab.open(browser);
      const { page } = tab;
      await page.goto(`${server.url}/job?id=bad`);
      const order: string[] = [];
      for (let i = 0; i < 12; i++) {
        await page.keyboard.press("Tab");
        order.push(await page.evaluate("document.activeElement.innerText.split('\\n')[0]"));
        const outline = "getComputedStyle(document.activeElement).outlineStyle";
        assert.equal(await page.evaluate(outline), "solid", order.at(-1));
      }
      const expected = [
        "Skip to the content",
        "arq",
        "Overview",
        "Jobs",
        "Workers",
        "Cron",
        "Jobs",
        "Retry",
        "Remove…",
      ];
      assert.deepEqual(order.slice(0, expected.length), expected);
      await page.goto(`${server.url}/workers`);
      await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      assert.equal(await page.evaluate("document.activeElement.id"), "main");
      const heads = await page.locator("table th[scope]").count();
      assert.equal(heads, await page.locator("table th").count());
    });
  });
}

if (IS_DENO) await describeInChromium();
