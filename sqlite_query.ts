/**
 * What prepared statements are, and how numbers are read that somebody else may have written.
 * @module
 */

/** What a statement takes. */
export type Value = string | number | Uint8Array | null;

/** A prepared statement, with the types of its parameters and of its rows. */
export interface Query<Params extends readonly Value[], Row = never> {
  /** The first row. */
  get(...params: Params): Row | undefined;
  /** All rows. */
  all(...params: Params): Row[];
  /** Runs it for its effect. */
  run(...params: Params): {
    readonly changes: number | bigint;
    readonly lastInsertRowid: number | bigint;
  };
}

declare const QUERY: unique symbol;

/** The text of a statement, whose type says what it is once prepared. */
export type Sql<Q> = string & { readonly [QUERY]: Q };

/** Says what a statement takes and, if it has rows, what these are. */
export function sql<Params extends readonly Value[] = [], Row = never>(
  text: string,
): Sql<Query<Params, Row>> {
  return text as Sql<Query<Params, Row>>;
}

/** Statements by name, prepared. */
export type Prepared<Texts> = {
  readonly [Name in keyof Texts]: Texts[Name] extends Sql<infer Q> ? Q : never;
};

/**
 * The largest number that is read. The reader throws at integers that JavaScript has no number for;
 * one that somebody else wrote must not keep a whole queue from its work.
 */
export const LARGEST = Number.MAX_SAFE_INTEGER;

/** Reads a whole number, as near to what stands there as JavaScript can have it. */
export function whole(column: string, name = column): string {
  return `max(-${LARGEST}, min(${LARGEST}, ${column})) AS ${name}`;
}

/** Reads a number of times. */
export function count(column: string): string {
  return `max(0, min(${2 ** 31}, ${column})) AS ${column}`;
}
