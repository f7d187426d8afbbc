/**
 * The command `ui`: the dashboard, served to this machine.
 * @module
 */
import { once } from "node:events";
import { type Command, EXIT } from "./cli_host.ts";
import { LOOK_EXIT_CODES, type Operation, operation } from "./cli_operations.ts";
import { readCount } from "./cli_quantities.ts";
import { serve } from "./cli_server.ts";
import { dashboard } from "./dashboard.ts";

const DEFAULT_PORT = 8723;
const LAST_PORT = 65_535;
/** Nobody but this machine reaches it, so that it needs no login. */
const LOOPBACK = "127.0.0.1";

/** `ui`: the dashboard, until it is stopped. */
export const UI: Command = operation(
  {
    name: "ui",
    summary: "Serve the dashboard to this machine.",
    operands: [],
    about: "Open the address it prints in a browser. Other machines are not served: mount\n" +
      "dashboard() in a server of your own for them, with a login.",
    options: [
      { name: "port", value: "N", help: `Listen on this port, 0 for a free one: ${DEFAULT_PORT}` },
      { name: "read-only", help: "Only show, change nothing" },
    ],
    epilog: LOOK_EXIT_CODES,
  },
  (args) => ({
    port: readCount("--port", args.value("port"), 0, LAST_PORT) ?? DEFAULT_PORT,
    readOnly: args.switch("read-only") ?? false,
  }),
  serveDashboard,
);

async function serveDashboard(
  { arq, queueName, isQueueNamed, out, stop }: Operation,
  { port, readOnly }: { readonly port: number; readonly readOnly: boolean },
): Promise<number> {
  const handler = dashboard(arq, { readOnly });
  await using server = serve(handler, { option: "--port", hostname: LOOPBACK, port });
  const query = isQueueNamed ? `?${new URLSearchParams({ queue: queueName })}` : "";
  const url = `${server.url}/${query}`;
  await out.tell({ url }, `The dashboard is at ${url}`);
  if (!stop.aborted) await once(stop, "abort");
  return EXIT.done;
}
