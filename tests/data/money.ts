/** A class of a program's own, and a serializer that knows it. */

/** An amount. */
export class Money {
  constructor(readonly cents: number) {}
}

function tag(_key: string, value: unknown): unknown {
  return value instanceof Money ? { $money: value.cents } : value;
}

function untag(_key: string, value: unknown): unknown {
  const isMoney = typeof value === "object" && value !== null && "$money" in value;
  return isMoney ? new Money(Number(value.$money)) : value;
}

export function jobSerializer(record: Record<string, unknown>): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(record, tag));
}

export function jobDeserializer(bytes: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(bytes), untag);
}
