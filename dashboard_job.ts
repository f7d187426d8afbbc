/**
 * The page of one job: its life, its arguments, what became of it, and what can be done.
 * @module
 */
import { type Content, type Html, html } from "./dashboard_html.ts";
import {
  actionButton,
  confirmedButton,
  link,
  type Page,
  type PageContext,
  statusBadge,
  timeAgo,
  timeExact,
} from "./dashboard_layout.ts";
import { displayText, displayValue, withoutText } from "./display.ts";
import type { JobView } from "./inspection.ts";
import type { RunningOn } from "./job_views.ts";
import { durationText } from "./quantities.ts";

/** How much of a value is shown. */
const VALUE_LIMIT = 20_000;
const STACK_LIMIT = 8_000;
const MAX_CAUSES = 5;

/** What the page shows besides the job. */
export interface JobDetails {
  /** The worker that runs it, and since when, as far as workers tell. */
  readonly runningOn?: RunningOn;
  /** What its function told of its progress, or why nobody can read it; undefined for nothing. */
  readonly progress?: unknown;
  /** What became of the last button that was pressed. */
  readonly notice: Content;
}

/** The page. */
export function jobPage(context: PageContext, job: JobView, details: JobDetails): Page {
  const name = job.functionName === null ? "(unreadable)" : displayText(job.functionName, 120);
  const body = html`
    <nav class="trail" aria-label="Trail"><a href="${link(context, "jobs")}">Jobs</a></nav>
    ${details.notice}
    <div class="head">
      <h1>${name}</h1>
      <p>${statusBadge(job.status)}</p>
      <div class="actions">${actions(context, job)}</div>
    </div>
    <p class="id"><code>${displayText(job.jobId, 1_000)}</code></p>
    ${job.problem !== null &&
      html`<p class="alert">Nobody can read it as a whole: ${displayText(job.problem, 1_000)}</p>`}
    <div class="columns">
      <section aria-labelledby="timeline-head"><h2 id="timeline-head">Timeline</h2>${timeline(
        context,
        job,
        details,
      )}</section>
      <section aria-labelledby="facts-head"><h2 id="facts-head">Details</h2>${facts(
        job,
        details,
      )}</section>
    </div>
    ${progressSection(details.progress)}
    ${argumentSection(job)}
    ${outcomeSection(job)}
  `;
  return { title: `${name} ${displayText(job.jobId, 60)}`, section: "jobs", body };
}

/** The page that stands for a job of which nothing is left. */
export function noJobPage(context: PageContext, jobId: string, notice: Content): Page {
  const body = html`
    <nav class="trail" aria-label="Trail"><a href="${link(context, "jobs")}">Jobs</a></nav>
    ${notice}
    <div class="head">
      <h1>No such job</h1>
    </div>
    <p class="id"><code>${displayText(jobId, 1_000)}</code></p>
    <p>Nothing is left of it on this queue: it was never enqueued, was removed, or its result has expired.</p>
  `;
  return { title: "No such job", section: "jobs", body, status: 404 };
}

function actions(context: PageContext, { jobId, queueName, status }: JobView): Content {
  // A result is found by its id alone: the job may have run on another queue than the one shown.
  const target = link({ ...context, queueName }, "job", { id: jobId });
  const hasEnded = status === "complete" || status === "failed";
  return [
    status === "failed" &&
    actionButton(context, target, { action: "retry", label: "Retry", kind: "primary" }),
    !hasEnded && actionButton(context, target, { action: "abort", label: "Abort" }),
    status !== "in_progress" && confirmedButton(context, target, {
      action: "remove",
      label: "Remove",
      question: hasEnded
        ? "Its result is gone for good then, and its id is free again."
        : "It will never run, and nothing is kept of it.",
    }),
  ];
}

interface Step {
  readonly name: string;
  readonly at: Date | null;
  readonly more?: Content;
  readonly kind?: string;
}

function timeline(context: PageContext, job: JobView, details: JobDetails): Html {
  const steps = stepsOf(job, details).filter(({ at }) => at !== null);
  const items = steps.map(({ name, at, more, kind }) =>
    html`
      <li
        class="${kind}"><span class="step">${name}</span> ${at &&
          timeExact(at)} <span class="more">${more ?? timeAgo(at, context.now)}</span></li>
    `
  );
  return html`<ol class="timeline">${items}</ol>`;
}

function stepsOf(job: JobView, { runningOn }: JobDetails): Step[] {
  const { status, enqueueTime, dueAt, finishTime, success } = job;
  const startTime = job.startTime ?? runningOn?.job.startedAt ?? null;
  const waited = enqueueTime && startTime &&
    durationText(startTime.getTime() - enqueueTime.getTime());
  const ran = startTime && finishTime && durationText(finishTime.getTime() - startTime.getTime());
  const isDeferred = dueAt && enqueueTime && dueAt.getTime() - enqueueTime.getTime() > 1_000;
  return [
    { name: "Enqueued", at: enqueueTime },
    {
      name: status === "deferred" ? "Will be due" : "Due",
      at: status === "deferred" || isDeferred ? dueAt : null,
      kind: status === "deferred" ? "open" : undefined,
    },
    {
      name: "Started",
      at: startTime,
      more: waited && `after ${waited}`,
      kind: status === "in_progress" ? "open" : undefined,
    },
    {
      name: success ? "Completed" : "Failed",
      at: finishTime,
      more: ran && `after ${ran}`,
      kind: success ? "good" : "bad",
    },
  ];
}

function facts({ queueName, jobTry, status }: JobView, { runningOn }: JobDetails): Html {
  const rows: (readonly [string, Content])[] = [
    ["Queue", html`<code>${displayText(queueName, 200)}</code>`],
    ["Starts", jobTry === null ? "unknown" : String(jobTry)],
  ];
  if (runningOn) {
    const { hostname, pid, workerId } = runningOn.worker;
    rows.push([
      "Worker",
      html`${hostname && displayText(hostname, 80)} process ${String(pid)} <code>${
        displayText(workerId, 60)
      }</code>`,
    ]);
  } else if (status === "in_progress") {
    rows.push(["Worker", "it has not reported yet"]);
  }
  return html`<dl class="facts">${
    rows.map(([name, value]) =>
      html`
        <div>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>
      `
    )
  }</dl>`;
}

/** A part of 1 is shown as a bar; everything else as it is. */
function progressSection(progress: unknown): Content {
  if (progress === undefined) return null;
  const isPart = typeof progress === "number" && progress >= 0 && progress <= 1;
  const shown = isPart
    ? html`<progress max="1" value="${progress}" aria-labelledby="progress-head"></progress> ${
      Math.round(progress * 100)
    } %`
    : value(progress);
  return html`<section aria-labelledby="progress-head"><h2 id="progress-head">Progress</h2>${shown}</section>`;
}

function argumentSection({ args, kwargs, problem, functionName }: JobView): Content {
  if (problem !== null && functionName === null) return null;
  const hasNamed = Object.keys(kwargs).length > 0;
  const shown = [
    args.length > 0 && value(args),
    hasNamed && html`<h3>By name</h3>${value(kwargs)}`,
    args.length === 0 && !hasNamed && html`<p class="note">It has none.</p>`,
  ];
  return html`
    <section
      aria-labelledby="arguments-head"><h2 id="arguments-head">Arguments</h2>${shown}</section>
  `;
}

function outcomeSection({ success, result }: JobView): Content {
  if (success === null) return null;
  const [heading, shown] = success || !(result instanceof Error)
    ? ["Result", value(result)]
    : ["Error", errorOf(result, 0)];
  return html`<section aria-labelledby="outcome-head"><h2 id="outcome-head">${heading}</h2>${shown}</section>`;
}

function errorOf(error: Error, depth: number): Html {
  const { stack, cause } = error;
  const fields = withoutText(error);
  const isNested = cause instanceof Error && depth < MAX_CAUSES;
  return html`<p class="error"><strong>${displayText(String(error.name), 200)}</strong> ${
    multiline(String(error.message), STACK_LIMIT)
  }</p>
${
    typeof stack === "string" &&
    html`<pre tabindex="0" aria-label="Stack">${multiline(stack, STACK_LIMIT)}</pre>`
  }
${Object.keys(fields).length > 0 && html`<h3>Its fields</h3>${value(fields)}`}
${
    cause !== undefined &&
    html`<h3>Caused by</h3>${isNested ? errorOf(cause, depth + 1) : value(cause)}`
  }`;
}

/** A text with its lines, cut where it is too long; what is invisible in it is escaped by the template. */
function multiline(text: string, limit: number): string {
  return text.length <= limit ? text : `${text.slice(0, limit)}…`;
}

function value(shown: unknown): Html {
  const text = displayValue(shown, { limit: VALUE_LIMIT, isMultiline: true });
  const isCut = text.length >= VALUE_LIMIT;
  return html`<pre tabindex="0" aria-label="Value">${text}</pre>${
    isCut && html`
      <p
        class="note">Only the beginning is shown; the command <code>arq job ID --json</code> prints all of it.</p>
    `
  }`;
}
