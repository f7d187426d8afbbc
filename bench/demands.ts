/** What the figures of one run have to be, here or beside the peers'. */
import { median } from "./figures.ts";

/** Figures of all rounds: by the kind of work, then by whose they are. */
export type Samples = Record<string, Record<string, number[]>>;

/** What one kind of work has to reach. */
interface Demand {
  /** The work, or what its name looks like. */
  readonly work: string | RegExp;
  /** Whose figure ours is a multiple of, round by round; `best` is the better peer. */
  readonly against?: "bee-queue" | "BullMQ" | "floor" | "best";
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** How a demand was met: the median and the spread of what was measured, round by round. */
export interface Verdict {
  readonly work: string;
  readonly against: string;
  readonly values: readonly number[];
  readonly wanted: string;
  readonly isReached: boolean;
}

/** By the group of works, as `--only` names them. */
const DEMANDS: Readonly<Record<string, readonly Demand[]>> = {
  peers: [
    { work: "enqueue one by one, 100 concurrent, jobs/s", against: "bee-queue", atLeast: 1.2 },
    { work: "enqueue in bulk, jobs/s", against: "BullMQ", atLeast: 4 },
    { work: "run, 100 at a time, jobs/s", against: "best", atLeast: 2 },
    { work: "run, 100 at a time, jobs/s", against: "floor", atLeast: 0.75 },
    { work: "run, 10 at a time, jobs/s", against: "best", atLeast: 2 },
    { work: "round trip, p50, ms", against: "bee-queue", atMost: 1 },
    { work: "round trip, p99, ms", against: "bee-queue", atMost: 1 },
  ],
  lateness: [{ work: /lateness p99/, atMost: 5 }],
  backlog: [{ work: /× a short one$/, atLeast: 0.9 }],
  workers: [{ work: /× one worker$/, atLeast: 1 }],
  idle: [{ work: "idle worker, commands/s", atMost: 3 }],
  memory: [{ work: /^worker's heap at the end, ×/, atMost: 1.2 }],
  embedded: [
    { work: "enqueue, run, result, jobs/s", atLeast: 5_000 },
    { work: /^longest turn/, atMost: 5 },
  ],
  isolated: [
    { work: /^a warm call adds/, atMost: 2 },
    { work: /^p99 of short jobs beside/, atMost: 3 },
  ],
};
const PEERS = ["BullMQ", "bee-queue"];
/** Whose figures are looked at; what has no peer here has one column. */
const OURS = "arq";

/** How the demands on a group of works were met; what was not measured is not met. */
export function judge(group: string, samples: Samples): Verdict[] {
  return (DEMANDS[group] ?? []).flatMap((demand) => {
    const works = Object.keys(samples).filter((work) => isMeant(demand.work, work));
    return (works.length > 0 ? works : [String(demand.work)]).map((work) =>
      judgeWork(demand, work, samples[work] ?? {})
    );
  });
}

function isMeant(wanted: string | RegExp, work: string): boolean {
  return typeof wanted === "string" ? wanted === work : wanted.test(work);
}

function judgeWork(
  { against, atLeast = -Infinity, atMost = Infinity }: Demand,
  work: string,
  figures: Samples[string],
): Verdict {
  const ours = figures[OURS] ?? [];
  const other = against === "best" ? bestPeer(figures) : against;
  const theirs = other === undefined ? [] : figures[other] ?? [];
  const values = other === undefined ? ours : ours.map((value, i) => value / (theirs[i] ?? NaN));
  const middle = median(values);
  return {
    work,
    against: other ?? "",
    values,
    wanted: atMost === Infinity ? `at least ${atLeast}` : `at most ${atMost}`,
    isReached: middle >= atLeast && middle <= atMost,
  };
}

/** Where more is better. */
function bestPeer(figures: Samples[string]): string | undefined {
  const medianOf = (name: string) => median(figures[name] ?? []);
  return PEERS.toSorted((a, b) => medianOf(b) - medianOf(a))[0];
}
