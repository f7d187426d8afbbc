/** Functions that `isolation.ts` runs in processes of their own. */

export function add(_ctx: unknown, a: number, b: number): number {
  return a + b;
}

export function spin(): void {
  for (;;);
}
