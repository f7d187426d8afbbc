/**
 * A look over MessagePack before `@msgpack/msgpack` reads it, since that believes any length.
 * @module
 */

import { DeserializationError } from "./errors.ts";

/** How many levels of containers a value may have; an extension with MessagePack in it is one. */
export const MAX_DEPTH = 1_000;

/** What is said of a value with more levels. */
export const TOO_DEEP = "it is more than 1,000 levels deep";

/** How many bytes follow each head from 0xc0 on: the length if there is one, else the value. */
const WIDTHS = [0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 16]
  .concat([1, 2, 4, 2, 4, 2, 4]);

const TOO_SHORT = "it ends too early";
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** For each open container: how many values are missing, and for extensions where the outer one ends. */
const missing = new Float64Array(MAX_DEPTH + 1);
const outerEnds = new Float64Array(MAX_DEPTH + 1);

/** What a decoder must take care of. */
export interface Findings {
  /** Whether there is a byte array. */
  readonly hasBinary: boolean;
  /** Whether there is an integer beyond `Number.MAX_SAFE_INTEGER`. */
  readonly hasBigIntegers: boolean;
}

/**
 * Looks over one value, and over the payload of extensions whose type is in `nested`.
 *
 * No recursion, and no memory whatever the lengths say.
 *
 * @throws {DeserializationError} if it is too short, too long, too deep or uses the byte 0xc1.
 * @throws {TypeError} if a text is not UTF-8.
 */
export function scan(bytes: Uint8Array, nested: ReadonlySet<number>): Findings {
  return new Scan(bytes, nested).run();
}

class Scan implements Findings {
  hasBinary = false;
  hasBigIntegers = false;
  private readonly bytes: Uint8Array;
  private readonly nested: ReadonlySet<number>;
  private position = 0;
  /** Where the innermost extension, or the whole, ends. */
  private end: number;
  private depth = 0;

  constructor(bytes: Uint8Array, nested: ReadonlySet<number>) {
    this.bytes = bytes;
    this.nested = nested;
    this.end = bytes.length;
  }

  run(): this {
    missing[0] = 1;
    while (true) {
      while (missing[this.depth] === 0) {
        if (this.depth > 0) this.leave();
        else return this.checkEnd();
      }
      missing[this.depth]!--;
      this.head(this.bytes[this.skip(1)]!);
    }
  }

  /** Moves over the rest of a value, of a container only over the length. */
  private head(code: number): void {
    if (code < 0x80 || code >= 0xe0) return;
    if (code < 0x90) return this.enter(2 * (code & 0x0f), 0);
    if (code < 0xa0) return this.enter(code & 0x0f, 0);
    if (code < 0xc0) return this.text(code & 0x1f);
    const width = WIDTHS[code - 0xc0]!;
    if (code < 0xc4) return checkUsed(code);
    if (code < 0xc7) return this.binary(this.uint(width));
    if (code < 0xca) return this.extension(this.uint(width));
    if (code < 0xd4) return this.number(code, width);
    if (code < 0xd9) return this.extension(width);
    if (code < 0xdc) return this.text(this.uint(width));
    if (code < 0xde) return this.enter(this.uint(width), 0);
    this.enter(2 * this.uint(width), 0);
  }

  private number(code: number, width: number): void {
    if (code !== 0xcf && code !== 0xd3) {
      this.skip(width);
      return;
    }
    const high = code === 0xd3 ? this.uint(4) | 0 : this.uint(4);
    if (!Number.isSafeInteger(high * 0x1_0000_0000 + this.uint(4))) this.hasBigIntegers = true;
  }

  private text(length: number): void {
    const { bytes } = this;
    const start = this.skip(length);
    for (let index = start; index < start + length; index++) {
      if (bytes[index]! > 0x7f) {
        utf8.decode(bytes.subarray(index, start + length)); // throws where it is not UTF-8
        return;
      }
    }
  }

  private binary(length: number): void {
    this.skip(length);
    this.hasBinary = true;
  }

  private extension(length: number): void {
    const type = this.bytes[this.skip(1)]!;
    const start = this.skip(length);
    if (!this.nested.has(type)) return;
    this.position = start;
    this.enter(1, this.end);
    this.end = start + length;
  }

  private enter(count: number, outerEnd: number): void {
    if (this.depth === MAX_DEPTH) throw new DeserializationError(TOO_DEEP);
    missing[++this.depth] = count;
    outerEnds[this.depth] = outerEnd;
  }

  private leave(): void {
    const outerEnd = outerEnds[this.depth--]!;
    if (outerEnd === 0) return;
    this.checkEnd();
    this.end = outerEnd;
  }

  private checkEnd(): this {
    if (this.position === this.end) return this;
    throw new DeserializationError("there are bytes after its end");
  }

  private uint(width: number): number {
    const start = this.skip(width);
    let value = 0;
    for (let index = start; index < start + width; index++) {
      value = value * 0x100 + this.bytes[index]!;
    }
    return value;
  }

  /** Moves over `count` bytes and returns where they start. */
  private skip(count: number): number {
    const start = this.position;
    if (count > this.end - start) throw new DeserializationError(TOO_SHORT);
    this.position = start + count;
    return start;
  }
}

function checkUsed(code: number): void {
  if (code !== 0xc1) return;
  throw new DeserializationError("it has the byte 0xc1, which MessagePack doesn't use");
}
