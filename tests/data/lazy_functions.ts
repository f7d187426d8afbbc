/** Functions that workers import by name. */
import type { JobContext } from "../../functions.ts";

export function triple(_ctx: JobContext, n: number): number {
  return 3 * n;
}

export const notAFunction = 7;
