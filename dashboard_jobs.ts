/**
 * The list of jobs: by status, with filters, search and pages.
 * @module
 */
import type { ArqClient } from "./client.ts";
import { Address, type Content, FieldValue, type Html, html } from "./dashboard_html.ts";
import {
  column,
  confirmedButton,
  link,
  nothing,
  type Page,
  type PageContext,
  STATUS_WORDS,
  statusBadge,
  table,
  timeAgo,
} from "./dashboard_layout.ts";
import { displayText, displayValue } from "./display.ts";
import type { JobPage, JobView, JobViewStatus, QueueStats } from "./inspection.ts";
import { countText, durationText, pluralText } from "./quantities.ts";

const PAGE_SIZE = 50;
/** A search goes through so many pages of this size; then it asks whether to go on. */
const SEARCH_PAGES = 5;
const SEARCH_PAGE_SIZE = 200;
/** How much of a value is shown, and how much of it a search goes through. */
const SHOWN_LIMIT = 120;
const SEARCHED_LIMIT = 2_000;
const SINCE: readonly (readonly [key: string, label: string, ms: number])[] = [
  ["5m", "the last 5 minutes", 300_000],
  ["1h", "the last hour", 3_600_000],
  ["1d", "the last day", 86_400_000],
  ["7d", "the last 7 days", 604_800_000],
];

/** What the list is asked for, as it stands in the address. */
export interface JobsQuery {
  /** Only jobs of this status. */
  readonly status: JobViewStatus | undefined;
  /** Only jobs of this function. */
  readonly functionName: string | undefined;
  /** How far back: a key of the choices. */
  readonly since: string | undefined;
  /** What has to be found in a job. */
  readonly search: string | undefined;
  /** Where the page begins. */
  readonly cursor: string | undefined;
}

/** A page of the list. */
export interface Listing extends JobPage {
  /** How many jobs a search has gone through; undefined without one. */
  readonly looked: number | undefined;
}

/** Reads the query of an address; what nobody can have chosen is left out. */
export function readJobsQuery(query: URLSearchParams): JobsQuery {
  const text = (key: string) => query.get(key)?.trim() || undefined;
  const status = text("status");
  const since = text("since");
  return {
    status: status !== undefined && Object.hasOwn(STATUS_WORDS, status)
      ? status as JobViewStatus
      : undefined,
    functionName: query.get("function") || undefined,
    since: SINCE.some(([key]) => key === since) ? since : undefined,
    search: text("q"),
    cursor: query.get("cursor") || undefined,
  };
}

/** From when on jobs are listed. */
export function sinceOf({ since }: JobsQuery, now: Date): Date | undefined {
  const ms = SINCE.find(([key]) => key === since)?.[2];
  return ms === undefined ? undefined : new Date(now.getTime() - ms);
}

/**
 * The jobs that are asked for. A search first looks for the id, whatever the filters say, then
 * through the jobs that fit them.
 */
export async function listJobs(
  arq: Pick<ArqClient, "jobs" | "jobView">,
  queueName: string,
  query: JobsQuery,
  now: Date,
): Promise<Listing> {
  const { status, functionName, search, cursor } = query;
  const filter = { queueName, status, functionName, since: sinceOf(query, now) };
  if (search === undefined) {
    return { ...await arq.jobs({ ...filter, cursor, limit: PAGE_SIZE }), looked: undefined };
  }
  const named = cursor === undefined ? await arq.jobView(search, { queueName }) : null;
  const found = new Map(named ? [[named.jobId, named]] : []);
  let looked = 0;
  let page: JobPage = { jobs: [], cursor };
  let pages = 0;
  do {
    page = await arq.jobs({ ...filter, cursor: page.cursor, limit: SEARCH_PAGE_SIZE });
    pages++;
    looked += page.jobs.length;
    for (const job of page.jobs) if (contains(job, search)) found.set(job.jobId, job);
  } while (page.cursor !== undefined && pages < SEARCH_PAGES && found.size < PAGE_SIZE);
  return { jobs: [...found.values()], cursor: page.cursor, looked };
}

/** Whether the text stands in the job, not only in the little that the list shows of it. */
function contains(job: JobView, search: string): boolean {
  const values = [argumentText(job, SEARCHED_LIMIT), outcomeText(job, SEARCHED_LIMIT)];
  const texts = [job.jobId, job.functionName ?? "", ...values];
  const wanted = search.toLowerCase();
  return texts.some((text) => text.toLowerCase().includes(wanted));
}

/** The page. */
export function jobsPage(
  context: PageContext,
  query: JobsQuery,
  listing: Listing,
  { stats, notice }: { readonly stats: QueueStats; readonly notice: Content },
): Page {
  const body = html`
    ${notice}
    <div class="head">
      <h1>Jobs</h1>
    </div>
    ${statusTabs(context, query, stats)}
    ${filters(context, query, stats)}
    ${query.status === "failed" && query.search === undefined && retryAll(context, query)}
    ${jobTable(context, listing)}
    ${paging(context, query, listing)}
  `;
  return { title: `Jobs in ${displayText(context.queueName, 60)}`, section: "jobs", body };
}

function statusTabs(context: PageContext, query: JobsQuery, stats: QueueStats): Html {
  const counts: Partial<Record<JobViewStatus, number>> = {
    in_progress: stats.inProgress,
    queued: stats.due,
    deferred: stats.deferred,
  };
  const tab = (status: JobViewStatus | undefined, label: string) => {
    const isCurrent = status === query.status && html`
      aria-current="true"
    `;
    const size = status && counts[status];
    return html`<li><a href="${jobsLink(context, { ...query, status })}"${isCurrent}>${label}${
      size !== undefined && html`
        <span class="count">${countText(size)}</span>
      `
    }</a></li>`;
  };
  const statuses = Object.keys(STATUS_WORDS) as JobViewStatus[];
  return html`
    <nav class="tabs" aria-label="Status">
      <ul>${tab(undefined, "All")}${statuses.map((status) =>
        tab(status, STATUS_WORDS[status])
      )}</ul>
    </nav>
  `;
}

/** The list's address; a new filter begins at its first page. */
function jobsLink(
  context: PageContext,
  query: Omit<JobsQuery, "cursor">,
  cursor?: string,
): Address {
  const { status, functionName, since, search } = query;
  return link(context, "jobs", { status, function: functionName, since, q: search, cursor });
}

function filters(context: PageContext, query: JobsQuery, stats: QueueStats): Html {
  const { basePath, queueName, defaultQueueName } = context;
  const hidden = {
    queue: queueName === defaultQueueName ? undefined : queueName,
    status: query.status,
  };
  const kept = Object.entries(hidden).map(([name, value]) =>
    value && html`<input type="hidden" name="${name}" value="${new FieldValue(value)}">`
  );
  const known = stats.functions.slice(0, 200).map(({ functionName }) =>
    html`<option value="${new FieldValue(functionName)}"></option>`
  );
  const since = SINCE.map(([key, label]) =>
    html`
      <option value="${key}" ${key === query.since && html`
        selected
      `}>${label}</option>
    `
  );
  const isFiltered = query.functionName ?? query.since ?? query.search;
  return html`<form class="filters" action="${new Address(
    `${basePath}/jobs`,
  )}" role="search">${kept}
<label>Search <input type="search" name="q" value="${new FieldValue(
    query.search ?? "",
  )}" placeholder="Id, argument, error" maxlength="200"></label>
<label>Function <input name="function" list="functions" value="${new FieldValue(
    query.functionName ?? "",
  )}"></label>
<datalist id="functions">${known}</datalist>
<label>Since <select name="since"><option value="">any time</option>${since}</select></label>
<button>Filter</button>
${isFiltered && html`<a href="${link(context, "jobs", { status: query.status })}">Clear</a>`}
</form>`;
}

function retryAll(context: PageContext, query: JobsQuery): Content {
  const { functionName, since } = query;
  const target = link(context, "jobs", { status: "failed", function: functionName, since });
  const which = [
    functionName !== undefined && html`
      of <code>${displayText(functionName, 80)}</code>
    `,
    since !== undefined && ` from ${SINCE.find(([key]) => key === since)?.[1]}`,
  ];
  const question =
    html`All failures${which} that are kept are enqueued again, not only those on this page.`;
  return confirmedButton(context, target, {
    action: "retry-all",
    label: "Retry all",
    question,
    kind: "primary",
  });
}

function jobTable(context: PageContext, { jobs, cursor, looked }: Listing): Html {
  if (jobs.length === 0) {
    const more = cursor === undefined ? "." : " so far.";
    return nothing(
      looked === undefined
        ? `There are no such jobs${more}`
        : `Found nothing among ${pluralText(looked, "job")}${more}`,
    );
  }
  const head = [
    column("Job"),
    column("Status"),
    column("Arguments", "wide"),
    column("Outcome", "wide"),
    column("When"),
    column("Took", "number wide"),
  ];
  return table("Jobs", head, jobs.map((job) => jobRow(context, job)));
}

function jobRow(context: PageContext, job: JobView): Html {
  const { jobId, functionName, status, startTime, finishTime } = job;
  const took = startTime && finishTime && durationText(finishTime.getTime() - startTime.getTime());
  return html`
    <tr>
      <th
        scope="row"><a href="${link(context, "job", { id: jobId })}"><strong>${functionName === null
          ? "(unreadable)"
          : displayText(functionName, 80)}</strong> <code>${displayText(jobId, 60)}</code></a></th>
      <td>${statusBadge(status)}</td>
      <td class="wide cut"><code>${displayText(
        argumentText(job, SHOWN_LIMIT),
        SHOWN_LIMIT,
      )}</code></td>
      <td class="wide cut">
        <code${status === "failed" && html`
          class="bad"
        `}>${displayText(outcomeText(job, SHOWN_LIMIT), SHOWN_LIMIT)}</code></td>
    <td class="when">${whenOf(job, context.now)}</td>
    <td class="number wide">${took}</td></tr>
  `;
}

/** Arguments as they stand in a call. */
function argumentText({ args, kwargs }: JobView, limit: number): string {
  const named = Object.entries(kwargs).map(([key, value]) =>
    `${displayText(key, 40)}: ${displayValue(value, { limit })}`
  );
  const positional = args.slice(0, 20).map((value) => displayValue(value, { limit }));
  return [...positional, ...named].join(", ");
}

function outcomeText({ success, result, problem }: JobView, limit: number): string {
  if (problem !== null) return problem;
  return success === null ? "" : displayValue(result, { limit });
}

function whenOf({ status, dueAt, enqueueTime, finishTime }: JobView, now: Date): Content {
  if (status === "deferred") return ["due ", timeAgo(dueAt, now)];
  return timeAgo(finishTime ?? enqueueTime, now);
}

function paging(
  context: PageContext,
  query: JobsQuery,
  { cursor, jobs, looked }: Listing,
): Content {
  const first = query.cursor !== undefined &&
    html`<a href="${jobsLink(context, query)}">First page</a>`;
  const nextLabel = looked === undefined
    ? "Next page"
    : `Search on, after ${pluralText(looked, "job")}`;
  const next = cursor !== undefined &&
    html`<a href="${jobsLink(context, query, cursor)}" rel="next">${nextLabel}</a>`;
  if (!first && !next) {
    return jobs.length > 0 && html`<p class="note">${pluralText(jobs.length, "job")}.</p>`;
  }
  return html`<nav class="paging" aria-label="Pages">${first} ${next}</nav>`;
}
