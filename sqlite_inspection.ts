/**
 * The operators' side of the embedded store.
 * @module
 */
import { drop, isLocked, type Scope } from "./sqlite_operations.ts";
import { storedId } from "./sqlite_statements.ts";
import type { Removal, StoreInspection } from "./store_inspection.ts";

/** Does work on a queue in a transaction. */
export type Transact = <T>(queueName: string | undefined, work: (scope: Scope) => T) => Promise<T>;

/** Inspection of queues in a SQLite file or in memory. */
export class SqliteInspection implements StoreInspection {
  readonly #write: Transact;

  /** Takes what does work in a transaction that may write. */
  constructor(write: Transact) {
    this.#write = write;
  }

  async setPaused(queueName: string, paused: boolean): Promise<void> {
    await this.#write(queueName, (scope) => {
      scope.sql.setPaused.run(paused ? 1 : 0, scope.queue);
      scope.wakes = !paused;
    });
  }

  remove(queueName: string, jobId: string): Promise<Removal> {
    return this.#write(queueName, (scope) => remove(scope, storedId(jobId)));
  }
}

function remove(scope: Scope, jobId: string): Removal {
  const { sql, space, queue, now } = scope;
  const row = sql.findJob.get(space, jobId);
  const entry = row?.queue === queue ? row : undefined;
  if (entry && isLocked(entry, now)) return "running";
  const results = Number(sql.dropResult.run(space, jobId, now).changes);
  if (entry) drop(scope, entry.job);
  return entry || results > 0 ? "removed" : "not_found";
}
