/**
 * Tables and lists of facts for people: aligned, no wider than the terminal, and safe whatever the
 * cells hold.
 * @module
 */
import { styleText } from "node:util";
import { escapeUnsafe } from "./display.ts";

/** Colours of the terminal that are used. */
export type Colour = "dim" | "green" | "yellow" | "red" | "cyan";

/** Puts a colour on a text, or leaves it alone. */
export type Paint = (colour: Colour, text: string) => string;

/** Puts a colour on a text. */
export function painted(colour: Colour, text: string): string {
  return styleText(colour, text, { validateStream: false });
}

/** Ids are shown whole in a table unless they are absurd. */
export const ID_LIMIT = 100;
export const NAME_LIMIT = 60;
/** What stands where there is nothing. */
export const NOTHING = "-";

/** A column of a table of `Row`s. */
export interface Column<Row> {
  /** What stands above it. */
  readonly head: string;
  /** What a row has in it. */
  readonly text: (row: Row) => string;
  /** Numbers stand at the right. */
  readonly isNumber?: boolean;
  /** Whether it is cut first where the terminal is too narrow. */
  readonly isFlexible?: boolean;
  /** Its colour in a row. */
  readonly colour?: (row: Row) => Colour | undefined;
}

/** How tables are laid out. */
export interface TableStyle {
  /** Columns of the terminal; no limit without it. */
  readonly width: number | undefined;
  /** Puts colours on. */
  readonly paint: Paint;
}

const GAP = "  ";
/** A flexible column keeps this much. */
const LEAST_WIDTH = 12;
const WIDE =
  /[\p{Emoji_Presentation}\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]/u;
const COMBINING = /[\p{Mn}\p{Me}]/u;
const PLAIN = /^[\x20-\x7e]*$/;

/** How many columns a text takes on a terminal. */
export function textWidth(text: string): number {
  if (PLAIN.test(text)) return text.length;
  return Array.from(text).reduce((sum, character) => sum + characterWidth(character), 0);
}

function characterWidth(character: string): number {
  if (COMBINING.test(character)) return 0;
  return WIDE.test(character) ? 2 : 1;
}

/** Cuts a text to so many columns of a terminal, the last being an ellipsis where it was cut. */
export function fitted(text: string, width: number): string {
  if (textWidth(text) <= width) return text;
  let [cut, left] = ["", width - 1];
  for (const character of text) {
    left -= characterWidth(character);
    if (left < 0) break;
    cut += character;
  }
  return `${cut}…`;
}

/** The lines of a table, its head first. */
export function tableLines<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  { width, paint }: TableStyle,
): string[] {
  const cells = rows.map((row) => columns.map(({ text }) => escapeUnsafe(text(row))));
  const heads = columns.map(({ head }) => head.toUpperCase());
  const widths = columnWidths(columns, [heads, ...cells], width);
  const lineOf = (texts: readonly string[], colourOf: (at: number) => Colour | undefined) => {
    const last = texts.findLastIndex((text) => text !== "");
    return columns.slice(0, last + 1).map((column, at) => {
      const text = aligned(fitted(texts[at] ?? "", widths[at] ?? 0), widths[at] ?? 0, column);
      const shown = at === last ? text.trimEnd() : text;
      const colour = colourOf(at);
      return colour === undefined ? shown : paint(colour, shown);
    }).join(GAP);
  };
  return [
    lineOf(heads, () => "dim"),
    ...rows.map((row, i) => lineOf(cells[i] ?? [], (at) => columns[at]?.colour?.(row))),
  ];
}

function aligned(
  text: string,
  width: number,
  { isNumber }: { readonly isNumber?: boolean },
): string {
  const space = " ".repeat(Math.max(width - textWidth(text), 0));
  return isNumber ? space + text : text + space;
}

/** What each column needs, less what flexible ones give up, the widest first. */
function columnWidths(
  columns: readonly { readonly isFlexible?: boolean }[],
  lines: readonly (readonly string[])[],
  limit: number | undefined,
): number[] {
  const widths = columns.map((_, at) =>
    lines.reduce((widest, line) => Math.max(widest, textWidth(line[at] ?? "")), 0)
  );
  if (limit === undefined) return widths;
  const total = () => widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1));
  const flexible = columns.flatMap(({ isFlexible }, at) => isFlexible ? [at] : []);
  while (total() > limit) {
    const [widest = -1] = flexible.toSorted((a, b) => (widths[b] ?? 0) - (widths[a] ?? 0));
    const width = widths[widest] ?? 0;
    if (width <= LEAST_WIDTH) break;
    widths[widest] = width - 1;
  }
  return widths;
}

/** A fact about one thing: its name, a value that may have several lines, and the colour of the first. */
export type Fact = readonly [name: string, value: string | undefined, colour?: Colour];

/** The lines of a list of facts; those without a value are left out. */
export function factLines(facts: readonly Fact[], paint: Paint): string[] {
  const known = facts.filter(([, value]) => value !== undefined);
  const width = Math.max(...known.map(([name]) => name.length));
  return known.flatMap(([name, value = "", colour]) => {
    const [first = "", ...more] = value.split("\n").map(escapeUnsafe);
    const head = paint("dim", name.padEnd(width)) + GAP;
    const indent = " ".repeat(width + GAP.length);
    return [
      head + (colour === undefined ? first : paint(colour, first)),
      ...more.map((line) => indent + line),
    ];
  });
}

const BARS = "▁▂▃▄▅▆▇█";

/** Numbers as a row of little bars. */
export function sparkline(values: readonly number[]): string {
  const highest = Math.max(...values, 1);
  return values.map((value) => {
    const height = value === 0 ? 0 : Math.ceil(value / highest * (BARS.length - 1));
    return BARS[height];
  }).join("");
}
