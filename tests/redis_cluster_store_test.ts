/** The store's whole conformance suite on a Cluster of three primaries: each test begins while its slot moves. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { openTestStore } from "./_helpers.ts";
import { conformance } from "./_store_conformance.ts";
import { ClusterService } from "./_topologies.ts";

let cluster: ClusterService;
before(async () => {
  cluster = await ClusterService.start();
});
after(() => cluster[Symbol.asyncDispose]());

const moving = new Set<string>();

// The slot of each test's keys moves to the next node while the test begins.
conformance("Redis Cluster", async (untagged) => {
  const prefix = untagged.startsWith("{") ? untagged : `{${untagged}}`;
  const store = await openTestStore({ url: cluster.url, prefix });
  if (moving.has(prefix)) return store;
  moving.add(prefix);
  const mover = cluster.keepMoving(prefix, 1);
  const close = store.close.bind(store);
  store.close = async () => {
    await close();
    await mover[Symbol.asyncDispose]();
  };
  return store;
});

describe("Redis Cluster: the slots of these tests", () => {
  it("have redirected the stores of these tests in every way there is", async () => {
    for (const word of ["MOVED", "ASK", "TRYAGAIN"]) {
      assert.ok(await cluster.countErrors(word) > 0, `no node has answered ${word}`);
    }
  });
});
