/** A strict reader of OpenMetrics 1.0 text: anything that the standard does not allow is an error. */
import assert from "node:assert/strict";

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly name: string;
  readonly type: string;
  readonly unit: string | undefined;
  readonly help: string;
  readonly samples: readonly Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  gauge: [""],
  counter: ["_total", "_created"],
  histogram: ["_bucket", "_count", "_sum", "_created"],
};
const NUMBER = /^[+-]?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|Inf|NaN)$/i;

/** Reads a whole exposition. */
export function parseOpenMetrics(text: string): Map<string, Family> {
  assert.ok(text.endsWith("\n# EOF\n"), "the last line is # EOF");
  const lines = text.slice(0, -"# EOF\n".length).split("\n").slice(0, -1);
  const families = new Map<string, Family>();
  let at = 0;
  while (at < lines.length) {
    const type = descriptor(lines[at++], "TYPE");
    const unit = lines[at]?.startsWith("# UNIT ") ? descriptor(lines[at++], "UNIT") : undefined;
    const help = descriptor(lines[at++], "HELP");
    const { name } = type;
    for (const other of [unit, help]) assert.equal(other?.name ?? name, name);
    if (unit) assert.ok(name.endsWith(`_${unit.text}`), `${name} ends with its unit`);
    assert.ok(!families.has(name), `${name} comes once`);
    const samples: Sample[] = [];
    while (lines[at] !== undefined && !lines[at]?.startsWith("#")) {
      samples.push(sample(lines[at++] ?? ""));
    }
    const family = { name, type: type.text, unit: unit?.text, help: help.text, samples };
    checkFamily(family);
    families.set(name, family);
  }
  return families;
}

function descriptor(line: string | undefined, kind: string): { name: string; text: string } {
  const [, name = "", text = ""] = new RegExp(`^# ${kind} (\\S+) (.+)$`).exec(line ?? "") ?? [];
  assert.match(name, NAME, `${kind} in ${line}`);
  assert.doesNotMatch(text, /\\(?![n"\\])/);
  return { name, text };
}

function sample(line: string): Sample {
  const [, name = "", inner, value = ""] = /^([^{ ]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
  assert.match(name, NAME, line);
  assert.match(value, NUMBER, line);
  return { name, labels: inner === undefined ? {} : labels(inner), value: Number(value) };
}

function labels(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  let rest = text;
  for (;;) {
    const [whole = "", name = "", value = ""] =
      /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"/.exec(rest) ?? [];
    assert.notEqual(whole, "", `labels in ${text}`);
    assert.ok(!(name in found), `${name} comes once`);
    found[name] = value.replace(/\\(.)/g, (_, escaped) => escaped === "n" ? "\n" : escaped);
    rest = rest.slice(whole.length);
    if (rest === "") return found;
    assert.equal(rest[0], ",", text);
    rest = rest.slice(1);
  }
}

function checkFamily({ name, type, samples }: Family): void {
  const suffixes = SUFFIXES[type];
  assert.ok(suffixes, `${name} has a known type, not ${type}`);
  const series = samples.map((one) => one.name + JSON.stringify(Object.entries(one.labels).sort()));
  assert.equal(new Set(series).size, series.length, `${name} has each series once`);
  for (const one of samples) {
    const suffix = one.name.slice(name.length);
    assert.ok(one.name.startsWith(name) && suffixes.includes(suffix), `${one.name} of ${name}`);
    if (type !== "gauge") assert.ok(Number.isFinite(one.value) && one.value >= 0, one.name);
    assert.equal("le" in one.labels, suffix === "_bucket");
  }
  if (type === "histogram") checkHistograms(name, samples);
}

function checkHistograms(name: string, samples: readonly Sample[]): void {
  const groups = Map.groupBy(samples, ({ labels: { le: _, ...others } }) => JSON.stringify(others));
  const order = samples.map(({ labels: { le: _, ...others } }) => JSON.stringify(others));
  const changes = order.filter((group, i) => group !== order[i - 1]).length;
  assert.equal(changes, groups.size, `the samples of one histogram of ${name} stand together`);
  for (const group of groups.values()) {
    const buckets = group.filter((one) => one.name === `${name}_bucket`);
    const limits = buckets.map(({ labels: { le = "" } }) => le === "+Inf" ? Infinity : Number(le));
    for (const { labels: { le = "" } } of buckets) assert.match(le, /^(?:\d+\.\d+|\+Inf)$/);
    for (const [i, limit] of limits.entries()) {
      assert.ok(i === 0 || limit > (limits[i - 1] ?? NaN), `limits of ${name} grow`);
      assert.ok(i === 0 || (buckets[i]?.value ?? 0) >= (buckets[i - 1]?.value ?? 0));
    }
    assert.equal(limits.at(-1), Infinity);
    const [count, ...more] = group.filter((one) => one.name === `${name}_count`);
    assert.equal(more.length, 0);
    assert.equal(count?.value, buckets.at(-1)?.value);
    assert.equal(group.filter((one) => one.name === `${name}_sum`).length, 1);
  }
}
