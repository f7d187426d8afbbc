/**
 * One job of a list to enqueue: its type, what becomes of it, and the check of it.
 * @module
 */
import type { EnqueueOptions } from "./enqueue_options.ts";
import type { Job } from "./jobs.ts";
import type { ArgsOf, FunctionTable, ResultOf } from "./typed_names.ts";
import { checkKeys, isOptions, show } from "./validation.ts";

/** One job of a list to enqueue. */
export type JobRequest<F extends FunctionTable<F>, N extends keyof F & string = keyof F & string> =
  {
    [K in N]:
      & {
        /** The function's name. */
        readonly name: K;
        /** Options as in `enqueueJob`. */
        readonly options?: EnqueueOptions;
      }
      & ([] extends ArgsOf<F[K]> ? { readonly args?: Readonly<ArgsOf<F[K]>> }
        : { readonly args: Readonly<ArgsOf<F[K]>> });
  }[N];

/** The type of a request's own id; undefined where it has none. */
export type IdOf<Request> = Request extends { readonly options: infer O }
  ? ("jobId" extends keyof O ? O["jobId"] : undefined)
  : undefined;

/** What enqueueing one request of a list returns: null is possible where it has an id of its own. */
export type JobOf<F extends FunctionTable<F>, Request> = Request extends
  { readonly name: infer N extends keyof F }
  ? ([IdOf<Request>] extends [undefined] ? Job<ResultOf<F[N]>> : Job<ResultOf<F[N]>> | null)
  : never;

const REQUEST_KEYS = ["name", "args", "options"] as const;

/**
 * Checks that a request is one; its arguments and options are checked where they are read.
 *
 * @throws {TypeError} if it is none, or has a key that is not known.
 */
export function checkRequest<T extends { readonly name: string }>(request: T): T {
  if (!isOptions(request) || typeof request.name !== "string") {
    throw new TypeError(`Each job to enqueue is { name, args, options }, got ${show(request)}`);
  }
  const [problem] = checkKeys(request, REQUEST_KEYS);
  if (problem === undefined) return request;
  throw new TypeError(`Cannot enqueue "${request.name}": ${problem}`);
}
