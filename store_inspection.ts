/**
 * What a backend must do for operators: steering a queue, and looking into it at a cost that does
 * not grow with it.
 * @module
 */

/** What became of a job that was to be removed. */
export type Removal = "removed" | "running" | "not_found";

/** The operators' side of a store. */
export interface StoreInspection {
  /** Has claims of a queue take nothing, or ends that and wakes a worker. */
  setPaused(queueName: string, paused: boolean): Promise<void>;
  /** Removes a job of this queue that nobody runs, and the result of its id. */
  remove(queueName: string, jobId: string): Promise<Removal>;
}
