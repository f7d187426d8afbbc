/**
 * A command line, described once: what it takes, how it is read, and its help text.
 * @module
 */
import { parseArgs } from "node:util";
import { nearest } from "./validation.ts";

/** One option of a command. */
export interface OptionSpec {
  /** The long name, without its dashes. */
  readonly name: string;
  /** One letter for it. */
  readonly short?: string;
  /** What its value is called in the help; an option without one is a switch. */
  readonly value?: string;
  /** Whether it may be given several times. */
  readonly isRepeatable?: boolean;
  /** Whether `--no-name` exists as well. */
  readonly isNegatable?: boolean;
  /** One line of help. */
  readonly help: string;
}

/** What a command takes and says about itself. */
export interface CommandSpec {
  /** The word on the command line. */
  readonly name: string;
  /** What it does, in one line. */
  readonly summary: string;
  /**
   * What its positional arguments are called; `[NAME]` may be left out, and the last one may be
   * repeated where it ends in dots: `NAME...`, `[NAME...]`.
   */
  readonly operands: readonly string[];
  /** Its options; `--help` and `--version` come by themselves. */
  readonly options: readonly OptionSpec[];
  /** Help between the usage and the options, if there is more to say. */
  readonly about: string;
  /** Help after the options. */
  readonly epilog: string;
}

/** A command line that cannot be followed, or that names something unusable. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  /** More about it, each on a line of its own. */
  readonly details: readonly string[];

  /** Takes one line, more lines if there is more to say, and the error behind it. */
  constructor(message: string, details: readonly string[] = [], cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.details = details;
  }
}

/** Options that every command has. */
export const COMMON_OPTIONS: readonly OptionSpec[] = [
  { name: "version", short: "V", help: "Print the version" },
  { name: "help", short: "h", help: "Print this help" },
];

/**
 * Checks how many positional arguments there are.
 *
 * @throws {UsageError} if one is missing, empty or needless.
 */
export function checkOperands(
  program: string,
  { name, operands }: CommandSpec,
  given: readonly string[],
): void {
  const next = operands[given.length];
  const help = `see ${program} ${name} --help`;
  if (next !== undefined && !next.startsWith("[")) {
    throw new UsageError(`${name} needs ${next.replace("...", "")}; ${help}`);
  }
  const isRepeatable = operands.at(-1)?.includes("...");
  const needless = isRepeatable ? undefined : given[operands.length];
  if (needless !== undefined) throw new UsageError(`${name} does not take "${needless}"; ${help}`);
  // As of a script's variable that is not set.
  if (given.includes("")) throw new UsageError(`${name} was given an empty argument; ${help}`);
}

type Token = ReturnType<typeof tokenize>[number];
type OptionToken = Extract<Token, { readonly kind: "option" }>;

/** What was said on the command line. */
export class Arguments {
  /** What is no option. */
  readonly operands: readonly string[];
  readonly #switches: Map<string, boolean> = new Map();
  readonly #values: Map<string, string[]> = new Map();

  /**
   * Reads the line of a command, such as "arq worker", whose help has the options that there are.
   *
   * @throws {UsageError} for an unknown option, with a suggestion, and for a missing or needless value.
   */
  constructor(command: string, args: readonly string[], options: readonly OptionSpec[]) {
    const tokens = tokenize(args, options);
    for (const token of tokens) {
      if (token.kind === "option") this.#take(token, options, command);
    }
    this.operands = tokens.flatMap((token) => token.kind === "positional" ? [token.value] : []);
  }

  /** Whether a switch is on, or off by its `--no-` form; undefined if it was not given. */
  switch(name: string): boolean | undefined {
    return this.#switches.get(name);
  }

  /** The value of an option, the last one if there are several. */
  value(name: string): string | undefined {
    return this.#values.get(name)?.at(-1);
  }

  /** All values of an option. */
  values(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  #take(
    { name, rawName, value, inlineValue }: OptionToken,
    options: readonly OptionSpec[],
    command: string,
  ): void {
    const spec = options.find((option) => option.name === name);
    const negated = options.find((option) => option.isNegatable && `no-${option.name}` === name);
    if (!spec && !negated) throw unknownOption(rawName, options, command);
    if (spec?.value === undefined) {
      if (value !== undefined) throw new UsageError(`${rawName} takes no value`);
      this.#switches.set((spec ?? negated)?.name ?? name, spec !== undefined);
      return;
    }
    if (value === undefined || value === "" || (!inlineValue && /^-\D/.test(value))) {
      throw new UsageError(`${rawName} needs a value: ${rawName} ${spec.value}`);
    }
    if (!spec.isRepeatable && this.#values.has(name)) {
      throw new UsageError(`${rawName} was given twice`);
    }
    this.#values.set(name, [...this.values(name), value]);
  }
}

function tokenize(line: readonly string[], options: readonly OptionSpec[]) {
  const known: Record<string, { type: "string" | "boolean"; short?: string; multiple: boolean }> =
    {};
  for (const { name, short, value, isNegatable } of options) {
    const type = value === undefined ? "boolean" : "string";
    known[name] = { type, ...(short !== undefined && { short }), multiple: true };
    if (isNegatable) known[`no-${name}`] = { type: "boolean", multiple: true };
  }
  const args = [...line];
  const { tokens } = parseArgs({
    args,
    options: known,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  return tokens ?? [];
}

function unknownOption(
  given: string,
  options: readonly OptionSpec[],
  command: string,
): UsageError {
  const names = options.flatMap(({ name, isNegatable }) =>
    isNegatable ? [name, `no-${name}`] : [name]
  );
  const near = nearest(given.replace(/^-+/, ""), names);
  const suggestion = near !== undefined
    ? `; did you mean --${near}?`
    : /^-\d/.test(given)
    ? "; put -- before values that begin with a dash"
    : `; see ${command} --help`;
  return new UsageError(`unknown option ${given}${suggestion}`);
}

/** The help of one command; fits a terminal of 80 columns. */
export function commandHelp(program: string, command: CommandSpec): string {
  return [
    command.summary,
    "",
    `Usage: ${[program, command.name, ...command.operands].join(" ")} [options]`,
    "",
    ...(command.about === "" ? [] : [command.about, ""]),
    "Options:",
    ...optionLines([...command.options, ...COMMON_OPTIONS]),
    "",
    command.epilog,
  ].join("\n");
}

/** The help of the program as a whole. */
export function programHelp(program: string, commands: readonly CommandSpec[]): string {
  const usages = commands.map((command) => [command.name, ...command.operands].join(" "));
  const width = Math.max(...usages.map((usage) => usage.length));
  return [
    "Job queues for Deno and Bun.",
    "",
    `Usage: ${program} COMMAND [options]`,
    "",
    "Commands:",
    ...commands.map(({ summary }, i) => `  ${usages[i]?.padEnd(width)}  ${summary}`),
    "",
    "Options:",
    ...optionLines(COMMON_OPTIONS),
    "",
    `See ${program} COMMAND --help for the options of one command.`,
  ].join("\n");
}

function optionLines(options: readonly OptionSpec[]): string[] {
  const heads = options.map(({ name, short, value, isNegatable }) => {
    const letter = short === undefined ? "    " : `-${short}, `;
    const long = isNegatable ? `--[no-]${name}` : `--${name}`;
    return `  ${letter}${long}${value === undefined ? "" : ` ${value}`}`;
  });
  const width = Math.max(...heads.map((head) => head.length));
  return options.map(({ help }, i) => `${heads[i]?.padEnd(width)}  ${help}`);
}
