import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { countTests } from "./_junit.ts";

const DENO_REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="7" failures="2" errors="0" time="0.017">
    <testsuite name="./a_test.ts" tests="2" disabled="0" errors="0" failures="2">
        <testcase name="Job" classname="./a_test.ts" time="0.007" line="2" col="1">
            <failure message="1 test step failed">1 test step failed.</failure>
        </testcase>
        <testcase name="top" classname="./a_test.ts" time="0.000" line="3" col="1">
        </testcase>
        <testcase name="hook" classname="./a_test.ts" time="0.001" line="4" col="1">
            <failure message="Uncaught Error: hook">Error: hook</failure>
        </testcase>
    </testsuite>
    <testsuite name="ext:deno_node/testing.ts" tests="4" disabled="1" errors="0" failures="1">
        <testcase name="Job &gt; runs" classname="x" time="0.001" line="1" col="1">
        </testcase>
        <testcase name="Job &gt; fails" classname="x" time="0.001" line="1" col="1">
            <failure message="Uncaught Error: bad &amp; &lt;b&gt;">Error: bad</failure>
        </testcase>
        <testcase name="Job &gt; waits" classname="x" time="0.000" line="1" col="1">
            <skipped/>
        </testcase>
        <testcase name="Job &gt; inner" classname="x" time="0.001" line="1" col="1">
        </testcase>
        <testcase name="Job &gt; inner &gt; ends" classname="x" time="0.001" line="1" col="1">
        </testcase>
        <testcase name="hook &gt; runs" classname="x" time="0.001" line="1" col="1">
        </testcase>
    </testsuite>
</testsuites>`;

const BUN_REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="4" assertions="0" failures="1" skipped="1" time="0.02">
  <testsuite name="a_test.ts" file="a_test.ts" tests="4" failures="1" skipped="1" time="0.02">
    <testsuite name="Job" file="a_test.ts" line="2" tests="3" failures="1" skipped="1">
      <testcase name="runs" classname="Job" time="0.001" file="a_test.ts" line="2" />
      <testcase name="fails" classname="Job" time="0.001" file="a_test.ts" line="2">
        <failure type="Error" message="bad &amp; &lt;b&gt;">Error: bad&#10;      at a_test.ts</failure>
      </testcase>
      <testcase name="waits" classname="Job" time="0" file="a_test.ts" line="2">
        <skipped message="TODO" />
      </testcase>
    </testsuite>
    <testcase name="top" classname="" time="0.00002" file="a_test.ts" line="3" assertions="0" />
  </testsuite>
</testsuites>`;

describe("countTests", () => {
  it("counts Deno's tests, not their groups, and the group that failed by itself", () => {
    assert.deepEqual(countTests(DENO_REPORT), {
      passed: 4,
      failures: [
        "hook: Uncaught Error: hook",
        "Job > fails: Uncaught Error: bad & <b>",
        "Job > waits: skipped",
      ],
    });
  });

  it("counts Bun's tests", () => {
    assert.deepEqual(countTests(BUN_REPORT), {
      passed: 2,
      failures: ["fails: bad & <b>", "waits: skipped"],
    });
  });

  it("counts a test that Deno's runner never saw end as failed", () => {
    const report = `<testcase name="dies" line="1"><error message="Cancelled"/></testcase>`;
    assert.deepEqual(countTests(report), { passed: 0, failures: ["dies: Cancelled"] });
  });

  it("finds nothing in an empty report", () => {
    assert.deepEqual(countTests(""), { passed: 0, failures: [] });
  });
});
