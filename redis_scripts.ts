/**
 * The Lua that runs inside Redis: every operation on a queue that must be atomic.
 *
 * Keys and first argument as in `redis_prelude.ts`, whose names all scripts share. Each may be
 * repeated after a lost reply.
 *
 * A claimed job has a *lease*: `in-progress:<id>` holds the claim's token until it expires, the
 * job's score in the queue is the lease's end, and `<queue>:leases` has the member
 * `<original score>:<id>` with the same end. Whoever shows the token owns the job. It is that of the
 * whole claim: `<holder>:<random>:<the lease's end before it was renewed>`.
 * @module
 */
import { CLAIM } from "./redis_claim.ts";
import { PROGRESS_KEEP_MS, script } from "./redis_prelude.ts";

/**
 * Accepts jobs, all or none.
 *
 * Arguments: extra ms until expiry; `again` = "1" if an earlier reply may have been lost; a nonce
 * or "" if all ids are random; the payloads of all jobs, one behind the other, and their lengths,
 * with a comma behind each, which is one write for the client instead of one a job; then the ids. For
 * others than random ids that are due now the length goes on with `+`, and the id is followed by
 * `kind,due time,delay,expiry,slot` (kind: `random`, `given`, `slot`; the others may be empty).
 *
 * Replies which jobs are taken: their numbers, from 1, with commas between them.
 *
 * Guarantees: an id that has a job, a result, or a running job in the queue is taken and left as it
 * is. A slot is refused also while its lock lasts and when over 60 s late; one that its job's id does
 * not name is locked from here until then. A repeated call answers what the first one did. Nothing
 * is written if the queue's key holds something else than a queue.
 */
const ENQUEUE = String.raw`
local SLOT_LATE = 60000
local extra, again, nonce = tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4]
local nonce_key = prefix .. 'nonce:' .. nonce
if nonce ~= '' then
  local reply = call('GET', nonce_key)
  if reply then return reply end
end
call('ZCARD', QUEUE)

local taken, entries, added, earliest = {}, {}, 0, math.huge

-- What is rarely asked for: jobs that may be taken, are due later, or have an expiry of their own.
local function adder_on_terms()
  local function is_taken(id, kind, score, slot)
    if call('EXISTS', JOB .. id, RESULT .. id) > 0 then return true end
    if kind == 'random' then return false end
    if kind == 'slot' then
      local slot_lock = LOCK .. (slot ~= '' and slot or id)
      if score < now - SLOT_LATE or call('EXISTS', slot_lock) == 1 then return true end
    end
    return call('EXISTS', LOCK .. id) == 1 and call('ZSCORE', QUEUE, id) ~= false
  end

  -- Returns whether the job is there, now or from an earlier call.
  return function(id, payload, terms)
    local kind, due, delay, expires, slot = string.match(terms, '^(.-),(.-),(.-),(.-),(.*)$')
    kind, slot = kind or 'random', slot or ''
    local score = now
    if (due or '') ~= '' then score = tonumber(due)
    elseif (delay or '') ~= '' then score = now + tonumber(delay) end
    score = math.max(1, math.min(score, LAST_INSTANT))
    local fresh = kind == 'random' and not again
    if not fresh and is_taken(id, kind, score, slot) then return kind == 'random' end
    local ttl = tonumber(expires) or (math.max(score, now) - now + extra)
    call('SET', JOB .. id, payload, 'PX', format('%.0f', ttl))
    entries[added + 1], entries[added + 2] = format('%.0f', score), id
    added = added + 2
    if not fresh then
      call('DEL', STARTS .. id, HANDBACKS .. id, PROGRESS .. id)
      redis.pcall('ZREM', ABORT, id)
    end
    if slot ~= '' then
      call('SET', LOCK .. slot, '1', 'PX', format('%.0f', score - now + SLOT_LATE + 1))
    end
    earliest = math.min(earliest, score)
    return true
  end
end

local payloads, start, at, number, add_on_terms = ARGV[5], 1, 6, 0, nil
local plain_score, plain_ttl = format('%.0f', now), format('%.0f', extra)
for length, has_terms in string.gmatch(ARGV[6], '(%d+)(%+?)') do
  number, at = number + 1, at + 1
  local id, first = ARGV[at], start
  start = start + length
  local payload = string.sub(payloads, first, start - 1)
  if has_terms == '' and not again then -- it is due now and has a new id: no question need be asked
    call('SET', JOB .. id, payload, 'PX', plain_ttl)
    entries[added + 1], entries[added + 2] = plain_score, id
    added = added + 2
    if earliest > now then earliest = now end
  else
    local terms = ''
    if has_terms ~= '' then at = at + 1 terms = ARGV[at] end
    add_on_terms = add_on_terms or adder_on_terms()
    if not add_on_terms(id, payload, terms) then taken[#taken + 1] = number end
  end
end
if added > 0 then
  call('ZADD', QUEUE, unpack(entries))
  wake_for(earliest)
end
local reply = table.concat(taken, ',')
if nonce ~= '' then call('SET', nonce_key, reply, 'PX', 60000) end
return reply
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
call('ZREM', LEASES, '')
local replies = {}
for i = 3, #ARGV, 3 do
  local id, token, score = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local mine = is_mine(id, token, score)
  if mine then
    call('SET', LOCK .. id, token, 'PX', lease)
    call('ZADD', QUEUE, 'XX', lease_end, id)
    call('ZADD', LEASES, lease_end, score .. ':' .. id)
    call('PEXPIRE', PROGRESS .. id, lease + ${PROGRESS_KEEP_MS})
  end
  replies[#replies + 1] = mine and '1' or '0'
end
return table.concat(replies)
`;

/** Up to so many ends are announced without asking who listens. */
const FEW = 8;

/**
 * Records the end of claimed jobs and announces each that somebody listens for.
 *
 * Arguments: "1" if an earlier reply may have been lost; "1" if all who listen do so on this server;
 * the results of all jobs, one behind the other; then groups of jobs with the same token and terms:
 * how many, token, and `success,keep,tail,returned`: 1 for a success, ms to keep the result (empty
 * for ever, 0 not at all), ms for which the id stays locked, 1 if starts have ended in hand-backs;
 * then per job: id, its member of the leases, and its result's length.
 *
 * Replies a string with "1" for a recorded and "0" for a refused end each; "1" too where this end
 * seems to be recorded already, by an earlier call.
 *
 * Guarantees: one result is recorded for an incarnation. A success may come after the lease was
 * lost as long as nobody else has finished the job; other ends are refused then. A job enqueued
 * anew under the same id meanwhile stays.
 */
const FINISH = String.raw`
local ids, members, results, locks_of, groups, count = {}, {}, {}, {}, {}, 0
-- Most jobs are as their claim has left them, with the lease's end as score, which the token tells.
local untouched = {}
local records, start, at = ARGV[4], 1, 5
while at < #ARGV do
  local token, jobs = ARGV[at + 1], tonumber(ARGV[at])
  local success, keep, tail, returned = string.match(ARGV[at + 2], '(.*),(.*),(.*),(.*)')
  local group = {
    token = token, success = success == '1', keep = keep, tail = tail, returned = returned == '1',
  }
  at = at + 3
  for i = at, at + 3 * jobs - 1, 3 do
    local id, stop = ARGV[i], start + ARGV[i + 2]
    count = count + 1
    ids[count], members[count], results[count] = id, ARGV[i + 1], string.sub(records, start, stop - 1)
    locks_of[count], groups[count] = LOCK .. id, group
    start = stop
  end
  at = at + 3 * jobs
  local lease_end = string.match(token, ':(%d+)$') or '0'
  local found = call('ZRANGEBYSCORE', QUEUE, lease_end, lease_end, 'LIMIT', '0', 2 * jobs)
  for _, id in ipairs(found) do untouched[id] = token end
end
local locks = call('MGET', unpack(locks_of))

-- What is to be known of the others: the lease's end if the lease is still there, the score if the
-- job is still queued, and whether another incarnation is there.
local function look(n)
  local leased, queued = call('ZSCORE', LEASES, members[n]), call('ZSCORE', QUEUE, ids[n])
  -- Python's abort sets score 1; any other score but the lease's is a new incarnation.
  local is_anew = queued and queued ~= leased and tonumber(queued) ~= 1
    and call('EXISTS', JOB .. ids[n]) == 1
  return leased, queued, is_anew
end

local gone, g, leaving, released, accepted, replies, seen = {}, 0, {}, {}, {}, {}, {}
local has_new = false
for n, id in ipairs(ids) do
  local group, lock = groups[n], locks[n]
  local is_ours = lock == group.token
  local is_untouched = is_ours and untouched[id] == group.token
  local leased, queued, is_anew
  if not is_untouched then leased, queued, is_anew = look(n) end
  local may_end = is_ours or ((group.success or not lock) and leased and queued)
  if may_end and not seen[id] then
    seen[id] = true
    accepted[#accepted + 1] = n
    released[#released + 1] = members[n]
    gone[g + 1], gone[g + 2] = locks_of[n], STARTS .. id
    g = g + 2
    -- Deleting what is hardly ever there costs as much as deleting what is. But who has renewed a lease
    -- may have got it back from another, after hand-backs that it was not told of.
    if group.returned or not is_untouched then
      g = g + 1
      gone[g] = HANDBACKS .. id
    end
    if is_anew then has_new = true
    else
      g = g + 1
      gone[g] = JOB .. id
      leaving[#leaving + 1] = id
    end
    replies[n] = '1'
  else
    -- Has an earlier call done this already? Then the result is there, or nobody holds the job.
    local is_recorded = redis.pcall('GET', RESULT .. id) == results[n]
      or (ARGV[2] == '1' and not lock and not leased)
    replies[n] = is_recorded and '1' or '0'
  end
end
if g > 0 then
  call('ZREM', LEASES, unpack(released))
  call('DEL', unpack(gone))
end
if #leaving > 0 then
  call('ZREM', QUEUE, unpack(leaving))
  if call('EXISTS', ABORT) == 1 then redis.pcall('ZREM', ABORT, unpack(leaving)) end
end
if has_new then wake() end
local succeeded, failed = {}, {}
for _, n in ipairs(accepted) do
  local id, result, group = ids[n], results[n], groups[n]
  local keep = group.keep
  if keep == '' then call('SET', RESULT .. id, result)
  elseif keep ~= '0' then call('SET', RESULT .. id, result, 'PX', keep) end
  if keep ~= '0' then
    local noted = group.success and succeeded or failed
    noted[#noted + 1] = id
  end
  if group.tail ~= '0' then call('SET', locks_of[n], '1', 'PX', group.tail) end
end
-- Of many jobs few are waited for: one call tells which.
local channels, listening = {}, {}
for i, n in ipairs(accepted) do channels[i] = channel_of(ids[n]) end
if #channels > ${FEW} and ARGV[3] == '1' then
  listening = redis.pcall('PUBSUB', 'NUMSUB', unpack(channels))
end
for i, n in ipairs(accepted) do
  if listening[2 * i] ~= 0 then announce(channels[i], ids[n], results[n], groups[n].keep ~= '0') end
end
note_succeeded(succeeded)
note_failed(failed)
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
call('ZREM', LEASES, '')
local replies = {}
for i = 3, #ARGV, 6 do
  local id, score, delay = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local reply = '0'
  if is_mine(id, ARGV[i + 1], score) then
    local due = delay == '' and score or format('%.0f', math.min(now + tonumber(delay), LAST_INSTANT))
    return_to_queue(id, score, due)
    -- A claim asks for hand-backs only where there was a start before.
    if ARGV[i + 4] == '0' then call('DEL', STARTS .. id, HANDBACKS .. id)
    else call('SET', STARTS .. id, ARGV[i + 4], 'EX', '88400') end
    if ARGV[i + 5] == '1' then count_handback(id) end
    wake_for(tonumber(due))
    tell_watchers('retried', id, ARGV[i + 4], due)
    local ttl = call('PTTL', JOB .. id)
    reply = delay ~= '' and ttl ~= -1 and tonumber(due) - now > ttl and '2' or '1'
  end
  -- Nobody holds it: the earlier call gave it back.
  if reply == '0' and ARGV[2] == '1' and call('EXISTS', LOCK .. id) == 0 then reply = '1' end
  replies[#replies + 1] = reply
end
return table.concat(replies)
`;

/**
 * Releases leases that a worker holds without knowing: the reply to its claim was lost.
 *
 * Arguments: what the worker's tokens start with; then token, a colon and id of the leases it knows.
 *
 * Replies how many it released.
 */
const RELEASE_UNKNOWN = String.raw`
call('ZREM', LEASES, '')
local holder, known, released = ARGV[2], {}, 0
for i = 3, #ARGV do known[ARGV[i]] = true end
for _, member in ipairs(call('ZRANGE', LEASES, 0, -1)) do
  local id, score = read_lease(member)
  local lock = id and redis.pcall('GET', LOCK .. id)
  if type(lock) == 'string' and string.sub(lock, 1, #holder) == holder
    and not known[lock .. ':' .. id] then
    return_to_queue(id, score, score)
    count_handback(id)
    tell_watchers('retried', id, tonumber(redis.pcall('GET', STARTS .. id) or 0) or 0, score)
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
local locked = call('EXISTS', LOCK .. id) == 1
local queued = call('ZSCORE', QUEUE, id) ~= false
-- A lock alone is the tail of a slot that has ended; a running job's data may have expired.
local is_there = call('EXISTS', JOB .. id) == 1 or (locked and queued)
if not is_there then
  return redis.pcall('GET', RESULT .. id) == result and 'aborted' or 'not_found'
end
if locked or not queued then
  call('ZADD', ABORT, format('%.0f', now - 60000), id)
  return 'asked'
end
call('DEL', JOB .. id, STARTS .. id, HANDBACKS .. id)
call('ZREM', QUEUE, id)
redis.pcall('ZREM', ABORT, id)
call('SET', RESULT .. id, result, 'PX', keep)
note_failed({id})
announce(channel_of(id), id, result, true)
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
  read(RESULT .. id),
  ARGV[3] == '1' and read(JOB .. id),
  call('EXISTS', JOB .. id),
  call('EXISTS', LOCK .. id),
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
