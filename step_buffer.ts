/**
 * What happened to a watched job, until its reader asks for it.
 * @module
 */

/** A step of a job; what its function or its end says is still encoded. */
export type Step =
  | {
    readonly kind: "queued" | "retried";
    readonly at: number;
    readonly starts: number;
    readonly dueAt: number;
  }
  | { readonly kind: "started"; readonly at: number; readonly starts: number }
  | {
    readonly kind: "progress";
    readonly at: number;
    readonly starts: number;
    readonly value: Uint8Array;
  }
  | { readonly kind: "finished"; readonly record: Uint8Array };

/** A job that is retried again and again must not fill the memory of a reader that never reads. */
const MOST_STEPS = 1_000;

/** Keeps steps in order; of progress only the last, which is what a slow reader wants to know. */
export class StepBuffer {
  #steps: Step[] = [];
  readonly #readers: PromiseWithResolvers<Step | undefined>[] = [];
  #failure: { readonly error: unknown } | undefined;
  #isEnded = false;

  /** The next step, undefined after the last one; rejects if the watching failed. */
  next(): Promise<Step | undefined> {
    const reader = Promise.withResolvers<Step | undefined>();
    this.#readers.push(reader);
    this.#serve();
    return reader.promise;
  }

  /** Adds a step. */
  push(step: Step): void {
    if (step.kind === "progress") this.#drop(({ kind }) => kind === "progress");
    else if (this.#steps.length >= MOST_STEPS) this.#drop(() => true);
    this.#steps.push(step);
    this.#serve();
  }

  /** After the steps that are there, the reader gets an error. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#serve();
  }

  /** There will be no more steps. */
  end(): void {
    this.#isEnded = true;
    this.#serve();
  }

  /** Forgets the steps that are there. */
  clear(): void {
    this.#steps = [];
  }

  #drop(isMeant: (step: Step) => boolean): void {
    const index = this.#steps.findIndex(isMeant);
    if (index >= 0) this.#steps.splice(index, 1);
  }

  #serve(): void {
    while (this.#readers.length > 0) {
      const isReady = this.#steps.length > 0 || this.#failure || this.#isEnded;
      if (!isReady) return;
      const reader = this.#readers.shift();
      if (this.#steps.length > 0) reader?.resolve(this.#steps.shift());
      else if (this.#failure) reader?.reject(this.#failure.error);
      else reader?.resolve(undefined);
    }
  }
}
