import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import { encodeFrame, encodeParts, FrameReader, newMark, type Order } from "../isolate_channel.ts";
import { fc } from "./_properties.ts";

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
    const damaged = frame.with(-2, 0);
    assert.throws(() => readAll([damaged]), /its checksum is wrong/);
    const giant = Buffer.from(frame);
    giant.writeUInt32BE(2 ** 30, 8);
    assert.throws(() => readAll([giant]), /it claims to have 1073741824 bytes/);
  });

  it("puts the parts of a message together, whatever is printed between them", () => {
    const parts = fc.tuple(fc.integer({ min: 0, max: 20_000 }), fc.uint8Array({ maxLength: 20 }));
    fc.assert(
      fc.property(fc.array(parts, { maxLength: 5 }), fc.integer({ min: 1 }), (all, size) => {
        const printed: Uint8Array[] = [];
        const stream = all.flatMap(([length, text]) =>
          [...encodeParts(MARK, order("x".repeat(length)))].flatMap((part) => {
            assert.ok(part.length <= 4_096, "larger ones are torn");
            assert.equal(part.at(-1), 0x0a, "Deno tears others at their last line break");
            printed.push(text);
            return [part, text];
          })
        );
        const { messages, text } = readAll(
          cut(Buffer.concat([...stream, Buffer.from("the end")]), [size]),
        );
        const lengths = messages.map((message) => (message as Order & { reason: Error }).reason);
        assert.deepEqual(
          lengths.map(({ message }) => message.length),
          all.map(([length]) => length),
        );
        assert.deepEqual(text, Buffer.concat([...printed, Buffer.from("the end")]));
      }),
    );
  });

  it("takes what is large in linear time", () => {
    const size = 1 << 25;
    const frame = encodeFrame(MARK, order("x".repeat(size)));
    const parts = [...encodeParts(MARK, order("x".repeat(size)))];
    const { messages } = readAll(cut(Buffer.concat([frame, ...parts]), [1 << 16]));
    const lengths = messages.map((message) => (message as { reason: Error }).reason.message.length);
    assert.deepEqual(lengths, [size, size]);
  });
});
