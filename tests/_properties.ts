/**
 * fast-check with the same values in every run, so that a run which fails was made to by a change;
 * the variable `FC_SEED` gives others.
 */
import fc from "fast-check";
import process from "node:process";

fc.configureGlobal({ seed: Number(process.env.FC_SEED ?? 20_261_123) });

export { fc };
