/** The files in which the workers note what they start. */
import { readFileSync } from "node:fs";

/** One start of a job. */
export interface Start {
  /** The job's number. */
  readonly n: number;
  /** The id of this run. */
  readonly run: string;
  readonly jobTry: number;
  /** When, epoch milliseconds. */
  readonly at: number;
}

/** What one worker process has noted. */
export interface Ledger {
  readonly starts: readonly Start[];
  /** Whether it came so far that it takes jobs. */
  readonly isReady: boolean;
  /** Why it ended, if it did so by itself. */
  readonly complaints: readonly string[];
}

/** Reads a ledger; one of a process that noted nothing is empty. */
export function readLedger(path: string): Ledger {
  const lines = readLines(path);
  const starts = lines.filter((line) => /^\d/.test(line)).map((line) => {
    const [n, run = "", jobTry, at] = line.split(" ");
    return { n: Number(n), run, jobTry: Number(jobTry), at: Number(at) };
  });
  const complaints = lines.filter((line) => line.startsWith("!"));
  return { starts, isReady: lines.some((line) => line.startsWith("#")), complaints };
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n").filter((line) => line !== "");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
