/** What the documents refer to is there. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";

const ROOT = new URL("../", import.meta.url);
const DOCUMENTS = [
  "README.md",
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "examples/README.md",
  ...readdirSync(new URL("docs/", ROOT)).map((file) => `docs/${file}`),
];

/** The text without its code, in which brackets mean something else. */
function proseOf(file: URL): string {
  return readFileSync(file, "utf8").replaceAll(/^```.*?^```/gms, "").replaceAll(/`[^`\n]*`/g, "");
}

/** Where links of a document lead to; those to other sites are left out. */
function linksIn(prose: string): string[] {
  const inline = [...prose.matchAll(/\]\(([^)\s]+)\)/g)];
  const named = [...prose.matchAll(/^\[[^\]]+\]: (\S+)$/gm)];
  return [...inline, ...named].map(([, target = ""]) => target)
    .filter((target) => !target.includes("://"));
}

/** The names by which a page's headings are reached, made as GitHub and JSR make them. */
function anchorsOf(file: URL): string[] {
  const headings = readFileSync(file, "utf8").replaceAll(/^```.*?^```/gms, "");
  return [...headings.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  );
}

describe("The documents", () => {
  for (const document of DOCUMENTS) {
    it(`link to what is there: ${document}`, () => {
      const page = new URL(document, ROOT);
      const dead = linksIn(proseOf(page)).filter((link) => {
        const target = new URL(link, page);
        const anchor = target.hash.slice(1);
        target.hash = "";
        return !existsSync(target) || (anchor !== "" && !anchorsOf(target).includes(anchor));
      });
      assert.deepEqual(dead, []);
    });
  }
});
