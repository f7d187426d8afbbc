/**
 * Who waits in this process for the rows that somebody, perhaps another process, writes to one
 * table about a job.
 * @module
 */
import type { Query } from "./sqlite_query.ts";
import type { FeedRow } from "./sqlite_statements.ts";

/** How a table's new rows are found. */
export interface FeedQueries<Row extends FeedRow> {
  /** The rows after one, without what they say. */
  readonly newRows: Query<[afterSeq: number, limit: number], FeedRow>;
  /** One row. */
  readonly rowAt: Query<[seq: number], Row>;
}

interface Subscription<Row> {
  readonly listener: (row: Row) => void;
  /** The number of the last row it was told of. */
  seq: number;
}

/** Rows looked at in one step. */
const ROWS = 250;

/** Tells listeners of each row about their job once. */
export class Feed<Row extends FeedRow> {
  readonly #subscriptions: Map<string, Set<Subscription<Row>>> = new Map();
  /** The last row when those of others were last looked at. */
  #lastSeq = 0;
  #hasMore = false;

  /** Whether anybody waits. */
  get isListening(): boolean {
    return this.#subscriptions.size > 0;
  }

  /** Whether there may be rows that nobody has looked at, whatever was written since. */
  get hasMore(): boolean {
    return this.#hasMore;
  }

  /** Calls back for each row about a job after `seq`, the last one of now, until disposed. */
  subscribe(
    space: number,
    jobId: string,
    seq: number,
    listener: (row: Row) => void,
  ): Disposable {
    if (!this.isListening) this.#lastSeq = seq;
    const key = jobKey(space, jobId);
    const subscription = { listener, seq };
    const others = this.#subscriptions.get(key) ?? new Set();
    this.#subscriptions.set(key, others.add(subscription));
    return {
      [Symbol.dispose]: () => {
        others.delete(subscription);
        if (others.size === 0 && this.#subscriptions.get(key) === others) {
          this.#subscriptions.delete(key);
        }
      },
    };
  }

  /** Tells of a row whoever waits for it and does not know. */
  announce(row: Row): void {
    for (const subscription of [...this.#subscribed(row)]) {
      if (subscription.seq >= row.seq) continue;
      subscription.seq = row.seq;
      subscription.listener(row);
    }
  }

  /** Notes that there is no row up to this one that nobody was told of. */
  noteAnnounced(seq: number): void {
    this.#lastSeq = seq;
  }

  /** Reads rows of others; what it returns tells of them, to be called if that was committed. */
  catchUp({ newRows, rowAt }: FeedQueries<Row>): () => void {
    const rows = this.isListening ? newRows.all(this.#lastSeq, ROWS) : [];
    const wanted = rows.filter((row) => this.#isWanted(row))
      .flatMap(({ seq }) => rowAt.get(seq) ?? []);
    return () => {
      this.#lastSeq = rows.at(-1)?.seq ?? this.#lastSeq;
      this.#hasMore = rows.length === ROWS;
      for (const row of wanted) this.announce(row);
    };
  }

  /** Ends everything. */
  clear(): void {
    this.#subscriptions.clear();
    this.#hasMore = false;
  }

  #isWanted(row: FeedRow): boolean {
    return [...this.#subscribed(row)].some(({ seq }) => seq < row.seq);
  }

  #subscribed({ space, job_id }: FeedRow): Iterable<Subscription<Row>> {
    return this.#subscriptions.get(jobKey(space, job_id)) ?? [];
  }
}

function jobKey(space: number, jobId: string): string {
  return `${space}:${jobId}`;
}
