import assert from "node:assert/strict";
import { describe, it, mock } from "node:test";
import { newJobId } from "../job_ids.ts";

describe("newJobId", () => {
  it("returns 32 hexadecimal digits", () => {
    assert.match(newJobId(), /^[0-9a-f]{32}$/);
  });

  it("grows, also beyond what one millisecond can count and when the clock is set back", () => {
    const now = Date.now() + 60_000;
    const clock = mock.method(Date, "now", () => now);
    try {
      const ids = Array.from({ length: 70_000 }, newJobId);
      clock.mock.mockImplementation(() => now - 30_000);
      ids.push(newJobId());
      assert.deepEqual(ids, ids.toSorted());
      assert.equal(new Set(ids).size, ids.length);
    } finally {
      clock.mock.restore();
    }
  });

  it("cannot be guessed: half of it is random", () => {
    const tails = new Set(Array.from({ length: 1_000 }, () => newJobId().slice(16)));
    assert.equal(tails.size, 1_000);
  });
});
