/**
 * Counts the commands that an idle worker sends to Redis, and prints them as one line of JSON. What
 * its scripts do inside the server is not counted: `MONITOR` tells the two apart, `INFO
 * commandstats` does not.
 */
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { startRedis } from "../tests/_redis.ts";
import { Worker } from "../mod.ts";
import { pause, print, QUICK } from "./figures.ts";

const SECONDS = QUICK ? 4 : 20;
/** What it sends at its start is not counted. */
const SETTLE_MS = 1_000;

/** Calls back for each command that a client sends. */
function monitor(port: number, onCommand: (line: string) => void): Disposable {
  const socket = connect({ port, host: "127.0.0.1" });
  socket.write("MONITOR\r\n");
  createInterface({ input: socket }).on("line", (line) => {
    if (line.startsWith("+") && line !== "+OK" && !line.includes(" lua]")) onCommand(line);
  });
  return { [Symbol.dispose]: () => socket.destroy() };
}

await using redis = await startRedis();
await using worker = new Worker({ connection: redis.url, functions: { noop: () => {} } });
const running = worker.run();
await pause(SETTLE_MS);
let commands = 0;
{
  using _monitor = monitor(redis.port, () => commands++);
  await pause(SECONDS * 1_000);
}
print({ "idle worker, commands/s": commands / SECONDS });
await worker.close();
await running;
