import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Bag } from "../bag.ts";
import { fc } from "./_properties.ts";

describe("A bag", () => {
  it("has what was put in and not taken out, whatever the order", () => {
    const step = fc.record({ kind: fc.constantFrom("add", "delete", "clear"), n: fc.nat(9) });
    fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const items = Array.from({ length: 10 }, (_, n) => ({ n, bagIndex: 0 }));
      const bag = new Bag<typeof items[number]>();
      const model = new Set<number>();
      for (const { kind, n } of steps) {
        const item = items[n] ?? assert.fail();
        if (kind === "clear") {
          bag.clear();
          model.clear();
        } else if (kind === "delete") {
          bag.delete(item);
          model.delete(n);
        } else if (!model.has(n)) {
          bag.add(item);
          model.add(n);
        }
        assert.equal(bag.size, model.size);
        assert.deepEqual(Array.from(bag, ({ n }) => n).sort(), [...model].sort());
      }
    }));
  });
});
