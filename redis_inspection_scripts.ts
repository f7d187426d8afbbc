/**
 * The Lua for operators. These scripts take the keys and the first argument of those in
 * `redis_scripts.ts`, and may be repeated after a lost reply as well.
 * @module
 */
import { script } from "./redis_scripts.ts";

/**
 * Has claims of the queue take nothing, or ends that and wakes a worker.
 *
 * Arguments: "1" to pause, "0" to resume.
 */
const SET_PAUSED = String.raw`
local paused_key = ops_key('paused')
if ARGV[2] == '1' then redis.call('SET', paused_key, '1')
else
  redis.call('DEL', paused_key)
  wake()
end
return 1
`;

/**
 * Removes a job of this queue that nobody runs, and the result of its id.
 *
 * Arguments: "1" if an earlier reply may have been lost; id.
 *
 * Replies "removed", "running" or "not_found"; "removed" too where there is nothing and an earlier
 * call may have done it. A lock alone, the tail of a slot, stays.
 */
const REMOVE = String.raw`
local id = ARGV[3]
local queued = redis.call('ZSCORE', QUEUE, id) ~= false
if queued and redis.call('EXISTS', lock_key(id)) == 1 then return 'running' end
local removed = redis.call('DEL', result_key(id))
if queued then
  removed = 1
  redis.call('DEL', job_key(id), starts_key(id), handbacks_key(id))
  redis.call('ZREM', QUEUE, id)
  forget_aborts(id)
end
return (removed == 1 or ARGV[2] == '1') and 'removed' or 'not_found'
`;

/** The scripts for operators, by what they do. */
export const inspectionScripts = {
  setPaused: script(SET_PAUSED),
  remove: script(REMOVE),
} as const;
