/** What `isolating_program.ts` is, but it prints the result where errors go. */
console.log = console.error;
await import("./isolating_program.ts");
