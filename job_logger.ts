/**
 * What a job's function logs with.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { JobLogger } from "./functions.ts";

const logger = getLogger(["arq", "job"]);

/** The logger of a job, which attaches its id and its function. */
export function jobLogger(jobId: string, functionName: string): JobLogger {
  return logger.with({ jobId, function: functionName });
}
