/**
 * A collection that is filled and emptied all the time.
 *
 * A `Set` lays its entries out anew whenever enough has come and gone, and what was collected with
 * an old layout keeps the newer ones, with all that stood in them, in memory until the next full
 * collection. This one stays where it is.
 * @module
 */

/** What can be in a bag, in one at a time: it knows its index there. */
export interface Bagged {
  /** Its index in its bag. */
  bagIndex: number;
}

/** Things in no particular order. */
export class Bag<T extends Bagged> implements Iterable<T> {
  readonly #items: T[] = [];

  /** How many there are. */
  get size(): number {
    return this.#items.length;
  }

  /** Puts something in that is in no bag. */
  add(item: T): void {
    item.bagIndex = this.#items.push(item) - 1;
  }

  /** Takes something out; another gets its index. Nothing happens where it is not in the bag. */
  delete(item: T): void {
    if (this.#items[item.bagIndex] !== item) return;
    const last = this.#items.pop() as T;
    if (last === item) return;
    this.#items[item.bagIndex] = last;
    last.bagIndex = item.bagIndex;
  }

  /** Takes everything out. */
  clear(): void {
    this.#items.length = 0;
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#items.values();
  }
}
