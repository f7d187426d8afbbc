/**
 * The pages of those who work: live workers, and the cron jobs they know.
 * @module
 */
import { type Content, type Html, html } from "./dashboard_html.ts";
import {
  column,
  link,
  nothing,
  type Page,
  type PageContext,
  table,
  timeAgo,
} from "./dashboard_layout.ts";
import { displayText } from "./display.ts";
import type { CronView, RunningJob, WorkerView } from "./inspection.ts";
import { countText, durationText, memoryText, pluralText, timeText } from "./quantities.ts";

/** So many of a worker's jobs are shown at once, and the others on demand. */
const SHOWN_JOBS = 3;
/** A worker that has been silent for longer is probably gone: it reports every 10 seconds. */
const SILENT_MS = 15_000;

/** The page of workers. */
export function workersPage(context: PageContext, workers: readonly WorkerView[]): Page {
  const running = workers.reduce((sum, { jobsOngoing }) => sum + jobsOngoing, 0);
  const room = workers.reduce((sum, { maxJobs }) => sum + maxJobs, 0);
  const body = html`
    <div class="head">
      <h1>Workers</h1>
      <p class="note">${pluralText(workers.length, "worker")}, running ${countText(
        running,
      )} of up to ${pluralText(room, "job")}</p>
    </div>
    ${workers.length === 0 ? noWorkers() : workerTable(context, workers)}
  `;
  return { title: `Workers of ${displayText(context.queueName, 60)}`, section: "workers", body };
}

function noWorkers(): Html {
  return nothing(
    html`No worker of this queue reports. Start one: <code>arq worker SETTINGS</code>. Python's workers do not report.`,
  );
}

function workerTable(context: PageContext, workers: readonly WorkerView[]): Html {
  const head = [
    column("Worker"),
    column("Runs"),
    column("Completed", "number"),
    column("Failed", "number"),
    column("Retried", "number wide"),
    column("Memory", "number wide"),
    column("Started", "wide"),
    column("Seen", "wide"),
  ];
  return table("Workers", head, workers.map((worker) => workerRow(context, worker)));
}

function workerRow(context: PageContext, worker: WorkerView): Html {
  const { now } = context;
  const { hostname, pid, workerId, runtime, jobsOngoing, maxJobs } = worker;
  const isSilent = now.getTime() - worker.seenAt.getTime() > SILENT_MS;
  return html`
    <tr>
      <th scope="row"><strong>${hostname === null ? "process" : displayText(hostname, 60)} ${String(
        pid,
      )}</strong>
    <code>${displayText(workerId, 60)}</code> <span class="more">${displayText(runtime, 40)}</span>
    ${functionList(worker.functions)}</th>
      <td>${countText(jobsOngoing)} of ${countText(maxJobs)}${runningList(context, worker)}</td>
      <td class="number">${countText(worker.jobsComplete)}</td>
      <td class="number">${countText(worker.jobsFailed)}</td>
      <td class="number wide">${countText(worker.jobsRetried)}</td>
      <td class="number wide">${memoryText(worker.memoryBytes)}</td>
      <td class="wide">${timeAgo(worker.startedAt, now)}</td>
      <td class="wide">${timeAgo(worker.seenAt, now)}${isSilent && html`
        <span class="badge silent">Silent</span>
      `}</td>
    </tr>
  `;
}

function functionList(names: readonly string[]): Html {
  const items = names.map((name) => html`<li><code>${displayText(name, 80)}</code></li>`);
  return html`
    <details>
      <summary>${pluralText(names.length, "function")}</summary>
      <ul class="names">${items}</ul>
    </details>
  `;
}

function runningList(context: PageContext, { running, jobsOngoing }: WorkerView): Content {
  if (running.length === 0) return null;
  const items = running.map((job) => runningItem(context, job));
  const hidden = items.slice(SHOWN_JOBS);
  const unknown = jobsOngoing - running.length;
  return html`<ul class="running">${items.slice(0, SHOWN_JOBS)}</ul>${
    hidden.length > 0 && html`
      <details>
        <summary>${countText(hidden.length)} more</summary>
        <ul class="running">${hidden}</ul>
      </details>
    `
  }${unknown > 0 && html`<p class="note">and ${countText(unknown)} that are not listed</p>`}`;
}

function runningItem(
  context: PageContext,
  { jobId, functionName, startedAt, jobTry }: RunningJob,
): Html {
  const since = durationText(Math.max(0, context.now.getTime() - startedAt.getTime()));
  return html`<li><a href="${link(context, "job", { id: jobId })}"><code>${
    displayText(functionName, 60)
  }</code></a> for ${since}${jobTry > 1 && `, try ${jobTry}`}</li>`;
}

/** The page of cron jobs. */
export function cronPage(context: PageContext, jobs: readonly CronView[]): Page {
  const body = html`
    <div class="head">
      <h1>Cron</h1>
      <p class="note">As live workers report it</p>
    </div>
    ${jobs.length === 0
      ? nothing("No live worker of this queue has cron jobs.")
      : cronTable(context, jobs)}
  `;
  return { title: `Cron of ${displayText(context.queueName, 60)}`, section: "cron", body };
}

function cronTable(context: PageContext, jobs: readonly CronView[]): Html {
  const head = [
    column("Name"),
    column("Pattern"),
    column("Next"),
    column("Then", "wide"),
    column("Runs once", "wide"),
  ];
  return table("Cron jobs", head, jobs.map((job) => cronRow(context, job)));
}

function cronRow(context: PageContext, { name, pattern, timezone, next, unique }: CronView): Html {
  const [first, ...later] = next;
  const past = link(context, "jobs", { function: name });
  return html`
    <tr>
      <th scope="row"><a href="${past}"><code>${displayText(name, 80)}</code></a></th>
      <td><code>${displayText(pattern, 80)}</code> <span class="more">${displayText(
        timezone,
        60,
      )}</span></td>
      <td>${first
        ? [
          timeText(first, "UTC"),
          html`
            <span class="more">${timeAgo(first, context.now)}</span>
          `,
        ]
        : "never"}</td>
      <td class="wide">
        <ul class="times">${later.map((at) => html`<li>${timeText(at, "UTC")}</li>`)}</ul>
      </td>
      <td class="wide">${unique ? "yes, whichever worker" : "no, on each worker"}</td>
    </tr>
  `;
}
