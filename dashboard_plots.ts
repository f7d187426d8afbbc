/**
 * Plots as SVG, drawn on the server.
 *
 * The drawing is stretched to the room it has, so that texts stand beside it, in HTML. The marks, a
 * few paths, are sent anew when they change; so are the scale and the hints, once a minute or less.
 * @module
 */
import { type Html, html } from "./dashboard_html.ts";
import { durationText, shortCountText } from "./quantities.ts";

/** The drawing's size in its own units. */
const WIDTH = 600;
const HEIGHT = 100;
/** A value that is not 0 shows at least so high. */
const LEAST_HEIGHT = 1;

/** How wide a point without neighbours is drawn. */
const DASH = 6;

/** One kind of mark in a plot. */
export interface Series {
  /** The class that colours its marks. */
  readonly mark: string;
  /** One value for each column of the plot, from the oldest to the newest; null for none. */
  readonly values: readonly (number | null)[];
}

/** A plot in its parts. */
export interface Plot {
  /** The numbers of the grid's lines, which have equal distances, from above. */
  readonly scale: readonly string[];
  /** The marks. */
  readonly marks: Html;
  /** What is shown on hovering over each column. */
  readonly hints: readonly string[];
}

/** How values become heights. */
interface Scale {
  readonly labels: readonly string[];
  y(value: number): number;
}

/** Bars, stacked where there are several series. */
export function barPlot(series: readonly Series[], hints: readonly string[]): Plot {
  const sums = hints.map((_, i) => series.reduce((sum, { values }) => sum + (values[i] ?? 0), 0));
  const scale = linearScale(Math.max(0, ...sums));
  const below = hints.map(() => 0);
  const paths = series.map(({ mark, values }) => {
    const bars = values.map((value, i) => {
      if (!value) return "";
      const from = below[i] ?? 0;
      below[i] = from + value;
      return bar(i, hints.length, scale.y(from), scale.y(from + value));
    });
    return html`
      <path class="bar ${mark}" d="${bars.join("")}" />
    `;
  });
  return { scale: scale.labels, marks: html`${paths}`, hints };
}

function bar(column: number, columns: number, from: number, to: number): string {
  const width = WIDTH / columns;
  const top = Math.min(to, from - LEAST_HEIGHT);
  return `M${short(column * width)} ${short(from)}V${short(top)}h${short(width * 0.85)}V${
    short(from)
  }z`;
}

/** Lines of durations, on a scale of powers of ten. */
export function durationPlot(series: readonly Series[], hints: readonly string[]): Plot {
  const all = series.flatMap(({ values }) => values.filter((value) => value !== null));
  const scale = durationScale(all);
  return { scale: scale.labels, marks: html`${lines(series, scale)}`, hints };
}

/** Lines of counts, the first one with an area below it. */
export function areaPlot(series: readonly Series[]): Plot {
  const all = series.flatMap(({ values }) => values.map((value) => value ?? 0));
  const scale = linearScale(Math.max(0, ...all));
  const areas = series.slice(0, 1).map(({ mark, values }) =>
    html`
      <path class="area ${mark}" d="${area(values, scale)}" />
    `
  );
  return { scale: scale.labels, marks: html`${areas}${lines(series, scale)}`, hints: [] };
}

function area(values: readonly (number | null)[], scale: Scale): string {
  return runsOf(values).map((points) => {
    const [first, last] = [points[0], points.at(-1)];
    const top = points.map(({ x, value }) => `L${x} ${short(scale.y(value))}`).join("");
    return `M${first?.x} ${HEIGHT}${top}L${last?.x} ${HEIGHT}z`;
  }).join("");
}

function lines(series: readonly Series[], scale: Scale): Html[] {
  return series.map(({ mark, values }) =>
    html`
      <path class="line ${mark}" d="${runsOf(values).map((run) => line(run, scale)).join("")}" />
    `
  );
}

/** A dash, if the run has one point only. */
function line(points: readonly Point[], scale: Scale): string {
  const [first, ...others] = points.map(({ x, value }) => ({ x, y: short(scale.y(value)) }));
  if (!first) return "";
  if (others.length === 0) return `M${short(first.x - DASH / 2)} ${first.y}h${DASH}`;
  return `M${first.x} ${first.y}${others.map(({ x, y }) => `L${x} ${y}`).join("")}`;
}

interface Point {
  readonly x: number;
  readonly value: number;
}

/** The values that follow each other without a gap, each in the middle of its column. */
function runsOf(values: readonly (number | null)[]): Point[][] {
  const width = WIDTH / values.length;
  const runs: Point[][] = [];
  let run: Point[] | undefined;
  values.forEach((value, i) => {
    if (value === null) {
      run = undefined;
      return;
    }
    if (!run) runs.push(run = []);
    run.push({ x: short((i + 0.5) * width), value });
  });
  return runs;
}

/** From 0 to a round number. */
function linearScale(max: number): Scale {
  const top = roundUp(Math.max(max, 1));
  const values = top === 1 ? [1, 0] : [top, top / 2, 0];
  return { labels: values.map(shortCountText), y: (value) => HEIGHT * (1 - value / top) };
}

function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 4, 6, 8, 10].find((factor) => factor * power >= value) ?? 10;
  return step * power;
}

/** Powers of ten around all values, four of them at most. */
function durationScale(values: readonly number[]): Scale {
  const exponentOf = (value: number) => Math.log10(Math.max(value, 1));
  const exponents = values.map(exponentOf);
  const low = exponents.length === 0 ? 0 : Math.floor(Math.min(...exponents));
  const span = Math.max(Math.ceil(Math.max(1, ...exponents)) - low, 1);
  const step = Math.ceil(span / 3);
  const count = Math.ceil(span / step);
  const labels = Array.from({ length: count + 1 }, (_, i) => durationText(10 ** (low + i * step)));
  return {
    labels: labels.reverse(),
    y: (value) => HEIGHT * (1 - (exponentOf(value) - low) / (count * step)),
  };
}

function short(value: number): number {
  return Number(value.toFixed(1));
}

/** What goes around a plot. */
export interface Figure {
  /** Names its elements. */
  readonly id: string;
  /** The heading. */
  readonly title: string;
  /** What the plot shows, for those who do not see it. */
  readonly description: string;
  /** From when to when, along the lower edge. */
  readonly span: readonly [string, string];
  /** The legend: what each mark stands for. */
  readonly legend: readonly { readonly name: string; readonly mark: string }[];
}

/** The plot as a figure of the page. */
export function figure({ id, title, description, span, legend }: Figure, plot: Plot): Html {
  const signs = legend.map(({ name, mark }) =>
    html`<li><span class="sign ${mark}"></span>${name}</li>`
  );
  const [labels, ...layers] = plotFragments(id, plot);
  return html`
    <figure class="plot">
      <figcaption>
        <h3>${title}</h3>
        <ul class="legend">${signs}</ul>
      </figcaption>
      <ul class="scale" aria-hidden="true" id="${labels?.[0]}">${labels?.[1]}</ul>
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"
        aria-label="${description}">
    ${layers.map(([name, part]) => html`<g id="${name}">${part}</g>`)}
      </svg>
      <p class="span" aria-hidden="true"><span>${span[0]}</span> <span>${span[1]}</span></p>
    </figure>
  `;
}

/** What in the figure changes with time, by the ids of its elements: labels, and layers from the back. */
export function plotFragments(id: string, { scale, marks, hints }: Plot): [string, Html][] {
  return [
    [`${id}-scale`, html`${scale.map((label) => html`<li>${label}</li>`)}`],
    [`${id}-grid`, grid(scale.length)],
    [`${id}-marks`, marks],
    [`${id}-hints`, hintsOf(hints)],
  ];
}

function grid(count: number): Html {
  const paths = Array.from(
    { length: count },
    (_, i) => `M0 ${short(HEIGHT * i / (count - 1))}h${WIDTH}`,
  );
  return html`
    <path class="grid" d="${paths.join("")}" />
  `;
}

function hintsOf(hints: readonly string[]): Html {
  const width = WIDTH / hints.length;
  const columns = hints.map((hint, i) =>
    html`
      <rect class="hit" x="${short(i * width)}" width="${short(width)}">
        <title>${hint}</title>
      </rect>
    `
  );
  return html`${columns}`;
}
