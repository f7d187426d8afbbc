/**
 * Showing what came from a queue: names, ids, arguments, results, errors, whatever they contain.
 *
 * Nothing that is shown can move a cursor, change a colour, begin a line of its own, turn the
 * direction of writing or hide itself, and no value makes the text longer than it may be. Escaping
 * for HTML comes on top where the text becomes a part of a page.
 * @module
 */
import { curtail } from "./validation.ts";

/** How a value is shown. */
export interface DisplayOptions {
  /** How many characters to show at most. @default 200 */
  readonly limit?: number;
  /** Whether it may take several lines: stacks, and objects with their fields below each other. @default false */
  readonly isMultiline?: boolean;
}

/** Control and format characters (bidi and zero-width ones among them), odd line ends, half pairs. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const SHORT_ESCAPES: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const TEXT_LIMIT = 200;
const MAX_DEPTH = 4;
const MAX_DEPTH_MULTILINE = 10;
/** Containers that fit stay on one line. */
const LINE_WIDTH = 72;
const SHOWN_BYTES = 32;
const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;

/** Replaces every character that is not plainly visible by an escape such as `\x1b`. */
export function escapeUnsafe(text: string): string {
  return text.replace(UNSAFE, escapeOf);
}

function escapeOf(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  const hex = code.toString(16);
  if (code > 0xffff) return `\\u{${hex}}`;
  return SHORT_ESCAPES[character] ??
    (code > 0xff ? `\\u${hex.padStart(4, "0")}` : `\\x${hex.padStart(2, "0")}`);
}

/** A name or an id as one safe line. */
export function displayText(text: string, limit: number = TEXT_LIMIT): string {
  return curtail(escapeUnsafe(text.slice(0, limit + 1)), limit);
}

/** Any value as safe text: one line, or several if they are asked for. */
export function displayValue(value: unknown, options: DisplayOptions = {}): string {
  const { limit = TEXT_LIMIT, isMultiline = false } = options;
  try {
    return curtail(new Display(limit, isMultiline).of(value, 0), limit);
  } catch { // A getter or a proxy of somebody else's object threw.
    return curtail("(cannot be shown)", limit);
  }
}

/** Writes values until its room is used up; what is cut off is never looked at. */
class Display {
  readonly #isMultiline: boolean;
  #room: number;

  constructor(room: number, isMultiline: boolean) {
    this.#room = room;
    this.#isMultiline = isMultiline;
  }

  of(value: unknown, depth: number): string {
    if (typeof value !== "object" || value === null) return this.#take(this.#primitive(value));
    if (value instanceof Date) return this.#take(dateText(value));
    if (value instanceof URL) return this.#take(`URL ${this.#quoted(value.href)}`);
    if (value instanceof RegExp) return this.#take(this.#cut(String(value)));
    if (value instanceof Error) return this.#error(value, depth);
    if (value instanceof Uint8Array) return this.#take(bytesText(nameOf(value), value));
    if (value instanceof ArrayBuffer) {
      return this.#take(bytesText("ArrayBuffer", new Uint8Array(value)));
    }
    const maxDepth = this.#isMultiline ? MAX_DEPTH_MULTILINE : MAX_DEPTH;
    if (depth >= maxDepth) return this.#take(Array.isArray(value) ? "[…]" : "{…}");
    return this.#container(value, depth);
  }

  #container(value: object, depth: number): string {
    if (Array.isArray(value)) return this.#list("[", this.#items(value, depth), "]", depth);
    if (isTypedArray(value)) {
      return this.#list(
        `${nameOf(value)}(${value.length}) [`,
        this.#items(value, depth),
        "]",
        depth,
      );
    }
    if (value instanceof Map) {
      return this.#list(`Map(${value.size}) {`, this.#pairs(value, depth), "}", depth);
    }
    if (value instanceof Set) {
      return this.#list(`Set(${value.size}) {`, this.#items(value, depth), "}", depth);
    }
    const name = nameOf(value);
    return this.#list(
      name === "Object" ? "{" : `${name} {`,
      this.#fields(value, depth),
      "}",
      depth,
    );
  }

  #primitive(value: unknown): string {
    if (typeof value === "string") return this.#quoted(value);
    if (typeof value === "bigint") return this.#cut(`${value}n`);
    if (typeof value === "function") return `[Function: ${displayText(value.name, 60)}]`;
    if (typeof value === "symbol") return this.#cut(String(value));
    return Object.is(value, -0) ? "-0" : String(value);
  }

  #quoted(text: string): string {
    const cut = text.slice(0, Math.max(this.#room, 0) + 1);
    const quote = cut.includes("'") && !cut.includes('"') ? '"' : "'";
    const escaped = escapeUnsafe(cut.replaceAll("\\", "\\\\"));
    const inner = quote === "'" ? escaped.replaceAll("'", "\\'") : escaped;
    return quote + inner + (cut.length < text.length ? "" : quote);
  }

  #cut(text: string): string {
    return displayText(text, Math.max(this.#room, 1));
  }

  #take(text: string): string {
    this.#room -= text.length;
    return text;
  }

  *#items(values: Iterable<unknown>, depth: number): Generator<string> {
    for (const value of values) yield this.of(value, depth + 1);
  }

  *#pairs(values: Map<unknown, unknown>, depth: number): Generator<string> {
    for (const [key, value] of values) {
      yield `${this.of(key, depth + 1)} => ${this.of(value, depth + 1)}`;
    }
  }

  *#fields(value: object, depth: number): Generator<string> {
    for (const key in value) {
      if (!Object.hasOwn(value, key)) continue;
      const name = this.#take(IDENTIFIER.test(key) ? this.#cut(key) : this.#quoted(key));
      yield `${name}: ${this.of(Reflect.get(value, key), depth + 1)}`;
    }
  }

  #list(open: string, parts: Iterable<string>, close: string, depth: number): string {
    const items: string[] = [];
    this.#take(open + close);
    for (const part of parts) {
      items.push(part);
      this.#room -= 2;
      if (this.#room > 0) continue;
      items.push("…");
      break;
    }
    if (items.length === 0) return open + close;
    const line = items.join(", ");
    const isShort = line.length <= LINE_WIDTH && !line.includes("\n");
    if (!this.#isMultiline || isShort) return `${open} ${line} ${close}`;
    const indent = "  ".repeat(depth + 1);
    return `${open}\n${indent}${items.join(`,\n${indent}`)}\n${"  ".repeat(depth)}${close}`;
  }

  #error(error: Error, depth: number): string {
    const head = this.#cut(`${error.name}: ${error.message}`);
    if (!this.#isMultiline || depth >= MAX_DEPTH_MULTILINE) return this.#take(head);
    const indent = "  ".repeat(depth);
    const lines = [head, ...framesOf(error).map((line) => this.#cut(`    ${line}`))];
    const text = this.#take(lines.join(`\n${indent}`));
    const fields = this.#list("{", this.#fields(withoutText(error), depth), "}", depth);
    const more = fields === "{}" ? "" : `\n${indent}${fields}`;
    if (error.cause === undefined || this.#room <= 0) return text + more;
    return `${text}${more}\n${indent}cause: ${this.of(error.cause, depth + 1)}`;
  }
}

function framesOf({ stack }: Error): string[] {
  const lines = typeof stack === "string" ? stack.split("\n").map((line) => line.trim()) : [];
  return lines.filter((line) => line.startsWith("at "));
}

/** The fields that its text does not show; the errors of an aggregate, which are hidden, among them. */
export function withoutText(error: Error): object {
  const { name: _name, message: _message, stack: _stack, cause: _cause, ...fields } = error;
  return error instanceof AggregateError ? { errors: error.errors, ...fields } : fields;
}

function nameOf(value: object): string {
  const constructor: unknown = Object.getPrototypeOf(value)?.constructor;
  return typeof constructor === "function" && constructor.name !== ""
    ? displayText(constructor.name, 60)
    : "Object";
}

function isTypedArray(value: object): value is object & ArrayLike<number> & Iterable<number> {
  return ArrayBuffer.isView(value) && Symbol.iterator in value && "length" in value;
}

function dateText(date: Date): string {
  return Number.isNaN(date.getTime()) ? "Invalid Date" : date.toISOString();
}

function bytesText(name: string, bytes: Uint8Array): string {
  const shown = [...bytes.subarray(0, SHOWN_BYTES)];
  const hex = shown.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return `${name}(${bytes.length}) <${hex}${bytes.length > SHOWN_BYTES ? " …" : ""}>`;
}

/**
 * A value as one line of JSON that is safe on a terminal: characters that are not plainly visible
 * are escaped, and a parser gets back every one of them.
 *
 * What JSON has no words for becomes: bytes base64, a bigint and a number that is not finite a
 * text, a Map a list of pairs, a Set a list, an error an object with its name, message and stack.
 */
export function displayJson(value: unknown): string {
  const json = JSON.stringify(value, jsonValue) ?? "null";
  return json.replace(UNSAFE, (character) => {
    const units = Array.from({ length: character.length }, (_, i) => character.charCodeAt(i));
    return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
  });
}

function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Uint8Array) return value.toBase64();
  if (value instanceof ArrayBuffer) return new Uint8Array(value).toBase64();
  if (value instanceof Map || value instanceof Set || isTypedArray(value)) return [...value];
  if (value instanceof RegExp) return String(value);
  if (!(value instanceof Error)) return value;
  const { name, message, stack, cause } = value;
  return { name, message, stack, cause, ...withoutText(value) };
}
