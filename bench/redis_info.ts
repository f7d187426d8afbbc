import { type ArqClient, createPool } from "../mod.ts";

/** A look at a private Redis from beside. */
export class RedisInfo implements AsyncDisposable {
  readonly #client: ArqClient;

  private constructor(client: ArqClient) {
    this.#client = client;
  }

  static async connect(url: string): Promise<RedisInfo> {
    return new RedisInfo(await createPool(url));
  }

  /** Sends one command. */
  command(...args: string[]): Promise<unknown> {
    return this.#client.redis.sendCommand(args);
  }

  /** The bytes that what is stored, and the server itself, take. */
  usedMemory(): Promise<number> {
    return this.#number("memory", "used_memory");
  }

  /** The processor time that the server has used, in microseconds. */
  async usedCpu(): Promise<number> {
    const user = await this.#number("cpu", "used_cpu_user");
    return (user + await this.#number("cpu", "used_cpu_sys")) * 1e6;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#client.close();
  }

  async #number(section: string, field: string): Promise<number> {
    const info = String(await this.command("INFO", section));
    return Number(new RegExp(`^${field}:(.*)$`, "m").exec(info)?.[1] ?? NaN);
  }
}
