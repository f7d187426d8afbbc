/**
 * The overview: how a queue does, in numbers and plots that live.
 * @module
 */
import { type Content, type Html, html } from "./dashboard_html.ts";
import {
  actionButton,
  column,
  link,
  type Page,
  type PageContext,
  table,
} from "./dashboard_layout.ts";
import { type Depth, DEPTHS_MS, type Fragments, type Look } from "./dashboard_live.ts";
import {
  areaPlot,
  barPlot,
  durationPlot,
  type Figure,
  figure,
  type Plot,
  plotFragments,
  type Series,
} from "./dashboard_plots.ts";
import { displayText } from "./display.ts";
import type {
  FunctionTotals,
  Histogram,
  MinuteStats,
  Percentiles,
  QueueStats,
} from "./inspection.ts";
import { countText, durationText, shortCountText, timeText } from "./quantities.ts";
import { UNREADABLE } from "./serializer.ts";

/** The depth is shown in steps of so long. */
const DEPTH_STEP_MS = 3_000;
/** A queue is quick as long as nothing has waited for longer. */
const LATE_MS = 60_000;

const HOUR: readonly [string, string] = ["an hour ago", "now"];

/** One of the overview's plots: how it is called, and how it is drawn from what is known. */
interface Drawing extends Figure {
  draw(look: Look): Plot;
}

const PERCENTILES = [
  { name: "50 %", mark: "p50", key: "p50Ms" },
  { name: "90 %", mark: "p90", key: "p90Ms" },
  { name: "99 %", mark: "p99", key: "p99Ms" },
] as const;

const DRAWINGS: readonly Drawing[] = [
  {
    id: "depth",
    title: "Queue depth",
    description:
      "Jobs due and in progress in the last five minutes, as far as the overview was open",
    span: ["5 minutes ago", "now"],
    legend: [{ name: "due", mark: "due" }, { name: "in progress", mark: "progress" }],
    draw: ({ stats, depths }) => areaPlot(depthSeries(depths, stats.at.getTime())),
  },
  {
    id: "throughput",
    title: "Completed a minute",
    description:
      "Jobs completed in each minute of the last hour; a page of its own has the numbers",
    span: HOUR,
    legend: [],
    draw: ({ stats: { minutes } }) =>
      barPlot(
        [{ mark: "complete", values: minutes.map(({ complete }) => complete) }],
        hints(minutes, ({ complete }) => `${countText(complete)} completed`),
      ),
  },
  {
    id: "failures",
    title: "Failed a minute",
    description: "Jobs failed, aborted and retried in each minute of the last hour; " +
      "a page of its own has the numbers",
    span: HOUR,
    legend: [
      { name: "failed", mark: "failed" },
      { name: "aborted", mark: "aborted" },
      { name: "retried", mark: "retried" },
    ],
    draw: ({ stats: { minutes } }) =>
      barPlot(
        [
          { mark: "failed", values: minutes.map(({ failed }) => failed) },
          { mark: "aborted", values: minutes.map(({ aborted }) => aborted) },
          { mark: "retried", values: minutes.map(({ retried }) => retried) },
        ],
        hints(minutes, ({ failed, aborted, retried }) =>
          `${countText(failed)} failed, ${countText(aborted)} aborted, ${
            countText(retried)
          } retried`),
      ),
  },
  {
    id: "waiting",
    title: "Waiting time",
    description: "How long jobs had been due when they first started, in each minute of the last " +
      "hour; a page of its own has the numbers",
    span: HOUR,
    legend: PERCENTILES,
    draw: ({ stats }) => percentilePlot(stats.minutes, ({ waitTime }) => waitTime),
  },
  {
    id: "running",
    title: "Run time",
    description: "How long tries took, in each minute of the last hour; " +
      "a page of its own has the numbers",
    span: HOUR,
    legend: PERCENTILES,
    draw: ({ stats }) => percentilePlot(stats.minutes, ({ runTime }) => runTime),
  },
];

function hints(
  minutes: readonly MinuteStats[],
  textOf: (minute: MinuteStats) => string,
): string[] {
  const current = minutes.length - 1; // it changes every second, and the plot shows it
  return minutes.map((minute, i) =>
    `${hourAndMinute(minute)}: ${i === current ? "this minute" : textOf(minute)}`
  );
}

/** `17:41`, in UTC. */
function hourAndMinute({ at }: MinuteStats): string {
  return timeText(at, "UTC").slice(11, 16);
}

function percentilePlot(
  minutes: readonly MinuteStats[],
  of: (minute: MinuteStats) => Percentiles | null,
): Plot {
  const series = PERCENTILES.map(({ mark, key }): Series => ({
    mark,
    values: minutes.map((minute) => of(minute)?.[key] ?? null),
  }));
  const texts = hints(minutes, (minute) => {
    const percentiles = of(minute);
    return percentiles ? percentileText(percentiles) : "none";
  });
  return durationPlot(series, texts);
}

function percentileText({ p50Ms, p90Ms, p99Ms }: Percentiles): string {
  return `50 % within ${durationText(p50Ms)}, 90 % ${durationText(p90Ms)}, 99 % ${
    durationText(p99Ms)
  }`;
}

/** The depth in steps; the deepest of each, and none where nobody has looked. */
function depthSeries(depths: readonly Depth[], now: number): Series[] {
  const steps = DEPTHS_MS / DEPTH_STEP_MS;
  const due: (number | null)[] = Array(steps).fill(null);
  const inProgress: (number | null)[] = Array(steps).fill(null);
  const current = Math.floor(now / DEPTH_STEP_MS);
  for (const depth of depths) {
    const step = steps - 1 - (current - Math.floor(depth.at / DEPTH_STEP_MS));
    if (step < 0) continue;
    due[step] = Math.max(due[step] ?? 0, depth.due);
    inProgress[step] = Math.max(inProgress[step] ?? 0, depth.inProgress);
  }
  return [
    { mark: "due", values: due },
    { mark: "progress", values: inProgress },
  ];
}

/** The page. */
export function overviewPage(context: PageContext, look: Look, notice: Content): Page {
  const { stats } = look;
  const title = `Queue ${displayText(context.queueName, 60)}`;
  const body = html`
    ${notice}
    <div class="head">
      <h1>Overview</h1>
      <p id="state">${state(stats)}</p>
      <div class="actions">${steering(context)}</div>
      <p class="live" id="live" role="status"></p>
    </div>
    <section aria-label="Now" data-live="${link(context, "live")}">
      <ul class="tiles" id="tiles">${tiles(stats)}</ul>
    </section>
    <section aria-labelledby="plots-head">
      <h2 id="plots-head" class="hidden">Plots</h2>
      <div class="plots">${DRAWINGS.map((drawing) => figure(drawing, drawing.draw(look)))}</div>
      <p><a href="${link(context, "minutes")}">The last hour, minute by minute</a></p>
    </section>
    <section aria-labelledby="functions-head"><h2 id="functions-head">Functions</h2>
    <p class="note">What ended since counting began, as this library's workers reported it.</p>
    ${functionTable(context, stats)}
    </section>
  `;
  return { title, section: "", body };
}

/** What of the page changes, by the ids of its elements. */
export function overviewFragments(context: PageContext, look: Look): Fragments {
  return [
    ["state", state(look.stats)],
    ["tiles", html`${tiles(look.stats)}`],
    ["functions", html`${functionRows(context, look.stats)}`],
    ...DRAWINGS.flatMap((drawing) => plotFragments(drawing.id, drawing.draw(look))),
  ];
}

function state({ paused }: QueueStats): Html {
  return paused
    ? html`<span class="badge paused">Paused</span>`
    : html`<span class="badge open">Open</span>`;
}

/** Both buttons are there, and the style shows the one that fits, so that it follows the state. */
function steering(context: PageContext): Content {
  const target = link(context, "");
  return [
    actionButton(context, target, { action: "pause", label: "Pause", kind: "pause" }),
    actionButton(context, target, { action: "resume", label: "Resume", kind: "resume primary" }),
  ];
}

function tiles(stats: QueueStats): Content {
  const { oldestDueMs, runTime, waitTime, minutes } = stats;
  const last = minutes.at(-2) ?? minutes.at(-1); // the last whole minute
  const failed = minutes.reduce((sum, minute) => sum + minute.failed, 0);
  const isLate = oldestDueMs !== null && oldestDueMs > LATE_MS;
  return [
    tile(
      "Due",
      shortCountText(stats.due),
      oldestDueMs === null ? "nothing waits" : `oldest ${durationText(oldestDueMs)}`,
      isLate && "warn",
    ),
    tile("In progress", shortCountText(stats.inProgress)),
    tile("Deferred", shortCountText(stats.deferred)),
    tile("Completed", shortCountText(last?.complete ?? 0), "last full minute"),
    tile("Failed", shortCountText(failed), "in the last hour", failed > 0 && "bad"),
    tile(
      "Waiting time",
      waitTime ? durationText(waitTime.p50Ms) : "–",
      waitTime && `99 % within ${durationText(waitTime.p99Ms)}`,
    ),
    tile(
      "Run time",
      runTime ? durationText(runTime.p50Ms) : "–",
      runTime && `99 % within ${durationText(runTime.p99Ms)}`,
    ),
  ];
}

function tile(name: string, value: string, more?: Content, kind?: string | false): Html {
  return html`
    <li
      class="tile ${kind}"><span class="name">${name}</span> <strong>${value}</strong> <span class="more">${more}</span></li>
  `;
}

/** The page with the numbers behind the plots. */
export function minutesPage(context: PageContext, { stats }: Look): Page {
  const body = html`
    <nav class="trail" aria-label="Trail"><a href="${link(context, "")}">Overview</a></nav>
    <div class="head">
      <h1>The last hour, minute by minute</h1>
    </div>
    ${minuteTable(stats.minutes)}
  `;
  return { title: `The last hour of ${displayText(context.queueName, 60)}`, section: "", body };
}

function minuteTable(minutes: readonly MinuteStats[]): Html {
  const head = [
    column("Minute"),
    column("Completed", "number"),
    column("Failed", "number"),
    column("Aborted", "number"),
    column("Retried", "number"),
    column("Waiting 50 %", "number"),
    column("99 %", "number"),
    column("Run time 50 %", "number"),
    column("99 %", "number"),
  ];
  const rows = minutes.toReversed().map((minute) =>
    html`<tr><th scope="row">${hourAndMinute(minute)}</th>${
      [minute.complete, minute.failed, minute.aborted, minute.retried].map((n) =>
        numberCell(countText(n))
      )
    }${percentileCells(minute.waitTime)}${percentileCells(minute.runTime)}</tr>`
  );
  return table("The last hour, minute by minute", head, rows);
}

function percentileCells(percentiles: Percentiles | null): Content {
  return percentiles
    ? [numberCell(durationText(percentiles.p50Ms)), numberCell(durationText(percentiles.p99Ms))]
    : [numberCell("–"), numberCell("–")];
}

function numberCell(text: string): Html {
  return html`<td class="number">${text}</td>`;
}

function functionTable(context: PageContext, stats: QueueStats): Html {
  const head = [
    column("Function"),
    column("Completed", "number"),
    column("Failed", "number"),
    column("Aborted", "number wide"),
    column("Retried", "number wide"),
    column("Mean run time", "number"),
    column("Mean wait", "number wide"),
  ];
  return table("Functions", head, functionRows(context, stats), "functions");
}

function functionRows(context: PageContext, { functions }: QueueStats): Content {
  if (functions.length > 0) return functions.map((totals) => functionRow(context, totals));
  return html`
    <tr>
      <td colspan="7" class="nothing">No worker has reported the end of a job yet.</td>
    </tr>
  `;
}

function functionRow(context: PageContext, totals: FunctionTotals): Html {
  const { functionName, complete, failed, aborted, retried, runTime, waitTime } = totals;
  // Jobs that are counted as unknown have names of their own.
  const name = functionName === UNREADABLE.f ? undefined : functionName;
  const jobs = link(context, "jobs", { function: name });
  const failures = link(context, "jobs", { function: name, status: "failed" });
  return html`<tr><th scope="row"><a href="${jobs}"><code>${
    displayText(functionName, 80)
  }</code></a></th>
${numberCell(countText(complete))}
<td class="number">${
    failed === 0 ? "0" : html`<a class="bad" href="${failures}">${countText(failed)}</a>`
  }</td>
<td class="number wide">${countText(aborted)}</td><td class="number wide">${countText(retried)}</td>
${numberCell(mean(runTime))}<td class="number wide">${mean(waitTime)}</td></tr>`;
}

function mean({ count, sumMs }: Histogram): string {
  return count === 0 ? "–" : durationText(sumMs / count);
}
