/** Small helpers that several test files share. */
import { createClient } from "@redis/client";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { openStore } from "../open_store.ts";
import type { Claim, Finish, NewJob, Store } from "../store.ts";
import { randomPrefix, testRedisUrl } from "./_redis.ts";

const POLL_MS = 5;

type Falsy = false | 0 | "" | null | undefined;

/** Polls until the condition holds and returns what it returned; fails after a deadline. */
export async function eventually<T>(
  condition: () => T | Promise<T>,
  what: string,
  deadlineMs = 20_000,
): Promise<Exclude<T, Falsy>> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value as Exclude<T, Falsy>;
    if (performance.now() > deadline) assert.fail(`Not within ${deadlineMs / 1_000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Fails unless the promise settles within the deadline; for calls that must never hang. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`Not within ${ms} ms: ${what}`)), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The error that a promise rejects with. */
export async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof Error);
    return error;
  }
  return assert.fail("It did not reject");
}

/** A connected store on the shared server (or the one at `url`), with a prefix of its own. */
export async function openTestStore(
  options: { readonly url?: string; readonly prefix?: string } = {},
): Promise<Store> {
  const store = openStore(options.url ?? await testRedisUrl(), options.prefix ?? randomPrefix());
  await store.connect();
  return store;
}

/** What Redis answers to a raw command. */
export type RawReply = string | number | null | RawReply[];

/** A plain connection to Redis that shares nothing with the library. */
export interface RawRedis extends AsyncDisposable {
  /** Sends one command, every argument as text or bytes. */
  call(...args: (string | number | Uint8Array)[]): Promise<RawReply>;
  /** The bytes of a string key. */
  bytes(key: string): Promise<Uint8Array>;
}

/** Connects to the shared server, or the one at `url`. */
export async function openRawRedis(url?: string): Promise<RawRedis> {
  const client = createClient({
    url: url ?? await testRedisUrl(),
    RESP: 2,
    socket: { reconnectStrategy: false },
  });
  client.on("error", () => {}); // a test that stops its server sees it by its calls
  await client.connect();
  return {
    call: (...args) => {
      const words = args.map((arg) => typeof arg === "object" ? Buffer.from(arg) : String(arg));
      return client.sendCommand<RawReply>(words);
    },
    bytes: async (key) => {
      const hex = await client.eval(
        "return (redis.call('GET', KEYS[1]):gsub('.', function(c) " +
          "return string.format('%02x', c:byte()) end))",
        { keys: [key] },
      );
      return Uint8Array.fromHex(String(hex));
    },
    [Symbol.asyncDispose]: () => Promise.resolve(client.destroy()),
  };
}

/** Bytes that say `text`. */
export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** A job to enqueue, due at once unless `more` says otherwise. */
export function newJob(jobId: string, more: Partial<NewJob> = {}): NewJob {
  return { jobId, payload: bytes(`payload of ${jobId}`), idKind: "random", ...more };
}

/** The end of a claimed job: a success whose result is kept for a minute. */
export function endOf(lease: Claim, more: Partial<Finish> = {}): Finish {
  const record = bytes(`result of ${lease.jobId}`);
  return { lease, success: true, record, keepMs: 60_000, lockTailMs: 0, ...more };
}

/** The one claim of a reply that must have exactly one. */
export function only<T>(items: readonly T[]): T {
  assert.equal(items.length, 1);
  return items[0] as T;
}
