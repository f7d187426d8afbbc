/**
 * Standard output of the commands for operators: tables for people, one JSON object a line for
 * machines, a screen that is drawn anew, and a progress bar.
 * @module
 */
import process from "node:process";
import {
  type Colour,
  type Column,
  type Fact,
  factLines,
  type Paint,
  painted,
  tableLines,
} from "./cli_tables.ts";
import { displayJson } from "./display.ts";
import { countText } from "./quantities.ts";

/** Nobody reads what is printed any more, as after `| head`. */
export class ReaderGone extends Error {
  override readonly name = "ReaderGone";
}

/** How to print. */
export interface OutputStyle {
  /** Whether to print one JSON object a line. */
  readonly isJson: boolean;
  /** Whether there may be colours. */
  readonly hasColours: boolean;
}

const HOME = "\x1b[H";
const NO_WRAP = "\x1b[?7l";
const WRAP = "\x1b[?7h";
const ERASE_LINE = "\x1b[K";
const ERASE_BELOW = "\x1b[J";
const DEFAULT_ROWS = 24;
const BAR_WIDTH = 24;
const REDRAW_MS = 100;

/** Where a command prints. */
export class Output {
  /** Whether machines read it: one JSON object a line. */
  readonly isJson: boolean;
  /** Puts a colour on a text where there may be colours. */
  readonly paint: Paint;
  readonly #stream: NodeJS.WriteStream = process.stdout;
  #screen: string[] | undefined;

  /** Prints nothing yet. */
  constructor({ isJson, hasColours }: OutputStyle) {
    this.isJson = isJson;
    this.paint = hasColours && !isJson ? painted : plain;
    this.#stream.on("error", () => {}); // each write tells
  }

  /** Prints lines, which must be safe. */
  async lines(lines: readonly string[]): Promise<void> {
    if (this.#screen) this.#screen.push(...lines);
    else if (lines.length > 0) await this.#write(lines.join("\n") + "\n");
  }

  /** Prints a value as a line of JSON. */
  async json(value: unknown): Promise<void> {
    await this.#write(displayJson(value) + "\n");
  }

  /** Prints facts as a line of JSON, or a line for people, which must be safe. */
  async tell(facts: object, line: string): Promise<void> {
    await (this.isJson ? this.json(facts) : this.lines([line]));
  }

  /** Prints a table. */
  async table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): Promise<void> {
    const style = { width: this.#width, paint: this.paint };
    await this.lines(tableLines(columns, rows, style));
  }

  /** Prints facts about one thing. */
  async facts(facts: readonly Fact[]): Promise<void> {
    await this.lines(factLines(facts, this.paint));
  }

  /** Prints what `draw` prints as one picture: on a terminal over the one before. */
  async picture(draw: () => Promise<void>): Promise<void> {
    if (this.isJson || !this.#stream.isTTY) return await draw();
    this.#screen = [];
    try {
      await draw();
      const rows = known(this.#stream.rows) ?? DEFAULT_ROWS;
      const lines = this.#screen.slice(0, Math.max(rows - 1, 1));
      const picture = lines.map((line) => `${line}${ERASE_LINE}\n`).join("");
      await this.#write(`${NO_WRAP}${HOME}${picture}${ERASE_BELOW}${WRAP}`);
    } finally {
      this.#screen = undefined;
    }
  }

  /** A progress bar on standard error; it shows on a terminal only. */
  progress(): ProgressBar {
    return new ProgressBar(process.stderr.isTTY === true && !this.isJson);
  }

  get #width(): number | undefined {
    return this.#stream.isTTY ? known(this.#stream.columns) : undefined;
  }

  /** Waits until it is written: nothing is lost when the program exits. */
  #write(text: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#stream.write(text, (error) => {
        if (!error) resolve();
        else reject(isOfReader(error) ? new ReaderGone(error.message) : error);
      });
    });
  }
}

/** Whether a write failed since nobody reads; a full disk, for one, is a failure. */
function isOfReader(error: Error): boolean {
  return "code" in error && (error.code === "EPIPE" || error.code === "ECONNRESET");
}

/** A terminal that does not know its size says 0. */
function known(size: number | undefined): number | undefined {
  return size === 0 ? undefined : size;
}

function plain(_colour: Colour, text: string): string {
  return text;
}

/** How far a long work is; it goes away at its end. */
export class ProgressBar implements Disposable {
  readonly #isShown: boolean;
  #drawnAt = -Infinity;

  /** Draws nothing yet. */
  constructor(isShown: boolean) {
    this.#isShown = isShown;
  }

  /** Draws it anew, but not too often. */
  update(done: number, total: number, unit: string): void {
    const now = performance.now();
    if (!this.#isShown || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    const part = total > 0 ? Math.min(done / total, 1) : 0;
    const full = Math.round(part * BAR_WIDTH);
    const bar = "█".repeat(full) + "░".repeat(BAR_WIDTH - full);
    const percent = `${Math.floor(part * 100)}%`.padStart(4);
    const counts = `${countText(done)} of ${countText(total)} ${unit}`;
    process.stderr.write(`\r${bar} ${percent}  ${counts}${ERASE_LINE}`);
  }

  /** Takes it away. */
  [Symbol.dispose](): void {
    if (this.#drawnAt > -Infinity) process.stderr.write(`\r${ERASE_LINE}`);
  }
}
