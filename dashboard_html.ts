/**
 * Markup by template, in which every value is escaped by construction.
 * @module
 */
import { escapeUnsafe } from "./display.ts";

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
/** Attributes whose value a browser may load or run. */
const TAKES_ADDRESS = /\s(?:href|src|action|formaction|data-live)="$/;
/** A value that stands there would end at the first blank. */
const IS_UNQUOTED = /=$/;

/** Finished markup. Only its type leaves this module, so that nothing but a template makes any. */
class Html {
  constructor(readonly text: string) {}
}
export type { Html };

/** An address on the dashboard itself; the only thing that may stand in an `href` and its like. */
export class Address {
  /** Path and query, percent-encoded. */
  readonly href: string;

  /** Takes the path as it is, and encodes the query; what is undefined or empty is left out. */
  constructor(path: string, query: Readonly<Record<string, string | undefined>> = {}) {
    const given = new URLSearchParams();
    for (const [key, value] of Object.entries(query)) if (value) given.append(key, value);
    const text = given.toString();
    this.href = text === "" ? path : `${path}?${text}`;
  }
}

/** The value of a form's field, which has to come back as it is; only HTML's own characters are escaped. */
export class FieldValue {
  /** Takes the value. */
  constructor(readonly text: string) {}
}

/** What may stand in a template: text, markup, lists of these; what is empty shows nothing. */
export type Content =
  | Html
  | Address
  | FieldValue
  | string
  | number
  | null
  | undefined
  | false
  | readonly Content[];

/**
 * Markup from a template. Texts are escaped, control and invisible characters in them shown as
 * such, line ends kept.
 *
 * @throws {TypeError} for a value in an attribute without quotes, and for an `href` or the like
 * that is no {@linkcode Address}: data must never become a `javascript:` link.
 */
export function html(strings: TemplateStringsArray, ...values: readonly Content[]): Html {
  let text = strings[0] ?? "";
  values.forEach((value, i) => {
    checkPlaceholder(strings[i] ?? "", value);
    text += textOf(value) + (strings[i + 1] ?? "");
  });
  return new Html(text);
}

function checkPlaceholder(before: string, value: Content): void {
  if (IS_UNQUOTED.test(before)) {
    throw new TypeError(`An attribute needs quotes around its value: ${before.slice(-40)}`);
  }
  if (TAKES_ADDRESS.test(before) !== value instanceof Address) {
    throw new TypeError(`An address, and nothing else, belongs here: ${before.slice(-40)}`);
  }
}

function textOf(content: Content): string {
  if (content === null || content === undefined || content === false) return "";
  if (typeof content === "string") return escapeHtml(visible(content));
  if (typeof content === "number") return String(content);
  if (content instanceof Html) return content.text;
  if (content instanceof Address) return escapeHtml(content.href);
  if (content instanceof FieldValue) return escapeHtml(content.text);
  return content.map(textOf).join("");
}

/** Shows what is invisible, but for line ends, which mean what they are in a `<pre>`. */
function visible(text: string): string {
  return text.split("\n").map(escapeUnsafe).join("\n");
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ESCAPES[character] ?? character);
}
