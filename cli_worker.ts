/**
 * The command `worker`: from its options to a worker that runs, or to its sign of life.
 * @module
 */
import { type Config, configure, getConfig, getLogger } from "@logtape/logtape";
import { type Arguments, type CommandSpec, UsageError } from "./cli_arguments.ts";
import { checkSecret, namingSettings, readUrl } from "./cli_connection.ts";
import { EXIT, type Host } from "./cli_host.ts";
import { type LogStyle, setUpLog } from "./cli_log.ts";
import { readCount } from "./cli_quantities.ts";
import { serve, type ServeOptions, type Server } from "./cli_server.ts";
import { loadObject, loadSettings, locateExport, withOverrides } from "./cli_settings.ts";
import { metrics } from "./metrics.ts";
import { show } from "./validation.ts";
import { checkHealth, Worker, type WorkerSettings } from "./worker.ts";

/** What `worker` takes. */
export const WORKER: CommandSpec = {
  name: "worker",
  summary: "Run the jobs of a queue.",
  operands: ["SETTINGS"],
  about: "SETTINGS is the path or URL of a module, with #NAME for one of its exports.\n" +
    "Without it they are the default export or, if there is none, all its exports.",
  options: [
    { name: "burst", isNegatable: true, help: "End once the queue is empty" },
    { name: "check", help: "Print the workers' sign of life; exit 1 without one" },
    { name: "queue", value: "NAME", help: "Take the jobs of this queue" },
    { name: "url", value: "DSN", help: "Connect to this store; ARQ_URL does the same" },
    { name: "max-jobs", value: "N", help: "Run up to N jobs at a time" },
    {
      name: "watch",
      value: "DIR",
      isRepeatable: true,
      help: "Reload when a source in DIR changes; may be repeated",
    },
    {
      name: "metrics-port",
      value: "PORT",
      help: "Serve /metrics, /healthz on this port, or HOST:PORT",
    },
    { name: "verbose", short: "v", help: "Log more, and show whole stacks" },
    { name: "log-format", value: "FORMAT", help: "pretty, or json: one object a line" },
    { name: "log-config", value: "MODULE", help: "Log as this module's LogTape config says" },
  ],
  epilog: "Exit codes: 0 stopped or done, 1 failed, 2 bad usage or settings; a second\n" +
    "signal ends at once with 130 (SIGINT), 143 (SIGTERM) or 129 (SIGHUP).",
};

/** Runs the command and resolves with its exit code. */
export async function runWorkerCommand(args: Arguments, host: Host): Promise<number> {
  const [given = ""] = args.operands;
  const overrides = readOverrides(args);
  const style = readStyle(args, host.hasColours);
  const address = readAddress(args.value("metrics-port"));
  const location = locateExport(given);
  const settings = withOverrides(await loadSettings(location), overrides);
  checkSecret(settings);
  return await namingSettings(given, async () => {
    const worker = new Worker(withoutSignals(settings));
    await logAsAsked(args, { ...style, timezone: settings.timezone });
    getLogger(["arq", "cli"]).debug("settings from {url}", { url: location.url });
    if (args.switch("check")) return await printHealth(settings);
    await host.mayStart();
    await using _server = serveMetrics(address, worker, settings.queueName);
    await worker.run({ signal: host.stopSignal(settings.handleSignals !== false) });
    return EXIT.done;
  });
}

type Address = Pick<ServeOptions, "hostname" | "port">;

function readAddress(text: string | undefined): Address | undefined {
  if (text === undefined) return undefined;
  const [, host = "127.0.0.1", digits = ""] = /^(?:(.+):)?(\d+)$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits !== "" && port <= 65_535) return { hostname: host.replace(/^\[(.*)\]$/, "$1"), port };
  throw new UsageError(`--metrics-port must be a port or HOST:PORT, got ${show(text)}`);
}

function serveMetrics(
  address: Address | undefined,
  { arq }: Worker,
  queueName: string = arq.defaultQueueName,
): Server | undefined {
  if (!address) return undefined;
  const handler = metrics(arq, { queueNames: [queueName] });
  const server = serve(handler, { option: "--metrics-port", ...address });
  getLogger(["arq", "cli"]).info("metrics on {url}/metrics", { event: "metrics", url: server.url });
  return server;
}

/** Signals are handled here; a bad value of the setting stays, to be reported with the others. */
function withoutSignals(settings: WorkerSettings): WorkerSettings {
  return settings.handleSignals === true
    ? withOverrides(settings, { handleSignals: false })
    : settings;
}

/** How the log is to look. */
export function readStyle(args: Arguments, hasColours: boolean): LogStyle {
  const format = args.value("log-format") ?? "pretty";
  if (format !== "pretty" && format !== "json") {
    throw new UsageError(`--log-format must be pretty or json, got "${format}"`);
  }
  const isVerbose = args.switch("verbose") ?? false;
  return { format, isVerbose, hasColours: hasColours && format === "pretty" };
}

function readOverrides(args: Arguments): Partial<WorkerSettings> {
  return {
    connection: readUrl(args),
    queueName: args.value("queue"),
    maxJobs: readCount("--max-jobs", args.value("max-jobs"), 1),
    burst: args.switch("burst"),
  };
}

/**
 * Sets the log up, unless the settings' module has done it by itself and nobody asks for anything
 * else. Where a value is the output, the log goes to standard error.
 */
async function logAsAsked(args: Arguments, style: LogStyle): Promise<void> {
  const module = args.value("log-config");
  if (module !== undefined) {
    if (args.value("log-format") !== undefined) {
      throw new UsageError("--log-config and --log-format exclude each other");
    }
    return await useLogConfig(module);
  }
  const isSetUp = getConfig() !== null;
  if (isSetUp && args.value("log-format") === undefined) return;
  await setUpLog(style, args.switch("check") ? "stderr" : "stdout");
}

async function useLogConfig(given: string): Promise<void> {
  const config = await loadObject(locateExport(given));
  if (!("sinks" in config) || !("loggers" in config)) {
    throw new UsageError(`--log-config ${given}: a LogTape config has sinks and loggers`);
  }
  try {
    await configure({ ...config as Config<string, string>, reset: true });
  } catch (error) {
    throw new UsageError(`--log-config ${given}: ${(error as Error).message}`);
  }
}

async function printHealth(settings: WorkerSettings): Promise<number> {
  const health = await checkHealth(settings);
  if (health === undefined) {
    console.error("arq: no worker has given a sign of life");
    return EXIT.failed;
  }
  console.log(health);
  return EXIT.done;
}
