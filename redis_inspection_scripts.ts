/**
 * The Lua for operators. These scripts take the keys and the first argument of those in
 * `redis_prelude.ts`, and may be repeated after a lost reply as well.
 * @module
 */
import { MOST_COMPLETE, script } from "./redis_prelude.ts";

/** How long what operators see is kept without news, and how much of it. */
const MINUTE_KEEP_MS = 3 * 3_600_000 + 120_000;
const QUEUE_KEEP_MS = 7 * 86_400_000;
const LONG_KEEP_MS = 30 * 86_400_000;
const MOST_FAILED = 100_000;
const MOST_QUEUES = 10_000;
/** Ends that are sorted in by one call, so that no call keeps the server from others for long. */
export const SORTED_AT_A_TIME = 1_000;

/** The queues of the prefix, by the time of their last use. */
const QUEUES = String.raw`
local QUEUES = prefix .. 'ops:queues'
local function note_queue()
  redis.pcall('ZADD', QUEUES, format('%.0f', now), QUEUE)
  redis.pcall('ZREMRANGEBYSCORE', QUEUES, '-inf', now - ${QUEUE_KEEP_MS})
  redis.pcall('ZREMRANGEBYRANK', QUEUES, 0, -${MOST_QUEUES} - 1)
  redis.pcall('PEXPIRE', QUEUES, ${QUEUE_KEEP_MS})
end
`;

/**
 * Has claims of the queue take nothing, or ends that and wakes a worker.
 *
 * Arguments: "1" to pause, "0" to resume.
 */
const SET_PAUSED = String.raw`
local paused_key = OPS .. 'paused'
if ARGV[2] == '1' then call('SET', paused_key, '1')
else
  call('DEL', paused_key)
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
local queued = call('ZSCORE', QUEUE, id) ~= false
if queued and call('EXISTS', LOCK .. id) == 1 then return 'running' end
local removed = call('DEL', RESULT .. id)
if queued then
  removed = 1
  call('DEL', JOB .. id, STARTS .. id, HANDBACKS .. id)
  call('ZREM', QUEUE, id)
  redis.pcall('ZREM', ABORT, id)
end
if removed == 1 then call('DEL', PROGRESS .. id) end
return (removed == 1 or ARGV[2] == '1') and 'removed' or 'not_found'
`;

/** What the scripts that look at jobs have in common. */
const READING = String.raw`
-- A string's bytes, nil if there is none, 0 if something else is stored there.
local function read(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then return 0 end
  return value
end

local function size_of(value) return type(value) == 'string' and #value or 0 end

-- Payload, result, whether it is locked, how often it was started.
local function job_state(id)
  return {
    read(JOB .. id),
    read(RESULT .. id),
    call('EXISTS', LOCK .. id),
    read(STARTS .. id),
  }
end
`;

/**
 * Reads a part of a list of jobs.
 *
 * Arguments: list (`queued`, `deferred`, `in_progress`, `failed`, `complete`); the score and
 * the member after which it begins, both "" for the list's begin; for the last two lists the times
 * of the end it lies between, "" for any, and "1" for the oldest first; how many entries to look
 * at; how many bytes to stop at.
 *
 * Replies now, "1" if there is more, score and member of the last entry it has looked at, and a list
 * with each job's id, due time or time of its end, score, member, and what `job_state` has. Left out
 * are jobs that belong to another list: running ones among the deferred, those that nobody holds
 * among the running, ends without a result.
 *
 * Entries are found by rank, so that the cost grows with the logarithm of the list's length; where
 * the given member has gone, its position is found among those of its score.
 */
const PAGE = READING + String.raw`
local list, after_score, after = ARGV[2], ARGV[3], ARGV[4]
local since, till, oldest_first = ARGV[5], ARGV[6], ARGV[7] == '1'
local limit, room = tonumber(ARGV[8]), tonumber(ARGV[9])
local is_end = list == 'failed' or list == 'complete'
local key = QUEUE
if list == 'in_progress' then key = LEASES elseif is_end then key = OPS .. list end
if call('TYPE', key).ok ~= 'zset' then return {format('%.0f', now), '0', '', '', {}} end

local function count_up_to(bound) return call('ZCOUNT', key, '-inf', bound) end

-- The first rank of the part, and the first one behind it.
local first, stop = 0, call('ZCARD', key)
if list == 'queued' then stop = count_up_to(now)
elseif is_end then
  if since ~= '' then first = count_up_to('(' .. since) end
  if till ~= '' then stop = count_up_to(till) end
else first = count_up_to(now) end

-- By bytes, as the server orders members of one score.
local function precedes(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- How many members stand before a position, and 1 if there is one on it.
local function count_before(score, member)
  local found = call('ZSCORE', key, member)
  if found and tonumber(found) == tonumber(score) then return call('ZRANK', key, member), 1 end
  local low, high = count_up_to('(' .. score), count_up_to(score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if precedes(call('ZRANGE', key, middle, middle)[1], member) then low = middle + 1
    else high = middle end
  end
  return low, 0
end

local step = (is_end and not oldest_first) and -1 or 1
if after_score ~= '' then
  local before, here = count_before(after_score, after)
  if step == 1 then first = math.max(first, before + here) else stop = math.min(stop, before) end
end
local entries = {}
if first < stop and step == 1 then
  entries = call('ZRANGE', key, first, math.min(stop, first + limit) - 1, 'WITHSCORES')
elseif first < stop then
  entries = call('ZRANGE', key, math.max(first, stop - limit), stop - 1, 'WITHSCORES')
end

local function belongs(state)
  if is_end then return state[2] ~= false end
  if state[2] and not state[1] then return false end -- it has ended; the next claim drops the entry
  if list == 'in_progress' then return state[3] == 1 end
  return list == 'queued' or state[3] == 0
end

local jobs, score, member = {}, '', ''
local from, to = 1, #entries - 1
if step == -1 then from, to = to, from end
local is_cut = stop - first > limit
for i = from, to, 2 * step do
  if room <= 0 then
    is_cut = true
    break
  end
  member, score = entries[i], entries[i + 1]
  local due, id = score, member
  if list == 'in_progress' then id, due = read_lease(member) end
  local state = id and job_state(id)
  if state and belongs(state) then
    room = room - size_of(state[1]) - size_of(state[2])
    jobs[#jobs + 1] = {id, due, score, member, unpack(state, 1, 4)}
  end
end
return {format('%.0f', now), is_cut and '1' or '0', score, member, jobs}
`;

/**
 * Reads one job.
 *
 * Arguments: id.
 *
 * Replies now, the job's score or nil, and what `job_state` has.
 */
const VIEW = READING + String.raw`
local id = ARGV[2]
return {format('%.0f', now), call('ZSCORE', QUEUE, id), unpack(job_state(id), 1, 4)}
`;

/**
 * Counts the failures that were noted.
 *
 * Arguments: the time since when, or "-inf".
 *
 * Replies how many, and now.
 */
const COUNT_FAILED = String.raw`
local key = OPS .. 'failed'
local is_there = call('TYPE', key).ok == 'zset'
return {is_there and call('ZCOUNT', key, ARGV[2], '+inf') or 0, format('%.0f', now)}
`;

/**
 * Enqueues jobs that have failed again, under their ids, in place of their results.
 *
 * Arguments: "1" if an earlier reply may have been lost; ms until expiry; then per job: id, SHA-1 of
 * its result, payload.
 *
 * Replies a string with "1" for an enqueued job each, and "0" where the result is another by now, or
 * the id is in use.
 */
const RETRY = String.raw`
local again, extra = ARGV[2] == '1', ARGV[3]
local replies, entries = {}, {}
for i = 4, #ARGV, 3 do
  local id, payload = ARGV[i], ARGV[i + 2]
  local result, waiting = redis.pcall('GET', RESULT .. id), redis.pcall('GET', JOB .. id)
  local is_same = type(result) == 'string' and redis.sha1hex(result) == ARGV[i + 1]
  local is_retried = is_same and not waiting and call('ZSCORE', QUEUE, id) == false
  if is_retried then
    call('SET', JOB .. id, payload, 'PX', extra)
    -- A lock without an entry in the queue is the tail of a slot, which would keep the job waiting.
    call('DEL', RESULT .. id, LOCK .. id, STARTS .. id, HANDBACKS .. id, PROGRESS .. id)
    redis.pcall('ZREM', ABORT, id)
    redis.pcall('ZREM', OPS .. 'failed', id)
    entries[#entries + 1], entries[#entries + 2] = format('%.0f', now), id
  end
  replies[#replies + 1] = (is_retried or (again and not result and waiting == payload)) and '1' or '0'
end
if #entries > 0 then
  call('ZADD', QUEUE, unpack(entries))
  wake()
end
return table.concat(replies)
`;

/** What is tried goes on where something else stands at a key; "problem" tells of it. */
const TRYING = String.raw`
local problem = ''
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  problem = reply.err
end
`;

/**
 * Sorts jobs that have succeeded into the list that `PAGE` reads, the oldest of them first.
 *
 * Replies how many are left to be sorted in.
 */
const SORT_IN = TRYING + String.raw`
local succeeded, complete = OPS .. 'succeeded', OPS .. 'complete'
if not try('LTRIM', succeeded, -${MOST_COMPLETE}, -1) then return 0 end
local entries = {}
for _, entry in ipairs(call('LRANGE', succeeded, 0, ${SORTED_AT_A_TIME} - 1)) do
  local at, id = string.match(entry, '^(%d+):(.*)$')
  if at and call('EXISTS', RESULT .. id) == 1 then
    entries[#entries + 1], entries[#entries + 2] = at, id
  end
end
call('LTRIM', succeeded, ${SORTED_AT_A_TIME}, -1)
if #entries > 0 then
  try('ZADD', complete, unpack(entries))
  try('PEXPIRE', complete, ${QUEUE_KEEP_MS})
  try('ZREMRANGEBYRANK', complete, 0, -${MOST_COMPLETE} - 1)
end
return call('LLEN', succeeded)
`;

/**
 * Notes that a worker lives or goes, adds up what has ended, and tidies up.
 *
 * Arguments: the worker's id; what it tells of itself; ms until it is taken for gone, "0" when it
 * goes; an id of the counts or ""; how many counts there are for this minute; then name and number
 * of each, and of the counts of all times.
 *
 * Replies "", or an error that kept a part of it from being done.
 *
 * Guarantees: counts of one id are added once. Whatever else stands at a key spoils that key alone.
 */
const REPORT = TRYING + String.raw`
local worker, record, ttl, report = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local workers, worker_key = OPS .. 'workers', OPS .. 'worker:' .. worker
if ttl == '0' then
  try('ZREM', workers, worker)
  call('DEL', worker_key)
else
  call('SET', worker_key, record, 'PX', ttl)
  try('ZREMRANGEBYSCORE', workers, '-inf', now)
  try('ZADD', workers, format('%.0f', now + tonumber(ttl)), worker)
  try('PEXPIRE', workers, ttl)
end

local function add(key, first, last, keep)
  for i = first, last, 2 do try('HINCRBY', key, ARGV[i], ARGV[i + 1]) end
  if first <= last then try('PEXPIRE', key, keep) end
end
if report ~= '' and call('SET', prefix .. 'nonce:' .. report, '1', 'PX', 60000, 'NX') then
  local first_total = 7 + 2 * tonumber(ARGV[6])
  add(OPS .. 'minute:' .. math.floor(now / 60000), 7, first_total - 1, ${MINUTE_KEEP_MS})
  add(OPS .. 'totals', first_total, #ARGV, ${LONG_KEEP_MS})
end

-- Keeps the newest, and drops the oldest as long as their results have gone.
local function trim(key, most)
  if not try('ZREMRANGEBYRANK', key, 0, -most - 1) then return end
  for _ = 1, 10 do
    local gone, oldest = {}, call('ZRANGE', key, 0, 99)
    for _, id in ipairs(oldest) do
      if call('EXISTS', RESULT .. id) == 0 then gone[#gone + 1] = id end
    end
    if #gone > 0 then call('ZREM', key, unpack(gone)) end
    if #gone < 100 then return end
  end
end
trim(OPS .. 'complete', ${MOST_COMPLETE})
trim(OPS .. 'failed', ${MOST_FAILED})
try('PEXPIRE', OPS .. 'succeeded', ${QUEUE_KEEP_MS})
note_queue()
return problem
`;

/**
 * Reads the numbers of a queue.
 *
 * Arguments: how many minutes to go back, this one included.
 *
 * Replies now, 1 if it is paused, how many jobs are due, how many the queue has, how many are under a
 * lease, the score of the oldest due one or nil, the counts of all times, and for each minute that
 * has any its number and its counts; counts are a list of names and numbers.
 */
const NUMBERS = String.raw`
local function counts(key)
  local found = redis.pcall('HGETALL', key)
  return found.err and {} or found
end
local oldest = call('ZRANGEBYSCORE', QUEUE, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
local leased = redis.pcall('ZCOUNT', LEASES, '(' .. now, '+inf')
local minutes, minute = {}, math.floor(now / 60000)
for each = minute - tonumber(ARGV[2]) + 1, minute do
  local found = counts(OPS .. 'minute:' .. each)
  if #found > 0 then minutes[#minutes + 1] = {each, found} end
end
return {
  format('%.0f', now),
  call('EXISTS', OPS .. 'paused'),
  call('ZCOUNT', QUEUE, '-inf', now),
  call('ZCARD', QUEUE),
  type(leased) == 'number' and leased or 0,
  oldest[2] or false,
  counts(OPS .. 'totals'),
  minutes,
}
`;

/** Replies the id of each live worker of the queue, and what it tells of itself; a thousand at most. */
const WORKERS = String.raw`
local reply = {}
local ids = redis.pcall('ZRANGEBYSCORE', OPS .. 'workers', '(' .. now, '+inf', 'LIMIT', 0, 1000)
if ids.err then return reply end
for _, id in ipairs(ids) do
  local record = redis.pcall('GET', OPS .. 'worker:' .. id)
  if type(record) == 'string' then reply[#reply + 1] = {id, record} end
end
return reply
`;

/** Notes that the queue is used, unless something else has its name. */
const NOTE_QUEUE = String.raw`
local kind = call('TYPE', QUEUE).ok
if kind == 'zset' or kind == 'none' then note_queue() end
return 1
`;

/** Replies the queues of the prefix that were used in the last days. */
const QUEUE_NAMES = String.raw`
local since = now - ${QUEUE_KEEP_MS}
local names = redis.pcall('ZRANGEBYSCORE', QUEUES, since, '+inf', 'LIMIT', 0, ${MOST_QUEUES})
return names.err and {} or names
`;

/** The scripts for operators, by what they do. */
export const inspectionScripts = {
  setPaused: script(SET_PAUSED),
  remove: script(REMOVE),
  sortIn: script(SORT_IN),
  page: script(PAGE),
  view: script(VIEW),
  countFailed: script(COUNT_FAILED),
  retry: script(RETRY),
  report: script(QUEUES + REPORT),
  numbers: script(NUMBERS),
  workers: script(WORKERS),
  noteQueue: script(QUEUES + NOTE_QUEUE),
  queueNames: script(QUEUES + QUEUE_NAMES),
} as const;
