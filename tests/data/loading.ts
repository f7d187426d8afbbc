/** What the import of `never_loaded.ts` waits for: a test resolves it when all is over. */
export const loading: PromiseWithResolvers<void> = Promise.withResolvers<void>();
