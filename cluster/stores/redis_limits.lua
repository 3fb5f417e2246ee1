-- The limits of one tenant, and of one key of it, in one step: the arithmetic of cluster/core/limits.py.
--
-- Every number is a whole one below 2^53, so that Lua's doubles are exact. Each level, the tenant's first, has
-- two keys and four arguments:
--   a hash {requests, tokens, at, day, low, medium, high}: units that may be taken, the microsecond of that,
--     the UTC day and its tokens by effort; what is absent or '' is full, or unspent;
--   a sorted set of the requests in flight, each scored with the microsecond of its reservation;
--   requests per minute, tokens per minute, requests at once, tokens per day; 0: no such limit.
--
-- ARGV: command, microseconds that a lease lasts, effort, the levels' limits, request id, tokens reserved,
-- tokens used. Commands:
--   reserve  take all that the request wants, or nothing. {1 or 0, now, then requests, tokens, in flight and
--            spent of each level}: as they are after the taking, or as they stand; {-1} for an id that is known
--   adopt    count a reservation that was made elsewhere, if its id is not known: {1 or 0}
--   settle   correct the tokens to those used and free the slot, if the id is known: {1 or 0}
--   beat     (one key, a sorted set of gateways; ARGV: command, microseconds that a beat counts, gateway)
--            {gateways alive, 1 if this one was not among them}

local UNIT, DAY, MAX_DEBT = 60000000, 86400000000, 50000000 * 60000000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local command, lease, effort = ARGV[1], tonumber(ARGV[2]), ARGV[3]

if command == 'beat' then
  local gateways, gateway = KEYS[1], ARGV[3]
  redis.call('ZREMRANGEBYSCORE', gateways, '-inf', now - lease)
  local added = redis.call('ZADD', gateways, now, gateway)
  redis.call('PEXPIRE', gateways, math.ceil(lease / 1000))
  return { redis.call('ZCARD', gateways), added }
end

local count = #KEYS / 2
local id, tokens, used = ARGV[4 * count + 4], tonumber(ARGV[4 * count + 5]), tonumber(ARGV[4 * count + 6])

local function refilled(units, limit, elapsed)
  if limit == 0 then return '' end
  local full = limit * UNIT
  units = tonumber(units)
  if not units or elapsed >= math.ceil((full - units) / limit) then return full end
  return units + elapsed * limit
end

-- Read one level as it is now, and let its expired leases go.
local function open(number)
  local limits = 4 * number
  local level = {
    hash = KEYS[2 * number - 1], leases = KEYS[2 * number],
    rpm = tonumber(ARGV[limits]), tpm = tonumber(ARGV[limits + 1]),
    concurrent = tonumber(ARGV[limits + 2]), daily = tonumber(ARGV[limits + 3]),
  }
  redis.call('ZREMRANGEBYSCORE', level.leases, '-inf', now - lease)
  local held = redis.call('HMGET', level.hash, 'requests', 'tokens', 'at', 'day', effort)
  local at, day, today = tonumber(held[3]) or 0, tonumber(held[4]) or 0, math.floor(now / DAY)
  local elapsed = math.max(0, now - at)
  level.requests = refilled(held[1], level.rpm, elapsed)
  level.tokens = refilled(held[2], level.tpm, elapsed)
  level.at, level.day = math.max(now, at), math.max(today, day)
  level.new_day = today > day
  level.spent = level.new_day and 0 or tonumber(held[5]) or 0
  return level
end

local function until_full(units, limit)
  return limit == 0 and 0 or math.ceil((limit * UNIT - units) / limit)
end

-- Write one level, to be forgotten once that changes nothing.
local function save(level)
  if level.new_day then redis.call('HDEL', level.hash, 'low', 'medium', 'high') end
  local idle = math.max(until_full(level.requests, level.rpm), until_full(level.tokens, level.tpm), 1000000)
  local fields = { 'requests', level.requests, 'tokens', level.tokens, 'at', level.at, 'day', level.day }
  if level.daily > 0 then
    fields[9], fields[10] = effort, level.spent
    idle = math.max(idle, DAY - now % DAY)
  end
  redis.call('HSET', level.hash, unpack(fields))
  redis.call('PEXPIRE', level.hash, math.ceil(idle / 1000))
end

local function take(level)
  if level.rpm > 0 then level.requests = level.requests - UNIT end
  if level.tpm > 0 then level.tokens = math.max(-MAX_DEBT, level.tokens - tokens * UNIT) end
  level.spent = level.spent + tokens
  redis.call('ZADD', level.leases, now, id)
  redis.call('PEXPIRE', level.leases, math.ceil(lease / 1000))
  save(level)
end

local function has_room(level)
  return (level.rpm == 0 or level.requests >= UNIT)
    and (level.tpm == 0 or level.tokens >= tokens * UNIT)
    and (level.concurrent == 0 or level.in_flight < level.concurrent)
    and (level.daily == 0 or level.spent + tokens <= level.daily)
end

local function give_back(level, reserved_at)
  if level.tpm > 0 then
    local units = level.tokens + (tokens - used) * UNIT
    level.tokens = math.max(-MAX_DEBT, math.min(level.tpm * UNIT, units))
  end
  if math.floor(reserved_at / DAY) == level.day then -- yesterday's refund must not enlarge today's budget
    level.spent = math.max(0, level.spent + used - tokens)
  end
  save(level)
end

if command == 'settle' then
  local known = 0
  for number = 1, count do
    local level = open(number)
    local reserved_at = redis.call('ZSCORE', level.leases, id)
    if reserved_at then
      known = 1
      redis.call('ZREM', level.leases, id)
      give_back(level, tonumber(reserved_at))
    end
  end
  return { known }
end

local levels, room = {}, true
for number = 1, count do
  local level = open(number)
  if redis.call('ZSCORE', level.leases, id) then return { command == 'adopt' and 0 or -1 } end
  level.in_flight = redis.call('ZCARD', level.leases)
  room = room and has_room(level)
  levels[number] = level
end
if command == 'adopt' then room = true end

local answer = { room and 1 or 0, now }
for _, level in ipairs(levels) do
  if room then
    take(level)
    level.in_flight = level.in_flight + 1
  end
  for _, name in ipairs({ 'requests', 'tokens', 'in_flight', 'spent' }) do
    answer[#answer + 1] = level[name] == '' and 0 or level[name]
  end
end
return answer
