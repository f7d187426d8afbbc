/**
 * The numbers as they change: one look at the store a second and queue, for everybody who watches.
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Html } from "./dashboard_html.ts";
import type { QueueStats } from "./inspection.ts";
import type { Store } from "./store.ts";

/** How often the store is looked at, and how old numbers may be. */
const LOOK_EVERY_MS = 1_000;
/** How far back the depth of a queue is remembered, as far as anybody has looked. */
export const DEPTHS_MS = 300_000;
/** What nobody has looked at for so long is forgotten. */
const FORGET_MS = 600_000;

const logger = getLogger(["arq", "dashboard"]);
const encoder = new TextEncoder();

/** How deep a queue was at a moment. */
export interface Depth {
  /** Epoch milliseconds, by the store's clock. */
  readonly at: number;
  /** Jobs that could be started. */
  readonly due: number;
  /** Jobs that workers held. */
  readonly inProgress: number;
}

/** Pieces of the page by the ids of their elements. */
export type Fragments = readonly (readonly [id: string, content: Html])[];

/** What is shown of a queue: its numbers, and how deep it was. */
export interface Look {
  /** The numbers. */
  readonly stats: QueueStats;
  /** The oldest first. */
  readonly depths: readonly Depth[];
}

/** The looks at all queues that somebody shows. */
export class LiveStats {
  readonly #read: (queueName: string) => Promise<QueueStats>;
  readonly #store: Pick<Store, "onClose">;
  readonly #render: (look: Look) => Fragments;
  readonly #queues: Map<string, LiveQueue> = new Map();

  /** Takes how numbers are read, the store, whose end is the end of all watching, and how numbers are shown. */
  constructor(
    read: (queueName: string) => Promise<QueueStats>,
    store: Pick<Store, "onClose">,
    render: (look: Look) => Fragments,
  ) {
    this.#read = read;
    this.#store = store;
    this.#render = render;
  }

  /** The numbers of a queue, a second old at the most. */
  look(queueName: string): Promise<Look> {
    return this.#queue(queueName).look();
  }

  /** A stream of server-sent events: fragments that have changed, until its reader or the store goes. */
  stream(queueName: string): ReadableStream<Uint8Array> {
    return this.#queue(queueName).stream();
  }

  /** Has the next look be a new one, after something was changed. */
  refresh(queueName: string): void {
    this.#queues.get(queueName)?.refresh();
  }

  #queue(queueName: string): LiveQueue {
    for (const [name, queue] of this.#queues) if (queue.isForgotten) this.#queues.delete(name);
    let queue = this.#queues.get(queueName);
    if (!queue) {
      queue = new LiveQueue(() => this.#read(queueName), this.#store, this.#render);
      this.#queues.set(queueName, queue);
    }
    return queue;
  }
}

class LiveQueue {
  readonly #read: () => Promise<QueueStats>;
  readonly #store: Pick<Store, "onClose">;
  readonly #render: (look: Look) => Fragments;
  readonly #viewers: Set<Viewer> = new Set();
  #depths: readonly Depth[] = [];
  #latest: Promise<Look> | undefined;
  #lookedAt = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #onClose: Disposable | undefined;
  #isInTrouble = false;

  constructor(
    read: () => Promise<QueueStats>,
    store: Pick<Store, "onClose">,
    render: (look: Look) => Fragments,
  ) {
    this.#read = read;
    this.#store = store;
    this.#render = render;
  }

  get isForgotten(): boolean {
    return this.#viewers.size === 0 && performance.now() - this.#lookedAt > FORGET_MS;
  }

  look(): Promise<Look> {
    const now = performance.now();
    if (this.#latest && now - this.#lookedAt < LOOK_EVERY_MS) return this.#latest;
    this.#lookedAt = now;
    return this.#latest = this.#readOnce();
  }

  refresh(): void {
    this.#latest = undefined;
  }

  stream(): ReadableStream<Uint8Array> {
    const viewer = new Viewer();
    return new ReadableStream({
      start: (controller) => {
        viewer.begin(controller);
        this.#add(viewer);
      },
      cancel: () => this.#remove(viewer),
    });
  }

  async #readOnce(): Promise<Look> {
    const stats = await this.#read();
    const at = stats.at.getTime();
    const recent = this.#depths.filter((depth) => depth.at > at - DEPTHS_MS && depth.at < at);
    this.#depths = [...recent, { at, due: stats.due, inProgress: stats.inProgress }];
    return { stats, depths: this.#depths };
  }

  #add(viewer: Viewer): void {
    this.#viewers.add(viewer);
    if (this.#viewers.size > 1) return;
    this.#onClose = this.#store.onClose(() => this.#endAll());
    this.#timer = setTimeout(() => this.#tick(), 0);
  }

  #remove(viewer: Viewer): void {
    this.#viewers.delete(viewer);
    if (this.#viewers.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#onClose?.[Symbol.dispose]();
  }

  #endAll(): void {
    for (const viewer of [...this.#viewers]) {
      this.#remove(viewer);
      viewer.end();
    }
  }

  async #tick(): Promise<void> {
    const timer = this.#timer;
    const news = await this.#news();
    if (this.#timer !== timer) return; // everybody left meanwhile, or others came
    for (const viewer of this.#viewers) news(viewer);
    this.#timer = setTimeout(() => this.#tick(), LOOK_EVERY_MS);
  }

  async #news(): Promise<(viewer: Viewer) => void> {
    try {
      const fragments = this.#render(await this.look());
      this.#isInTrouble = false;
      return (viewer) => viewer.show(fragments);
    } catch (error) {
      if (!this.#isInTrouble) logger.warn("live numbers cannot be read: {error}", { error });
      this.#isInTrouble = true;
      return (viewer) => viewer.tell("trouble", "The store does not answer");
    }
  }
}

/** Somebody who watches: gets what is different from what is shown there. */
class Viewer {
  readonly #shown: Map<string, Html["text"]> = new Map();
  /** Whether it was told of trouble, and not yet that it is over. */
  #isWorried = false;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;

  begin(controller: ReadableStreamDefaultController<Uint8Array>): void {
    this.#controller = controller;
    this.#write("retry: 2000\n\n");
  }

  /** Sends what has changed. Who is slow is left out, and gets the sum of all changes later. */
  show(fragments: Fragments): void {
    if (this.#isBehind) return;
    const changed = fragments.filter(([id, { text }]) => this.#shown.get(id) !== text);
    for (const [id, { text }] of changed) this.#shown.set(id, text);
    const texts = changed.map(([id, { text }]) => [id, text]);
    // Without news the line is a comment, by which a connection that is gone is noticed.
    if (changed.length === 0 && !this.#isWorried) this.#write(":\n\n");
    else this.#write(`data: ${JSON.stringify(Object.fromEntries(texts))}\n\n`);
    this.#isWorried = false;
  }

  tell(event: string, text: string): void {
    if (this.#isBehind) return;
    this.#write(`event: ${event}\ndata: ${text}\n\n`);
    this.#isWorried = true;
  }

  end(): void {
    this.#controller?.close();
  }

  get #isBehind(): boolean {
    return (this.#controller?.desiredSize ?? 0) < 0;
  }

  #write(text: string): void {
    this.#controller?.enqueue(encoder.encode(text));
  }
}
