/** The stores that scenarios are played on, and how a test looks behind each. */
import { createClient } from "@redis/client";
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import process from "node:process";
import { type ArqClient, createPool } from "../client.ts";
import { idOf } from "../sqlite_statements.ts";
import { OWN_SERVICE_VARIABLE, type RedisServer, startRedis } from "./_redis.ts";
import { Folder } from "./_sqlite.ts";

/** A key and what is known of it: its milliseconds to live are -1 where it stays for ever. */
export interface Key {
  readonly name: string;
  readonly ttlMs: number;
}

/** A place where queues live, as far as scenarios need to look behind the library. */
export interface Backend {
  readonly name: string;
  /** Whether other processes reach it. */
  readonly isShared: boolean;
  /** What `createPool` takes. */
  connect(): Promise<string>;
  /** The keys under a prefix, names without it, in order. */
  keys(prefix: string): Promise<Key[]>;
  /** How many connections there are besides the one that asks; undefined if others use the store. */
  countConnections(): Promise<number | undefined>;
  /** Lets the leases of all running jobs end now, as if their workers had been silent. */
  endLeases(prefix: string, queueName: string): Promise<void>;
  /** Lets the deferred jobs of a queue be due now, as if their time had passed. */
  makeDue(queueName: string): Promise<void>;
  /** Removes every key under a prefix. */
  clear(prefix: string): Promise<void>;
  /** Releases what `connect` took. */
  close(): Promise<void>;
}

/** A server of the file's own, so that a leaked connection shows; or the service that was given. */
export function redisBackend(): Backend {
  const given = process.env[OWN_SERVICE_VARIABLE];
  let server: Promise<RedisServer> | undefined;
  let probe: Promise<ReturnType<typeof createClient>> | undefined;
  const connect = async () => given || (await (server ??= startRedis())).url;
  const openProbe = () =>
    probe ??= connect().then(async (url) => {
      const client = createClient({ url, RESP: 2 });
      client.on("error", () => {});
      await client.connect();
      return client as unknown as ReturnType<typeof createClient>;
    });
  return {
    name: "Redis",
    isShared: true,
    connect,
    keys: async (prefix) => await listKeys(await openProbe(), prefix),
    countConnections: async () => {
      if (given) return undefined;
      const list = String(await (await openProbe()).sendCommand(["CLIENT", "LIST"]));
      return list.trim().split("\n").length - 1;
    },
    endLeases: async (prefix, queueName) => {
      const client = await openProbe();
      const leases = `${queueName}:leases`;
      for (const member of await client.zRange(leases, 0, -1)) {
        const jobId = member.slice(member.indexOf(":") + 1);
        await client.del(`${prefix}in-progress:${jobId}`);
        await client.zAdd(leases, { score: 2, value: member }, { condition: "XX" });
        await client.zAdd(queueName, { score: 2, value: jobId }, { condition: "XX" });
      }
    },
    makeDue: async (queueName) => {
      const client = await openProbe();
      for (const value of await client.zRangeByScore(queueName, Date.now(), "+inf")) {
        await client.zAdd(queueName, { score: 2, value }, { condition: "XX" });
      }
    },
    clear: async (prefix) => {
      const client = await openProbe();
      const names = (await listKeys(client, prefix)).map(({ name }) => prefix + name);
      if (names.length > 0) await client.del(names);
    },
    close: async () => {
      if (probe) (await probe).destroy();
      if (server) await (await server).stop();
    },
  };
}

async function listKeys(
  client: ReturnType<typeof createClient>,
  prefix: string,
): Promise<Key[]> {
  const names = new Set<string>();
  for await (const found of client.scanIterator({ MATCH: `${prefix}*`, COUNT: 1_000 })) {
    for (const name of found) names.add(String(name));
  }
  const keys = await Promise.all(
    [...names].sort().map(async (name) => ({
      name: name.slice(prefix.length),
      ttlMs: Number(await client.pTTL(name)),
    })),
  );
  return keys.filter(({ ttlMs }) => ttlMs !== -2); // gone meanwhile
}

/** A file, and memory. */
export function sqliteBackends(): Backend[] {
  return [fileBackend(), memoryBackend()];
}

/** Every handle that this process has opened. */
const handles = new Set<DatabaseSync>();
const { exec } = DatabaseSync.prototype;
DatabaseSync.prototype.exec = function (this: DatabaseSync, sql: string): void {
  handles.add(this);
  exec.call(this, sql);
};

/** A file of the test file's own, with a second handle on it. */
function fileBackend(): Backend {
  let folder: Folder | undefined;
  let probe: DatabaseSync | undefined;
  const openProbe = () => {
    if (probe) return probe;
    probe = new DatabaseSync(folder?.file() ?? "");
    probe.exec("PRAGMA busy_timeout = 5000");
    return probe;
  };
  return {
    name: "a SQLite file",
    isShared: true,
    ...lookInto(openProbe),
    connect: () => Promise.resolve((folder ??= new Folder()).url()),
    countConnections: () => {
      const others = [...handles].filter((handle) => handle.isOpen && handle !== probe);
      return Promise.resolve(others.length);
    },
    close: () => {
      probe?.close();
      folder?.[Symbol.dispose]();
      return Promise.resolve();
    },
  };
}

/** The process's one memory, kept while the backend is open. */
function memoryBackend(): Backend {
  let keeper: Promise<ArqClient> | undefined;
  const findHandle = () => {
    const handle = [...handles].find((handle) => handle.isOpen && handle.location() === null);
    return handle ?? assert.fail("Nothing is in memory");
  };
  return {
    name: "SQLite in memory",
    isShared: false,
    ...lookInto(findHandle),
    connect: async () => {
      await (keeper ??= createPool(MEMORY));
      return MEMORY;
    },
    countConnections: () => Promise.resolve(undefined), // all share the keeper's
    close: async () => await (await keeper)?.close(),
  };
}

const MEMORY = "sqlite::memory:";
/** What Redis has a key for, by the names that it has there. */
const LIST_ROWS = `
  SELECT 'job:' || job_id AS name, payloads.expires_at
    FROM payloads JOIN jobs USING (job) JOIN spaces USING (space) WHERE prefix = :prefix
  UNION ALL SELECT 'in-progress:' || job_id, locked_until
    FROM jobs JOIN spaces USING (space) WHERE prefix = :prefix AND locked_until IS NOT NULL
  UNION ALL SELECT 'in-progress:' || job_id, expires_at
    FROM locks JOIN spaces USING (space) WHERE prefix = :prefix
  UNION ALL SELECT 'result:' || job_id, expires_at
    FROM results JOIN spaces USING (space) WHERE prefix = :prefix
  UNION ALL SELECT DISTINCT 'abort', NULL
    FROM jobs JOIN spaces USING (space) WHERE prefix = :prefix AND abort_asked = 1
  UNION ALL SELECT substr(name, length(prefix) + 1), NULL
    FROM queues JOIN spaces USING (space) WHERE prefix = :prefix AND entries > 0
  UNION ALL SELECT substr(name, length(prefix) + 1) || ':ops:paused', NULL
    FROM queues JOIN spaces USING (space) WHERE prefix = :prefix AND paused = 1
  UNION ALL SELECT 'progress:' || job_id, expires_at
    FROM progress JOIN spaces USING (space) WHERE prefix = :prefix
  UNION ALL SELECT substr(key, length(prefix) + 1), expires_at
    FROM health JOIN spaces USING (space) WHERE prefix = :prefix
  ORDER BY name`;

/** Ends the leases of a queue. */
const END_LEASES = `
  UPDATE jobs SET score = 2, lease_until = 2, locked_until = 2
  WHERE lease_until IS NOT NULL AND queue IN (SELECT queue FROM queues WHERE name = ?)`;

/** Makes the deferred jobs of a queue due. */
const MAKE_DUE = `
  UPDATE jobs SET score = 2
  WHERE lease_until IS NULL AND queue IN (SELECT queue FROM queues WHERE name = ?)`;

/** What one can see and do behind the library, with a handle on the database. */
function lookInto(
  open: () => DatabaseSync,
): Pick<Backend, "keys" | "endLeases" | "makeDue" | "clear"> {
  return {
    keys: (prefix) => {
      const now = Date.now();
      const rows = open().prepare(LIST_ROWS).all({ prefix });
      const keys = rows.map(({ name, expires_at: expiresAt }) => ({
        name: idOf(String(name)),
        ttlMs: expiresAt === null ? -1 : Math.max(0, Number(expiresAt) - now),
      }));
      return Promise.resolve(keys.filter(({ ttlMs }) => ttlMs !== 0));
    },
    endLeases: (_prefix, queueName) => {
      open().prepare(END_LEASES).run(queueName);
      return Promise.resolve();
    },
    makeDue: (queueName) => {
      open().prepare(MAKE_DUE).run(queueName);
      return Promise.resolve();
    },
    clear: (prefix) => {
      const handle = open();
      const space = "(SELECT space FROM spaces WHERE prefix = ?)";
      const jobs = `(SELECT job FROM jobs WHERE space = ${space})`;
      handle.prepare(`DELETE FROM payloads WHERE job IN ${jobs}`).run(prefix);
      for (const table of ["jobs", "results", "locks", "health", "progress", "news"]) {
        handle.prepare(`DELETE FROM ${table} WHERE space = ${space}`).run(prefix);
      }
      for (const table of ["workers", "counts"]) {
        const queues = `(SELECT queue FROM queues WHERE space = ${space})`;
        handle.prepare(`DELETE FROM ${table} WHERE queue IN ${queues}`).run(prefix);
      }
      handle.prepare(`UPDATE queues SET entries = 0 WHERE space = ${space}`).run(prefix);
      return Promise.resolve();
    },
  };
}
