/**
 * What may be said about functions that run in processes of their own, the defaults, and the check.
 * @module
 */
import { type Duration, durationMs } from "./duration.ts";
import { checkKeys, isCount, isOptions, show } from "./validation.ts";

/**
 * Deno's permissions of a process. What is left out is as the worker has it, as far as Deno tells: a
 * permission without a list. `false` takes it away; a list such as `["./data"]` names what is given,
 * as Deno's flags have it.
 */
export interface IsolatePermissions {
  /** As `--allow-read`; the folders of the module, of the library and of the program, if no more. */
  readonly read?: boolean | readonly string[];
  /** As `--allow-write`. */
  readonly write?: boolean | readonly string[];
  /**
   * As `--allow-net`. Where the worker has a list with exceptions within it, which Deno does not
   * tell, name each `host:port`.
   */
  readonly net?: boolean | readonly string[];
  /** As `--allow-env`. Where the worker has a list with exceptions within it, name each variable. */
  readonly env?: boolean | readonly string[];
  /** As `--allow-sys`. */
  readonly sys?: boolean | readonly string[];
  /** As `--allow-run`. */
  readonly run?: boolean | readonly string[];
  /** As `--allow-ffi`. */
  readonly ffi?: boolean | readonly string[];
}

/** How to run a function in processes of their own; functions of one module with equal options share them. */
export interface IsolateOptions {
  /** How many processes there may be at a time; further jobs wait. @default the processors there are */
  readonly maxProcesses?: number;
  /** How long a process without a job is kept: milliseconds or a duration object. @default 1 minute */
  readonly idleTime?: Duration;
  /** How many jobs a process runs before a new one takes its place. @default no limit */
  readonly maxJobsPerProcess?: number;
  /** What a process may do, under Deno; never more than the worker. @default what the worker may */
  readonly permissions?: IsolatePermissions;
  /**
   * Specifier of a module that exports the `jobSerializer` and `jobDeserializer` of this program, for
   * values that only these can carry. @default the library's own serializer
   */
  readonly serializer?: string;
  /** Arguments for the runtime, such as `--v8-flags=--max-old-space-size=512`. @default [] */
  readonly runtimeArgs?: readonly string[];
}

/** How a function runs in processes of their own, with every default filled in. */
export interface IsolateSettings {
  readonly maxProcesses: number;
  readonly idleMs: number;
  readonly maxJobsPerProcess: number;
  readonly permissions: IsolatePermissions;
  readonly serializer: string | undefined;
  readonly runtimeArgs: readonly string[];
}

/** Every permission that can be given. */
export const PERMISSIONS = [
  "read",
  "write",
  "net",
  "env",
  "sys",
  "run",
  "ffi",
] as const satisfies readonly (keyof IsolatePermissions)[];
const KEYS = [
  "maxProcesses",
  "idleTime",
  "maxJobsPerProcess",
  "permissions",
  "serializer",
  "runtimeArgs",
] as const satisfies readonly (keyof IsolateOptions)[];
const COUNTS = ["maxProcesses", "maxJobsPerProcess"] as const;
/**
 * What would give a process more than the worker has, or pass over what it was given; short flags may
 * stand together, as in `-qA`, and what follows a `-c` is its value.
 */
const PERMISSION_ARGUMENT = /^(?:-[abd-z]*[A-Z]|--(?:allow|permission)\b)/;

/** Checks the option `isolate` and fills in the defaults; undefined if it is off. */
export function resolveIsolate(
  isolate: boolean | IsolateOptions | undefined,
  isSpecifier: boolean,
): {
  readonly settings: IsolateSettings | undefined;
  readonly problems: readonly string[];
} {
  if (isolate === undefined || isolate === false) return { settings: undefined, problems: [] };
  if (isolate !== true && !isOptions(isolate)) {
    const problem = `isolate must be true, false or an object of options, got ${show(isolate)}`;
    return { settings: undefined, problems: [problem] };
  }
  const options: IsolateOptions = isolate === true ? {} : isolate;
  const problems = checkKeys(options, KEYS).map((found) => `isolate: ${found}`);
  if (!isSpecifier) {
    problems.push(
      "isolate needs a module specifier in place of the function, which cannot be sent to another " +
        'process: func(import.meta.resolve("./tasks.ts#resize"), { isolate: true })',
    );
  }
  problems.push(...valueProblems(options));
  let idleMs = 60_000;
  try {
    idleMs = durationMs("isolate.idleTime", options.idleTime ?? idleMs);
  } catch (error) {
    problems.push((error as Error).message);
  }
  const settings = {
    maxProcesses: options.maxProcesses ?? navigator.hardwareConcurrency,
    idleMs,
    maxJobsPerProcess: options.maxJobsPerProcess ?? Infinity,
    permissions: options.permissions ?? {},
    serializer: options.serializer,
    runtimeArgs: options.runtimeArgs ?? [],
  };
  return { settings, problems };
}

function valueProblems(options: IsolateOptions): string[] {
  const problems: string[] = [];
  const check = (name: keyof IsolateOptions, rule: string, isGood: (value: unknown) => boolean) => {
    const value = options[name];
    if (value === undefined || isGood(value)) return;
    problems.push(`isolate.${name} must be ${rule}, got ${show(value)}`);
  };
  for (const name of COUNTS) {
    check(name, "a whole number of 1 or more", isCount);
  }
  check(
    "serializer",
    "a module specifier",
    (value) => typeof value === "string" && value !== "",
  );
  const relative = relativeProblem(options.serializer);
  if (relative !== undefined) problems.push(`isolate.serializer: ${relative}`);
  check("runtimeArgs", "a list of texts", isTexts);
  check("permissions", "an object such as { net: false }", isOptions);
  const { runtimeArgs, permissions } = options;
  const forbidden = isTexts(runtimeArgs) &&
    runtimeArgs.find((arg) => PERMISSION_ARGUMENT.test(arg));
  if (forbidden) {
    problems.push(`isolate.runtimeArgs must not have "${forbidden}": use isolate.permissions`);
  }
  return isOptions(permissions) ? [...problems, ...permissionProblems(permissions)] : problems;
}

/** What is wrong with a module specifier that begins with a dot; undefined if this one does not. */
export function relativeProblem(specifier: unknown): string | undefined {
  if (typeof specifier !== "string" || !/^\.\.?\//.test(specifier)) return undefined;
  const shown = show(specifier);
  return `nobody knows what ${shown} is relative to; write import.meta.resolve(${shown})`;
}

function permissionProblems(permissions: IsolatePermissions): string[] {
  const unknown = checkKeys(permissions, PERMISSIONS).map((found) =>
    `isolate.permissions: ${found}`
  );
  const wrong = PERMISSIONS.filter((kind) => {
    const value: unknown = permissions[kind];
    const isList = isTexts(value) && value.every((target) => !target.includes(","));
    return value !== undefined && typeof value !== "boolean" && !isList;
  });
  const rule = "must be true, false or a list of texts without a comma";
  return [
    ...unknown,
    ...wrong.map((kind) => `isolate.permissions.${kind} ${rule}, got ${show(permissions[kind])}`),
  ];
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string" && item !== "");
}
