/** Counts the timers that are set; to be imported before what sets them. */

const active = new Map<unknown, boolean>();
const { setTimeout, setInterval, clearTimeout, clearInterval } = globalThis;

type SetTimer = (
  callback: (...args: unknown[]) => void,
  ms?: number,
  ...args: unknown[]
) => unknown;

function counting(set: SetTimer, isOnce: boolean): SetTimer {
  return (callback, ms, ...args) => {
    const timer = set(
      (...given) => {
        if (isOnce) active.delete(timer);
        callback(...given);
      },
      ms,
      ...args,
    );
    active.set(timer, isOnce);
    return timer;
  };
}

function forgetting(clear: (timer: never) => void): (timer: unknown) => void {
  return (timer) => {
    active.delete(timer);
    clear(timer as never);
  };
}

Object.assign(globalThis, {
  setTimeout: counting(setTimeout as SetTimer, true),
  setInterval: counting(setInterval as SetTimer, false),
  clearTimeout: forgetting(clearTimeout),
  clearInterval: forgetting(clearInterval),
});

/** How many timers are set at the moment. */
export function countTimers(): number {
  return active.size;
}
