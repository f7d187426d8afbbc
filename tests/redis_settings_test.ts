import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SettingsError } from "../errors.ts";
import { openStore } from "../open_store.ts";
import { type RedisSettings, type RedisTarget, resolveRedisSettings } from "../redis_settings.ts";
import { parseDsn } from "../redis_dsn.ts";
import { fc } from "./_properties.ts";

/** The problems that are told when these settings or this connection string are used. */
function problemsOf(use: () => unknown): readonly string[] {
  try {
    use();
  } catch (error) {
    assert.ok(error instanceof SettingsError, String(error));
    for (const problem of error.problems) assert.doesNotMatch(problem, /\n/);
    return error.problems;
  }
  return [];
}

const problemsOfDsn = (dsn: string) => problemsOf(() => parseDsn(dsn));
/** Settings as a program without a compiler may write them. */
const problemsOfSettings = (settings: Readonly<Record<string, unknown>>) =>
  problemsOf(() => resolveRedisSettings(settings as RedisSettings));

function resolveDsn(dsn: string): RedisTarget {
  return resolveRedisSettings(parseDsn(dsn).settings);
}

describe("Redis settings", () => {
  it("have the documented defaults", () => {
    assert.deepEqual(resolveRedisSettings({}), {
      kind: "single",
      nodes: [{ host: "localhost", port: 6379 }],
      unixSocketPath: undefined,
      database: 0,
      username: undefined,
      password: undefined,
      tls: undefined,
      sentinelMaster: "mymaster",
      sentinelUsername: undefined,
      sentinelPassword: undefined,
      connTimeoutMs: 1_000,
      connRetries: 5,
      connRetryDelayMs: 1_000,
      maxConnections: 3,
      timeoutMs: 10_000,
      retryOnTimeout: false,
      retryOnError: [],
      retries: Infinity,
      minDelayMs: 50,
      maxDelayMs: 2_000,
      address: "localhost:6379",
    });
  });

  it("take durations as milliseconds or as objects, and 0 for what it is", () => {
    const target = resolveRedisSettings({
      connTimeout: { seconds: 2 },
      connRetryDelay: { milliseconds: 20 },
      timeout: 1_500,
      connRetries: 0,
      database: 0,
      retry: { retries: 0, minDelay: 5, maxDelay: { seconds: 1 } },
    });
    const { connTimeoutMs, connRetryDelayMs, timeoutMs, connRetries, retries } = target;
    assert.deepEqual([connTimeoutMs, connRetryDelayMs, timeoutMs], [2_000, 20, 1_500]);
    assert.deepEqual([connRetries, retries], [0, 0]);
    assert.deepEqual([target.minDelayMs, target.maxDelayMs], [5, 1_000]);
    assert.equal(resolveRedisSettings({ connRetries: Infinity }).connRetries, Infinity);
  });

  it("name the address without secrets", () => {
    const secrets = { username: "user", password: "secret" };
    const address = (settings: RedisSettings) =>
      resolveRedisSettings({ ...secrets, ...settings }).address;
    const hosts = [["a", 1], ["b", 2]] as const;
    assert.equal(address({ host: "::1", port: 7 }), "[::1]:7");
    assert.equal(address({ unixSocketPath: "/run/redis.sock" }), "/run/redis.sock");
    assert.equal(address({ host: hosts, sentinel: true, sentinelMaster: "m" }), "a:1,b:2/m");
    assert.equal(address({ host: hosts, cluster: true }), "a:1,b:2");
  });

  it("list every problem with the rule and the value", () => {
    const problems = problemsOfSettings({ prot: 1, port: 0, database: -1, connRetries: 1.5 });
    assert.deepEqual(problems, [
      'unknown option "prot"; did you mean "port"?',
      "port must be a whole number from 1 to 65535, got 0",
      "database must be a whole number of 0 or more, got -1",
      "connRetries must be a whole number of 0 or more, or Infinity, got 1.5",
    ]);
  });

  const cases: readonly (readonly [Readonly<Record<string, unknown>>, string])[] = [
    [{ hostname: "a" }, 'unknown option "hostname"; did you mean "host"?'],
    [{ host: 5 }, "host must be a name or a list of [host, port], got 5"],
    [{ host: [["a", 0]] }, 'host must be a name or a list of [host, port], got [["a",0]]'],
    [
      { host: [["a", 1], ["b", 2]] },
      'host must be one name where neither sentinel nor cluster is true, got [["a",1],["b",2]]',
    ],
    [
      { host: "redis://user:secret@host" },
      "host must be a name or an address, not a connection string",
    ],
    [{ port: "6379" }, 'port must be a whole number from 1 to 65535, got "6379"'],
    [{ username: 1 }, "username must be a string, got 1"],
    [{ password: 12345 }, "password must be a string, got something else"],
    [{ unixSocketPath: true }, "unixSocketPath must be a string, got true"],
    [{ ssl: "yes" }, 'ssl must be a boolean, got "yes"'],
    [
      { ssl: true, sslCertReqs: "no" },
      'sslCertReqs must be "required", "optional" or "none", got "no"',
    ],
    [{ connTimeout: 0 }, "connTimeout must be 1 ms or more, got 0 (milliseconds)"],
    [{ timeout: Infinity }, "timeout must be a finite duration, got Infinity"],
    [{ maxConnections: 0 }, "maxConnections must be a whole number of 1 or more, got 0"],
    [
      { retry: { retries: -1 } },
      "retry.retries must be a whole number of 0 or more, or Infinity, got -1",
    ],
    [{ retry: { minDelay: 0 } }, "retry.minDelay must be 1 ms or more, got 0 (milliseconds)"],
    [{ retry: null }, "retry must be an object such as { retries: 5 }, got null"],
    [{ retry: { retires: 1 } }, 'retry: unknown option "retires"; did you mean "retries"?'],
    [{ retryOnError: [1] }, "retryOnError must be a list of words, got [1]"],
    [{ retryOnError: "OOM" }, 'retryOnError must be a list of words, got "OOM"'],
    [
      { sentinelPassword: "s" },
      "sentinelPassword is for Sentinels: use redis+sentinel:// or set sentinel to true",
    ],
    [
      { sentinel: true, sentinelPassword: 5 },
      "sentinelPassword must be a string, got something else",
    ],
    [{ sslCaCerts: "ca.pem" }, "sslCaCerts is for TLS: set ssl to true"],
    [{ sentinel: true, cluster: true }, "cluster must be false where sentinel is true, got true"],
    [{ cluster: true, database: 1 }, "database must be 0 on a Cluster, got 1"],
  ];
  for (const [settings, problem] of cases) {
    it(`say: ${problem}`, () => assert.deepEqual(problemsOfSettings(settings), [problem]));
  }

  it("say which file of TLS cannot be read, when it connects and not before", async () => {
    const store = openStore({ ssl: true, sslCaCerts: "/no/such/file" }, "p:");
    await assert.rejects(store.connect(), (error) => {
      assert.ok(error instanceof SettingsError);
      assert.match(error.problems[0] ?? "", /^sslCaCerts must be a readable file, got "\/no\/such/);
      return true;
    });
  });
});

describe("Connection strings", () => {
  it("name host, port, database and who connects", () => {
    assert.deepEqual(parseDsn("redis://user:pass@host:7000/3"), {
      settings: { username: "user", password: "pass", host: "host", port: 7000, database: 3 },
      prefix: undefined,
    });
    assert.deepEqual(parseDsn("redis://").settings, { host: "localhost", port: 6379 });
    assert.deepEqual(parseDsn("REDIS://host").settings, { host: "host", port: 6379 });
    const { username, password } = parseDsn("redis://:pass@host").settings;
    assert.deepEqual([username, password], [undefined, "pass"]);
    assert.deepEqual(parseDsn("redis://[::1]:7").settings, { host: "::1", port: 7 });
    assert.equal(parseDsn("redis://host/").settings.database, undefined);
  });

  it("choose TLS, a Unix socket, Sentinels or a Cluster by their scheme", () => {
    assert.deepEqual(parseDsn("rediss://host").settings, { host: "host", port: 6379, ssl: true });
    const unix = parseDsn("unix:///run/my%20redis.sock?db=2");
    assert.deepEqual(unix.settings, { unixSocketPath: "/run/my redis.sock", database: 2 });
    assert.equal(parseDsn("unix://:pass@/run/a@b.sock").settings.unixSocketPath, "/run/a@b.sock");
    assert.deepEqual(parseDsn("redis+sentinel://a:1,b/main").settings, {
      host: [["a", 1], ["b", 26_379]],
      sentinel: true,
      sentinelMaster: "main",
    });
    assert.equal(resolveDsn("redis+sentinel://a").sentinelMaster, "mymaster");
    const own = parseDsn("redis+sentinel://:p@a?sentinelUsername=u&sentinelPassword=s%26").settings;
    assert.deepEqual(
      [own.password, own.sentinelUsername, own.sentinelPassword],
      ["p", "u", "s&"],
    );
    assert.deepEqual(parseDsn("redis+cluster://a:1,b").settings, {
      host: [["a", 1], ["b", 6_379]],
      cluster: true,
    });
    assert.equal(resolveDsn("redis+cluster://a:1,b").kind, "cluster");
    assert.equal(resolveDsn("redis+sentinel://a:1,b").kind, "sentinel");
  });

  it("take the prefix and timeouts from the query", () => {
    const dsn = "redis://h?db=4&prefix=%7Barq%7D:&timeout=70&connTimeout=80&connRetries=Infinity" +
      "&connRetryDelay=90";
    const { settings, prefix } = parseDsn(dsn);
    assert.equal(prefix, "{arq}:");
    const { database, timeoutMs, connTimeoutMs, connRetries, connRetryDelayMs } =
      resolveRedisSettings(settings);
    assert.deepEqual([database, timeoutMs, connTimeoutMs, connRetries, connRetryDelayMs], [
      4,
      70,
      80,
      Infinity,
      90,
    ]);
  });

  it("read a plus in the query as what it is", () => {
    const { settings, prefix } = parseDsn("redis+sentinel://h?sentinelPassword=a+b%2B=&prefix=c+:");
    assert.equal(settings.sentinelPassword, "a+b+=");
    assert.equal(prefix, "c+:");
  });

  it("give any user name, password, prefix and database back that was percent-encoded", () => {
    const word = fc.string({ minLength: 1, unit: "grapheme" });
    const parts = fc.record({ username: word, password: word, prefix: word, database: fc.nat() });
    fc.assert(fc.property(parts, ({ username, password, prefix, database }) => {
      const [user, pass, pre] = [username, password, prefix].map(encodeURIComponent);
      const parsed = parseDsn(`redis://${user}:${pass}@host:7/${database}?prefix=${pre}`);
      assert.deepEqual(parsed, {
        settings: { username, password, host: "host", port: 7, database },
        prefix,
      });
    }));
  });

  const cases: readonly (readonly [string, string])[] = [
    [
      "localhost:6379",
      'a connection string starts with redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// or sqlite:, got "localhost:"',
    ],
    [
      "http://host",
      'a connection string starts with redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// or sqlite:, got "http:"',
    ],
    [
      "",
      "a connection string starts with redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// or sqlite:",
    ],
    ["redis://host:0", 'the port of host must be from 1 to 65535, got "0"'],
    [
      "redis://host:password",
      "the port of host must be from 1 to 65535; a user name and password stand before the host, " +
      "followed by an @",
    ],
    ["redis://[::1", 'a host must look like name:port, got "[::1"'],
    ["redis://host/one", 'the database must be a number, got "one"'],
    ["redis://host/%zz", "the path must be percent-encoded (write % as %25)"],
    ["redis://host?db=", 'db must be a number, got ""'],
    ["redis://host?timeout=soon", 'timeout must be a number, got "soon"'],
    ["redis://host?prefx=a", 'unknown option "prefx"; did you mean "prefix"?'],
    ["redis://a,b", "redis:// takes one host; use redis+sentinel:// or redis+cluster:// for more"],
    ["unix://", "unix:// must be followed by a path"],
    ["redis://:100%@host", "user name and password must be percent-encoded (write % as %25)"],
    [
      "redis://:p@ss@host",
      "user name, password and prefix must be percent-encoded (write @ as %40, / as %2F, ? as %3F)",
    ],
  ];
  for (const [dsn, problem] of cases) {
    it(`say of ${JSON.stringify(dsn)}: ${problem}`, () => {
      assert.deepEqual(problemsOfDsn(dsn), [problem]);
    });
  }

  it("never show a password in an error or an address, however it is written", () => {
    const secret = "Xsecret99";
    const noise = fc.constantFrom("", "@", "/", "?", ":", "%", "#", "&", "a=b");
    const rest = fc.constantFrom("", "/x", ":0", "/1?nope=1", "?timeout=x", ",b", ":70000");
    const scheme = fc.constantFrom("redis", "rediss", "redis+sentinel", "redis+cluster");
    const dsns = fc.tuple(scheme, noise, noise, rest).map(([name, before, after, end]) =>
      `${name}://user:${before}${secret}${after}@host${end}`
    );
    fc.assert(
      fc.property(dsns, (dsn) => {
        assert.doesNotMatch(problemsOfDsn(dsn).join("\n"), /Xsecret99/);
        if (problemsOfDsn(dsn).length > 0) return;
        const { address } = resolveDsn(dsn);
        assert.doesNotMatch(address, /Xsecret99/);
      }),
      { numRuns: 500 },
    );
  });
});

describe("A connection", () => {
  it("gives its prefix to the store; an explicit one wins; arq: is the default", () => {
    assert.equal(openStore("redis://host?prefix=a:", undefined).prefix, "a:");
    assert.equal(openStore("redis://host?prefix=a:", "b:").prefix, "b:");
    assert.equal(openStore({ host: "host" }, undefined).prefix, "arq:");
    assert.equal(openStore({ host: "host" }, undefined).address, "host:6379");
  });

  it("must be a string, settings or a client", () => {
    const open = (connection: unknown) => () => openStore(connection as string, undefined);
    const refused = (what: string) => ({
      name: "TypeError",
      message: "A connection is a connection string, an object of settings or a client of " +
        `@redis/client, got ${what}`,
    });
    assert.throws(open(5), refused("5"));
    assert.throws(open(null), refused("null"));
    assert.throws(open(["redis://:secret@host"]), refused("an object of Array"));
    assert.throws(open(Promise.resolve()), refused("a Promise; is an await missing?"));
    class IORedis {
      options = { password: "secret" };
      duplicate() {}
      sendCommand() {}
    }
    assert.throws(open(new IORedis()), refused("an object of IORedis"));
  });
});
