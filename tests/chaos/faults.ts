/** What is done to workers, servers and connections. */
import { DatabaseSync } from "node:sqlite";
import { eventually, openRawRedis } from "../_helpers.ts";
import type { RedisServer } from "../_redis.ts";
import { readLedger } from "./ledger.ts";
import { COMMANDS, type FaultyProxy } from "./proxy.ts";
import type { Random } from "./random.ts";
import type { Life, Workers } from "./workers.ts";

/** What faults are done to. */
export interface Scene {
  readonly workers: Workers;
  readonly random: Random;
  readonly leaseMs: number;
  /** How long a server stays frozen or locked at most. */
  readonly longestMs: number;
  /** Notes how long a worker took to stop, with what was going on. */
  onStopped(ms: number): void;
}

/** A fault: does it, and resolves with what it did once it is over. */
export type Fault = () => Promise<string>;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits until a worker begins a job, for a second at most. */
async function untilItBegins({ path, process }: Life): Promise<void> {
  const countStarts = () => readLedger(path).starts.length;
  const before = countStarts();
  for (let i = 0; i < 100 && !process.hasExited && countStarts() === before; i++) await pause(10);
}

/** Faults of worker processes. */
export function workerFaults(scene: Scene): Readonly<Record<string, Fault>> {
  const { workers, random, leaseMs } = scene;
  const victim = () => {
    const free = workers.alive.filter((life) => !life.isDoomed && readLedger(life.path).isReady);
    return free.length > 0 ? random.pick(free) : undefined;
  };
  return {
    kill: async () => {
      const life = victim();
      if (!life) return "nobody to kill";
      await untilItBegins(life); // a job should be in its hands
      if (life.process.hasExited) return `${life.name} was gone already`;
      workers.kill(life);
      return `SIGKILL of ${life.name}`;
    },
    stop: async () => {
      const life = victim();
      if (!life) return "nobody to stop";
      const took = await workers.stop(life);
      scene.onStopped(took);
      return `SIGTERM of ${life.name}, which took ${Math.round(took)} ms`;
    },
    freeze: async () => {
      const life = victim();
      const ms = random.integer(leaseMs / 2, 2 * leaseMs);
      life?.process.kill("SIGSTOP");
      await pause(ms);
      life?.process.kill("SIGCONT");
      return `SIGSTOP of ${life?.name} for ${ms} ms`;
    },
  };
}

/** Faults of a Redis server and of the connections to it. */
export function redisFaults(
  scene: Scene,
  server: RedisServer,
  proxy: FaultyProxy,
): Readonly<Record<string, Fault>> {
  const { random, longestMs } = scene;
  const tell = async (...words: string[]) => {
    await using redis = await openRawRedis(server.url);
    await redis.call(...words);
    return words.join(" ");
  };
  const which = () => random.integer(0, 1_000);
  const duration = () => random.integer(100, longestMs);
  return {
    restart: async () => {
      const isCrash = random.fraction() < 0.5;
      if (isCrash) server.kill("SIGKILL");
      await server.restart();
      return `Redis ${isCrash ? "killed and started" : "restarted"}`;
    },
    freezeRedis: async () => {
      const ms = duration();
      server.kill("SIGSTOP");
      await pause(ms);
      server.kill("SIGCONT");
      return `SIGSTOP of Redis for ${ms} ms`;
    },
    pauseRedis: async () => {
      const ms = duration();
      const text = await tell("CLIENT", "PAUSE", String(ms), random.pick(["ALL", "WRITE"]));
      await pause(ms);
      return text;
    },
    killClients: () => tell("CLIENT", "KILL", "TYPE", random.pick(["normal", "pubsub"])),
    forgetScripts: () => tell("SCRIPT", "FLUSH"),
    cut: () => {
      const direction = random.pick(["request", "reply"] as const);
      const bytes = random.magnitude(200_000);
      for (let i = random.integer(1, 4); i > 0; i--) proxy.cut(which(), direction, bytes);
      return Promise.resolve(`connections cut after ${bytes} bytes more of a ${direction}`);
    },
    dropReply: () => {
      const command = random.pick(COMMANDS);
      proxy.dropReplyTo(command);
      return Promise.resolve(`the next reply to ${command} dropped`);
    },
    silence: () => {
      proxy.silence(which());
      return Promise.resolve("a connection fallen silent");
    },
  };
}

/** Whether it went without an error; waiting in SQLite would keep this process from all else. */
function tries(act: () => void): boolean {
  try {
    act();
    return true;
  } catch {
    return false;
  }
}

/** Faults of a SQLite file. */
export function sqliteFaults(scene: Scene, path: string): Readonly<Record<string, Fault>> {
  const hold = async (begin: string, what: string) => {
    const ms = scene.random.integer(100, scene.longestMs);
    const database = new DatabaseSync(path);
    try {
      await eventually(() => tries(() => database.exec(begin)), "nobody else holds the file");
      await pause(ms);
      database.exec("ROLLBACK");
    } finally {
      database.close();
    }
    return `${what} for ${ms} ms`;
  };
  return {
    lock: () => hold("BEGIN IMMEDIATE", "the file locked"),
    read: () => hold("BEGIN; SELECT count(*) FROM jobs", "an old state of the file kept"),
  };
}
