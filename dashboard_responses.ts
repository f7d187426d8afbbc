/**
 * What the dashboard answers with: pages, files and streams, and the headers that keep them safe.
 * @module
 */
import { createHash } from "node:crypto";
import type { Refusal } from "./dashboard_access.ts";
import { type AssetName, documentOf, type Page, type PageContext } from "./dashboard_layout.ts";
import { ICON, SCRIPT } from "./dashboard_script.ts";
import { STYLE } from "./dashboard_style.ts";

const ONE_YEAR_S = 31_536_000;
/** Of the files, by their contents: browsers keep them until these change. */
export const VERSIONS: PageContext["versions"] = {
  style: versionOf(STYLE),
  script: versionOf(SCRIPT),
};
const ASSETS: Readonly<Record<AssetName, readonly [type: string, text: string]>> = {
  "style.css": ["text/css; charset=utf-8", STYLE],
  "script.js": ["text/javascript; charset=utf-8", SCRIPT],
  "icon.svg": ["image/svg+xml", ICON],
};
const POLICY = [
  "default-src 'none'",
  "style-src 'self'",
  "script-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join("; ");
/** A page's own address has ids in it, which other sites need not see; its origin is checked, though. */
const SAFETY: Readonly<Record<string, string>> = {
  "content-security-policy": POLICY,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

/** Whether a name is that of a file which pages use. */
export function isAsset(name: string): name is AssetName {
  return Object.hasOwn(ASSETS, name);
}

/** A page; `cookie` is set with it. */
export function document(
  request: Request,
  context: PageContext,
  page: Page,
  cookie?: string,
): Response {
  const headers = new Headers({
    ...SAFETY,
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
  });
  if (cookie !== undefined) headers.set("set-cookie", cookie);
  const body = request.method === "HEAD" ? null : documentOf(context, page).text;
  return new Response(body, { status: page.status ?? 200, headers });
}

/** A file that pages use, to be kept for long where its address has its version. */
export function asset(name: AssetName, { searchParams }: URL): Response {
  const [type, text] = ASSETS[name];
  const isVersioned = Object.values(VERSIONS).includes(searchParams.get("v") ?? "");
  const cache = isVersioned ? `private, max-age=${ONE_YEAR_S}, immutable` : "private, max-age=60";
  return new Response(text, {
    headers: { ...SAFETY, "content-type": type, "cache-control": cache },
  });
}

/** Sends the browser on, with GET. */
export function redirect(location: string): Response {
  return new Response(null, { status: 303, headers: { ...SAFETY, location } });
}

/** The answer to a method that is not served there. */
export function notAllowed(): Response {
  return new Response("This method is not allowed here\n", {
    status: 405,
    headers: { ...SAFETY, allow: "GET", "content-type": "text/plain; charset=utf-8" },
  });
}

/** A refusal for who may not see a page. */
export function plain(status: number, { reason, advice }: Refusal): Response {
  return new Response(`${reason}.\n${advice}\n`, {
    status,
    headers: {
      ...SAFETY,
      "content-type": "text/plain; charset=utf-8",
      "cache-control": "no-store",
    },
  });
}

/** A stream of events, which no proxy may hold back. */
export function stream(events: ReadableStream<Uint8Array>): Response {
  return new Response(events, {
    headers: {
      ...SAFETY,
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
  });
}

function versionOf(text: string): string {
  return createHash("sha256").update(text).digest("base64url").slice(0, 12);
}
