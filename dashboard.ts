/**
 * A dashboard of the queues, as a function from requests to responses.
 *
 * @example
 * ```ts
 * import { createPool } from "@arq/arq";
 * import { dashboard } from "@arq/arq/dashboard";
 *
 * await using arq = await createPool("redis://localhost:6379");
 * const show = dashboard(arq);
 * const response = await show(new Request("http://localhost:8000/"), {
 *   remoteAddr: { hostname: "127.0.0.1" }, // what Deno.serve hands over as `info`
 * });
 * console.log(response.status); // 200
 * ```
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { ArqClient } from "./client.ts";
import { formToken, isSameOrigin, isTokenOf, whyNotLoopback } from "./dashboard_access.ts";
import { act, type Action, ACTIONS, type Done, noticeOf } from "./dashboard_actions.ts";
import { type Content, html } from "./dashboard_html.ts";
import { jobPage, noJobPage } from "./dashboard_job.ts";
import { jobsPage, listJobs, readJobsQuery, sinceOf } from "./dashboard_jobs.ts";
import {
  type AssetName,
  link,
  type Page,
  type PageContext,
  type PageName,
} from "./dashboard_layout.ts";
import { LiveStats, type Look } from "./dashboard_live.ts";
import { minutesPage, overviewFragments, overviewPage } from "./dashboard_overview.ts";
import {
  asset,
  document,
  isAsset,
  notAllowed,
  plain,
  redirect,
  stream,
  VERSIONS,
} from "./dashboard_responses.ts";
import { cronPage, workersPage } from "./dashboard_workers.ts";
import { displayText } from "./display.ts";
import { ArqError, QueueConnectionError } from "./errors.ts";
import { progressOf, runningOn } from "./job_views.ts";
import { checkOptions, checkPool, show } from "./validation.ts";

/** What the dashboard uses of a client. */
export type DashboardClient = Pick<
  ArqClient,
  | "stats"
  | "jobs"
  | "jobView"
  | "workers"
  | "cronJobs"
  | "queueNames"
  | "job"
  | "retryJob"
  | "retryJobs"
  | "removeJob"
  | "pause"
  | "resume"
  | "defaultQueueName"
  | "store"
>;

/** Options of {@linkcode dashboard}. */
export interface DashboardOptions {
  /** The path it is mounted under, as browsers see it, such as `"/admin/queues"`. @default "/" */
  readonly basePath?: string;
  /** Whether it only shows, and changes nothing. @default false */
  readonly readOnly?: boolean;
  /**
   * Decides who is served: true, false, or a response instead, such as one that asks for a login.
   *
   * @default this machine's own browsers
   */
  readonly authorize?: (request: Request) => boolean | Response | Promise<boolean | Response>;
}

/**
 * Answers requests. `info` is what the server tells of the connection: the second argument that
 * `Deno.serve` and `Bun.serve` hand over, or `{ remoteAddr: { hostname } }`.
 */
export type DashboardHandler = (request: Request, info?: unknown) => Promise<Response>;

const OPTION_KEYS = ["basePath", "readOnly", "authorize"] as const satisfies readonly (
  keyof DashboardOptions
)[];
/** What may stand behind the path that the dashboard is mounted under. */
type Name = PageName | AssetName | "live";
const PAGES: ReadonlySet<string> = new Set<PageName>([
  "",
  "minutes",
  "jobs",
  "job",
  "workers",
  "cron",
]);
const MAX_FORM_BYTES = 10_000;
const logger = getLogger(["arq", "dashboard"]);

/**
 * Makes the dashboard of a pool's queues: numbers that live, jobs, workers, cron jobs, and buttons
 * to retry, abort, remove, pause and resume.
 *
 * What it returns is mounted in `Deno.serve`, in `Bun.serve`, or in any router under `basePath`.
 * Without `authorize` it serves this machine only: the server has to say that a request comes from
 * a loopback address, and it has to ask for a loopback name. Behind a proxy, give `authorize`.
 *
 * However many watch a queue, the store is asked for its numbers once a second; nobody watching,
 * not at all. Streams end with their reader, and when the pool closes.
 *
 * @example
 * ```ts
 * import { createPool } from "@arq/arq";
 * import { dashboard } from "@arq/arq/dashboard";
 *
 * await using arq = await createPool("redis://localhost:6379");
 * const show = dashboard(arq, {
 *   basePath: "/queues",
 *   readOnly: true,
 *   authorize: (request) => request.headers.get("authorization") === "Bearer secret",
 * });
 * const headers = { authorization: "Bearer secret" };
 * const response = await show(new Request("https://example.com/queues/", { headers }));
 * console.log(response.status); // 200
 * ```
 *
 * @throws {TypeError} if `arq` is no pool, or an option is unknown or has a bad value.
 */
export function dashboard(arq: DashboardClient, options: DashboardOptions = {}): DashboardHandler {
  const app = new Dashboard(arq, options);
  return (request, info) => app.respond(request, info);
}

class Dashboard {
  readonly #arq: DashboardClient;
  readonly #basePath: string;
  readonly #readOnly: boolean;
  readonly #authorize: DashboardOptions["authorize"];
  readonly #live: LiveStats;

  constructor(arq: DashboardClient, options: DashboardOptions) {
    checkPool("dashboard", arq);
    checkOptions("dashboard", '{ basePath: "/queues" }', options, OPTION_KEYS);
    const { basePath = "/", readOnly = false, authorize } = options;
    checkBasePath(basePath);
    if (typeof readOnly !== "boolean") {
      throw new TypeError(`dashboard: readOnly must be true or false, got ${show(readOnly)}`);
    }
    if (authorize !== undefined && typeof authorize !== "function") {
      throw new TypeError(`dashboard: authorize must be a function, got ${show(authorize)}`);
    }
    this.#arq = arq;
    this.#basePath = basePath.replace(/\/$/, "");
    this.#readOnly = readOnly;
    this.#authorize = authorize;
    this.#live = new LiveStats(
      (queueName) => arq.stats({ queueName }),
      arq.store,
      (look) =>
        overviewFragments(this.#context(look.stats.queueName, { now: look.stats.at }), look),
    );
  }

  async respond(request: Request, info: unknown): Promise<Response> {
    try {
      return await this.#refusal(request, info) ?? await this.#serve(request);
    } catch (error) {
      return this.#failure(request, error);
    }
  }

  /** What stands in for everything where the request may not be served. */
  async #refusal(request: Request, info: unknown): Promise<Response | undefined> {
    if (!this.#authorize) {
      const refusal = whyNotLoopback(request, info);
      return refusal && plain(403, refusal);
    }
    const verdict = await this.#authorize(request);
    if (verdict === true) return undefined;
    if (verdict instanceof Response) return verdict;
    return plain(403, { reason: "You may not see this dashboard", advice: "" });
  }

  async #serve(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const name = this.#nameIn(url.pathname);
    const isGet = request.method === "GET" || request.method === "HEAD";
    if (name === undefined) return this.#notFound(request, url);
    if (name === "" && url.pathname === this.#basePath && isGet) {
      return redirect(`${this.#basePath}/${url.search}`);
    }
    if (isAsset(name)) return isGet ? asset(name, url) : notAllowed();
    const queueName = url.searchParams.get("queue") || this.#arq.defaultQueueName;
    await usable(() => this.#arq.store.checkQueueName(queueName));
    if (name === "live") {
      return request.method === "GET" ? this.#stream(queueName) : notAllowed();
    }
    if (isGet) return await this.#page(request, url, name, queueName);
    const actions = ACTIONS[name];
    if (request.method !== "POST" || !actions) return notAllowed();
    return await this.#change(request, url, name, actions, queueName);
  }

  /**
   * The name below the path it is mounted under; also where a router has taken that off. Under a
   * path such as `/jobs` the path alone is taken for the page of that name, which it may be.
   */
  #nameIn(pathname: string): Name | undefined {
    const isBelow = pathname.startsWith(`${this.#basePath}/`);
    const name = (isBelow ? pathname.slice(this.#basePath.length) : pathname).slice(1);
    if (isName(name)) return name;
    return pathname === this.#basePath ? "" : undefined;
  }

  #stream(queueName: string): Response {
    // Nothing would end the stream of a pool that has closed already.
    if (!this.#arq.store.isOpen) {
      return plain(503, { reason: "The pool is closed", advice: "Start it anew." });
    }
    return stream(this.#live.stream(queueName));
  }

  async #page(request: Request, url: URL, name: PageName, queueName: string): Promise<Response> {
    const [look, queueNames] = await Promise.all([
      this.#live.look(queueName),
      this.#arq.queueNames(),
    ]);
    const token = this.#readOnly ? undefined : formToken(request, this.#basePath || "/");
    const { at: now, paused: isPaused } = look.stats;
    const context = this.#context(queueName, { queueNames, now, isPaused, token: token?.value });
    const page = await this.#content(context, name, url.searchParams, look);
    return document(request, context, page, token?.cookie);
  }

  async #content(
    context: PageContext,
    name: PageName,
    query: URLSearchParams,
    look: Look,
  ): Promise<Page> {
    const { queueName, now } = context;
    const notice = noticeOf(query);
    switch (name) {
      case "":
        return overviewPage(context, look, notice);
      case "minutes":
        return minutesPage(context, look);
      case "jobs": {
        const wanted = readJobsQuery(query);
        const listing = await usable(() => listJobs(this.#arq, queueName, wanted, now));
        return jobsPage(context, wanted, listing, { stats: look.stats, notice });
      }
      case "job":
        return await this.#jobContent(context, query.get("id") ?? "", notice);
      case "workers":
        return workersPage(context, await this.#arq.workers({ queueName }));
      case "cron":
        return cronPage(context, await this.#arq.cronJobs({ queueName }));
    }
  }

  async #jobContent(context: PageContext, jobId: string, notice: Content): Promise<Page> {
    const { queueName } = context;
    const job = jobId === "" ? null : await this.#arq.jobView(jobId, { queueName });
    if (job === null) return noJobPage(context, jobId, notice);
    if (job.status !== "in_progress") return jobPage(context, job, { notice });
    const [workers, progress] = await Promise.all([
      this.#arq.workers({ queueName }),
      progressOf(this.#arq.job(jobId, { queueName })),
    ]);
    return jobPage(context, job, { runningOn: runningOn(workers, jobId), progress, notice });
  }

  async #change(
    request: Request,
    url: URL,
    name: PageName,
    actions: Readonly<Record<string, Action>>,
    queueName: string,
  ): Promise<Response> {
    const context = this.#context(queueName);
    const refuse = (status: number, reason: string, advice: string) =>
      document(request, context, problemPage(status, reason, advice));
    if (this.#readOnly) {
      return refuse(403, "Nothing can be changed here", "This dashboard is read-only.");
    }
    if (!isSameOrigin(request)) {
      return refuse(
        403,
        "This request comes from another site",
        "Use the buttons of this dashboard.",
      );
    }
    const form = await readForm(request);
    if (form === undefined) {
      return refuse(400, "This is no form of the dashboard", "Use its buttons.");
    }
    if (!isTokenOf(request, form.get("token"))) {
      return refuse(
        403,
        "The page is out of date",
        "Go back, reload it, and press the button again.",
      );
    }
    const actionName = form.get("action") ?? "";
    const action = Object.hasOwn(actions, actionName) ? actions[actionName] : undefined;
    const jobId = url.searchParams.get("id") ?? "";
    if (!action || (name === "job" && jobId === "")) {
      return refuse(400, "There is no such action", "Use the buttons of this dashboard.");
    }
    const wanted = readJobsQuery(url.searchParams);
    const { stats: { at: now } } = await this.#live.look(queueName); // the store's time, as in the list
    const failures = { functionName: wanted.functionName, since: sinceOf(wanted, now) };
    const done = await act(action, actionName, this.#arq, { queueName, jobId, failures });
    this.#live.refresh(queueName);
    return redirect(afterwards(context, name, url, done));
  }

  #context(queueName: string, known: Partial<PageContext> = {}): PageContext {
    return {
      basePath: this.#basePath,
      queueName,
      defaultQueueName: this.#arq.defaultQueueName,
      isPaused: false,
      queueNames: [],
      token: undefined,
      isReadOnly: this.#readOnly,
      versions: VERSIONS,
      now: new Date(),
      ...known,
    };
  }

  #notFound(request: Request, url: URL): Response {
    const context = this.#context(this.#arq.defaultQueueName);
    const advice = this.#basePath === ""
      ? html`If the dashboard is mounted under a path, say so: <code>dashboard(arq, { basePath: "/…" })</code>.`
      : html`The dashboard is at <code>${this.#basePath}/</code>.`;
    const reason = `There is no page ${displayText(url.pathname, 200)}`;
    return document(request, context, problemPage(404, reason, advice));
  }

  #failure(request: Request, error: unknown): Response {
    const context = this.#context(this.#arq.defaultQueueName);
    const [status, reason] = failureOf(error);
    if (status >= 500) logger.error("request failed: {error}", { error, url: request.url });
    const advice = status === 500
      ? "The log has more about it."
      : displayText((error as Error).message, 1_000);
    return document(request, context, problemPage(status, reason, advice));
  }
}

function isName(text: string): text is Name {
  return PAGES.has(text) || text === "live" || isAsset(text);
}

function checkBasePath(basePath: unknown): void {
  const isPath = typeof basePath === "string" &&
    (basePath === "/" || /^(?:\/[\w.~!$&'()*+,;=:@%-]+)+\/?$/.test(basePath));
  if (isPath) return;
  throw new TypeError(
    `dashboard: basePath must be a path such as "/queues", got ${show(basePath)}`,
  );
}

/** Somebody has changed the address by hand, or it is of another version. */
class UnusableAddress extends Error {}

/** What `use` returns or resolves to; what it finds wrong is the fault of the address. */
async function usable<T>(use: () => T | Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    const isTheirs = error instanceof TypeError || error instanceof RangeError;
    throw isTheirs ? new UnusableAddress(error.message, { cause: error }) : error;
  }
}

/** The status that tells of an error, and its heading. */
function failureOf(error: unknown): [number, string] {
  if (error instanceof QueueConnectionError) return [503, "The store does not answer"];
  if (error instanceof ArqError) return [409, "That cannot be done"];
  if (error instanceof UnusableAddress) return [400, "This address cannot be followed"];
  return [500, "Something has failed"];
}

function problemPage(status: number, reason: string, advice: Content): Page {
  const body = html`
    <div class="head">
      <h1>${reason}</h1>
    </div>
    <p class="alert" role="alert">${advice}</p>
  `;
  return { title: reason, body, status };
}

/** Where the browser goes after a change: to the page the button was on, or the list if that is gone. */
function afterwards(context: PageContext, name: PageName, url: URL, { done, count }: Done): string {
  const { searchParams } = url;
  if (done === "removed") return link(context, "jobs", { done }).href;
  const kept = Object.fromEntries(
    ["id", "status", "function", "since"].map((key) => [key, searchParams.get(key) ?? undefined]),
  );
  return link(context, name, { ...kept, done, count }).href;
}

/** The fields of a form as a browser sends it; undefined if it is none, or larger than ours are. */
async function readForm(request: Request): Promise<URLSearchParams | undefined> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/x-www-form-urlencoded\b/i.test(type) || !request.body) return undefined;
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of request.body) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > MAX_FORM_BYTES) return undefined;
  }
  return new URLSearchParams(text);
}
