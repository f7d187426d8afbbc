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
 * Takes due jobs and sets a lease on each.
 *
 * Arguments: token of this claim, lease ms, how many at most, the last try or "" for no such, "1" if
 * a suspect may be taken.
 *
 * Replies now, when the next entry is due or nil, the queue's length, then per job: id,
 * original score, payload (nil if expired, 0 if not a string), and `starts,hand-backs,abort,suspect`,
 * where 1 says that its abort was asked for, and that it is a suspect. The lock holds `<token>:<id>`.
 *
 * Guarantees: jobs of expired leases come first and keep their score; one that would begin its last
 * try or a later one is a suspect, of which one is taken at the most; entries that somebody else has locked are passed
 * over; a key of a wrong type spoils one job, not the batch; an entry without a job but with a
 * result is removed; if due work is left, the next worker is woken. While the queue is paused, and
 * for a holder that has left, nothing is taken; only the latter passes its wake-up on.
 */
const CLAIM = String.raw`
local token, lease, limit = ARGV[2], ARGV[3], tonumber(ARGV[4])
local now_text, lease_end = format('%.0f', now), format('%.0f', now + lease + 5)
local last_try = tonumber(ARGV[5]) or math.huge
local reply, filled, taken, next_due = {}, 3, 0, false

-- These are rarely there: one command tells that none is.
local paused, left = ops_key('paused'), ops_key('left:' .. string.match(token, '^[^:]*'))
local has_marks = call('EXISTS', ABORT, paused, left, ops_key('watched')) > 0
if has_marks and call('EXISTS', paused, left) > 0 then
  -- The wake-up that made this claim may have been the only one.
  if call('EXISTS', paused) == 0 and call('ZCOUNT', QUEUE, '-inf', now) > 0 then
    write_even_when_full()
    wake()
  end
  return {now_text, false, call('ZCARD', QUEUE)}
end

local function drop_if_ended(id)
  if call('EXISTS', result_key(id)) == 0 then return false end
  call('ZREM', QUEUE, id)
  forget_aborts(id)
  call('DEL', starts_key(id), handbacks_key(id))
  return true
end

local function take_all(ids, scores, suspect)
  local count = #ids
  if count == 0 then return end
  write_even_when_full()
  local keys = {}
  for i, id in ipairs(ids) do keys[i], keys[count + i] = job_key(id), starts_key(id) end
  local values = call('MGET', unpack(keys))
  local aborts = has_marks and redis.pcall('ZMSCORE', ABORT, unpack(ids)) or {}
  local watched = has_marks and redis.pcall('ZMSCORE', ops_key('watched'), unpack(ids)) or {}
  local queue_entries, lease_entries, entered = {}, {}, 0
  local suspicion = suspect and ',1' or ',0'
  for i, id in ipairs(ids) do
    local payload, starts, handbacks = values[i], values[count + i], '0'
    if payload or not drop_if_ended(id) then
      if not payload and call('EXISTS', job_key(id)) == 1 then payload = 0 end
      if starts then
        starts = format('%d', count_of(starts) + 1)
        handbacks = format('%d', handbacks_of(id))
      else starts = '1' end
      call('SET', lock_key(id), token .. ':' .. id, 'PX', lease)
      call('SET', starts_key(id), starts, 'EX', '88400')
      queue_entries[entered + 1], queue_entries[entered + 2] = lease_end, id
      lease_entries[entered + 1] = lease_end
      lease_entries[entered + 2] = lease_member(id, scores[i])
      entered = entered + 2
      reply[filled + 1], reply[filled + 2], reply[filled + 3] = id, scores[i], payload
      reply[filled + 4] = starts .. ',' .. handbacks .. (aborts[i] and ',1' or ',0') .. suspicion
      filled = filled + 4
      taken = taken + 1
      if payload and watched[i] then tell('started', id, starts, '') end
    end
  end
  if entered > 0 then
    call('ZADD', QUEUE, 'XX', unpack(queue_entries))
    call('ZADD', LEASES, unpack(lease_entries))
  end
end

-- The try that a claim would begin, where hand-backs do not count.
local function next_try(id)
  return count_of(call('MGET', starts_key(id))[1]) + 1 - handbacks_of(id)
end

-- Takes orphans, of suspects one at the most; returns the ids of those that it leaves.
local function take_orphans()
  local suspects, seen = {}, {}
  while taken < limit do
    -- Where one suspect stands in the way there may be many.
    local asked = #suspects == 0 and limit - taken or math.max(100, limit - taken)
    local expired = call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', #suspects, asked)
    if #expired == 0 then break end
    local ids, scores, gone = {}, {}, {}
    for _, member in ipairs(expired) do
      if taken + #ids == limit then break end
      local id, score = read_lease(member)
      local queued = id and tonumber(call('ZSCORE', QUEUE, id) or now + 1)
      -- A later score is that of a new incarnation, which was deferred; a second lease is an old one.
      local is_orphan = id and not seen[id] and queued <= now
        and call('EXISTS', lock_key(id)) == 0
      if is_orphan then seen[id] = true end
      if is_orphan and next_try(id) >= last_try then suspects[#suspects + 1] = member
      else
        gone[#gone + 1] = member
        if is_orphan then ids[#ids + 1], scores[#scores + 1] = id, score end
      end
    end
    if #gone > 0 then call('ZREM', LEASES, unpack(gone)) end
    take_all(ids, scores)
  end
  local left = {}
  for i, member in ipairs(suspects) do
    local id, score = read_lease(member)
    if i == 1 and taken < limit and ARGV[6] == '1' then
      call('ZREM', LEASES, member)
      take_all({id}, {score}, true)
    else left[id] = true end
  end
  return left
end

-- A lock without an end would hold its job for ever: it counts as none.
local function is_locked(id, lock)
  return lock and call('PTTL', lock_key(id)) ~= -1
end

-- Takes what is due and finds out when the next entry will be; passes over what is locked or left.
local function take_due(left)
  local passed = 0
  while true do
    local wanted = limit - taken
    local asked = passed == 0 and wanted + 1 or math.max(100, wanted + 1)
    local page = call('ZRANGE', QUEUE, passed, passed + asked - 1, 'WITHSCORES')
    local keys, ids, scores, count, is_all = {}, {}, {}, 0, #page < 2 * asked
    for i = 2, #page, 2 do
      if tonumber(page[i]) > now then next_due, is_all = page[i], true break end
      keys[#keys + 1] = lock_key(page[i - 1])
    end
    if #keys == 0 then return end
    for i, lock in ipairs(call('MGET', unpack(keys))) do
      local id = page[2 * i - 1]
      if left[id] or is_locked(id, lock) then passed = passed + 1
      elseif count == wanted then is_all = false break
      else count = count + 1 ids[count], scores[count] = id, page[2 * i] end
    end
    take_all(ids, scores)
    if is_all then return end
    if taken == limit then next_due = now_text return end
  end
end

take_due(take_orphans())
if next_due == now_text then wake() else call('DEL', WAKE) end
if taken > 0 and tonumber(next_due or lease_end) >= tonumber(lease_end) then next_due = lease_end end
reply[1], reply[2], reply[3] = now_text, next_due, call('ZCARD', QUEUE)
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
 * Replies "aborted", "asked" or "not_found".
 *
 * The request is dated a minute back: Python drops those that seem to be of the future.
 */
const ABORT_JOB = String.raw`
local id, result, keep = ARGV[2], ARGV[3], ARGV[4]
local locked = call('EXISTS', lock_key(id)) == 1
local queued = call('ZSCORE', QUEUE, id) ~= false
-- A lock alone is the tail of a slot that has ended; a running job's data may have expired.
local is_there = call('EXISTS', job_key(id)) == 1 or (locked and queued)
if not is_there then return 'not_found' end
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
