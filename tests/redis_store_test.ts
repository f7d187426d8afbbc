import { conformance } from "./_store_conformance.ts";
import { openTestStore } from "./_helpers.ts";

conformance("Redis store", (prefix) => openTestStore({ prefix }));
