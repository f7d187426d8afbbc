/** The jobs that `welcome_test.ts` tests; nothing here knows of tests. */
import { cron, func, type JobContext, Retry, type WorkerSettings } from "@arq/arq";

/** What the program sends mail with. */
export interface Mailer {
  send(to: string, text: string): Promise<void>;
}

/** What `onStartup` would put on the context. */
type State = { mailer: Mailer; members: Set<string> };
type Ctx = JobContext<State>;

/** Says hello, and asks a week later how it went. */
export async function welcome(ctx: Ctx, address: string): Promise<void> {
  try {
    await ctx.mailer.send(address, "Welcome!");
  } catch (cause) {
    throw new Retry({ defer: { minutes: ctx.jobTry }, cause });
  }
  ctx.members.add(address);
  // The id follows from the job: should it run twice, one question is asked.
  const jobId = `${ctx.jobId} follow-up`;
  await ctx.arq.enqueueJob("followUp", [address], { jobId, deferBy: { days: 7 } });
}

/** Asks how it went. */
export async function followUp(ctx: Ctx, address: string): Promise<void> {
  await ctx.mailer.send(address, "How is it going?");
}

/** Tells the owner every morning how many there are. */
export async function report(ctx: Ctx): Promise<void> {
  await ctx.mailer.send("owner", `${ctx.members.size} members`);
}

export const functions = { welcome: func(welcome, { maxTries: 3 }), followUp };
export const cronJobs = [cron(report, "0 9 * * *", { timezone: "UTC" })];

export default { functions, cronJobs } satisfies WorkerSettings<State>;
