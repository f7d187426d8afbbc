/**
 * What scripts begin with: the names of keys, the clock, and what several of them do. Each gets of
 * that what it uses.
 *
 * The server makes every function of a script anew for each call, and collects it afterwards. So
 * keys are joined where they are used, which also saves a call a key, and scripts that are called for
 * every job have what is rarely needed inside of one function.
 *
 * A server with full memory looks at a script's first write only, and refuses it if it could need
 * more: so scripts begin with one that cannot, if need be by removing nothing.
 *
 * `redis.pcall` stands where somebody else's key may be in the way: that must not spoil an end that
 * is half written.
 *
 * All scripts take the same keys (see `scriptKeys` in `redis_keys.ts`) and the key prefix as first
 * argument; `now` is Redis's own clock in milliseconds.
 * @module
 */
import { createHash } from "node:crypto";

/** A script with the digest that Redis knows it by. */
export interface Script {
  /** The Lua source. */
  readonly source: string;
  /** The source's SHA-1, for EVALSHA. */
  readonly sha: string;
}

/** What a job has reported is kept this much longer than the lease it is renewed with. */
export const PROGRESS_KEEP_MS = 600_000;

/** How many jobs that succeeded operators can look back at. */
export const MOST_COMPLETE = 10_000;
/** How many of them may stand in line: twice as many, so that the line is rarely cut. */
const MOST_LINED_UP = 2 * MOST_COMPLETE;

/** Each part begins with `local` in the first column, and uses only those before it. */
const PRELUDE = String.raw`
local call, format = redis.call, string.format
local QUEUE, WAKE, ABORT, LEASES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local prefix = ARGV[1]

-- The last point in time that a date can hold.
local LAST_INSTANT = 8.64e15

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local JOB = prefix .. 'job:'
local LOCK = prefix .. 'in-progress:'
local STARTS = prefix .. 'retry:'
local HANDBACKS = prefix .. 'handbacks:'
local RESULT = prefix .. 'result:'
local PROGRESS = prefix .. 'progress:'
local OPS = QUEUE .. ':ops:'

-- The id and the original score of a lease; nothing if what stands there is none.
local function read_lease(member)
  local score, id = string.match(member, '^([-+.%deinf]+):(.*)$')
  if score and tonumber(score) then return id, score end
end

-- A counter as it was read; whatever cannot be one counts as none.
local function count_of(value)
  local count = value and tonumber(value)
  return count and count >= 0 and count < 2^31 and math.floor(count) or 0
end

local function wake()
  local waiting = redis.pcall('LLEN', WAKE)
  if type(waiting) ~= 'number' then call('DEL', WAKE)
  elseif waiting > 0 then return end
  call('RPUSH', WAKE, '1')
  call('PEXPIRE', WAKE, '5000')
end

-- Wakes a worker for a job that is due now, or that becomes the next one to come.
local function wake_for(due)
  if due > now then
    local first = call('ZRANGEBYSCORE', QUEUE, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if tonumber(first[2]) ~= due then return end
  end
  wake()
end

-- Notes ended jobs where operators look for them; whatever else stands there must not spoil an end.
local function note_failed(ids)
  if #ids == 0 then return end
  local at, entries = format('%.0f', now), {}
  for i, id in ipairs(ids) do entries[2 * i - 1], entries[2 * i] = at, id end
  redis.pcall('ZADD', OPS .. 'failed', unpack(entries))
  redis.pcall('PEXPIRE', OPS .. 'failed', '604800000')
end

-- Many jobs succeed and few people look: these only line up here, and are sorted in for who looks.
-- Reports of workers see to it that the line stays.
local function note_succeeded(ids)
  if #ids == 0 then return end
  local key, at, entries = OPS .. 'succeeded', format('%.0f:', now), {}
  for i, id in ipairs(ids) do entries[i] = at .. id end
  local length = redis.pcall('RPUSH', key, unpack(entries))
  if type(length) ~= 'number' then return end
  if length == #ids then redis.pcall('PEXPIRE', key, '604800000') end
  if length > ${MOST_LINED_UP} then redis.pcall('LTRIM', key, -${MOST_COMPLETE}, -1) end
end

-- Is the job still held under this token? A lock that expired while nobody else took the job (the
-- server was frozen) is still ours.
local function is_mine(id, token, score)
  local lock = redis.pcall('GET', LOCK .. id)
  if lock then return lock == token end
  local leased = call('ZSCORE', LEASES, score .. ':' .. id)
  local queued = call('ZSCORE', QUEUE, id)
  -- Python's abort sets score 1; any other score but the lease's is a new incarnation.
  return leased ~= false and (queued == leased or tonumber(queued or 0) == 1)
end

local function handbacks_of(id) return count_of(call('MGET', HANDBACKS .. id)[1]) end

local function count_handback(id)
  call('SET', HANDBACKS .. id, format('%d', handbacks_of(id) + 1), 'EX', '88400')
end

local function channel_of(id)
  local at = string.find(id, '@', 2, true)
  return prefix .. 'done:' .. (at and string.sub(id, 1, at - 1) or id)
end

-- Tells whoever waits, who looks for a large result where it is kept; a user without the permission
-- to publish must not spoil the end itself.
local function announce(channel, id, result, is_kept)
  redis.pcall('PUBLISH', channel, #id .. ':' .. id .. (is_kept and #result > 65536 and '' or result))
end

local function return_to_queue(id, score, due)
  call('ZREM', LEASES, score .. ':' .. id)
  call('DEL', LOCK .. id)
  call('ZADD', QUEUE, 'XX', due, id)
end

-- Tells a step of a job that is watched: those are the members of the set "watched", by the time
-- until which somebody asked for it. A step more or less told does no harm. A message is
-- "kind,now,starts,number,length of the id in bytes:", the id, and the value; the number is that of
-- a report, or the time until which the job waits.
local function tell(kind, id, starts, number, value)
  local head = format('%s,%.0f,%d,%s,%d:', kind, now, starts, number, #id)
  redis.pcall('PUBLISH', QUEUE .. ':events', head .. id .. (value or ''))
end

local function tell_watchers(kind, id, starts, number, value)
  if redis.pcall('ZSCORE', OPS .. 'watched', id) then tell(kind, id, starts, number, value) end
end
`;

const PARTS = PRELUDE.split(/^(?=local )/m).map((source) => ({
  source: withoutComments(source),
  names: /^local (?:function )?(\w+(?:, \w+)*)/.exec(source)?.[1]?.split(", ") ?? [],
}));

/** A script, behind what it uses of the prelude. */
export function script(source: string): Script {
  const whole = PARTS.reduceRight((rest, part) => {
    const isUsed = part.names.some((name) => new RegExp(`\\b${name}\\b`).test(rest));
    return isUsed ? part.source + rest : rest;
  }, withoutComments(source));
  return { source: whole, sha: createHash("sha1").update(whole).digest("hex") };
}

function withoutComments(source: string): string {
  return source.replace(/^ *--.*\n/gm, "");
}
