/**
 * The signals that tell programs to end.
 * @module
 */

/** Their numbers: a program that one of them ends has 128 and its number as exit code. */
export const END_SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;
