import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { DatabaseSync } from "node:sqlite";
import process from "node:process";
import { after, describe, it } from "node:test";
import { createPool } from "../client.ts";
import { QueueConnectionError, SettingsError } from "../errors.ts";
import { openStore } from "../open_store.ts";
import { explainSqlite, MIGRATIONS, openSqlite } from "../sqlite_schema.ts";
import { parseSqliteUrl } from "../sqlite_settings.ts";
import { SqliteStore } from "../sqlite_store.ts";
import { bytes, endOf, eventually, newJob, only, openTestStore, rejection } from "./_helpers.ts";
import { randomPrefix } from "./_redis.ts";
import { addResults, Folder } from "./_sqlite.ts";
import { conformance } from "./_store_conformance.ts";

const DAY_MS = 86_400_000;
const NEXT_VERSION = MIGRATIONS.length + 1;
const TEXT = new TextDecoder();
const files = new Folder();
after(() => files[Symbol.dispose]());

/** A store on a clock that the test moves. */
async function openWithClock(path: string) {
  const clock = { now: 1_700_000_000_000 };
  const target = { path, prefix: randomPrefix(), timeoutMs: 5_000 };
  const store = new SqliteStore(target, () => clock.now);
  await store.connect();
  return { store, clock };
}

describe("connection strings of the embedded store", () => {
  it("give the path, the prefix and the timeout", () => {
    const { path, prefix, timeoutMs } = parseSqliteUrl("sqlite:/a%3Fb/q.db?prefix=x:&timeout=500");
    assert.deepEqual({ path, prefix, timeoutMs }, {
      path: "/a?b/q.db",
      prefix: "x:",
      timeoutMs: 500,
    });
    assert.equal(parseSqliteUrl("sqlite:q.db?prefix=a+b").prefix, "a+b"); // as in other strings
    assert.equal(parseSqliteUrl("sqlite:q.db").path, `${process.cwd()}/q.db`);
    assert.equal(parseSqliteUrl("sqlite:///var/q.db").path, "/var/q.db");
    assert.equal(parseSqliteUrl("SQLite::memory:?prefix=y").path, ":memory:");
  });

  it("name every problem", () => {
    const problems = {
      "sqlite:": /followed by a path/,
      "sqlite://q.db": /without \/\//,
      "sqlite:50%.db": /%25/,
      "sqlite:q.db?prefx=a&timeout=x": /did you mean "prefix"\?\n.*timeout must be a number/s,
      "sqlite:q.db?timeout=0": /timeout/,
    };
    for (const [url, message] of Object.entries(problems)) {
      assert.throws(() => openStore(url, undefined), (error) => {
        return error instanceof SettingsError && message.test(error.message);
      }, url);
    }
  });

  it("do no I/O before connect", () => {
    const store = openStore("sqlite:/no/such/folder/q.db", undefined);
    assert.equal(store.prefix, "arq:");
    assert.equal(store.address, "sqlite:/no/such/folder/q.db");
  });
});

describe("SqliteStore", () => {
  it("says that it has no Redis client", async () => {
    await using arq = await createPool("sqlite::memory:");
    assert.throws(() => arq.redis, { name: "TypeError", message: /sqlite::memory: is no Redis/ });
  });

  it("forgets what is in memory when the last client closes, and not before", async () => {
    const prefix = randomPrefix();
    const open = () => openTestStore({ url: "sqlite::memory:", prefix });
    const first = await open();
    const second = await open();
    await first.enqueue("q", [newJob("a")], DAY_MS);
    await first.close();
    assert.equal((await second.lookUp("q", "a", false)).hasPayload, true);
    await second.close();
    await using third = await open();
    assert.equal((await third.lookUp("q", "a", false)).hasPayload, false);
  });

  it("keeps what is in a file, for paths of any kind", async () => {
    using folder = new Folder();
    for (const name of ["a b.db", "q?x=1%.db", "ü.db"]) {
      const url = `sqlite:${folder.path}/${encodeURIComponent(name)}`;
      await using store = await openTestStore({ url, prefix: "p" });
      await store.enqueue("q", [newJob("a")], DAY_MS);
      await store.close();
      await store.connect();
      assert.equal((await store.lookUp("q", "a", false)).hasPayload, true);
      assert.ok(existsSync(folder.file(name)));
    }
    assert.deepEqual(readdirSync(folder.path).sort(), ["a b.db", "q?x=1%.db", "ü.db"]);
  });

  it("describes the file", async () => {
    using folder = new Folder();
    await using store = await openTestStore({ url: folder.url() });
    await store.enqueue("q", [newJob("a"), newJob("b")], DAY_MS);
    const { info } = await store.describe();
    assert.match(info, /^sqlite_version=3\.[\d.]+ file_size=\d+K jobs=2$/);
  });

  it("moves an id whose job has expired to the queue it is enqueued in anew", async () => {
    const { store, clock } = await openWithClock(":memory:");
    await using _ = store;
    await store.enqueue("one", [newJob("a", { expiresMs: 10 })], DAY_MS);
    clock.now += 20;
    assert.deepEqual(await store.enqueue("two", [newJob("a", { idKind: "given" })], DAY_MS), [
      true,
    ]);
    assert.equal((await store.claim("one", { holder: "h", limit: 10, leaseMs: 1_000 })).queued, 0);
    const { claims, queued } = await store.claim("two", { holder: "h", limit: 10, leaseMs: 1_000 });
    assert.equal(only(claims).payload?.length, newJob("a").payload.length);
    assert.equal(queued, 1);
  });

  it("keeps what a job has told while its lease is renewed, and sweeps it and its news after", async () => {
    using folder = new Folder();
    const { store, clock } = await openWithClock(folder.file());
    await using _ = store;
    await store.enqueue("q", [newJob("a", { expiresMs: DAY_MS })], DAY_MS);
    await store.observe("q", "a", 60_000, false);
    const lease = only((await store.claim("q", { holder: "h", limit: 1, leaseMs: 60_000 })).claims);
    await store.report("q", [{ lease, starts: 1, nth: 1, value: bytes("x") }], 60_000);
    for (let minute = 0; minute < 20; minute++) {
      clock.now += 59_000;
      assert.deepEqual(await store.renew("q", [lease], 60_000), [true]);
    }
    assert.ok(await store.readProgress("a"));
    clock.now += 660_000;
    assert.equal(await store.readProgress("a"), undefined);
    using probe = new DatabaseSync(folder.file());
    const count = (table: string) => probe.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.n;
    await eventually(async () => {
      await store.lookUp("q", "a", false);
      return count("progress") === 0 && count("news") === 0;
    }, "both are swept");
  });

  it("keeps a job that was enqueued anew while its former worker was away", async () => {
    const { store, clock } = await openWithClock(":memory:");
    await using _ = store;
    await store.enqueue("q", [newJob("a", { expiresMs: 10 })], DAY_MS);
    const former = only((await store.claim("q", { holder: "h", limit: 1, leaseMs: 100 })).claims);
    clock.now += 200;
    const anew = newJob("a", { idKind: "given", payload: bytes("anew"), deferMs: 1_000 });
    assert.deepEqual(await store.enqueue("q", [anew], DAY_MS), [true]);
    assert.deepEqual(await store.renew("q", [former], 100), [false]);
    assert.deepEqual(await store.finish("q", [endOf(former, { success: false })]), ["refused"]);
    assert.deepEqual(await store.finish("q", [endOf(former, { keepMs: 0 })]), ["done"]);
    assert.deepEqual((await store.claim("q", { holder: "h", limit: 1, leaseMs: 100 })).claims, []);
    clock.now += 1_000;
    const claim = only((await store.claim("q", { holder: "h", limit: 1, leaseMs: 100 })).claims);
    assert.equal(TEXT.decode(claim.payload ?? undefined), "anew");
    assert.equal(claim.starts, 1);
  });
});

describe("The end of a job that keeps no result", () => {
  it("is told before a look finds nothing, however far behind the news is", async () => {
    using folder = new Folder();
    await using store = await openTestStore({ url: folder.url() });
    const told: string[] = [];
    const ids = ["job 599", "job 600"] as const;
    for (const id of ids) await store.onFinished(id, () => told.push(id));
    addResults(folder.file(), 600, 1); // more than one look at the news takes in
    const seen = store.lookUp("q", ids[0], false);
    const observed = store.observe("q", ids[1], DAY_MS, false);
    assert.equal((await seen).result, undefined);
    assert.equal((await observed).result, undefined);
    assert.deepEqual(told, ids);
  });
});

describe("SQLite files that are busy", () => {
  it("are tried again without blocking the event loop", async () => {
    using folder = new Folder();
    await using store = await openTestStore({ url: folder.url() });
    const other = new DatabaseSync(folder.file());
    other.exec("BEGIN IMMEDIATE");
    let isDone = false;
    const enqueued = store.enqueue("q", [newJob("a")], DAY_MS).finally(() => isDone = true);
    let ticks = 0;
    await eventually(() => ++ticks > 30, "timers go on");
    assert.equal(isDone, false);
    other.exec("COMMIT");
    other.close();
    assert.deepEqual(await enqueued, [true]);
  });

  it("end a call with an error after the timeout, and nothing was done", async () => {
    using folder = new Folder();
    await using store = await openTestStore({ url: `${folder.url()}?timeout=80`, prefix: "p" });
    const other = new DatabaseSync(folder.file());
    other.exec("BEGIN IMMEDIATE");
    const error = await rejection(store.enqueue("q", [newJob("a")], DAY_MS));
    assert.ok(error instanceof QueueConnectionError);
    assert.match(error.message, /^Cannot use sqlite:.*: other processes kept it busy for 0.08 s$/);
    const opening = openStore(`${folder.url()}?timeout=50`, "other");
    other.exec("COMMIT");
    await opening.connect();
    await opening.close();
    other.close();
    assert.deepEqual(
      (await store.claim("q", { holder: "h", limit: 1, leaseMs: 1_000 })).claims,
      [],
    );
  });

  it("end what is under way when the store is closed", async () => {
    using folder = new Folder();
    const store = await openTestStore({ url: folder.url() });
    using other = new DatabaseSync(folder.file());
    other.exec("BEGIN IMMEDIATE");
    const failed = rejection(store.enqueue("q", [newJob("a")], DAY_MS));
    await store.close();
    assert.ok(await failed instanceof QueueConnectionError);
  });
});

/** The one line with which connecting fails. */
async function refusal(url: string): Promise<string> {
  const error = await rejection(openStore(url, "p").connect());
  assert.ok(error instanceof QueueConnectionError, String(error));
  assert.ok(!error.message.includes("\n"));
  return error.message;
}

/** Runs `check` while a file cannot be written, also by root; false where that cannot be had. */
async function whileReadOnly(path: string, check: () => Promise<void>): Promise<boolean> {
  const isRoot = process.getuid?.() === 0;
  try {
    if (isRoot) execFileSync("chattr", ["+i", path], { stdio: "ignore" });
    else chmodSync(path, 0o444);
  } catch {
    return false;
  }
  try {
    await check();
    return true;
  } finally {
    if (isRoot) execFileSync("chattr", ["-i", path]);
  }
}

describe("Files that cannot be a store are refused and left as they are:", () => {
  it("no database", async () => {
    using folder = new Folder();
    for (const content of ["x", "Not a database at all. ".repeat(1_000)]) {
      writeFileSync(folder.file(), content);
      assert.equal(await refusal(folder.url()), `Cannot use ${folder.url()}: it is not a database`);
      assert.equal(readFileSync(folder.file(), "utf8"), content);
      assert.deepEqual(readdirSync(folder.path), ["queue.db"]);
    }
  });

  it("another program's database", async () => {
    using folder = new Folder();
    const other = new DatabaseSync(folder.file());
    other.exec("CREATE TABLE users (name TEXT)");
    other.close();
    const before = readFileSync(folder.file());
    assert.match(await refusal(folder.url()), /: it is the database of another program$/);
    assert.deepEqual(readFileSync(folder.file()), before);
    assert.deepEqual(readdirSync(folder.path), ["queue.db"]);
  });

  it("a newer schema", async () => {
    using folder = new Folder();
    const future = [...MIGRATIONS, "ALTER TABLE jobs ADD COLUMN colour TEXT"];
    openSqlite(DatabaseSync, folder.file(), future).close();
    const before = readFileSync(folder.file());
    assert.match(
      await refusal(folder.url()),
      new RegExp(
        `: its schema has version ${NEXT_VERSION}, .* up to version ${MIGRATIONS.length} here$`,
      ),
    );
    assert.deepEqual(readFileSync(folder.file()), before);
  });

  it("a directory, or a file in no directory", async () => {
    using folder = new Folder();
    mkdirSync(folder.file());
    assert.match(await refusal(folder.url()), /: it is a directory$/);
    const url = `sqlite:${folder.path}/none/queue.db`;
    assert.equal(await refusal(url), `Cannot use ${url}: there is no folder ${folder.path}/none`);
    writeFileSync(`${folder.path}/file`, "");
    const below = `sqlite:${folder.path}/file/q.db`;
    const reason = `there is no folder ${folder.path}/file`;
    assert.equal(await refusal(below), `Cannot use ${below}: ${reason}`);
    assert.deepEqual(readdirSync(folder.path).sort(), ["file", "queue.db"]);
  });

  it("a read-only file", async () => {
    using folder = new Folder();
    await (await openTestStore({ url: folder.url() })).close();
    const before = readFileSync(folder.file());
    const message = /^Cannot use sqlite:.*: it is read-only: this process needs to write the file/;
    const wasTried = await whileReadOnly(folder.file(), async () => {
      assert.match(await refusal(folder.url()), message);
    });
    if (!wasTried) {
      const error = Object.assign(new Error("?"), { code: "ERR_SQLITE_ERROR", errcode: 8 });
      assert.match(String((explainSqlite("q.db", error, 1) as Error).message), message);
    }
    assert.deepEqual(readFileSync(folder.file()), before);
  });
});

/** Removes the file, and gives nobody a turn until it is time to look where it is. */
function removeForGood(folder: Folder): void {
  for (const end of ["", "-wal", "-shm"]) rmSync(folder.file() + end, { force: true });
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
}

/** How many turns of the event loop somebody asks for while it makes a hundred. */
async function turnsAskedFor(): Promise<number> {
  const original = globalThis.setImmediate;
  let asked = 0;
  const counting = (...call: Parameters<typeof original>) => {
    asked++;
    return original(...call);
  };
  globalThis.setImmediate = Object.assign(counting, original);
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => original(resolve));
  globalThis.setImmediate = original;
  return asked;
}

describe("A file that changes hands while it is open", () => {
  it("is given up with one clear error when it is removed or replaced", async () => {
    using folder = new Folder();
    for (const replace of [false, true]) {
      await using store = await openTestStore({ url: folder.url() });
      await store.enqueue("q", [newJob("a")], DAY_MS);
      for (const end of ["", "-wal", "-shm"]) rmSync(folder.file() + end, { force: true });
      if (replace) writeFileSync(folder.file(), "");
      const message =
        `Cannot use ${folder.url()}: the file was removed or replaced while it was open`;
      await eventually(async () => {
        const outcome = await store.enqueue("q", [newJob(crypto.randomUUID())], DAY_MS).catch(
          String,
        );
        return outcome === `QueueConnectionError: ${message}`;
      }, "the error");
      assert.equal((await rejection(store.lookUp("q", "a", false))).message, message);
    }
  });

  it("is not looked at again and again when it is removed while there are ends to read", async () => {
    using folder = new Folder();
    await using store = await openTestStore({ url: folder.url() });
    const { promise: told, resolve: tell } = Promise.withResolvers<void>();
    await store.onFinished("job 1", () => {
      removeForGood(folder);
      tell();
    });
    addResults(folder.file(), 600); // more than one look takes in
    await told;
    await assert.rejects(store.lookUp("q", "a", false), /removed or replaced/);
    const turns = await turnsAskedFor();
    assert.ok(turns < 20, `${turns} turns`);
  });

  it("is not tidied up again and again when it is removed while its log is long", async () => {
    using folder = new Folder();
    await using store = await openTestStore({ url: folder.url() });
    await store.enqueue("q", [newJob("a", { payload: new Uint8Array(3_000_000) })], DAY_MS);
    removeForGood(folder);
    await assert.rejects(store.lookUp("q", "a", false), /removed or replaced/);
    const turns = await turnsAskedFor();
    assert.ok(turns < 20, `${turns} turns`);
  });

  it("is left alone once a newer version of the library has upgraded it", async () => {
    using folder = new Folder();
    await using store = await openTestStore({ url: folder.url() });
    await store.enqueue("q", [newJob("a")], DAY_MS);
    const steps = [...MIGRATIONS, "ALTER TABLE jobs ADD COLUMN colour TEXT"];
    openSqlite(DatabaseSync, folder.file(), steps).close();
    const error = await rejection(store.enqueue("q", [newJob("b")], DAY_MS));
    assert.ok(error instanceof QueueConnectionError);
    assert.match(
      error.message,
      new RegExp(`its schema has version ${NEXT_VERSION}, made by a newer version`),
    );
    await assert.rejects(
      store.claim("q", { holder: "h", limit: 1, leaseMs: 1_000 }),
      QueueConnectionError,
    );
  });
});

describe("The schema", () => {
  it("is upgraded with all that is in the file", async () => {
    using folder = new Folder();
    const store = await openTestStore({ url: folder.url() });
    await store.enqueue("q", [newJob("a")], DAY_MS);
    await store.close();
    const steps = [...MIGRATIONS, "ALTER TABLE jobs ADD COLUMN colour TEXT DEFAULT 'red'"];
    using upgraded = openSqlite(DatabaseSync, folder.file(), steps);
    assert.equal(upgraded.prepare("SELECT colour FROM jobs").get()?.colour, "red");
    assert.equal(upgraded.prepare("PRAGMA user_version").get()?.user_version, NEXT_VERSION);
  });

  it("of every older version becomes today's, with the jobs and results that are there", async () => {
    for (let version = 1; version < MIGRATIONS.length; version++) {
      using folder = new Folder();
      const old = openSqlite(DatabaseSync, folder.file(), MIGRATIONS.slice(0, version));
      old.exec(`
        INSERT INTO spaces VALUES (1, 'p:');
        INSERT INTO queues (queue, space, name, entries) VALUES (1, 1, 'q', 1);
        INSERT INTO jobs (job, space, job_id, queue, score) VALUES (1, 1, 'waits', 1, 5);
        INSERT INTO payloads VALUES (1, 8e15, x'01');
        INSERT INTO results (space, job_id, record) VALUES (1, 'ended', x'02');
      `);
      old.close();
      await using store = await openTestStore({ url: folder.url(), prefix: "p:" });
      assert.deepEqual((await store.lookUp("q", "ended", false)).result, new Uint8Array([2]));
      const claim = only(
        (await store.claim("q", { holder: "h", limit: 1, leaseMs: 1_000 })).claims,
      );
      assert.equal(claim.jobId, "waits");
      assert.deepEqual(await store.finish("q", [endOf(claim)]), ["done"]);
    }
  });

  it("stays as it was where an upgrade fails", async () => {
    using folder = new Folder();
    await (await openTestStore({ url: folder.url() })).close();
    const steps = [...MIGRATIONS, "CREATE TABLE more (x); CREATE TABLE jobs (y)"];
    assert.throws(() => openSqlite(DatabaseSync, folder.file(), steps), /jobs already exists/);
    await using _ = await openTestStore({ url: folder.url() });
  });

  it("is made once when many open a new file at the same time", async () => {
    using folder = new Folder();
    const clocks = Array.from({ length: 8 }, () => {
      const target = { path: folder.file(), prefix: "p", timeoutMs: 5_000 };
      return new SqliteStore(target, () => Date.now()); // a clock makes a connection of its own
    });
    await Promise.all(clocks.map((store) => store.connect()));
    const jobs = clocks.map((store, i) => store.enqueue("q", [newJob(`j${i}`)], DAY_MS));
    assert.deepEqual((await Promise.all(jobs)).flat(), Array(8).fill(true));
    assert.equal((await clocks[0]?.queueEntries("q"))?.length, 8);
    await Promise.all(clocks.map((store) => store.close()));
  });
});

describe("A queue of several pages", () => {
  it("is listed in order, each entry once, also where many have the same score", async () => {
    await using store = await openTestStore({ url: "sqlite::memory:" });
    const scores = Array.from({ length: 1_000 }, (_, i) => i < 700 ? 5 : 1_000 - i);
    const jobs = scores.map((dueAt, i) => newJob(`j${i}`, { dueAt }));
    await store.enqueue("q", jobs, 1e15);
    const entries = await store.queueEntries("q");
    const expected = jobs.map(({ jobId }, i) => ({ jobId, score: scores[i] ?? 0, i }))
      .sort((a, b) => a.score - b.score || a.i - b.i);
    assert.deepEqual(entries.map(({ jobId }) => jobId), expected.map(({ jobId }) => jobId));
    assert.ok(entries.every(({ payload }) => payload));
  });
});

describe("The file's size", () => {
  it("stays bounded while 100,000 jobs go through, and shrinks after", async () => {
    using folder = new Folder();
    const { store, clock } = await openWithClock(folder.file());
    await using _ = store;
    const size = () => statSync(folder.file()).size + statSync(`${folder.file()}-wal`).size;
    const payload = new Uint8Array(500);
    let largest = 0;
    for (let wave = 0; wave < 200; wave++) {
      const jobs = Array.from({ length: 500 }, (_, i) => newJob(`${wave}-${i}`, { payload }));
      await store.enqueue("q", jobs, DAY_MS);
      const { claims } = await store.claim("q", { holder: "h", limit: 500, leaseMs: 60_000 });
      await store.finish(
        "q",
        claims.map((claim) => endOf(claim, { record: payload, keepMs: 5_000 })),
      );
      clock.now += 1_000;
      largest = Math.max(largest, size());
    }
    assert.equal((await store.claim("q", { holder: "h", limit: 1, leaseMs: 1_000 })).queued, 0);
    assert.ok(largest < 40_000_000, `${largest} bytes`); // 100,000 results alone are 50 MB
    clock.now += DAY_MS;
    await eventually(
      async () => {
        await store.lookUp("q", "nobody", false);
        return size() < 10_000_000;
      },
      "room is given back",
      15_000,
    );
  });
});

conformance("SQLite file", (prefix) => openTestStore({ url: files.url(), prefix }));
conformance("SQLite memory", (prefix) => openTestStore({ url: "sqlite::memory:", prefix }));
