import { arq } from "./arq.ts";
import { beeQueue } from "./bee_queue.ts";
import { bullmq } from "./bullmq.ts";
import type { Contender } from "./contender.ts";
import { floor } from "./floor.ts";

/** What connects each contender, by its name. */
export const MAKERS: Readonly<Record<string, (url: string) => Promise<Contender>>> = {
  arq,
  floor,
  BullMQ: bullmq,
  "bee-queue": beeQueue,
};
