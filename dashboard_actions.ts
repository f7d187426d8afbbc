/**
 * What the dashboard's buttons do, and what is said of it afterwards.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { ArqClient } from "./client.ts";
import { type Content, html } from "./dashboard_html.ts";
import type { RetryJobsOptions } from "./inspection.ts";
import { pluralText } from "./quantities.ts";
import { isTimeout } from "./sleep.ts";
import { isCount } from "./validation.ts";

/** How long an aborted job may take to end before its page is shown all the same. */
const ABORT_MS = 2_000;
/** How long a retry of everything may keep the browser waiting. */
const RETRY_ALL_MS = 20_000;

const logger = getLogger(["arq", "dashboard"]);

/** What buttons need of a client. */
export type Steering = Pick<
  ArqClient,
  "job" | "jobView" | "retryJob" | "retryJobs" | "removeJob" | "pause" | "resume"
>;

/** What an action is about. */
export interface Target {
  /** The queue. */
  readonly queueName: string;
  /** The job, for actions on one. */
  readonly jobId: string;
  /** Which failures, for actions on many. */
  readonly failures: Pick<RetryJobsOptions, "functionName" | "since">;
}

/** What was done, as the next page's address says it. */
export interface Done {
  /** A key of the notices. */
  readonly done: Notice;
  /** How many jobs it was about. */
  readonly count?: string;
}

const NOTICES = {
  aborted: "The job was aborted.",
  asked: "The job was asked to abort; it ends when its function heeds its signal.",
  "not-aborted": "The job had ended before it could be aborted, or did not heed it.",
  "not-there": "There was nothing left to abort.",
  retried: "The job was enqueued again.",
  removed: "The job was removed.",
  "not-removed": "There was nothing left to remove.",
  paused: "The queue is paused: running jobs finish, no further ones are started.",
  resumed: "The queue is open again.",
  "retried-all": "Failed jobs were enqueued again",
  "retried-some": "There was not enough time for all; press again to go on. Enqueued again so far",
} as const;

type Notice = keyof typeof NOTICES;
/** Does one thing. */
export type Action = (arq: Steering, target: Target) => Promise<Done>;

/** What can be done on the pages of a queue, of the list of failures and of a job, by the names of the buttons. */
export const ACTIONS: Readonly<Record<string, Readonly<Record<string, Action>>>> = {
  "": {
    pause: async (arq, { queueName }) => {
      await arq.pause(queueName);
      return { done: "paused" };
    },
    resume: async (arq, { queueName }) => {
      await arq.resume(queueName);
      return { done: "resumed" };
    },
  },
  jobs: { "retry-all": retryAll },
  job: {
    abort,
    retry: async (arq, { jobId, queueName }) => {
      await arq.retryJob(jobId, { queueName });
      return { done: "retried" };
    },
    remove: async (arq, { jobId, queueName }) => {
      const isRemoved = await arq.removeJob(jobId, { queueName });
      return { done: isRemoved ? "removed" : "not-removed" };
    },
  },
};

async function abort(arq: Steering, { jobId, queueName }: Target): Promise<Done> {
  try {
    if (await arq.job(jobId, { queueName }).abort({ timeout: ABORT_MS })) {
      return { done: "aborted" };
    }
    const isThere = await arq.jobView(jobId, { queueName }) !== null;
    return { done: isThere ? "not-aborted" : "not-there" };
  } catch (error) {
    if (!isTimeout(error)) throw error;
    return { done: "asked" };
  }
}

async function retryAll(arq: Steering, { queueName, failures }: Target): Promise<Done> {
  let retried = 0;
  const onProgress = (progress: { readonly retried: number }) => void (retried = progress.retried);
  const signal = AbortSignal.timeout(RETRY_ALL_MS);
  try {
    const total = await arq.retryJobs({ ...failures, queueName, signal, onProgress });
    return { done: "retried-all", count: String(total) };
  } catch (error) {
    if (!isTimeout(error)) throw error;
    return { done: "retried-some", count: String(retried) };
  }
}

/** Does it, with a line in the log. */
export async function act(
  action: Action,
  name: string,
  arq: Steering,
  target: Target,
): Promise<Done> {
  const done = await action(arq, target);
  const { queueName, jobId } = target;
  logger.info("{action} by dashboard: {outcome}", {
    action: name,
    outcome: done.done,
    queueName,
    jobId,
  });
  return done;
}

/** What the address says was done; it knows a few sentences, so that no link can have it say others. */
export function noticeOf(query: URLSearchParams): Content {
  const done = query.get("done");
  if (done === null || !Object.hasOwn(NOTICES, done)) return null;
  const number = Number(query.get("count"));
  const isMany = done.startsWith("retried-") && isCount(number, 0);
  const text = NOTICES[done as Notice] + (isMany ? `: ${pluralText(number, "job")}.` : "");
  return html`<p class="notice" role="status" tabindex="-1" autofocus>${text}</p>`;
}
