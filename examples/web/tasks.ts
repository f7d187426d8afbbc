/**
 * The worker of the web service beside it. It goes on until Ctrl+C; start as many as you like.
 *
 *     deno run -A cli.ts worker examples/web/tasks.ts
 *     bun cli.ts worker examples/web/tasks.ts
 *
 * Where the package is installed, `deno run -A jsr:@arq/arq/cli worker tasks.ts` or
 * `bun node_modules/@arq/arq/cli.ts worker tasks.ts`. Both sides share the file `web.db` in the
 * working directory, or the store that `ARQ_URL` names.
 */
import type { JobContext, WorkerSettings } from "@arq/arq";
import process from "node:process";

/** How often a word stands in a text. */
function countWord(ctx: JobContext, text: string, word: string): number {
  ctx.logger.info("Looking for {word}", { word });
  if (word === "") throw new RangeError("There is no word to look for");
  return text.toLowerCase().split(/[^\p{L}]+/u).filter((w) => w === word.toLowerCase()).length;
}

export const functions = { countWord };
export const connection: string = process.env.ARQ_URL || "sqlite:web.db";
export const queueName = "example:web";

export default { functions, connection, queueName } satisfies WorkerSettings;
