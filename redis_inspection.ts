/**
 * The operators' side of the store on Redis: each method is one script, one jump away in
 * `redis_inspection_scripts.ts`.
 * @module
 */
import type { Argument, Reply } from "./redis_connection.ts";
import { inspectionScripts } from "./redis_inspection_scripts.ts";
import type { Script } from "./redis_scripts.ts";
import type { Removal, StoreInspection } from "./store_inspection.ts";

/** Runs a script on a queue; `args` is told whether an earlier attempt may have taken effect. */
export type RunScript = (
  script: Script,
  queueName: string,
  args: (again: boolean) => readonly Argument[],
) => Promise<Reply>;

/** Inspection of queues in Redis. */
export class RedisInspection implements StoreInspection {
  readonly #run: RunScript;

  /** Takes what runs a script. */
  constructor(run: RunScript) {
    this.#run = run;
  }

  async setPaused(queueName: string, paused: boolean): Promise<void> {
    await this.#run(inspectionScripts.setPaused, queueName, () => [paused ? "1" : "0"]);
  }

  async remove(queueName: string, jobId: string): Promise<Removal> {
    const reply = await this.#run(
      inspectionScripts.remove,
      queueName,
      (again) => [again ? "1" : "0", jobId],
    );
    return String(reply) as Removal;
  }
}
