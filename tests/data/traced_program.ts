/** A program that enqueues and runs jobs with nothing registered: its runtime exports what they tell. */
import { trace } from "@opentelemetry/api";
import { createPool, Worker } from "../../mod.ts";

const tracer = trace.getTracer("program");
const functions = {
  greet: () => tracer.startActiveSpan("greeting", (span) => span.end()),
  fail: () => {
    throw new RangeError("no such thing");
  },
};
await using arq = await createPool("sqlite::memory:");
await tracer.startActiveSpan("request", async (span) => {
  await arq.enqueueJobs([{ name: "greet" }, { name: "fail" }]);
  await arq.enqueueJob("greet", [], { deferBy: 1 });
  span.end();
});
const worker = new Worker({ functions, connection: arq, burst: true });
await worker.run();
console.log(String(worker));
