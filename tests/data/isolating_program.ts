/**
 * A program with a worker in memory that runs one job in a process of its own:
 * `isolating_program.ts FUNCTION ISOLATE ARGUMENTS`, the last two as JSON. It prints the result, or
 * the error's message.
 */
import { argv } from "node:process";
import { createPool, func, Worker } from "../../mod.ts";

const [name = "", isolate = "{}", args = "[]"] = argv.slice(2);
const specifier = import.meta.resolve(`./isolated.ts#${name}`);
await using arq = await createPool("sqlite::memory:");
const worker = new Worker({
  functions: [func(specifier, { isolate: JSON.parse(isolate) })],
  connection: arq,
  burst: true,
  logResults: false,
});
const job = await arq.enqueueJob(name, JSON.parse(args));
try {
  await worker.run();
  console.log(JSON.stringify(await job.result({ timeout: 5_000 })));
} catch (error) {
  console.log(error instanceof Error ? error.message : error);
}
