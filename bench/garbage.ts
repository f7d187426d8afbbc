import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Collects all garbage, so that what is measured next does not pay for what was before. */
export function collectGarbage(): void {
  const { Bun } = globalThis as { Bun?: { gc(force: true): void } };
  if (Bun) return Bun.gc(true);
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
}
