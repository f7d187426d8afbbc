/**
 * The Lua that claims jobs; keys, first argument and leases as in `redis_scripts.ts`.
 * @module
 */

/**
 * Takes due jobs and sets a lease on each.
 *
 * Arguments: what the token of this claim begins with, lease ms, how many at most, the last try or ""
 * for no such, "1" if a suspect may be taken.
 *
 * Replies now, when the next entry is due or nil, the queue's length, the token, then per job: id,
 * original score, payload (nil if expired, 0 if not a string), and `starts,hand-backs,abort,suspect`,
 * where 1 says that its abort was asked for, and that it is a suspect; "" stands for "1,0,0,0".
 *
 * Guarantees: jobs of expired leases come first and keep their score; one that would begin its last
 * try or a later one is a suspect, of which one is taken at the most; entries that somebody else has
 * locked are passed over; a key of a wrong type spoils one job, not the batch; an entry without a
 * job but with a result is removed; if due work is left, the next worker is woken. While the queue is
 * paused, and for a holder that has left, nothing is taken; only the latter passes its wake-up on.
 */
export const CLAIM: string = String.raw`
local lease, limit = ARGV[3], tonumber(ARGV[4])
local now_text, lease_end = format('%.0f', now), format('%.0f', now + lease + 5)
local token = ARGV[2] .. ':' .. lease_end
local last_try = tonumber(ARGV[5]) or math.huge
local reply, filled, taken, next_due = {}, 4, 0, false

-- These are rarely there: one command tells that none is.
local paused, left = OPS .. 'paused', OPS .. 'left:' .. string.match(token, '^[^:]*')
local has_marks = call('EXISTS', ABORT, paused, left, OPS .. 'watched') > 0
if has_marks and call('EXISTS', paused, left) > 0 then
  -- The wake-up that made this claim may have been the only one, for a job to come as well.
  if call('EXISTS', paused) == 0 then
    call('DEL', WAKE)
    wake()
  end
  return {now_text, false, call('ZCARD', QUEUE), token}
end
call('DEL', WAKE) -- whoever is to be woken for what this claim leaves is woken at its end

local function drop_if_ended(id)
  if call('EXISTS', RESULT .. id) == 0 then return false end
  call('ZREM', QUEUE, id)
  redis.pcall('ZREM', ABORT, id)
  call('DEL', STARTS .. id, HANDBACKS .. id)
  return true
end

-- Redis keeps up to 128 short members in a row, which each look walks along. A long one, even for a
-- moment, makes it lay them out for looking up, until the set is empty.
local MANY, LONG_MEMBER_LENGTH = 20, 100
local function take_all(ids, scores, suspect)
  local count = #ids
  if count == 0 then return end
  local keys = {}
  for i, id in ipairs(ids) do keys[i], keys[count + i] = JOB .. id, STARTS .. id end
  local values = call('MGET', unpack(keys))
  local aborts = has_marks and redis.pcall('ZMSCORE', ABORT, unpack(ids)) or {}
  local watched = has_marks and redis.pcall('ZMSCORE', OPS .. 'watched', unpack(ids)) or {}
  local queue_entries, lease_entries, entered = {}, {}, 0
  for i, id in ipairs(ids) do
    local payload, starts, counts = values[i], values[count + i], ''
    if payload or not drop_if_ended(id) then
      if not payload and call('EXISTS', keys[i]) == 1 then payload = 0 end
      if starts or suspect or aborts[i] then
        starts = format('%d', count_of(starts) + 1)
        counts = format('%s,%d,%d,%d', starts, handbacks_of(id), aborts[i] and 1 or 0, suspect and 1 or 0)
      else starts = '1' end
      call('SET', LOCK .. id, token, 'PX', lease)
      call('SET', keys[count + i], starts, 'EX', '88400')
      queue_entries[entered + 1], queue_entries[entered + 2] = lease_end, id
      lease_entries[entered + 1], lease_entries[entered + 2] = lease_end, scores[i] .. ':' .. id
      entered = entered + 2
      reply[filled + 1], reply[filled + 2], reply[filled + 3] = id, scores[i], payload
      reply[filled + 4] = counts
      filled = filled + 4
      taken = taken + 1
      if payload and watched[i] then tell('started', id, starts, '') end
    end
  end
  if entered == 0 then return end
  call('ZADD', QUEUE, 'XX', unpack(queue_entries))
  if count > MANY then
    local long_member = string.rep(' ', LONG_MEMBER_LENGTH)
    call('ZADD', LEASES, 0, long_member)
    call('ZADD', LEASES, unpack(lease_entries))
    call('ZREM', LEASES, long_member)
  else call('ZADD', LEASES, unpack(lease_entries)) end
end

-- Takes orphans, of suspects one at the most; returns the ids of those that it leaves.
local function take_orphans(expired)
  -- The try that a claim would begin, where hand-backs do not count.
  local function next_try(id)
    return count_of(call('MGET', STARTS .. id)[1]) + 1 - handbacks_of(id)
  end

  -- Does somebody else, such as Python, hold the job whose lease is over? The lock of the lease
  -- itself, which has a token, may outlive it, by as long as the server stood still between setting
  -- the two.
  local function is_held(id)
    local lock = redis.pcall('GET', LOCK .. id)
    return lock and (type(lock) ~= 'string' or not string.find(lock, ':', 1, true))
  end

  local suspects, seen = {}, {}
  while #expired > 0 do
    local ids, scores, gone = {}, {}, {}
    for _, member in ipairs(expired) do
      if taken + #ids == limit then break end
      local id, score = read_lease(member)
      local queued = id and call('ZSCORE', QUEUE, id)
      -- Python's abort sets score 1; any other score but the lease's is a new incarnation, and a
      -- second lease is an old one.
      local is_ours = queued and (queued == call('ZSCORE', LEASES, member) or tonumber(queued) == 1)
      local is_orphan = is_ours and not seen[id] and not is_held(id)
      if is_orphan then seen[id] = true end
      if is_orphan and next_try(id) >= last_try then suspects[#suspects + 1] = member
      else
        gone[#gone + 1] = member
        if is_orphan then ids[#ids + 1], scores[#scores + 1] = id, score end
      end
    end
    if #gone > 0 then call('ZREM', LEASES, unpack(gone)) end
    take_all(ids, scores)
    if taken == limit then break end
    -- Where one suspect stands in the way there may be many.
    local asked = #suspects == 0 and limit - taken or math.max(100, limit - taken)
    expired = call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', #suspects, asked)
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
      keys[#keys + 1] = LOCK .. page[i - 1]
    end
    if #keys == 0 then return end
    for i, lock in ipairs(call('MGET', unpack(keys))) do
      local id = page[2 * i - 1]
      -- A lock without an end would hold its job for ever: it counts as none.
      if left[id] or (lock and call('PTTL', keys[i]) ~= -1) then passed = passed + 1
      elseif count == wanted then is_all = false break
      else count = count + 1 ids[count], scores[count] = id, page[2 * i] end
    end
    take_all(ids, scores)
    if is_all then return end
    if taken == limit then next_due = now_text return end
  end
end

local expired = call('ZRANGEBYSCORE', LEASES, '-inf', now_text, 'LIMIT', '0', ARGV[4])
take_due(#expired > 0 and take_orphans(expired) or {})
if next_due == now_text then wake() end
if taken > 0 and tonumber(next_due or lease_end) >= tonumber(lease_end) then next_due = lease_end end
reply[1], reply[2], reply[3], reply[4] = now_text, next_due, call('ZCARD', QUEUE), token
return reply
`;
