/** A queue with everything in it that the dashboard can show, and the dashboard served. */

import { type ArqClient, createPool } from "../client.ts";
import { serve, type Server } from "../cli_server.ts";
import { cron } from "../cron.ts";
import { dashboard, type DashboardHandler, type DashboardOptions } from "../dashboard.ts";
import type { JobContext } from "../functions.ts";
import { Worker } from "../worker.ts";
import { eventually } from "./_helpers.ts";
import { randomPrefix } from "./_redis.ts";
import { Gate } from "./_worker.ts";

/** What somebody who wishes ill has put into a queue: it must be shown, and do nothing. */
export const HOSTILE =
  `"><script>globalThis.pwned=1</script><img src=x onerror="globalThis.pwned=1"> ` +
  `javascript:globalThis.pwned=1 ' \u202e\u0000\u001b[31m`;

/** What `Deno.serve` tells of a browser on this machine. */
export const LOCAL = { remoteAddr: { transport: "tcp", hostname: "127.0.0.1", port: 50_000 } };

/** A path to each page. */
export const PAGES = ["/", "/minutes", "/jobs", "/job?id=nothing", "/workers", "/cron"];

/** A queue in memory, without a worker. */
export async function openPool(): Promise<ArqClient> {
  return await createPool("sqlite::memory:", { prefix: randomPrefix() });
}

/** A queue in memory, with a worker. */
export class Stage implements AsyncDisposable {
  readonly arq: ArqClient;
  readonly gate: Gate = new Gate();
  readonly #worker: Worker;
  readonly #running: Promise<void>;

  private constructor(arq: ArqClient) {
    this.arq = arq;
    const functions = {
      double: (_ctx: JobContext, n: number) => 2 * n,
      fail: () => {
        throw new RangeError("no such thing", { cause: new TypeError("deep below") });
      },
      wait: (ctx: JobContext) => {
        ctx.progress(0.4);
        return this.gate.pass(ctx.signal);
      },
      [HOSTILE]: (_ctx: JobContext, value: unknown) => value,
    };
    const cronJobs = [cron(functions.fail, "0 3 * * *", { name: "nightly" })];
    this.#worker = new Worker({ connection: arq, functions, cronJobs, pollDelay: 20 });
    this.#running = this.#worker.run();
  }

  static async open(): Promise<Stage> {
    return new Stage(await openPool());
  }

  /** One job of each kind: complete, failed, running, deferred, hostile; all are there when it resolves. */
  async fill(): Promise<void> {
    const { arq } = this;
    await arq.enqueueJob("double", [21], { jobId: "good" });
    await arq.enqueueJob("fail", ["its argument"], { jobId: "bad" });
    await arq.enqueueJob("wait", [], { jobId: "running" });
    await arq.enqueueJob("double", [1], { jobId: "later", deferBy: { hours: 1 } });
    const value = [HOSTILE, { [HOSTILE]: new Uint8Array(5_000) }, "x".repeat(1 << 20)];
    await arq.enqueueJob(HOSTILE, [value], { jobId: HOSTILE });
    await eventually(async () => {
      const { jobs } = await arq.jobs({});
      const kinds = jobs.map(({ status }) => status).sort().join();
      return kinds === "complete,complete,deferred,failed,in_progress";
    }, "one job of each kind");
    await eventually(() => arq.job("running").progress(), "its progress");
    await eventually(async () => {
      const [worker] = await arq.workers();
      return worker?.running.some(({ jobId }) => jobId === "running");
    }, "the worker's report");
  }

  /** Serves the dashboard on a free port. */
  serve(options?: DashboardOptions): Server {
    const handler = dashboard(this.arq, options);
    return serve(handler, { option: "--port", hostname: "127.0.0.1", port: 0 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.close();
    await this.#running;
    await this.arq.close();
  }
}

/** A form as a page of the dashboard sends it. */
export interface FormOptions {
  readonly action: string;
  /** In the form. */
  readonly token?: string;
  /** In the cookie. */
  readonly cookie?: string;
  /** A field that no form has. */
  readonly padding?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const ORIGIN = "http://localhost:8000";

/** A browser on this machine, in the simplest form. */
export class Visitor {
  readonly #handler: DashboardHandler;

  constructor(handler: DashboardHandler) {
    this.#handler = handler;
  }

  /** Asks for a page. */
  get(
    path: string,
    headers: Readonly<Record<string, string>> = {},
    info: unknown = LOCAL,
  ): Promise<Response> {
    return this.#handler(new Request(ORIGIN + path, { headers }), info);
  }

  /** Sends a form. */
  post(path: string, form: FormOptions): Promise<Response> {
    const { action, token = "", padding = "", cookie, headers = {} } = form;
    const request = new Request(ORIGIN + path, {
      method: "POST",
      body: new URLSearchParams({ action, token, padding }),
      headers: { "sec-fetch-site": "same-origin", ...(cookie && { cookie }), ...headers },
    });
    return this.#handler(request, LOCAL);
  }

  /** The token of a new browser, and its cookie. */
  async token(path = "/"): Promise<{ readonly token: string; readonly cookie: string }> {
    const response = await this.get(path);
    const [cookie = ""] = (response.headers.get("set-cookie") ?? "").split(";");
    const token = /name="token" value="([^"]+)"/.exec(await response.text())?.[1] ?? "";
    return { token, cookie };
  }
}
