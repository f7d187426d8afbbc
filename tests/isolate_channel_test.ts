import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import fc from "fast-check";
import { encodeFrame, FrameReader, newMark, type Order } from "../isolate_channel.ts";

const MARK = newMark();

/** Everything that a reader makes of chunks: messages as they are, all text in one. */
function readAll(chunks: Iterable<Uint8Array>): { messages: unknown[]; text: Buffer } {
  const reader = new FrameReader(MARK);
  const pieces = [...chunks].flatMap((chunk) => [...reader.read(chunk)]);
  return {
    messages: pieces.flatMap((piece) => piece.kind === "message" ? [piece.message] : []),
    text: Buffer.concat(pieces.flatMap((piece) => piece.kind === "text" ? [piece.bytes] : [])),
  };
}

function* cut(bytes: Uint8Array, sizes: readonly number[]): Generator<Uint8Array> {
  let start = 0;
  for (let i = 0; start < bytes.length; i++) {
    const end = start + (sizes[i % sizes.length] ?? 1);
    yield bytes.subarray(start, end);
    start = end;
  }
}

function order(reason: string): Order {
  return { kind: "abort", reason: new Error(reason) };
}

describe("A channel", () => {
  it("tells messages and what is printed between them apart, wherever they are cut", () => {
    const printed = fc.uint8Array({ maxLength: 40 }).map((bytes) => {
      return bytes.map((byte) => byte > 0xfa ? 0xff : byte); // like the beginning of a mark
    });
    const part = fc.record({ reason: fc.option(fc.string({ maxLength: 100 })), printed });
    const sizes = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 5 });
    fc.assert(fc.property(fc.array(part), sizes, (parts, sizes) => {
      const sent = parts.map(({ reason }) => reason).filter((reason) => reason !== null);
      const stream = Buffer.concat(
        parts.flatMap(({ reason, printed }) => [
          printed,
          reason === null ? new Uint8Array() : encodeFrame(MARK, order(reason)),
        ]).concat(Buffer.from("the end")),
      );
      const { messages, text } = readAll(cut(stream, sizes));
      const reasons = messages.map((message) => (message as { reason: Error }).reason.message);
      assert.deepEqual(reasons, sent);
      const all = Buffer.concat([...parts.map(({ printed }) => printed), Buffer.from("the end")]);
      assert.deepEqual(text, all);
    }));
  });

  it("does not hold back what is printed", () => {
    assert.equal(readAll([Buffer.from("Größe: ")]).text.toString(), "Größe: ");
  });

  it("refuses a frame that is damaged or too large", () => {
    const frame = encodeFrame(MARK, order("stop"));
    const damaged = frame.with(-1, 0);
    assert.throws(() => readAll([damaged]), /its checksum is wrong/);
    const giant = Buffer.from(frame);
    giant.writeUInt32BE(2 ** 31, 8);
    assert.throws(() => readAll([giant]), /it claims to have 2147483648 bytes/);
  });

  it("takes what is large in linear time", () => {
    const size = 1 << 25;
    const frame = encodeFrame(MARK, order("x".repeat(size)));
    const { messages } = readAll(cut(frame, [1 << 16]));
    assert.equal((messages[0] as { reason: Error }).reason.message.length, size);
  });
});
