import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as errors from "../errors.ts";
import { Retry } from "../functions.ts";

const { FailedJobs, QueueConnectionError, SerializationError, DeserializationError } = errors;

type Errors = typeof errors;

/** Loads the module a second time, as a program with two copies of the library does. */
async function secondCopy(): Promise<Errors> {
  const specifier = "../errors.ts?second";
  return await import(specifier);
}

const SIMPLE = {
  ResultNotFound: errors.ResultNotFound,
  JobNotFound: errors.JobNotFound,
  JobStateError: errors.JobStateError,
  JobAborted: errors.JobAborted,
  JobTimeoutError: errors.JobTimeoutError,
  JobExecutionFailed: errors.JobExecutionFailed,
  SerializationError,
  DeserializationError,
  QueueConnectionError,
};

describe("the error classes", () => {
  it("have a literal name that is no own property", () => {
    for (const [name, ErrorClass] of Object.entries(SIMPLE)) {
      const error = new ErrorClass("text");
      assert.equal(error.name, name);
      assert.equal(String(error), `${name}: text`);
      assert.equal(Object.hasOwn(error, "name"), false);
    }
  });

  it("keep the cause", () => {
    const cause = new Error("socket closed");
    assert.equal(new QueueConnectionError("gone", { cause }).cause, cause);
    assert.equal(new SerializationError("bad", { cause }).cause, cause);
  });

  it("are told apart, and a DeserializationError is a SerializationError", () => {
    assert.ok(new DeserializationError("x") instanceof SerializationError);
    assert.ok(!(new SerializationError("x") instanceof DeserializationError));
    assert.ok(!(new errors.JobAborted("x") instanceof SerializationError));
    assert.ok(new errors.JobAborted("x") instanceof errors.ArqError);
    assert.ok(new errors.JobAborted("x") instanceof Error);
  });

  it("are recognised across copies of the library", async () => {
    const other = await secondCopy();
    assert.notEqual(other.JobAborted, errors.JobAborted);
    assert.ok(new other.JobAborted("x") instanceof errors.JobAborted);
    assert.ok(new other.DeserializationError("x") instanceof SerializationError);
    assert.ok(new other.FailedJobs(0, []) instanceof errors.ArqError);
    assert.ok(!(new other.JobAborted("x") instanceof errors.JobTimeoutError));
  });

  it("take a user's subclass for what it is", () => {
    class MyAbort extends errors.JobAborted {}
    assert.ok(new MyAbort("x") instanceof MyAbort);
    assert.ok(new MyAbort("x") instanceof errors.JobAborted);
    assert.ok(!(new errors.JobAborted("x") instanceof MyAbort));
  });

  it("take nothing else for theirs", () => {
    for (const value of [null, undefined, 5, "JobAborted", {}, Object.create(null), new Error()]) {
      assert.ok(!(value instanceof errors.JobAborted));
      assert.ok(!(value instanceof errors.ArqError));
    }
  });
});

describe("FailedJobs", () => {
  it("counts the jobs and shows what is known of each", () => {
    const jobResults = [{ jobId: "a1", result: new TypeError("no url") }];
    const error = new FailedJobs(2, jobResults);
    assert.equal(error.message, "2 jobs failed:\n  a1: TypeError: no url");
    assert.equal(error.count, 2);
    assert.equal(error.jobResults, jobResults);
    assert.equal(error.name, "FailedJobs");
  });

  it("speaks of one job in the singular, and of unknown results not at all", () => {
    assert.equal(new FailedJobs(1, []).message, "1 job failed");
  });
});

describe("QueueConnectionError", () => {
  it("says which jobs of a list were accepted", () => {
    assert.deepEqual(new QueueConnectionError("gone", { accepted: ["a"] }).accepted, ["a"]);
    assert.equal(new QueueConnectionError("gone").accepted, undefined);
  });

  it("shows no such ids where no list was enqueued", () => {
    assert.equal(Object.hasOwn(new QueueConnectionError("gone"), "accepted"), false);
  });
});

describe("SettingsError", () => {
  it("lists every problem on its own line", () => {
    const error = new errors.SettingsError("worker settings", ["a is wrong", "b is missing"]);
    const expected = "Cannot use these worker settings:\n  a is wrong\n  b is missing";
    assert.equal(error.message, expected);
    assert.deepEqual(error.problems, ["a is wrong", "b is missing"]);
  });
});

describe("Retry", () => {
  it("refuses what would be a retry at once by mistake", () => {
    const refuses = (options: unknown, message: string) =>
      assert.throws(() => new Retry(options as never), { name: "TypeError", message });
    refuses(5, "Retry takes an object such as { defer: { seconds: 5 } }, got 5");
    const soon = Temporal.Duration.from({ seconds: 5 });
    refuses(soon, 'Retry takes an object such as { defer: { seconds: 5 } }, got "PT5S"');
    refuses({ delay: 5 }, 'Retry: unknown option "delay"; known: defer, cause');
    refuses({ deferBy: 5 }, 'Retry: unknown option "deferBy"; did you mean "defer"?');
  });

  it("refuses an error in place of its options, and does not lose it", () => {
    const busy = new Error("busy");
    assert.throws(() => new Retry(busy), {
      name: "TypeError",
      message: "Retry takes an error as its cause: { cause: error }, got the error itself",
      cause: busy,
    });
  });
});
