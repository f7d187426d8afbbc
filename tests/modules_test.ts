import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";

/** The rooms from top to bottom. A module may import only what stands below it. */
const ROOMS = [
  "mod",
  "cli",
  "cli_actions",
  "cli_jobs",
  "cli_stats",
  "cli_ui",
  "cli_operations",
  "cli_worker",
  "cli_connection",
  "cli_watch",
  "cli_server",
  "cli_settings",
  "cli_output",
  "cli_log",
  "cli_tables",
  "cli_quantities",
  "cli_host",
  "cli_arguments",
  "metrics",
  "dashboard",
  "dashboard_overview",
  "dashboard_live",
  "dashboard_plots",
  "dashboard_jobs",
  "dashboard_job",
  "dashboard_workers",
  "dashboard_responses",
  "dashboard_layout",
  "dashboard_actions",
  "dashboard_access",
  "dashboard_html",
  "dashboard_style",
  "dashboard_script",
  "testing",
  "testing_store",
  "worker",
  "worker_report",
  "cron_scheduler",
  "health",
  "job_loop",
  "queue_outlook",
  "wake_listener",
  "claim_holders",
  "progress_reporter",
  "held_jobs",
  "claim_pace",
  "job_recorder",
  "execution",
  "isolation",
  "worker_log",
  "job_run",
  "worker_settings",
  "worker_functions",
  "isolate_process",
  "isolate_command",
  "isolate_child",
  "isolate_channel",
  "job_logger",
  "cron",
  "functions",
  "client",
  "job_requests",
  "enqueue_options",
  "pool_options",
  "outbox",
  "job_ids",
  "queue_inspection",
  "queue_stats",
  "worker_records",
  "tally",
  "job_pages",
  "job_retries",
  "job_views",
  "inspection",
  "jobs",
  "job_events",
  "step_buffer",
  "job_results",
  "open_store",
  "redis_store",
  "redis_inspection",
  "redis_inspection_scripts",
  "redis_news",
  "redis_arguments",
  "redis_connection",
  "redis_dsn",
  "redis_tls",
  "redis_tracing",
  "redis_errors",
  "redis_clients",
  "redis_settings",
  "redis_event_scripts",
  "redis_scripts",
  "redis_claim",
  "redis_prelude",
  "redis_keys",
  "sqlite_store",
  "sqlite_inspection",
  "sqlite_database",
  "sqlite_runner",
  "sqlite_tidying",
  "sqlite_signals",
  "sqlite_feed",
  "sqlite_operations",
  "sqlite_schema",
  "sqlite_statements",
  "sqlite_inspection_statements",
  "sqlite_query",
  "sqlite_settings",
  "store",
  "store_inspection",
  "typed_names",
  "telemetry",
  "serializer",
  "codec",
  "codec_extensions",
  "codec_scan",
  "error_fields",
  "isolate_options",
  "permissions",
  "display",
  "quantities",
  "deadlines",
  "bag",
  "sleep",
  "signals",
  "duration",
  "validation",
  "errors",
];

const ROOT = new URL("../", import.meta.url);

interface Module {
  name: string;
  specifiers: string[];
}

interface Manifest {
  name: string;
  version: string;
  exports: Record<string, string>;
  license: string;
  imports?: Record<string, string>;
  dependencies?: Record<string, string>;
}

const STATIC_IMPORT = /^(?:import|export)\s(?:[\w$*{},\s]*\sfrom\s*)?["']([^"']+)["']/gm;
const DYNAMIC_IMPORT = /\bimport\(\s*["'`]([^"'`]+)["'`]/g;

function readModules(): Module[] {
  return readdirSync(ROOT)
    .filter((file) => file.endsWith(".ts"))
    .map((file) => ({
      name: file.slice(0, -".ts".length),
      specifiers: readSpecifiers(readText(file)),
    }));
}

function readText(file: string): string {
  return readFileSync(new URL(file, ROOT), "utf8");
}

function readManifest(file: string): Manifest {
  return JSON.parse(readText(file));
}

/** What a source imports, types included; examples in comments don't count. */
function readSpecifiers(source: string): string[] {
  const code = source.split("\n").filter((line) => !/^\s*(?:\/\/|\/?\*)/.test(line)).join("\n");
  return [...code.matchAll(STATIC_IMPORT), ...code.matchAll(DYNAMIC_IMPORT)]
    .map(([, specifier = ""]) => specifier);
}

function isRelative(specifier: string): boolean {
  return specifier.startsWith(".");
}

function packageOf(specifier: string): string {
  return specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/");
}

describe("readSpecifiers", () => {
  it("finds every form of import and no example", () => {
    const source = [
      "/**",
      ' * import { no } from "no";',
      " */",
      'import "./a.ts";',
      'import type { B } from "./b.ts";',
      "import {",
      "  C,",
      "  type D as E,",
      '} from "./c.ts";',
      'export * from "./d.ts";',
      'import * as e from "./e.ts";',
      'import f, { g$ } from "./f.ts";',
      'type G = import("./g.ts").G;',
      "// import('./no.ts')",
      'const h = await import("./h.ts");',
      "export const from = 1;",
    ].join("\n");
    const expected = ["a", "b", "c", "d", "e", "f", "g", "h"].map((name) => `./${name}.ts`);
    assert.deepEqual(readSpecifiers(source), expected);
  });
});

describe("the modules", () => {
  const modules = readModules();

  it("have a place in the order of rooms, each", () => {
    const homeless = modules.map(({ name }) => name).filter((name) => !ROOMS.includes(name));
    assert.deepEqual(homeless, [], "Add the module to ROOMS in tests/modules_test.ts");
  });

  it("are all on the map in CONTRIBUTING.md", () => {
    const map = readText("CONTRIBUTING.md");
    const missing = modules.map(({ name }) => `\`${name}.ts\``).filter((name) =>
      !map.includes(name)
    );
    assert.deepEqual(missing, []);
  });

  it("import downwards only, so that there is no cycle", () => {
    const wrong = modules.flatMap(({ name, specifiers }) => {
      const below = ROOMS.slice(ROOMS.indexOf(name) + 1).map((room) => `./${room}.ts`);
      return specifiers
        .filter((specifier) => isRelative(specifier) && !below.includes(specifier))
        .map((specifier) => `${name}.ts imports ${specifier}`);
    });
    assert.deepEqual(wrong, []);
  });

  it("import nothing but the dependencies in package.json and node:", () => {
    const dependencies = Object.keys(readManifest("package.json").dependencies ?? {});
    const wrong = modules.flatMap(({ name, specifiers }) =>
      specifiers
        .filter((specifier) => !isRelative(specifier) && !specifier.startsWith("node:"))
        .filter((specifier) => !dependencies.includes(packageOf(specifier)))
        .map((specifier) => `${name}.ts imports ${specifier}`)
    );
    assert.deepEqual(wrong, []);
  });
});

describe("deno.json and package.json", () => {
  const deno = readManifest("deno.json");
  const node = readManifest("package.json");

  it("agree on name, version, licence and exports", () => {
    const shared = ({ name, version, license, exports }: Manifest) => ({
      name,
      version,
      license,
      exports,
    });
    assert.deepEqual(shared(deno), shared(node));
  });

  it("keep one list of dependencies", () => {
    assert.equal(deno.imports, undefined, "Dependencies belong into package.json: Bun reads it");
  });
});
