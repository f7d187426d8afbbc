/**
 * Errors as maps and back, the same in the result of a failed job and in the extension of an `Error`;
 * and what values are called in messages.
 * @module
 */

import {
  DeserializationError,
  JobAborted,
  JobExecutionFailed,
  JobNotFound,
  JobStateError,
  JobTimeoutError,
  QueueConnectionError,
  ResultNotFound,
  SerializationError,
} from "./errors.ts";

/** What a MessagePack map reads as. */
export type Fields = Record<string, unknown>;

/** How an error travels: in the `r` of a failed job, and in the extension of an `Error`. */
export interface ErrorFields extends Fields {
  /** Its `name`, `NonError` if what was thrown is no error. */
  name: string;
  /** Its `message`, or the text of what was thrown. */
  message: string;
  /** Its `stack`. */
  stack?: string;
  /** Its `cause`; in `r` an error is such a map again. A map with the three texts above reads as one. */
  cause?: unknown;
  /** The `errors` of an `AggregateError`, written as the cause is. */
  errors?: unknown;
  /** `DOMException` or `AggregateError`, where the name doesn't tell. */
  class?: unknown;
  /** What was thrown, if it is no error and can travel. */
  thrown?: unknown;
}

const UNSERIALIZABLE_IN_PYTHON = "unable to serialize result";
const MAX_DESCRIBED_CAUSES = 20;
const ERROR_KEYS: ReadonlySet<string> = new Set(["name", "message", "stack", "cause", "__proto__"]);
const CLASS_MARKS: ReadonlySet<unknown> = new Set(["DOMException", "AggregateError"]);

const ERROR_CLASSES: ReadonlyMap<string, new (message: string) => Error> = new Map(
  [
    Error,
    TypeError,
    RangeError,
    SyntaxError,
    ReferenceError,
    EvalError,
    URIError,
    ResultNotFound,
    JobNotFound,
    JobStateError,
    JobAborted,
    JobTimeoutError,
    JobExecutionFailed,
    SerializationError,
    DeserializationError,
    QueueConnectionError,
  ].map((errorClass) => [errorClass.prototype.name, errorClass]),
);

/** Tells errors from other values, also those of another realm. */
export function isError(value: unknown): value is Error {
  return value instanceof Error || Error.isError(value);
}

/** Turns an error into a map; its cause and own fields stay the values they are. */
export function errorFields(error: Error): ErrorFields {
  const [name, message] = [error.name, error.message].map((text: unknown) =>
    typeof text === "string" ? text : textOf(text)
  ) as [string, string];
  const stack = typeof error.stack === "string" ? error.stack : `${name}: ${message}`;
  const own: Fields = { ...error, name, message, stack };
  const fields: ErrorFields = { name, message, stack, ...own };
  if (Object.hasOwn(error, "cause")) fields.cause = error.cause;
  if (error instanceof DOMException) fields.class = "DOMException";
  if (error instanceof AggregateError) {
    fields.errors = error.errors;
    if (name !== "AggregateError") fields.class = "AggregateError";
  }
  return fields;
}

/** Turns such a map back into an error, whatever its fields are, and touches no prototype. */
export function reviveError(fields: Fields): Error {
  const name = typeof fields.name === "string" ? fields.name : "Error";
  const message = typeof fields.message === "string" ? fields.message : "";
  const error = createError(fields, name, message);
  if (error.name !== name) define(error, "name", name, false);
  const stack = typeof fields.stack === "string" ? fields.stack : `${name}: ${message}`;
  define(error, "stack", stack, false);
  if (Object.hasOwn(fields, "cause")) define(error, "cause", reviveNested(fields.cause), false);
  for (const [key, value] of Object.entries(fields)) {
    const isRead = ERROR_KEYS.has(key) || (key === "class" && CLASS_MARKS.has(value)) ||
      (key === "errors" && error instanceof AggregateError);
    if (!isRead) define(error, key, value, true);
  }
  return error;
}

function createError(fields: Fields, name: string, message: string): Error {
  if (fields.class === "DOMException") return new DOMException(message, name);
  if (fields.class === "AggregateError" || name === "AggregateError") {
    const errors = Array.isArray(fields.errors) ? fields.errors.map(reviveNested) : [];
    return new AggregateError(errors, message);
  }
  return new (ERROR_CLASSES.get(name) ?? Error)(message);
}

function reviveNested(value: unknown): unknown {
  if (!isPlainObject(value)) return value;
  const { name, message, stack } = value;
  const isErrorMap = [name, message, stack].every((text) => typeof text === "string");
  return isErrorMap ? reviveError(value) : value;
}

function define(target: object, key: string, value: unknown, enumerable: boolean): void {
  Object.defineProperty(target, key, { value, enumerable, writable: true, configurable: true });
}

/** Describes whatever a job threw, readable for Python, without the fields that cannot travel. */
export function describeFailure(
  thrown: unknown,
  canTravel: (value: unknown) => boolean,
  outer: readonly unknown[] = [],
): ErrorFields {
  try {
    if (!isError(thrown)) return describeNonError(thrown, canTravel);
    const chain = [...outer, thrown];
    const describe = (value: unknown) =>
      isError(value) && !chain.includes(value) && chain.length < MAX_DESCRIBED_CAUSES
        ? describeFailure(value, canTravel, chain)
        : value;
    const fields = errorFields(thrown);
    if ("cause" in fields) fields.cause = describe(fields.cause);
    if (Array.isArray(fields.errors)) fields.errors = fields.errors.map(describe);
    const kept = Object.entries(fields)
      .filter(([key, value]) => value !== undefined && canTravel({ [key]: value }));
    return Object.fromEntries(kept) as ErrorFields;
  } catch {
    return { name: "Error", message: textOf(thrown) };
  }
}

function describeNonError(thrown: unknown, canTravel: (value: unknown) => boolean): ErrorFields {
  const message = typeof thrown === "string" ? thrown : textOf(thrown);
  const fields = { name: "NonError", message };
  return canTravel(thrown) ? { ...fields, thrown } : fields;
}

/** Turns the `r` of a failed job into an error, also Python's text and what no serializer wrote. */
export function reviveFailure(r: unknown): Error {
  if (isError(r)) return r;
  if (r === UNSERIALIZABLE_IN_PYTHON) return new SerializationError(r);
  if (typeof r === "string") return new Error(r);
  return reviveError(isPlainObject(r) ? r : describeNonError(r, () => true));
}

/** Tells objects without a class of their own. */
export function isPlainObject(value: unknown): value is Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** Names what a value is, for a message: `null`, `a string`, `a Promise`. */
export function typeName(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== "object") return `a ${typeof value}`;
  const name = Object.prototype.toString.call(value).slice(8, -1);
  return /^[aeiou]/i.test(name) ? `an ${name}` : `a ${name}`;
}

/** Shows anything in one short line, and never throws. */
export function textOf(value: unknown): string {
  try {
    const text = isPlainObject(value) ? JSON.stringify(value) : String(value);
    return text.replace(/\s+/g, " ").slice(0, 200);
  } catch {
    return `a ${typeof value}`;
  }
}
