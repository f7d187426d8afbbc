import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as errors from "../errors.ts";
import { decodeJob, decodeResult, encodeResult } from "../serializer.ts";
import { FORGED_KEYS, forgedJob } from "./_hostile.ts";
import { fc } from "./_properties.ts";
import { COMPLETE, fail, failureOnTheWire, readFailure } from "./_records.ts";

const { DeserializationError, SerializationError } = errors;

describe("a failure", () => {
  it("is a readable map for others", () => {
    const cause = new RangeError("inner");
    const error = Object.assign(new TypeError("outer", { cause }), {
      code: 5,
      f() {},
      gone: void 0,
    });
    assert.deepEqual(failureOnTheWire(error), {
      name: "TypeError",
      message: "outer",
      stack: error.stack,
      code: 5,
      cause: { name: "RangeError", message: "inner", stack: cause.stack },
    });
  });

  it("of a class that is built in comes back as itself", () => {
    const classes = [
      Error,
      TypeError,
      RangeError,
      SyntaxError,
      ReferenceError,
      EvalError,
      URIError,
    ];
    for (const ErrorClass of classes) {
      const error = new ErrorClass("text");
      const copy = fail(error);
      assert.equal(Object.getPrototypeOf(copy), ErrorClass.prototype);
      assert.deepEqual([copy.name, copy.message, copy.stack], [error.name, "text", error.stack]);
      assert.deepEqual(Object.keys(copy), []);
      assert.equal(Object.hasOwn(copy, "cause"), false);
    }
  });

  it("of a class of this library comes back as itself", () => {
    const { JobAborted, JobTimeoutError, JobExecutionFailed, ResultNotFound } = errors;
    const classes = [
      JobAborted,
      JobTimeoutError,
      JobExecutionFailed,
      ResultNotFound,
      SerializationError,
      DeserializationError,
      errors.QueueConnectionError,
    ];
    for (const ErrorClass of classes) {
      const copy = fail(new ErrorClass("text"));
      assert.equal(Object.getPrototypeOf(copy), ErrorClass.prototype);
      assert.equal(copy.message, "text");
    }
  });

  it("of an AggregateError keeps its errors, also in a subclass", () => {
    class ManyErrors extends AggregateError {
      override name = "ManyErrors";
    }
    const error = new ManyErrors([new TypeError("a"), 5], "many");
    const copy = fail(error);
    assert.ok(copy instanceof AggregateError);
    assert.equal(copy.name, "ManyErrors");
    assert.ok(copy.errors[0] instanceof TypeError);
    assert.equal(copy.errors[1], 5);
    assert.deepEqual(Object.keys(copy), []);
    assert.equal((failureOnTheWire(error).errors as Error[])[0]?.name, "TypeError");
  });

  it("of a DOMException comes back as one", () => {
    const copy = fail(new DOMException("late", "TimeoutError"));
    assert.ok(copy instanceof DOMException);
    assert.deepEqual([copy.name, copy.message, copy.code], ["TimeoutError", "late", 23]);
    assert.deepEqual(Object.keys(copy), []);
  });

  it("of another class comes back as an Error with its name and own fields", () => {
    class HttpError extends Error {
      override name = "HttpError";
      status = 404;
      errors = ["no such page"];
      class = "permanent";
      line = 7;
    }
    const copy = fail(new HttpError("gone"));
    assert.equal(Object.getPrototypeOf(copy), Error.prototype);
    assert.equal(String(copy), "HttpError: gone");
    const { status, errors, class: kind, line } = copy as HttpError;
    assert.deepEqual([status, errors, kind, line], [404, ["no such page"], "permanent", 7]);
    assert.equal(Object.keys(copy).includes("name"), false);
  });

  it("that is no error survives, as an Error called NonError", () => {
    for (const thrown of ["text", 5, null, undefined, { code: 1 }, [1n], new Date(0)]) {
      const copy = fail(thrown);
      assert.equal(copy.name, "NonError");
      assert.deepEqual(Reflect.get(copy, "thrown"), thrown);
      assert.ok(Object.hasOwn(copy, "thrown"));
    }
    assert.equal(fail("two\nlines").message, "two\nlines");
    assert.equal(fail({ code: 1 }).message, '{"code":1}');
  });

  it("that is no error and cannot travel survives as its text", () => {
    assert.equal(fail(Symbol("x")).message, "Symbol(x)");
    assert.match(fail(function named() {}).message, /named/);
    assert.equal(fail(Object.create({ toString: null, valueOf: null })).name, "NonError");
  });

  it("leaves out what cannot travel", () => {
    const error = Object.assign(new Error("x"), {
      send() {},
      socket: { on() {} },
      key: Symbol("k"),
      ok: 1,
    });
    const copy = fail(error);
    assert.deepEqual(Object.entries(copy), [["ok", 1]]);
  });

  it("survives errors that are hard to read", () => {
    const cycle = new Error("cycle");
    cycle.cause = new Error("inner", { cause: cycle });
    assert.equal((fail(cycle).cause as Error).message, "inner");
    const getter = Object.defineProperty(new Error("x"), "message", {
      get() {
        throw new Error("no");
      },
    });
    assert.equal(fail(getter).name, "Error");
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    assert.ok(fail(proxy) instanceof Error);
    const odd = Object.assign(new Error("x"), { name: 5, stack: 6 });
    assert.deepEqual([fail(odd).name, fail(odd).stack], ["5", "5: x"]);
    const nameless = Object.assign(new Error("x"), { name: [Object.create(null)] });
    assert.equal(fail(nameless).message, "x");
    let deep = new Error("0");
    for (let i = 1; i < 3000; i++) deep = new Error(String(i), { cause: deep });
    assert.equal(fail(deep).message, "2999");
  });

  it("is recorded even if the job spoilt its own arguments", () => {
    const options = { onDone() {} };
    const bytes = encodeResult({ ...COMPLETE, a: [1, options], s: false, r: new Error("x") });
    const { a, r } = decodeResult(bytes);
    assert.equal(a[0], 1);
    assert.equal(typeof a[1], "string");
    assert.equal((r as Error).message, "x");
  });

  it("is recorded even if a key of its arguments is one that nobody may write", () => {
    for (const key of FORGED_KEYS) {
      const job = decodeJob(forgedJob(key));
      const bytes = encodeResult({ ...COMPLETE, ...job, s: false, r: new Error("x") });
      const { f, k, r, cut } = decodeResult(bytes);
      assert.deepEqual({ f, k, cut }, { f: "echo", k: {}, cut: true });
      assert.equal((r as Error).message, "x");
    }
  });

  it("that a Python serializer wrote as text reads as an Error with it", () => {
    const error = readFailure("ValueError: no");
    assert.deepEqual([error.name, error.message], ["Error", "ValueError: no"]);
  });

  it("with any other r reads as an Error", () => {
    for (const r of [null, 5, [], new Map(), undefined]) {
      assert.equal(readFailure(r).name, "NonError");
    }
    assert.ok(readFailure(new TypeError("x")) instanceof TypeError);
  });

  it("with hostile fields reads as an Error and touches no prototype", () => {
    const maps: Record<string, unknown>[] = [
      {},
      { name: 5, message: null, stack: 7 },
      { name: "constructor", message: "x" },
      { name: "AggregateError", message: "x", errors: 5 },
      { name: "x", class: "DOMException" },
      { name: "TypeError", constructor: 1, toString: 2, hasOwnProperty: 3, prototype: {} },
      { name: "Error", message: "x", cause: { name: "a", message: "b", stack: "c", cause: [] } },
    ];
    const before = Object.getOwnPropertyNames(Object.prototype);
    for (const map of maps) {
      const error = readFailure(map);
      assert.ok(error instanceof Error);
      assert.equal(typeof error.name, "string");
      assert.equal(typeof error.message, "string");
      assert.equal(typeof error.stack, "string");
    }
    assert.deepEqual(Object.getOwnPropertyNames(Object.prototype), before);
  });

  it("of any kind can be recorded and read", () => {
    const thrown = fc.anything({ withBigInt: true, withMap: true, withNullPrototype: true });
    fc.assert(
      fc.property(thrown, fc.dictionary(fc.string(), thrown), (value, fields) => {
        assert.ok(fail(value) instanceof Error);
        assert.equal(fail(Object.assign(new Error("x"), { ...fields, message: "x" })).message, "x");
      }),
    );
  });
});
