/**
 * This library and its peers on one private Redis. Each has a process of its own, so that none
 * suffers from what another leaves behind; they take turns after each short step, so that a busy
 * moment of the machine, which may last for seconds, does not decide between them, each round another
 * one first, since what Redis holds by then is different for who comes first and last. A round begins
 * with an empty Redis: what all of them have left by the last one, a million keys, and the moments in
 * which Redis makes room for these, would count against whoever comes late.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { MAKERS } from "./contenders.ts";
import { putAway } from "./distance.ts";
import { type Figures, QUICK } from "./figures.ts";
import { RedisInfo } from "./redis_info.ts";
import { FAR_STEPS, NEAR_STEPS, type Step } from "./step_names.ts";

/** Rounds that count for nothing: the runtimes compile what is hot, in stages. */
const WARM_UPS = 3;
/** How far away Redis is for the steps that are to be far. */
const FAR_MS = 2;

/** How the peers are measured. */
interface Course {
  /** What starts a contender, but for the address of its Redis and its name. */
  readonly command: readonly string[];
  readonly folder: string;
  readonly rounds: number;
  /** Called with the figures of each step of each contender, `rounds` times. */
  readonly onFigures: (contender: string, figures: Figures) => void;
}

/** Has all contenders take turns on one Redis, then on one that is far away. */
export async function measurePeers(redisUrl: string, course: Course): Promise<void> {
  await takeTurns(NEAR_STEPS, redisUrl, course);
  if (QUICK) return;
  await using far = await putAway(redisUrl, FAR_MS);
  await takeTurns(FAR_STEPS, far.url, course);
}

async function takeTurns(
  steps: readonly Step[],
  redisUrl: string,
  { command, folder, rounds, onFigures }: Course,
): Promise<void> {
  const processes = Object.keys(MAKERS).map((name) =>
    new ContenderProcess(name, [...command, redisUrl, name], folder)
  );
  try {
    await using redis = await RedisInfo.connect(redisUrl);
    for (let round = -WARM_UPS; round < rounds; round++) {
      await redis.command("FLUSHALL");
      processes.push(...processes.splice(0, 1));
      for (const step of steps) {
        for (const contender of processes) {
          const figures = await contender.measure(step);
          if (round >= 0) onFigures(contender.name, figures);
        }
      }
    }
  } finally {
    for (const contender of processes) contender.end();
  }
}

/** A contender in a process of its own, which runs `steps.ts`. */
class ContenderProcess {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(name: string, [command = "", ...args]: readonly string[], cwd: string) {
    this.name = name;
    this.#child = spawn(command, args, { cwd, stdio: ["pipe", "pipe", "inherit"] });
    if (!this.#child.stdout) throw new Error(`${name} cannot be heard`);
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }

  /** Does one step. */
  async measure(step: Step): Promise<Figures> {
    this.#child.stdin?.write(`${step}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`${this.name} has ended in the step "${step}"`);
    return JSON.parse(value);
  }

  end(): void {
    this.#child.stdin?.end();
  }
}
