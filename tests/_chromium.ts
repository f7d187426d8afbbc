/** A real browser for tests, and what it has to say about a page. */

import assert from "node:assert/strict";
import process from "node:process";
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Page,
} from "playwright-core";
import { ensureProgram, findProgram } from "./_programs.ts";

const ACTION_DEADLINE_MS = 30_000;

/** Starts Chromium, which is installed where it is missing and that needs no question. */
export async function startChromium(): Promise<Browser> {
  const executablePath = await ensureProgram({
    names: ["chromium", "chromium-browser", "google-chrome"],
    aptPackage: "chromium",
    installCommand: () =>
      process.platform === "darwin"
        ? "brew install --cask chromium"
        : findProgram("dnf")
        ? "sudo dnf install -y chromium"
        : "sudo apt-get update && sudo apt-get install -y chromium",
  });
  const isRoot = process.getuid?.() === 0; // for whom its sandbox does not work
  return await chromium.launch({ executablePath, args: isRoot ? ["--no-sandbox"] : [] });
}

/** A tab of a browser profile of its own, which notes every complaint of the browser. */
export class Tab implements AsyncDisposable {
  readonly page: Page;
  readonly #context: BrowserContext;
  readonly #complaints: string[] = [];

  private constructor(context: BrowserContext, page: Page) {
    this.#context = context;
    this.page = page;
    page.setDefaultTimeout(ACTION_DEADLINE_MS);
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") {
        this.#complaints.push(`${message.type()}: ${message.text()}`);
      }
    });
    page.on("pageerror", (error) => this.#complaints.push(`thrown: ${error.message}`));
    page.on("dialog", (dialog) => {
      this.#complaints.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on("requestfailed", (request) => {
      const why = request.failure()?.errorText;
      if (why !== "net::ERR_ABORTED") this.#complaints.push(`${why}: ${request.url()}`);
    });
  }

  static async open(browser: Browser, options: BrowserContextOptions = {}): Promise<Tab> {
    const context = await browser.newContext(options);
    return new Tab(context, await context.newPage());
  }

  /** What the browser has complained about since the last time: errors, violations, dialogs. */
  complaints(): string[] {
    return this.#complaints.splice(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#context.close();
    assert.deepEqual(this.complaints(), []);
  }
}

/** Texts of the page whose contrast with what is behind them is below AA, with their contrast. */
export function faintTexts(page: Page): Promise<string[]> {
  return page.evaluate(LOOK_FOR_FAINT_TEXTS) as Promise<string[]>;
}

/** Runs in the page. A text of 24 px, or of 18.66 px in bold, needs 3 to 1, every other one 4.5. */
const LOOK_FOR_FAINT_TEXTS = `(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (text === "" || !element.checkVisibility() || element.closest("svg")) continue;
    const { color, fontSize, fontWeight } = getComputedStyle(element);
    const [a, b] = [luminance(rgba(color)), luminance(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(fontWeight) >= 700);
    if (contrast < (isLarge ? 3 : 4.5)) faint.push(text.slice(0, 40) + " " + contrast.toFixed(2));
  }
  return faint;
})()`;
