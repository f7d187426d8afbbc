import type { Contender } from "./contender.ts";

/** What connects each contender, by its name; the peers are there once they are installed. */
export const MAKERS: Readonly<Record<string, (url: string) => Promise<Contender>>> = {
  arq: async (url) => await (await import("./arq.ts")).arq(url),
  floor: async (url) => await (await import("./floor.ts")).floor(url),
  BullMQ: async (url) => await (await import("./bullmq.ts")).bullmq(url),
  "bee-queue": async (url) => await (await import("./bee_queue.ts")).beeQueue(url),
};
