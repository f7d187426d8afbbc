/** What the contenders do in turns. */
export const NEAR_STEPS = ["one by one, run 100", "bulk, run 10", "round trips"] as const;
/** What they do with a Redis that is some milliseconds away. */
export const FAR_STEPS = ["far round trips"] as const;

/** One of them. */
export type Step = typeof NEAR_STEPS[number] | typeof FAR_STEPS[number];

export function isStep(name: string): name is Step {
  return [...NEAR_STEPS, ...FAR_STEPS].some((step) => step === name);
}
