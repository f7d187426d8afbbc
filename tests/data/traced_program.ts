/** A program that enqueues and runs jobs with nothing registered: its runtime exports what they tell. */
import { trace } from "@opentelemetry/api";
import { argv } from "node:process";
import { createPool, func, Worker } from "../../mod.ts";

const tracer = trace.getTracer("program");
const functions = {
  greet: () => tracer.startActiveSpan("greeting", (span) => span.end()),
  fail: () => {
    throw new RangeError("no such thing");
  },
};
const apart = {
  greetApart: func(import.meta.resolve("./traced_function.ts#greet"), { isolate: true }),
};
const isApart = argv[2] === "apart";
await using arq = await createPool("sqlite::memory:");
await tracer.startActiveSpan("request", async (span) => {
  if (isApart) await arq.enqueueJob("greetApart");
  else {
    await arq.enqueueJobs([{ name: "greet" }, { name: "fail" }]);
    await arq.enqueueJob("greet", [], { deferBy: 1 });
  }
  span.end();
});
const worker = new Worker({ functions: isApart ? apart : functions, connection: arq, burst: true });
await worker.run();
console.log(String(worker));
