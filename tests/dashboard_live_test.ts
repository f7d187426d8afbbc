import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { dashboard } from "../dashboard.ts";
import { openPool, PAGES, Visitor } from "./_dashboard.ts";
import { eventually, within } from "./_helpers.ts";

const decoder = new TextDecoder();

describe("dashboard's live numbers", () => {
  it("cost one look at the store a second, however many watch, and end with their readers", async () => {
    await using arq = await openPool();
    const { stats } = arq;
    const looks: number[] = [];
    arq.stats = (options) => {
      looks.push(performance.now());
      return stats.call(arq, options);
    };
    const visitor = new Visitor(dashboard(arq));
    const streams = await Promise.all(
      Array.from({ length: 20 }, async () => (await visitor.get("/live")).body?.getReader()),
    );
    await Promise.all(PAGES.map((path) => visitor.get(path)));
    await eventually(() => looks.length >= 2, "two looks");
    const gaps = looks.slice(1).map((at, i) => at - (looks[i] ?? 0));
    assert.ok(Math.min(...gaps) > 990, String(gaps));
    for (const stream of streams) await stream?.cancel();
    const before = looks.length;
    await new Promise((resolve) => setTimeout(resolve, 1_300)); // that nothing comes cannot be awaited
    assert.equal(looks.length, before);
  });

  it("send what has changed, to each reader what is new to it", async () => {
    await using arq = await openPool();
    const visitor = new Visitor(dashboard(arq));
    const first = await openStream(visitor);
    const all = await first.fragments();
    assert.ok("tiles" in all && "state" in all && "depth-marks" in all, Object.keys(all).join());
    await arq.enqueueJob("nobody", [], { deferBy: 60_000 });
    let change = await first.fragments();
    while (!("tiles" in change)) change = await first.fragments(); // the time is drawn, too
    assert.match(change.tiles ?? "", /Deferred<\/span>\s*<strong>1</);
    assert.ok(!("state" in change));
    const second = await openStream(visitor);
    assert.match((await second.fragments()).tiles ?? "", /<strong>1</);
    await first.cancel();
    await second.cancel();
  });

  it("end when the pool closes, and say when the store does not answer", async () => {
    const arq = await openPool();
    const { stats } = arq;
    const visitor = new Visitor(dashboard(arq));
    const stream = await openStream(visitor);
    await stream.fragments();
    arq.stats = () => Promise.reject(new Error("away"));
    assert.match(await stream.event(), /^event: trouble\ndata: The store does not answer$/);
    arq.stats = stats;
    await stream.fragments();
    const numbers = { ...await arq.stats(), due: 7 };
    arq.stats = () => Promise.resolve(numbers);
    await stream.fragments();
    arq.stats = () => Promise.reject(new Error("away"));
    assert.match(await stream.event(), /^event: trouble/);
    arq.stats = () => Promise.resolve(numbers);
    const all = await within(20_000, "a word that it is over", stream.fragments());
    assert.deepEqual(all, {}, "though nothing has changed");
    await arq.close();
    await within(5_000, "the end of the stream", stream.ended());
    assert.equal((await visitor.get("/live")).status, 503); // as its browser asks for again
  });
});

/** Reads a stream of server-sent events. */
async function openStream(visitor: Visitor) {
  const response = await visitor.get("/live");
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const event = async (): Promise<string> => {
    for (;;) {
      const { value, done } = await within(20_000, "an event", reader.read());
      if (done) throw new Error("The stream has ended");
      const text = decoder.decode(value).trim();
      if (text !== ":" && !text.startsWith("retry:")) return text;
    }
  };
  return {
    event,
    fragments: async () =>
      JSON.parse((await event()).replace(/^data: /, "")) as Record<string, string>,
    ended: async () => {
      while (!(await reader.read()).done);
    },
    cancel: () => reader.cancel(),
  };
}
