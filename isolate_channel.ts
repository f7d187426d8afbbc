/**
 * What a worker and the processes that run functions tell each other, and how it travels.
 *
 * Orders go to a process's standard input, reports come from its standard output, where whatever
 * else the process, or a program that it has started, prints may stand between them. A frame is a
 * mark that only the two know, the length of its content, a checksum, the content, and a line break.
 * The content is a message that the library's serializer has written, or a part of it that another
 * frame goes on with.
 * @module
 */
import { Buffer } from "node:buffer";
import process from "node:process";
import { crc32 } from "node:zlib";
import { isPlainObject } from "./error_fields.ts";
import { SerializationError } from "./errors.ts";
import type { JobLogger, JobMeta } from "./functions.ts";
import { deserialize, serialize } from "./serializer.ts";

/** What a process is told. */
export type Order =
  | {
    readonly kind: "run";
    /** The name of the export to call. */
    readonly exportName: string;
    /** The job as `encodeJob` writes it. */
    readonly record: Uint8Array;
    readonly facts: JobFacts;
  }
  | { readonly kind: "abort"; readonly reason: Error };

/** What the function's context says of the job beside its record. */
export type JobFacts = Pick<JobMeta, "jobId" | "jobTry" | "score" | "queueName">;

/** How a function has ended: a record as `encodeResult` writes it, or its wish to run again. */
export type End =
  | { readonly kind: "end"; readonly record: Uint8Array }
  | { readonly kind: "retry"; readonly deferMs: number | undefined; readonly cause: unknown };

/** What a function logs: by its job's name, since it may do so when the next job has begun. */
export interface LogReport {
  readonly kind: "log";
  readonly jobId: string;
  readonly functionName: string;
  readonly level: keyof JobLogger;
  readonly message: string;
  readonly properties: Record<string, unknown>;
}

/** What a process tells. */
export type Report =
  | End
  | LogReport
  | {
    readonly kind: "progress";
    /** As `encodeProgress` writes it. */
    readonly record: Uint8Array;
  }
  /** It begins the job it was given; signals that tell programs to end are ignored by now. */
  | { readonly kind: "begun" };

const REPORTS: ReadonlySet<unknown> = new Set<Report["kind"]>([
  "end",
  "retry",
  "log",
  "progress",
  "begun",
]);

const MARK_SIZE = 8;
const HEADER_SIZE = MARK_SIZE + 8;
/** Ends a frame: Deno writes what follows the last line break, wherever it is, in a second call. */
const LINE_BREAK = 0x0a;
/** No text in UTF-8 has this byte, so that text is never held back in search of a mark. */
const FIRST_OF_MARK = 0xff;
/** A message may not be larger: 256 MiB. */
const MAX_CONTENT = 1 << 28;
/** Added to the length of a part that is not the last one. */
const GOES_ON = 2 ** 31;
/** What is written at once and is no larger stays in one piece, however many write to the pipe. */
const PART_SIZE = process.platform === "linux" ? 4_096 : 512;

/** Makes a mark for one process, in hexadecimal digits. */
export function newMark(): string {
  const mark = crypto.getRandomValues(new Uint8Array(MARK_SIZE));
  mark[0] = FIRST_OF_MARK;
  return mark.toHex();
}

/**
 * Turns a message into a frame.
 *
 * @throws {SerializationError} if it cannot travel, or is too large.
 */
export function encodeFrame(mark: string, message: Order | Report): Uint8Array {
  return frameOf(mark, contentOf(message));
}

/**
 * Turns a message into frames that are to be written one by one, to a pipe that others write to.
 *
 * @throws {SerializationError} if it cannot travel, or is too large; then there is no first one.
 */
export function* encodeParts(mark: string, message: Order | Report): Generator<Uint8Array> {
  const content = contentOf(message);
  const room = PART_SIZE - HEADER_SIZE - 1;
  for (let start = 0; start < content.length; start += room) {
    const end = start + room;
    yield frameOf(mark, content.subarray(start, end), end < content.length);
  }
}

function contentOf(message: Order | Report): Uint8Array {
  const content = serialize(message);
  if (content.length <= MAX_CONTENT) return content;
  throw new SerializationError(
    `What a worker and its processes exchange may have 256 MiB, got ${content.length} bytes`,
  );
}

function frameOf(mark: string, content: Uint8Array, goesOn = false): Uint8Array {
  const frame = Buffer.alloc(HEADER_SIZE + content.length + 1, LINE_BREAK);
  frame.write(mark, "hex");
  frame.writeUInt32BE(content.length + (goesOn ? GOES_ON : 0), MARK_SIZE);
  frame.writeUInt32BE(crc32(content), MARK_SIZE + 4);
  frame.set(content, HEADER_SIZE);
  return frame;
}

/** A part of what was read: a message, or something else that was printed. */
export type Piece =
  | { readonly kind: "message"; readonly message: unknown }
  | { readonly kind: "text"; readonly bytes: Uint8Array };

/** Takes a stream of frames, and text between them, apart. */
export class FrameReader {
  readonly #mark: Buffer;
  #chunks: Uint8Array[] = [];
  #size = 0;
  /** What there is of a message that goes on. */
  #parts: Uint8Array[] = [];
  #partsSize = 0;
  /** How many bytes there must be before anything more can be read. */
  #wanted = 1;

  /** Takes the mark that frames begin with. */
  constructor(mark: string) {
    this.#mark = Buffer.from(mark, "hex");
  }

  /**
   * Reads what has become complete with this chunk.
   *
   * @throws if a frame is damaged or too large; nothing more can be read then.
   */
  *read(chunk: Uint8Array): Generator<Piece> {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    while (this.#size >= this.#wanted) {
      const piece = this.#next(joined(this.#chunks));
      if (piece) yield piece;
    }
  }

  #next(bytes: Buffer): Piece | undefined {
    const at = bytes.indexOf(this.#mark);
    if (at !== 0) return this.#nextText(bytes, at);
    if (bytes.length < HEADER_SIZE) return this.#keep(bytes, HEADER_SIZE);
    const word = bytes.readUInt32BE(MARK_SIZE);
    const length = word % GOES_ON;
    const size = this.#partsSize + length;
    if (size > MAX_CONTENT) throw new RangeError(`it claims to have ${size} bytes`);
    const end = HEADER_SIZE + length;
    if (bytes.length <= end) return this.#keep(bytes, end + 1);
    const content = bytes.subarray(HEADER_SIZE, end);
    if (crc32(content) !== bytes.readUInt32BE(MARK_SIZE + 4)) {
      throw new TypeError("its checksum is wrong");
    }
    this.#keep(bytes.subarray(end + 1));
    this.#parts.push(content);
    this.#partsSize = size;
    if (word >= GOES_ON) return undefined;
    const message = joined(this.#parts);
    this.#parts = [];
    this.#partsSize = 0;
    return { kind: "message", message: deserialize(message) };
  }

  /** Text reaches to the next mark, or to what may be the beginning of one. */
  #nextText(bytes: Buffer, mark: number): Piece | undefined {
    const tail = bytes.indexOf(FIRST_OF_MARK, Math.max(0, bytes.length - MARK_SIZE + 1));
    const end = mark > 0 ? mark : tail < 0 ? bytes.length : tail;
    const rest = bytes.subarray(end);
    this.#keep(rest, mark > 0 ? 1 : rest.length + 1);
    return end === 0 ? undefined : { kind: "text", bytes: bytes.subarray(0, end) };
  }

  #keep(rest: Buffer, wanted = 1): undefined {
    this.#chunks = [rest];
    this.#size = rest.length;
    this.#wanted = wanted;
  }
}

function joined(chunks: readonly Uint8Array[]): Buffer {
  const [first] = chunks;
  if (first === undefined || chunks.length > 1) return Buffer.concat(chunks);
  return Buffer.from(first.buffer, first.byteOffset, first.byteLength);
}

/** Whether what was read is a report, as far as its kind tells. */
export function isReport(message: unknown): message is Report {
  return isPlainObject(message) && REPORTS.has(message.kind);
}
