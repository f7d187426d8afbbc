/** Figures for people: medians, and in brackets the least and the most. */
import type { Samples, Verdict } from "./demands.ts";
import { median } from "./figures.ts";

/** Prints the figures of one runtime. */
export function printFigures(title: string, samples: Samples): void {
  console.log(`\n${title}: median (least–most)`);
  console.table(Object.fromEntries(
    Object.entries(samples).map(([work, figures]) => [
      work,
      Object.fromEntries(Object.entries(figures).map(([name, all]) => [name, spread(all)])),
    ]),
  ));
}

/** Prints what was to be reached. */
export function printVerdicts(title: string, verdicts: readonly Verdict[]): void {
  console.log(`\n${title}: what is to be reached`);
  console.table(Object.fromEntries(verdicts.map((verdict) => [
    verdict.against === "" ? verdict.work : `${verdict.work}, × ${verdict.against}`,
    {
      measured: spread(verdict.values),
      wanted: verdict.wanted,
      reached: verdict.isReached ? "yes" : "NO",
    },
  ])));
}

/** One line on a demand that was not met. */
export function missText({ work, against, values, wanted }: Verdict): string {
  const of = against === "" ? "" : ` × ${against}`;
  return `${work}: ${short(median(values))}${of}, wanted ${wanted}`;
}

function spread(all: readonly number[]): string {
  if (all.length < 2) return short(median(all));
  return `${short(median(all))} (${short(Math.min(...all))}–${short(Math.max(...all))})`;
}

function short(figure: number): string {
  if (figure >= 1_000) return `${(figure / 1_000).toFixed(1)} k`;
  return figure >= 10 ? figure.toFixed(0) : figure.toPrecision(2);
}
