/** What the programs of this folder measure, print and are made of. */
import process from "node:process";

/** Figures by the kind of work; its name ends with the unit. */
export type Figures = Record<string, number>;

/** Whether less is to be measured, so that all of it takes under two minutes. */
export const QUICK = process.argv.includes("--quick");

/** Prints what `main.ts` reads. */
export function print(figures: Figures): void {
  console.log(JSON.stringify(figures));
}

/** The least value that `share` of all are not above. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)] ?? NaN;
}

/** The value in the middle. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** How many a second `step` does of `count`. */
export async function rate(count: number, step: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await step();
  return count / (performance.now() - startedAt) * 1_000;
}

/** How long `step` takes, milliseconds, each of `count` times. */
export async function timesOf(count: number, step: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const startedAt = performance.now();
    await step();
    times.push(performance.now() - startedAt);
  }
  return times;
}

/** Resolves after some milliseconds. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
