/**
 * The types that let the compiler check a job's name, arguments and result against the functions
 * a worker registers. There is no code here: only types cross from worker to client.
 * @module
 */

/** Any function a worker may register, whatever its context and arguments are. */
export type AnyFunction = (ctx: never, ...args: never[]) => unknown;

/** What `typeof functions` may be: names with their functions, bare or wrapped by `func`. */
export type Functions = Readonly<Record<string, AnyFunction | WrappedFunction>>;

/** What `F` must be for its names to be functions: a `typeof functions`, or an interface. */
export type FunctionTable<F> = { readonly [Name in keyof F]: AnyFunction | WrappedFunction };

/** A function with options, as `func` returns it. */
export interface WrappedFunction {
  /** The function, or the module specifier it is imported from. */
  readonly fn: AnyFunction | string;
}

/** The function type when no type argument was given: everything is `unknown`. */
export type UntypedFunction = (ctx: unknown, ...args: unknown[]) => unknown;

/** The functions of a client that was given no type argument: any name, `unknown` throughout. */
export type UntypedFunctions = Readonly<Record<string, UntypedFunction>>;

/** The function behind one entry of {@linkcode Functions}. */
export type FunctionOf<Entry> = Entry extends AnyFunction ? Entry
  : Entry extends { readonly fn: infer F } ? Extract<F, AnyFunction>
  : never;

/** The arguments a caller passes, without the context. */
export type ArgsOf<Entry> = FunctionOf<Entry> extends (ctx: never, ...args: infer A) => unknown ? A
  : never;

/** What `job.result()` resolves to. */
export type ResultOf<Entry> = Awaited<ReturnType<FunctionOf<Entry>>>;

/** Parameters after the name: arguments, which may be left out if there are none, and options. */
export type ArgsAndOptions<Args extends readonly unknown[], Options> = [] extends Args
  ? [args?: Readonly<Args>, options?: Options]
  : [args: Readonly<Args>, options?: Options];
