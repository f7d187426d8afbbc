import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { openScene, startCli } from "./_cli.ts";
import { callCli } from "./_cli_call.ts";

describe("arq ui", () => {
  it("serves the dashboard to this machine until it is stopped, streams too", async () => {
    await using scene = await openScene();
    await using cli = startCli(["ui", "--url", scene.url, "--port", "0", "--read-only"]);
    const line = await cli.line(/^The dashboard is at http/);
    const [url = ""] = /http:\/\/127\.0\.0\.1:\d+\/$/.exec(line) ?? [];
    const page = await fetch(url);
    assert.equal(page.status, 200);
    const text = await page.text();
    assert.match(text, /read-only/);
    assert.match(text, new RegExp(scene.prefix));
    const stream = await fetch(new URL("live", url));
    const reader = stream.body?.getReader();
    assert.equal((await reader?.read())?.done, false);
    const { code, stderr } = await cli.end("SIGTERM");
    assert.deepEqual([code, stderr], [0, ""]);
    await reader?.cancel().catch(() => {}); // it was cut, or ended
  });

  it("names its address to machines, and the queue that is meant", async () => {
    await using scene = await openScene();
    const queue = `${scene.prefix}mail`;
    await using cli = startCli([
      "ui",
      "--url",
      scene.url,
      "--port",
      "0",
      "--queue",
      queue,
      "--json",
    ]);
    const { url } = JSON.parse(await cli.line(/^\{/));
    assert.match(await (await fetch(url)).text(), new RegExp(`<title>[^<]*${queue}`));
    const { port } = new URL(url);
    const second = await callCli(["ui", "--url", scene.url, "--port", port]);
    assert.equal(second.code, 2);
    assert.match(second.stderr, /--port: cannot listen on 127\.0\.0\.1:\d+: it is taken/);
  });

  it("refuses a port that is none", async () => {
    const { code, stderr } = await callCli(["ui", "--port", "65536"]);
    assert.equal(code, 2);
    assert.match(stderr, /--port must be a whole number from 0 to 65535, got "65536"/);
  });
});
