/** What the contenders do in turns. */
export const STEP_NAMES = ["one by one, run 100", "bulk, run 10", "round trips"] as const;

/** One of them. */
export type Step = typeof STEP_NAMES[number];

export function isStep(name: string): name is Step {
  return STEP_NAMES.some((step) => step === name);
}
