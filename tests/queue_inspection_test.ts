import assert from "node:assert/strict";
import { JobStateError, ResultNotFound } from "../errors.ts";
import type { JobContext } from "../functions.ts";
import { Gate, pause, scenarios, until } from "./_worker.ts";

const echo = (_ctx: JobContext, value?: unknown) => value;

scenarios("ArqClient.pause", (scenario) => {
  scenario(
    "stops the claiming within a second while running jobs finish, until resume",
    async (scene) => {
      const gate = new Gate();
      const wait = async (ctx: JobContext) => {
        await gate.pass(ctx.signal);
        return "finished";
      };
      scene.start({ functions: { wait, echo }, maxJobs: 2 });
      const running = await scene.arq.enqueueJob("wait");
      await gate.reached();
      await scene.arq.pause();
      const job = await scene.arq.enqueueJob("echo", [1]);
      await pause(200); // the worker was woken and has looked, and nothing tells that it has
      assert.equal(await job.status(), "queued");
      gate.open();
      assert.equal(await running.result(), "finished");
      assert.equal(await job.status(), "queued");
      const result = job.result({ pollDelay: 5_000 });
      await scene.arq.resume();
      assert.equal(await result, 1);
    },
  );

  scenario("is heeded by workers that come later", async (scene) => {
    await scene.arq.pause(scene.queueName);
    const job = await scene.arq.enqueueJob("echo", [2]);
    const { worker } = scene.start({ functions: { echo }, burst: true, pollDelay: 20 });
    await pause(200);
    assert.deepEqual([await job.status(), worker.jobsComplete], ["queued", 0]);
    await scene.arq.resume(scene.queueName);
    await until("the burst is over", () => worker.jobsComplete === 1);
  });

  scenario("names what is wrong with a queue's name", async (scene) => {
    await assert.rejects(scene.arq.pause(""), {
      name: "TypeError",
      message: 'pause: queueName must be a text that is not empty, got ""',
    });
  });
});

scenarios("ArqClient.removeJob", (scenario) => {
  scenario("removes a job that waits; whoever waits for it gets ResultNotFound", async (scene) => {
    const job = await scene.arq.enqueueJob("echo", [], { deferBy: 60_000 });
    const waiting = assert.rejects(job.result({ pollDelay: 20 }), ResultNotFound);
    assert.equal(await scene.arq.removeJob(job.jobId), true);
    assert.equal(await scene.arq.removeJob(job.jobId), false);
    assert.equal(await job.status(), "not_found");
    await waiting;
  });

  scenario(
    "removes a result, and refuses a running job in words that say the way out",
    async (scene) => {
      const gate = new Gate();
      const wait = (ctx: JobContext) => gate.pass(ctx.signal);
      scene.start({ functions: { wait } });
      const job = await scene.arq.enqueueJob("wait", [], { jobId: "mine" });
      await gate.reached();
      await assert.rejects(scene.arq.removeJob("mine"), (error) => {
        assert.ok(error instanceof JobStateError);
        assert.equal(
          error.message,
          "Cannot remove job mine: it is running; end it with arq.job(id).abort() first",
        );
        return true;
      });
      gate.open();
      await job?.result();
      assert.equal(await scene.arq.removeJob("mine"), true);
      assert.equal(await job?.resultInfo(), null);
    },
  );

  scenario("takes an id and a queue", async (scene) => {
    const queueName = `${scene.prefix}other`;
    const job = await scene.arq.enqueueJob("echo", [], { queueName });
    assert.equal(await scene.arq.removeJob(job.jobId), false);
    assert.equal(await scene.arq.removeJob(job.jobId, { queueName }), true);
    await assert.rejects(scene.arq.removeJob(""), { name: "TypeError" });
  });
});
