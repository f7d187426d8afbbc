/**
 * What errors of a Redis, or of the way to it, mean: in words that say what to do, and whether trying
 * again can help.
 * @module
 */
import { SocketClosedUnexpectedlyError } from "@redis/client";
import { SettingsError } from "./errors.ts";

/** Errors of the server that pass by themselves, by their first word. */
const TRANSIENT: ReadonlySet<string> = new Set([
  "LOADING",
  "READONLY",
  "MASTERDOWN",
  "CLUSTERDOWN",
  "TRYAGAIN",
  "ASK",
  "MOVED",
  "BUSY",
  "NOREPLICAS",
  "MAXCLIENTS",
]);

/** What the nodes of a Cluster say to a client that asks the wrong one. */
const REDIRECTIONS: ReadonlySet<string> = new Set(["MOVED", "ASK"]);
const CLUSTER_NODE =
  "it is a node of a Cluster; connect with redis+cluster:// and a hash tag in the prefix";

/** Errors that have no word of their own, by how they begin; the words are ours. */
const WORDLESS = [
  ["ERR max number of clients ", "MAXCLIENTS"],
  ["ERR The user executing the script can't ", "NOPERM"],
  ["ERR ACL failure in script: ", "NOPERM"],
  ["ERR Protocol error: invalid bulk length", "TOOLARGE"],
  ["ERR No such master ", "NOMASTER"],
  ["ERR unknown command 'SENTINEL'", "NOSENTINEL"],
] as const;

/** What else the server may refuse with, in words that say what to do. */
const EXPLANATIONS: Readonly<Record<string, string>> = {
  NOAUTH: "it wants a password; set `password` or write it into the connection string",
  WRONGPASS: "it refuses this user name and password",
  NOPERM: "the user lacks a permission; compare its ACL with the one in docs/stores.md",
  OOM: "it is out of memory and accepts nothing new; jobs that are queued go on",
  MISCONF: "it cannot save to its disk and accepts no writes",
  READONLY: "it is a read-only replica; connect to the primary",
  LOADING: "it is still loading its data",
  BUSY: "it is busy with a script of somebody else",
  CLUSTERDOWN: "a part of the Cluster is down",
  TRYAGAIN: "the queue's slot is moving to another node of the Cluster",
  MOVED: CLUSTER_NODE,
  ASK: CLUSTER_NODE,
  CROSSSLOT: CLUSTER_NODE,
  MASTERDOWN: "it is a replica that has lost its primary",
  NOREPLICAS: "it has too few replicas to accept writes",
  MAXCLIENTS: "it has as many clients as its maxclients allows",
  NOMASTER: "the Sentinels know no primary of this name",
  NOSENTINEL: "it is no Sentinel; list the Sentinels, not the servers they watch",
  TOOLARGE: "a value is larger than its proto-max-bulk-len allows",
  ERR: "it answered with an error",
  WRONGTYPE: "a key with the queue's name or prefix holds something else; choose another prefix",
};

/** The same behind Sentinels, where the refusal may be theirs or the primary's. */
const SENTINEL_EXPLANATIONS: Readonly<Record<string, string>> = {
  NOAUTH: "a password is wanted; set `sentinelPassword` for the Sentinels, `password` for the " +
    "servers they watch",
  WRONGPASS: "user name and password are refused: `sentinelPassword` is for the Sentinels, " +
    "`password` for the servers they watch",
};

/** What may be wrong with certificates, by the code that either runtime gives its error. */
const CERTIFICATES = [
  [/^CERT_HAS_EXPIRED$/, "its certificate has expired"],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID$/,
    "its certificate is for another host name; connect by that name, or set sslCheckHostname to false",
  ],
  [
    /^(SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_GET_ISSUER_CERT(_LOCALLY)?)$/,
    "no authority that is trusted has signed its certificate; name yours with sslCaCerts",
  ],
  [
    /^UNABLE_TO_VERIFY_LEAF_SIGNATURE$/, // Deno says so of expired ones, too.
    "its certificate has expired, or no authority that is trusted has signed it; name yours with " +
    "sslCaCerts",
  ],
  [
    /ALERT_CERTIFICATE_REQUIRED$/,
    "it wants to see a certificate; set sslCertfile and sslKeyfile",
  ],
  [
    /ALERT_(BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_\w+|UNKNOWN_CA)$/,
    "it refuses the certificate of sslCertfile",
  ],
] as const;

/** The reason in one line; `address` is where the server is, without secrets. */
export function reasonOf(error: unknown, address: string, isSentinel: boolean): string {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
  if (isForbidden(error)) {
    return `this program may not connect; start it with ${flagsFor(address)}`;
  }
  if (code === "ECONNREFUSED") return "connection refused; is the server running there?";
  if (code === "ECONNRESET") return "it closed the connection";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return "the host name is not known";
  if (isNotRedis(error)) return "what answers there is not Redis";
  const certificate = certificateProblem(error);
  if (certificate !== undefined) return `${certificate} (${message})`;
  const word = firstWord(error);
  if (word === undefined) return message || "the connection was lost";
  const explanation = isSentinel && SENTINEL_EXPLANATIONS[word] || EXPLANATIONS[word];
  return explanation === undefined ? message : `${explanation} (${message})`;
}

/** What Deno wants for a server; a Unix socket is a file as well. */
function flagsFor(address: string): string {
  if (!address.includes("/")) return `--allow-net=${address}`;
  return `--allow-net=unix:${address} --allow-read=${address} --allow-write=${address}`;
}

/** The first word of a server's error, or undefined for an error that is not the server's. */
export function firstWord(error: unknown): string | undefined {
  if (!(error instanceof Error) || "code" in error) return undefined;
  const named = WORDLESS.find(([beginning]) => error.message.startsWith(beginning));
  if (named) return named[1];
  return /^(?:\S+ (?=ERR))?([A-Z]{3,})(?: |$)/.exec(error.message)?.[1];
}

/** Whether what was sent is too large for the server, and always will be. */
export function isTooLarge(error: unknown): boolean {
  return firstWord(error) === "TOOLARGE";
}

export function isNoScript(error: unknown): boolean {
  return firstWord(error) === "NOSCRIPT";
}

/** Whether the other side has hung up. */
export function isHangUp(error: unknown): boolean {
  return error instanceof SocketClosedUnexpectedlyError ||
    (error instanceof Error && "code" in error && error.code === "ECONNRESET");
}

/** Whether a certificate is refused, on either side. */
export function isCertificateError(error: unknown): boolean {
  return certificateProblem(error) !== undefined;
}

function certificateProblem(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return CERTIFICATES.find(([code]) => code.test(String(error.code)))?.[1];
}

function isNotRedis(error: unknown): boolean {
  return error instanceof Error && /RESP type|^HTTP/.test(error.message);
}

/** Whether Deno lacks the permission: for a host name it says so by an error of the look-up. */
function isForbidden(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return error.name === "NotCapable" || error.name === "PermissionDenied" ||
    error.message.startsWith("getaddrinfo EPERM");
}

/** Whether a further attempt to connect would fail in the same way. */
export function isFinal(thrown: unknown): boolean {
  const error = underlying(thrown);
  if (error instanceof SettingsError || isNotRedis(error) || isForbidden(error)) return true;
  if (isCertificateError(error)) return true;
  const word = firstWord(error);
  return word !== undefined && !TRANSIENT.has(word);
}

/** Whether an error passes by itself, as one of the way there does; a Cluster's client follows redirections. */
export function isPassing(error: unknown, isCluster: boolean): boolean {
  const word = firstWord(error);
  if (word === undefined) return true;
  if (REDIRECTIONS.has(word)) return isCluster;
  return TRANSIENT.has(word);
}

/** Whether a command that ended in this error may have taken effect all the same. */
export function mayHaveRun(error: unknown): boolean {
  return !TRANSIENT.has(firstWord(error) ?? "");
}

/** The reason behind an error of the reconnect strategy. */
export function underlying(error: unknown): unknown {
  return error instanceof Error && "originalError" in error ? error.originalError : error;
}
