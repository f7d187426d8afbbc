/**
 * The Lua that runs inside Redis: every operation on a queue that must be atomic.
 *
 * Keys and first argument as in `redis_prelude.ts`, whose names all scripts share. Each may be
 * repeated after a lost reply.
 *
 * A claimed job has a *lease*: `in-progress:<id>` holds the claim's token until it expires, the
 * job's score in the queue is the lease's end, and `<queue>:leases` has the member
 * `<original score>:<id>` with the same end. Whoever shows the token owns the job.
 * @module
 */
import { CLAIM } from "./redis_claim.ts";
import { PROGRESS_KEEP_MS, script } from "./redis_prelude.ts";

/**
 * Accepts jobs, all or none.
 *
 * Arguments: extra ms until expiry; `again` = "1" if an earlier reply may have been lost; a nonce
 * or "" if all ids are random; the payloads of all jobs, one behind the other, which is one write
 * for the client instead of one a job; then per job: id, and its payload's length, which for other
 * than random ids that are due now goes on with `,kind,due time,delay,expiry,slot` (kind: `random`,
 * `given`, `slot`; the others may be empty).
 *
 * Replies a string with "1" for a created and "0" for a taken job each.
 *
 * Guarantees: an id that has a job, a result, or a running job in the queue is taken and left as it
 * is. A slot is refused also while its lock lasts and when over 60 s late; one that its job's id does
 * not name is locked from here until then. A repeated call answers what the first one did. Nothing
 * is written if the queue's key holds something else than a queue.
 */
const ENQUEUE = String.raw`
local LAST_INSTANT, SLOT_LATE = 8.64e15, 60000
local extra, again, nonce = tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4]
local nonce_key = prefix .. 'nonce:' .. nonce
if again and nonce ~= '' then
  local replies = call('GET', nonce_key)
  if replies then return replies end
end
call('ZCARD', QUEUE)

local function is_taken(id, kind, score, slot)
  if call('EXISTS', job_key(id), result_key(id)) > 0 then return true end
  if kind == 'random' then return false end
  if kind == 'slot' then
    local slot_lock = lock_key(slot ~= '' and slot or id)
    if score < now - SLOT_LATE or call('EXISTS', slot_lock) == 1 then return true end
  end
  return call('EXISTS', lock_key(id)) == 1 and call('ZSCORE', QUEUE, id) ~= false
end

local function ms(number) return format('%.0f', number) end

local replies, entries, added, earliest = {}, {}, 0, math.huge
local function add(id, payload, score, ttl)
  call('SET', job_key(id), payload, 'PX', ttl)
  entries[added + 1], entries[added + 2] = score, id
  added = added + 2
end

-- Most jobs are due now and have a new id: no question need be asked.
local plain_score, plain_ttl = ms(now), ms(extra)
local function add_plain(id, payload)
  add(id, payload, plain_score, plain_ttl)
  earliest = math.min(earliest, now)
  return '1'
end

local function add_on_terms(id, payload, kind, due, delay, expires, slot)
  local score = now
  if due ~= '' then score = math.max(1, math.min(tonumber(due), LAST_INSTANT))
  elseif delay ~= '' then score = now + tonumber(delay) end
  local fresh = kind == 'random' and not again
  if not fresh and is_taken(id, kind, score, slot) then return kind == 'random' and '1' or '0' end
  add(id, payload, ms(score), ms(tonumber(expires) or (math.max(score, now) - now + extra)))
  if not fresh then
    call('DEL', starts_key(id), handbacks_key(id), progress_key(id))
    forget_aborts(id)
  end
  if slot ~= '' then
    call('SET', lock_key(slot), '1', 'PX', ms(score - now + SLOT_LATE + 1))
  end
  earliest = math.min(earliest, score)
  return '1'
end

local payloads, start = ARGV[5], 1
for i = 6, #ARGV, 2 do
  local id, terms = ARGV[i], ARGV[i + 1]
  local length = tonumber(terms)
  local is_plain = length and not again
  length = length or tonumber(string.match(terms, '^%d+'))
  local payload = string.sub(payloads, start, start + length - 1)
  start = start + length
  if is_plain then replies[#replies + 1] = add_plain(id, payload)
  else
    local kind, due, delay, expires, slot = string.match(terms, ',(.-),(.-),(.-),(.-),(.*)$')
    replies[#replies + 1] =
      add_on_terms(id, payload, kind or 'random', due or '', delay or '', expires or '', slot or '')
  end
end
if added > 0 then
  call('ZADD', QUEUE, unpack(entries))
  wake_for(earliest)
end
replies = table.concat(replies)
if nonce ~= '' then call('SET', nonce_key, replies, 'PX', 60000) end
return replies
`;

/**
 * Renews leases.
 *
 * Arguments: lease ms; then per lease: id, token, original score.
 *
 * Replies a string with "1" for a renewed and "0" for a lost lease each.
 */
const RENEW = String.raw`
local lease = ARGV[2]
local lease_end = format('%.0f', now + lease + 5)
write_even_when_full()
local replies = {}
for i = 3, #ARGV, 3 do
  local id, token, score = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local mine = is_mine(id, token, score)
  if mine then
    call('SET', lock_key(id), token, 'PX', lease)
    call('ZADD', QUEUE, 'XX', lease_end, id)
    call('ZADD', LEASES, lease_end, lease_member(id, score))
    call('PEXPIRE', progress_key(id), lease + ${PROGRESS_KEEP_MS})
  end
  replies[#replies + 1] = mine and '1' or '0'
end
return table.concat(replies)
`;

/**
 * Records the end of claimed jobs and announces each.
 *
 * Arguments: "1" if an earlier reply may have been lost; then per job: id, token, original score,
 * result, and `success,keep,tail`: 1 for a success, ms to keep the result (empty for ever, 0 not at
 * all), ms for which the id stays locked.
 *
 * Replies a string with "1" for a recorded and "0" for a refused end each; "1" too where this end
 * seems to be recorded already, by an earlier call.
 *
 * Guarantees: one result is recorded for an incarnation. A success may come after the lease was
 * lost as long as nobody else has finished the job; other ends are refused then. A job enqueued
 * anew under the same id meanwhile stays.
 */
const FINISH = String.raw`
-- The first write frees memory, so that a full server takes it.
local FIELDS = 5
local ids, keys, members = {}, {}, {}
for i = 3, #ARGV, FIELDS do
  local n, id = #ids + 1, ARGV[i]
  ids[n], keys[n], members[n] = id, lock_key(id), lease_member(id, ARGV[i + 2])
end
local locks = call('MGET', unpack(keys))
local queued = call('ZMSCORE', QUEUE, unpack(ids))
local leased = call('ZMSCORE', LEASES, unpack(members))

-- Most jobs of a batch have the same terms.
local parsed, terms = '', nil
local function terms_at(i)
  if ARGV[i + 4] == parsed then return terms end
  local success, keep, tail = string.match(ARGV[i + 4], '(.*),(.*),(.*)')
  parsed, terms = ARGV[i + 4], { success = success == '1', keep = keep, tail = tail }
  return terms
end

local function is_accepted(n, token, success)
  if locks[n] == token then return true end
  return (success or not locks[n]) and leased[n] ~= false and queued[n] ~= false
end

-- Python's abort sets score 1; any other score but the lease's is a new incarnation.
local function is_enqueued_anew(n)
  return queued[n] and queued[n] ~= leased[n] and tonumber(queued[n]) ~= 1
    and call('EXISTS', job_key(ids[n])) == 1
end

-- Has an earlier call done this already? Then the result is there, or nobody holds the job.
local function is_recorded(n, result)
  if redis.pcall('GET', result_key(ids[n])) == result then return true end
  return ARGV[2] == '1' and not locks[n] and leased[n] == false
end

local gone, ended, released, replies, accepted, has_new = {}, {}, {}, {}, {}, false
for n, id in ipairs(ids) do
  local i = 3 + (n - 1) * FIELDS
  local is_new = not accepted[id] and is_accepted(n, ARGV[i + 1], terms_at(i).success)
  if is_new then
    local g = #gone
    gone[g + 1], gone[g + 2], gone[g + 3] = keys[n], starts_key(id), handbacks_key(id)
    released[#released + 1] = members[n]
    if is_enqueued_anew(n) then has_new = true
    else
      gone[g + 4] = job_key(id)
      ended[#ended + 1] = id
    end
    accepted[id] = i
  end
  replies[n] = (is_new or is_recorded(n, ARGV[i + 3])) and '1' or '0'
end
if #gone > 0 then
  call('DEL', unpack(gone))
  call('ZREM', LEASES, unpack(released))
end
if #ended > 0 then
  call('ZREM', QUEUE, unpack(ended))
  forget_aborts(unpack(ended))
end
if has_new then wake() end
local complete, failed, time_text = {}, {}, format('%.0f', now)
for id, i in pairs(accepted) do
  local result, keep, tail = ARGV[i + 3], terms_at(i).keep, terms_at(i).tail
  if keep == '' then call('SET', result_key(id), result)
  elseif keep ~= '0' then call('SET', result_key(id), result, 'PX', keep) end
  if keep ~= '0' then
    local noted = terms_at(i).success and complete or failed
    local count = #noted
    noted[count + 1], noted[count + 2] = time_text, id
  end
  if tail ~= '0' then call('SET', lock_key(id), '1', 'PX', tail) end
  announce(id, result)
end
note_ends('complete', complete)
note_ends('failed', failed)
return table.concat(replies)
`;

/**
 * Puts claimed jobs back into the queue.
 *
 * Arguments: "1" if an earlier reply may have been lost; then per job: id, token, original score,
 * delay ms or "" for its old place, starts to remember, "1" if the try was cut short and does not
 * count.
 *
 * Replies a string with "1" done, "0" refused, "2" done but the job expires before it is due, each.
 */
const GIVE_BACK = String.raw`
write_even_when_full()
local replies = {}
for i = 3, #ARGV, 6 do
  local id, score, delay = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local reply = '0'
  if is_mine(id, ARGV[i + 1], score) then
    local due = delay == '' and score or format('%.0f', now + tonumber(delay))
    return_to_queue(id, score, due)
    call('SET', starts_key(id), ARGV[i + 4], 'EX', '88400')
    if ARGV[i + 5] == '1' then count_handback(id) end
    wake_for(tonumber(due))
    tell_watchers('retried', id, ARGV[i + 4], due)
    local ttl = call('PTTL', job_key(id))
    reply = delay ~= '' and ttl ~= -1 and tonumber(due) - now > ttl and '2' or '1'
  end
  -- Nobody holds it: the earlier call gave it back.
  if reply == '0' and ARGV[2] == '1' and call('EXISTS', lock_key(id)) == 0 then reply = '1' end
  replies[#replies + 1] = reply
end
return table.concat(replies)
`;

/**
 * Releases leases that a worker holds without knowing: the reply to its claim was lost.
 *
 * Arguments: what the worker's tokens start with; then the tokens it does know.
 *
 * Replies how many it released.
 */
const RELEASE_UNKNOWN = String.raw`
write_even_when_full()
local holder, known, released = ARGV[2], {}, 0
for i = 3, #ARGV do known[ARGV[i]] = true end
for _, member in ipairs(call('ZRANGE', LEASES, 0, -1)) do
  local id, score = read_lease(member)
  local lock = id and redis.pcall('GET', lock_key(id))
  if type(lock) == 'string' and string.sub(lock, 1, #holder) == holder and not known[lock] then
    return_to_queue(id, score, score)
    count_handback(id)
    tell_watchers('retried', id, tonumber(redis.pcall('GET', starts_key(id)) or 0) or 0, score)
    released = released + 1
  end
end
if released > 0 then wake() end
return released
`;

/** Wakes one idle worker; it stays at one wake-up however often this is called. */
const WAKE_ONE = String.raw`
call('DEL', WAKE)
wake()
return 1
`;

/**
 * Aborts a job that nobody runs, or asks the worker that runs it to.
 *
 * Arguments: id, result to record, ms to keep it.
 *
 * Replies "aborted", "asked" or "not_found"; "aborted" too where an earlier call has recorded this
 * very result.
 *
 * The request is dated a minute back: Python drops those that seem to be of the future.
 */
const ABORT_JOB = String.raw`
local id, result, keep = ARGV[2], ARGV[3], ARGV[4]
local locked = call('EXISTS', lock_key(id)) == 1
local queued = call('ZSCORE', QUEUE, id) ~= false
-- A lock alone is the tail of a slot that has ended; a running job's data may have expired.
local is_there = call('EXISTS', job_key(id)) == 1 or (locked and queued)
if not is_there then
  return redis.pcall('GET', result_key(id)) == result and 'aborted' or 'not_found'
end
if locked or not queued then
  call('ZADD', ABORT, format('%.0f', now - 60000), id)
  return 'asked'
end
call('DEL', job_key(id), starts_key(id), handbacks_key(id))
call('ZREM', QUEUE, id)
forget_aborts(id)
call('SET', result_key(id), result, 'PX', keep)
note_ends('failed', {format('%.0f', now), id})
announce(id, result)
return 'aborted'
`;

/**
 * Reads what is known of a job in one step.
 *
 * Arguments: id, "1" to get the payload too.
 *
 * Replies now, result or nil, payload or nil, 1 if there is a job, 1 if it is locked, score or nil.
 */
export const LOOK_UP: string = String.raw`
local id = ARGV[2]
local function read(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end
local known = {
  format('%.0f', now),
  read(result_key(id)),
  ARGV[3] == '1' and read(job_key(id)),
  call('EXISTS', job_key(id)),
  call('EXISTS', lock_key(id)),
  call('ZSCORE', QUEUE, id),
}
`;

/**
 * Lists keys, some at a time. A script, since a Cluster's node answers SCAN also while the slot moves
 * and half of its keys are elsewhere.
 *
 * Arguments: cursor, pattern, "1" on a Cluster.
 *
 * Replies the next cursor, the id of the Cluster's node or "", and keys.
 */
const SCAN = String.raw`
local found = call('SCAN', ARGV[2], 'MATCH', ARGV[3], 'COUNT', 1000)
return {found[1], ARGV[4] == '1' and call('CLUSTER', 'MYID') or '', found[2]}
`;

/** All scripts, by what they do. */
export const scripts = {
  enqueue: script(ENQUEUE),
  claim: script(CLAIM),
  renew: script(RENEW),
  finish: script(FINISH),
  giveBack: script(GIVE_BACK),
  releaseUnknown: script(RELEASE_UNKNOWN),
  wake: script(WAKE_ONE),
  abort: script(ABORT_JOB),
  lookUp: script(`${LOOK_UP}return known`),
  scan: script(SCAN),
} as const;
