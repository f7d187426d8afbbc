/**
 * What this program may do.
 * @module
 */

interface Permissions {
  readonly permissions: {
    querySync(descriptor: { readonly name: string; readonly [key: string]: string }): {
      readonly state: string;
    };
  };
}

/** Whether a permission is there already; asking never prompts. Everything is, but in Deno. */
export function isGranted(name: string, target: Readonly<Record<string, string>>): boolean {
  const deno = Reflect.get(globalThis, "Deno") as Permissions | undefined;
  return deno === undefined || deno.permissions.querySync({ name, ...target }).state === "granted";
}
