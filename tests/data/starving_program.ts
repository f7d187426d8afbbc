/**
 * A program that has a process run a function when it may open no more files, as few as it may open;
 * it prints the error's message.
 */
import { openSync } from "node:fs";
import process from "node:process";
import type { JobMeta } from "../../functions.ts";
import { newMark } from "../../isolate_channel.ts";
import { IsolateProcess } from "../../isolate_process.ts";

const command = { path: process.execPath, args: ["--version"], mayYield: false, advice: "" };
const facts = { jobId: "j", jobTry: 1, score: 0, queueName: "q" };
const order = { kind: "run", exportName: "count", record: new Uint8Array(), facts } as const;
const ctx = { functionName: "count", signal: new AbortController().signal } as JobMeta;
let message = "";
try {
  for (;;) openSync("/dev/null", "r");
} catch {
  try {
    await new IsolateProcess(command, newMark()).run(order, ctx, () => {});
  } catch (error) {
    message = (error as Error).message;
  }
}
console.log(message);
