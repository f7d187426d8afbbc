/**
 * The Lua for watching jobs; keys and first argument as in `redis_prelude.ts`.
 * @module
 */
import { PROGRESS_KEEP_MS, script } from "./redis_prelude.ts";
import { LOOK_UP } from "./redis_scripts.ts";

/**
 * Reads what is known of a job in one step, and has its steps told from now on.
 *
 * Arguments: id, "1" to get the payload too, for how many ms to watch.
 *
 * Replies as `LOOK_UP`; then how often it was started or nil, and what it reported last or nil.
 */
const OBSERVE = LOOK_UP + String.raw`
local watched = OPS .. 'watched'
call('ZREMRANGEBYSCORE', watched, '-inf', now)
call('ZADD', watched, format('%.0f', now + ARGV[4]), id)
if call('PTTL', watched) < tonumber(ARGV[4]) then call('PEXPIRE', watched, ARGV[4]) end
known[7] = read(STARTS .. id)
known[8] = read(PROGRESS .. id)
return known
`;

/**
 * Keeps what running jobs tell of their progress, and tells those who watch.
 *
 * Arguments: lease ms; then per job: id, token, original score, starts, the report's number, value.
 *
 * Nothing is done for a lease that is lost.
 */
const REPORT = String.raw`
local keep = ARGV[2] + ${PROGRESS_KEEP_MS}
for i = 3, #ARGV, 6 do
  local id, starts, nth, value = ARGV[i], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  if is_mine(id, ARGV[i + 1], ARGV[i + 2]) then
    local report = format('%.0f,%s,%s:', now, starts, nth) .. value
    call('SET', PROGRESS .. id, report, 'PX', keep)
    tell_watchers('progress', id, starts, nth, value)
  end
end
return 1
`;

/** The scripts, by what they do. */
export const eventScripts = {
  observe: script(OBSERVE),
  report: script(REPORT),
} as const;
