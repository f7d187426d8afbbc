/**
 * What the pages have in common: the frame, links that know where the dashboard is mounted, buttons.
 * @module
 */
import { Address, type Content, FieldValue, type Html, html } from "./dashboard_html.ts";
import type { JobViewStatus } from "./inspection.ts";
import { distanceText, timeText } from "./quantities.ts";

/** The pages, by their path below the dashboard's own; "" is the overview. */
export type PageName = "" | "minutes" | "jobs" | "job" | "workers" | "cron";
/** The files that are served besides pages. */
export type AssetName = "style.css" | "script.js" | "icon.svg";

/** What a link's query may have, besides the queue. */
export type Query = Readonly<Record<string, string | undefined>>;

/** What every page is made with. */
export interface PageContext {
  /** The path the dashboard is mounted under, without a slash at its end. */
  readonly basePath: string;
  /** The queue that is shown. */
  readonly queueName: string;
  /** The queue shown where none is named. */
  readonly defaultQueueName: string;
  /** Whether its workers were told to claim nothing. */
  readonly isPaused: boolean;
  /** The queues to choose from. */
  readonly queueNames: readonly string[];
  /** What forms have to carry; without it there are none. */
  readonly token: string | undefined;
  /** Whether nothing may be changed. */
  readonly isReadOnly: boolean;
  /** The versions of the stylesheet and of the script. */
  readonly versions: { readonly style: string; readonly script: string };
  /** When the page is made. */
  readonly now: Date;
}

/** A page before it is framed. */
export interface Page {
  /** Its title, for the browser's tab. */
  readonly title: string;
  /** Which entry of the navigation it belongs to. */
  readonly section?: PageName;
  /** Its content, with its `h1`. */
  readonly body: Html;
  /** The HTTP status. @default 200 */
  readonly status?: number;
}

const SECTIONS: readonly (readonly [name: PageName, label: string])[] = [
  ["", "Overview"],
  ["jobs", "Jobs"],
  ["workers", "Workers"],
  ["cron", "Cron"],
];

/** The words for where a job is in its life. */
export const STATUS_WORDS: Readonly<Record<JobViewStatus, string>> = {
  in_progress: "In progress",
  queued: "Queued",
  deferred: "Deferred",
  failed: "Failed",
  complete: "Complete",
};

/** An address of the dashboard, for the queue that is shown. */
export function link(context: PageContext, name: PageName | "live", query: Query = {}): Address {
  const { basePath, queueName, defaultQueueName } = context;
  const queue = queueName === defaultQueueName ? undefined : queueName;
  return new Address(`${basePath}/${name}`, { queue, ...query });
}

/** A button that changes something: a form of its own, with the token. Nothing where that is forbidden. */
export function actionButton(
  context: PageContext,
  target: Address,
  { action, label, kind }: {
    readonly action: string;
    readonly label: string;
    readonly kind?: string;
  },
): Content {
  if (context.token === undefined) return null;
  return html`
    <form method="post" action="${target}">
      <input type="hidden" name="token" value="${new FieldValue(context.token)}">
      <button name="action" value="${action}" ${kind && html`
        class="${kind}"
      `}>${label}</button>
    </form>
  `;
}

/** A button that asks first, without any script. */
export function confirmedButton(
  context: PageContext,
  target: Address,
  { action, label, question, kind = "danger" }: {
    readonly action: string;
    readonly label: string;
    readonly question: Content;
    readonly kind?: string;
  },
): Content {
  if (context.token === undefined) return null;
  return html`
    <details class="confirm">
      <summary class="button">${label}…</summary>
      <div><p>${question}</p>${actionButton(context, target, { action, label, kind })}</div>
    </details>
  `;
}

/** A table that scrolls by itself where it is too wide. */
export function table(
  label: string,
  head: readonly Content[],
  body: Content,
  bodyId?: string,
): Html {
  return html`
    <div class="scroll" role="region" aria-label="${label}" tabindex="0">
      <table>
        <thead>
          <tr>${head}</tr>
        </thead>
        <tbody${bodyId !== undefined && html`
          id="${bodyId}"
        `}>${body}</tbody>
    </table></div>
  `;
}

/** The head of a column. */
export function column(name: string, kind?: "number" | "wide" | "number wide"): Html {
  return html`
    <th scope="col" ${kind && html`
      class="${kind}"
    `}>${name}</th>
  `;
}

/** Where a job is in its life, by sign, colour and word. */
export function statusBadge(status: JobViewStatus): Html {
  return html`<span class="badge ${status}">${STATUS_WORDS[status]}</span>`;
}

/** An instant, by how long ago it was or how soon it is; the instant itself on hovering. */
export function timeAgo(at: Date | null, now: Date): Content {
  return at && timeElement(at, distanceText(at, now));
}

/** An instant with date and time. */
export function timeExact(at: Date): Html {
  return timeElement(at, timeText(at, "UTC"));
}

function timeElement(at: Date, text: string): Html {
  return html`<time datetime="${at.toISOString()}" title="${
    timeText(at, "UTC")
  } UTC">${text}</time>`;
}

/** What stands where there is nothing to show. */
export function nothing(text: Content): Html {
  return html`<p class="nothing">${text}</p>`;
}

/** The whole document. */
export function documentOf(context: PageContext, page: Page): Html {
  const { basePath, versions } = context;
  const asset = (name: AssetName, v?: string) => new Address(`${basePath}/${name}`, { v });
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <title>${page.title} · arq</title>
        <link rel="icon" href="${asset("icon.svg")}" type="image/svg+xml">
        <link rel="stylesheet" href="${asset("style.css", versions.style)}">
        <script src="${asset("script.js", versions.script)}" defer></script>
      </head>
      <body>
        <a class="skip" href="#main">Skip to the content</a>
        <header>
    <a class="brand" href="${link(context, "")}">arq</a>
    ${navigation(context, page.section)}
    ${pausedBadge(context, page)}
    ${queueChoice(context, page.section)}
        </header>
        <main id="main" tabindex="-1">
    ${page.body}
        </main>
        <footer>
          <p>Times are in UTC.${context.isReadOnly &&
            " Nothing can be changed here: the dashboard is read-only."}</p>
        </footer>
      </body>
    </html>
  `;
}

/** The overview has one of its own, which lives. */
function pausedBadge({ isPaused }: PageContext, { section }: Page): Content {
  return isPaused && section !== "" && html`<p class="badge paused">Paused</p>`;
}

function navigation(context: PageContext, section: PageName | undefined): Html {
  const items = SECTIONS.map(([name, label]) => {
    const isCurrent = name === section && html`
      aria-current="page"
    `;
    return html`<li><a href="${link(context, name)}"${isCurrent}>${label}</a></li>`;
  });
  return html`
    <nav aria-label="Main">
      <ul>${items}</ul>
    </nav>
  `;
}

function queueChoice(context: PageContext, section: PageName = ""): Html {
  const { queueName, queueNames, basePath } = context;
  const names = [...new Set([queueName, ...queueNames])].sort();
  if (names.length === 1) return html`<p class="queue">Queue <code>${queueName}</code></p>`;
  const choices = names.map((name) =>
    html`
      <option value="${new FieldValue(name)}" ${name === queueName && html`
        selected
      `}>${name}</option>
    `
  );
  return html`
    <form class="queue" action="${new Address(`${basePath}/${section}`)}">
      <label for="queue">Queue</label>
      <select id="queue" name="queue">${choices}</select>
      <button>Show</button>
    </form>
  `;
}
