/** Functions that workers import by name; a job may read when that happened. */
import type { JobContext } from "../../functions.ts";

/** When this module was loaded, milliseconds of `performance.now()`. */
export const loadedAt = performance.now();

export function triple(_ctx: JobContext, n: number): number {
  return 3 * n;
}

export const notAFunction = 7;

export default function loaded(_ctx: JobContext): number {
  return loadedAt;
}
