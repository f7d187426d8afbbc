/**
 * Listing jobs page by page.
 * @module
 */
import { type Instant, instantMs } from "./duration.ts";
import type { JobFilter, JobPage, JobView } from "./inspection.ts";
import { endedView, waitingView } from "./job_views.ts";
import type { JobSource } from "./jobs.ts";
import type { JobList, ListedJob } from "./store_inspection.ts";
import { checkOptions, isCount, show } from "./validation.ts";

/** All lists, in the order in which jobs are listed. */
const LISTS: readonly JobList[] = ["in_progress", "queued", "deferred", "failed", "complete"];
/** Entries read in one call, and looked at for one page. */
const CHUNK = 100;
const MOST_LOOKED = 1_000;
const FILTER_KEYS = [
  "status",
  "functionName",
  "queueName",
  "since",
  "cursor",
  "limit",
] as const satisfies readonly (keyof JobFilter)[];

/** A filter that was checked, and where its page begins. */
interface Query {
  readonly queueName: string;
  readonly status: JobList | undefined;
  readonly functionName: string | undefined;
  readonly since: number | undefined;
  readonly limit: number;
  readonly start: PageStart;
}

/** Where a page begins: in which list, and after which position, or at its begin. */
interface PageStart {
  readonly list: JobList;
  readonly after: string | undefined;
}

/** Lists jobs of a queue; it goes on through the lists until the page is full. */
export async function listJobs(
  source: JobSource,
  queueName: string,
  filter: JobFilter,
): Promise<JobPage> {
  const query = checkFilter(queueName, filter);
  const { status, functionName, since, limit } = query;
  const isFiltered = functionName !== undefined || since !== undefined;
  const jobs: JobView[] = [];
  let { list, after } = query.start;
  for (let looked = 0; looked < MOST_LOOKED && jobs.length < limit;) {
    const most = isFiltered ? CHUNK : Math.min(CHUNK, limit - jobs.length);
    const part = { list, after, since, limit: most };
    const page = await source.store.inspection.page(queueName, part);
    for (const job of page.jobs) {
      if (jobs.length === limit) return { jobs, cursor: cursorOf({ list, after }) };
      after = job.position;
      const view = viewOf(source, list, job, queueName);
      if (isListed(view, list, query)) jobs.push(view);
    }
    after = page.next;
    looked += most;
    if (after !== undefined) continue;
    const next = status ? undefined : LISTS[LISTS.indexOf(list) + 1];
    if (next === undefined) return { jobs, cursor: undefined };
    list = next;
  }
  return { jobs, cursor: cursorOf({ list, after }) };
}

/** The list says where a job is: one that is locked by a Python worker is in none but the queued. */
function viewOf(
  { deserializer }: JobSource,
  list: JobList,
  listed: ListedJob,
  queueName: string,
): JobView {
  const { at } = listed;
  const job = { ...listed, queueName };
  if (isEnd(list)) return endedView(job, deserializer, { status: list, at });
  return waitingView(job, list, list === "in_progress" ? undefined : at, deserializer);
}

function isListed(view: JobView, list: JobList, query: Query): boolean {
  const { functionName, since = -Infinity, queueName } = query;
  // The id of an end that was noted may have been used again since.
  if (isEnd(list) && (view.status !== list || view.queueName !== queueName)) return false;
  if (functionName !== undefined && view.functionName !== functionName) return false;
  return isEnd(list) || (view.enqueueTime?.getTime() ?? Infinity) >= since;
}

function isEnd(list: JobList): list is "failed" | "complete" {
  return list === "failed" || list === "complete";
}

function checkFilter(queueName: string, filter: JobFilter): Query {
  checkOptions("jobs", '{ status: "failed" }', filter, FILTER_KEYS);
  const { status, functionName, since, cursor, limit = 50 } = filter;
  if (status !== undefined && !LISTS.includes(status)) {
    throw new TypeError(`jobs: status must be one of ${LISTS.join(", ")}, got ${show(status)}`);
  }
  checkFunctionName("jobs", functionName);
  if (!isCount(limit) || limit > MOST_LOOKED) {
    const rule = `limit must be a whole number from 1 to ${MOST_LOOKED}`;
    throw new RangeError(`jobs: ${rule}, got ${show(limit)}`);
  }
  const first = status ?? LISTS[0] as JobList;
  const start = cursor === undefined ? { list: first, after: undefined } : startOf(cursor, status);
  return { queueName, status, functionName, since: sinceMs("jobs", since), limit, start };
}

/**
 * Checks a function's name, if there is one.
 *
 * @throws {TypeError} if it is no name.
 */
export function checkFunctionName(method: string, name: unknown): void {
  if (name === undefined || typeof name === "string") return;
  throw new TypeError(`${method}: functionName must be a text, got ${show(name)}`);
}

/**
 * Epoch milliseconds of the option `since`, if it is given.
 *
 * @throws {TypeError | RangeError} if it is no point in time.
 */
export function sinceMs(method: string, since: Instant | undefined): number | undefined {
  return since === undefined ? undefined : instantMs(`${method}: since`, since);
}

function cursorOf({ list, after = "" }: PageStart): string {
  return `${list}.${after}`;
}

function startOf(cursor: unknown, status: JobList | undefined): PageStart {
  const [, name, after] = /^(\w+)\.(.*)$/.exec(String(cursor)) ?? [];
  const list = LISTS.find((each) => each === name && (status ?? each) === each);
  if (typeof cursor === "string" && list) return { list, after: after || undefined };
  throw new RangeError(
    `jobs: cursor must be that of a page with the same filter, got ${show(cursor)}`,
  );
}
