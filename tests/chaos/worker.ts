/**
 * A worker of the chaos, in a process of its own: `worker.ts SETTINGS LEDGER`, the settings in JSON.
 *
 * Each start of a job is a line in the ledger; the worker's own start is one with a `#`, an end that
 * nobody wanted one with a `!`.
 */
import { openSync, writeSync } from "node:fs";
import process from "node:process";
import { Worker } from "../../mod.ts";
import { makeFunctions } from "./jobs.ts";

const [, , settings = "", path = ""] = process.argv;
const ledger = openSync(path, "a");

try {
  const functions = makeFunctions(ledger);
  const onStartup = () => void writeSync(ledger, "# ready\n");
  await new Worker({ ...JSON.parse(settings), functions, onStartup, handleSignals: true }).run();
} catch (error) {
  writeSync(ledger, `! ${String(error).replaceAll("\n", " ")}\n`);
  process.exit(1);
}
