/**
 * Who may see the dashboard, and which of their requests may change anything.
 *
 * Without `authorize` only this machine's own browsers are served. A request proves that by the
 * address it comes from, which the server tells, and by the name it asks for: a page of another
 * site whose name was made to lead here (DNS rebinding) asks by that name.
 * @module
 */
import { Buffer } from "node:buffer";
import { randomBytes, timingSafeEqual } from "node:crypto";

/** Why a request is refused: the heading, and a way out. */
export interface Refusal {
  /** What is wrong. */
  readonly reason: string;
  /** What to do about it. */
  readonly advice: string;
}

const COOKIE = "arq_dashboard";
const TOKEN_BYTES = 24;
const TOKEN_IN_COOKIES = new RegExp(`(?:^|;\\s*)${COOKIE}=([\\w-]{32})(?=;|$)`);
const AUTHORIZE = "Give dashboard() an authorize function to serve others than this machine.";
/** A proxy on this machine comes from loopback for anybody; most say so. */
const PROXY_HEADERS = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/** Why this request is not known to come from this machine; undefined if it is. */
export function whyNotLoopback(request: Request, info: unknown): Refusal | undefined {
  const address = peerAddress(request, info);
  if (address === undefined) {
    return {
      reason: "The dashboard cannot tell where this request comes from",
      advice: "Hand it what the server knows of the connection: dashboard(request, info) for " +
        `Deno.serve, dashboard(request, server) for Bun.serve. ${AUTHORIZE}`,
    };
  }
  if (!isLoopbackAddress(address)) {
    return { reason: "The dashboard is served to this machine only", advice: AUTHORIZE };
  }
  if (!hostsOf(request).every(isLoopbackName)) {
    return {
      reason: "The dashboard is served under the names of this machine only",
      advice: `Open it as localhost or 127.0.0.1. ${AUTHORIZE}`,
    };
  }
  const header = PROXY_HEADERS.find((name) => request.headers.has(name));
  if (header === undefined) return undefined;
  return {
    reason: `The dashboard does not know for whom a proxy asks (${header})`,
    advice: AUTHORIZE,
  };
}

/** What `Deno.serve` (`info`) or `Bun.serve` (`server`) tells of the other end. */
function peerAddress(request: Request, info: unknown): string | undefined {
  if (typeof info !== "object" || info === null) return undefined;
  if ("remoteAddr" in info) return textIn(info.remoteAddr, "hostname");
  if (!("requestIP" in info) || typeof info.requestIP !== "function") return undefined;
  return textIn(info.requestIP(request), "address");
}

function textIn(value: unknown, key: string): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const text: unknown = Reflect.get(value, key);
  return typeof text === "string" ? text : undefined;
}

function isLoopbackAddress(address: string): boolean {
  return address === "::1" || /^(?:::ffff:)?127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/i.test(address);
}

/** The names by which it was asked for, without ports: in the address and in the header. */
function hostsOf(request: Request): string[] {
  const header = request.headers.get("host");
  const { hostname } = new URL(request.url);
  return header === null ? [hostname] : [hostname, header.replace(/:\d*$/, "")];
}

function isLoopbackName(name: string): boolean {
  const host = name.toLowerCase();
  return host === "localhost" || host.endsWith(".localhost") || host === "[::1]" ||
    /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

/**
 * Whether a page of the dashboard itself sent this. Browsers say so to https and loopback; to
 * others they name the page's origin, whose host is compared.
 */
export function isSameOrigin(request: Request): boolean {
  const site = request.headers.get("sec-fetch-site");
  if (site !== null) return site === "same-origin";
  const origin = request.headers.get("origin");
  const host = request.headers.get("host") ?? new URL(request.url).host;
  return origin !== null && URL.canParse(origin) && new URL(origin).host === host.toLowerCase();
}

/** The token that forms of this browser carry: in a cookie, which no other site can read. */
export interface FormToken {
  /** The token. */
  readonly value: string;
  /** The header that sets the cookie, where the browser has none yet. */
  readonly cookie: string | undefined;
}

/**
 * The browser's token, a new one if it has none.
 *
 * The cookie is `Lax`: a link from elsewhere to a page brings it along, so that it stays the same
 * for other tabs; a form of elsewhere does not.
 */
export function formToken(request: Request, path: string): FormToken {
  const known = cookieToken(request);
  if (known !== undefined) return { value: known, cookie: undefined };
  const value = randomBytes(TOKEN_BYTES).toString("base64url");
  const secure = new URL(request.url).protocol === "https:" ? "; Secure" : "";
  const cookie = `${COOKIE}=${value}; Path=${path}; HttpOnly; SameSite=Lax${secure}`;
  return { value, cookie };
}

/** Whether a form's token is that of the browser that sent it. */
export function isTokenOf(request: Request, given: string | null): boolean {
  const expected = Buffer.from(cookieToken(request) ?? "");
  const actual = Buffer.from(given ?? "");
  return expected.length > 0 && actual.length === expected.length &&
    timingSafeEqual(actual, expected);
}

function cookieToken(request: Request): string | undefined {
  const cookies = request.headers.get("cookie") ?? "";
  return TOKEN_IN_COOKIES.exec(cookies)?.[1];
}
