/** Workers in processes of their own: signals, sudden death, and programs that end by themselves. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { createPool } from "../client.ts";
import { Gate, pause, scenarios, type Scene, until } from "./_worker.ts";

const PROGRAM = fileURLToPath(new URL("./data/worker_program.ts", import.meta.url));

/** A program that was started, and what it has written so far. */
interface Program {
  kill(signal: NodeJS.Signals): void;
  readonly exit: Promise<number | NodeJS.Signals | null>;
  output(): string;
}

function startProgram(
  scene: Scene,
  mode: "run" | "signals" | "burst" | "aborted" | "closed",
): Program {
  const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : ["run"];
  const args = [...flags, PROGRAM, scene.connection, scene.prefix, mode];
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk) => output += String(chunk));
  }
  const { promise: exit, resolve } = Promise.withResolvers<number | NodeJS.Signals | null>();
  child.on("close", (code, signal) => resolve(code ?? signal));
  return { kill: (signal) => kill(child, signal), exit, output: () => output };
}

/** Deno's own `child.kill` sends one signal only and takes it for the child's end. */
function kill({ pid, exitCode, signalCode }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid !== undefined && exitCode === null && signalCode === null) process.kill(pid, signal);
}

/** Keeps the event loop from everything else. */
function block(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end;);
}

async function says(program: Program, text: string): Promise<void> {
  await until(`"${text}" from the program`, () => program.output().includes(text));
}

/** Ends a program that a failed test may have left. */
async function withProgram(program: Program, play: () => Promise<void>): Promise<void> {
  try {
    await play();
  } catch (error) {
    throw new Error(`The program wrote: ${program.output()}`, { cause: error });
  } finally {
    program.kill("SIGKILL");
    await program.exit;
  }
}

scenarios("A program with a worker", (scenario) => {
  for (const mode of ["burst", "aborted", "closed"] as const) {
    scenario(`ends by itself when its worker has ended: ${mode}`, async (scene) => {
      const program = startProgram(scene, mode);
      await withProgram(program, async () => {
        await says(program, "<Worker ");
        const last = await Promise.race([program.exit, pause(3_000).then(() => "still alive")]);
        assert.equal(last, 0);
      });
    });
  }

  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    scenario(`stops at ${signal} where handleSignals is on`, async (scene) => {
      const job = await scene.arq.enqueueJob("wait", [0]);
      const program = startProgram(scene, "signals");
      await withProgram(program, async () => {
        await says(program, "waiting");
        program.kill(signal);
        assert.equal(await program.exit, 0);
        assert.match(program.output(), /told to stop\n<Worker j_complete=0 .* j_retried=1 /);
      });
      assert.equal(await job.status(), "queued");
      await job.abort();
    });
  }

  scenario("exits at a second signal; its job runs again after the lease", async (scene) => {
    const job = await scene.arq.enqueueJob("wait", [15_000]);
    const program = startProgram(scene, "signals");
    await withProgram(program, async () => {
      await says(program, "waiting");
      program.kill("SIGTERM");
      await says(program, "told to stop");
      program.kill("SIGTERM");
      assert.equal(await program.exit, 128 + 15);
    });
    const { worker } = scene.start({ functions: { wait: () => "again" }, pollDelay: 20 });
    assert.equal(await job.result({ timeout: 5_000 }), "again");
    await worker.close();
    await scene.arq.store.removeHealth(`${scene.queueName}:health-check`);
  });

  scenario("that is killed loses no job: another worker runs it after the lease", async (scene) => {
    const job = await scene.arq.enqueueJob("wait", [0]);
    const program = startProgram(scene, "run");
    const gate = new Gate();
    await withProgram(program, async () => {
      await says(program, "waiting");
      program.kill("SIGKILL");
      await program.exit;
    });
    const killedAt = performance.now();
    scene.start({
      functions: {
        wait: async (ctx) => {
          await gate.pass();
          return ctx.jobTry;
        },
      },
      pollDelay: 50,
    });
    await gate.reached();
    const took = performance.now() - killedAt;
    gate.open();
    assert.equal(await job.result({ timeout: 5_000 }), 2);
    assert.ok(took < 5_000, `${took} ms after the death of a worker with a lease of 500 ms`);
  });

  scenario("answers a busy program, though its worker keeps no result", async (scene) => {
    const { connection, prefix } = scene;
    const program = startProgram(scene, "signals");
    await withProgram(program, async () => {
      await until("the worker", async () => (await scene.arq.workers()).length === 1);
      for (let n = 0; n < 3; n++) {
        await using arq = await createPool(connection, { prefix }); // it listens for nothing yet
        const pollDelay = 1_000; // for so long a call waits until it listens
        const answer = arq.call("answer", [n], { pollDelay, timeout: 10_000 });
        block(1_300); // for longer than that, and than connecting may take
        assert.equal(await answer, n);
      }
      program.kill("SIGTERM");
      await program.exit;
    });
  });
}, { inProcesses: true });
