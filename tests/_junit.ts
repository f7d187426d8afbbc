/** Counts the tests in the JUnit reports of Deno's and Bun's runners. */

export interface TestCounts {
  passed: number;
  /** One line for each test that did not pass; a skipped one has not passed. */
  failures: string[];
}

interface TestCase {
  name: string;
  body: string;
}

const TEST_CASE = /<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g;
const GROUP_SEPARATOR = " > ";

/**
 * Counts what stands in a report. Deno reports groups (`describe`) as tests as well: they count
 * only when they failed by themselves, such as in a hook.
 */
export function countTests(report: string): TestCounts {
  const testCases = readTestCases(report);
  const groups = new Set(testCases.flatMap(({ name }) => namesOfGroups(name)));
  const counts: TestCounts = { passed: 0, failures: [] };
  for (const testCase of testCases) {
    const failure = findFailure(testCase);
    if (failure) counts.failures.push(failure);
    else if (!groups.has(testCase.name)) counts.passed++;
  }
  return counts;
}

function readTestCases(report: string): TestCase[] {
  return Array.from(report.matchAll(TEST_CASE), ([, attributes = "", body = ""]) => ({
    name: readAttribute(attributes, "name"),
    body,
  }));
}

/** Deno puts the group into the test's name; for Bun's reports this finds none. */
function namesOfGroups(name: string): string[] {
  const parts = name.split(GROUP_SEPARATOR);
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join(GROUP_SEPARATOR));
}

function findFailure({ name, body }: TestCase): string | undefined {
  const [, kind = "", attributes = ""] = /<(failure|error|skipped)\b([^>]*?)\/?>/.exec(body) ?? [];
  if (kind === "") return undefined;
  const [message = ""] = readAttribute(attributes, "message").split("\n", 1);
  const isCountedBelow = /^\d+ test steps? failed$/.test(message);
  return isCountedBelow ? undefined : `${name}: ${kind === "skipped" ? "skipped" : message}`;
}

function readAttribute(attributes: string, name: string): string {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
  return value
    .replaceAll("&lt;", "<").replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"').replaceAll("&#39;", "'").replaceAll("&apos;", "'")
    .replaceAll("&#10;", "\n").replaceAll("&amp;", "&");
}
