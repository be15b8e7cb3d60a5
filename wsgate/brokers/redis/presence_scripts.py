"""The scripts of presence and counts, one partition at a time.

The names in a partition, after its prefix: `leases`: worker -> when it counts as dead; `of:W`: the
topics of a worker; `n:T`: worker -> number of its subscribers; `m:T`: worker + member -> number of
connections; `t:T`: member -> number of connections on all workers, 0 while it may come back;
`by:T`: member -> the token with which it was new; `leaving`: topic and member -> when it has left,
or until when a worker has it to announce; `taken`: topic and member -> the token of that worker's
sweep; `swept:W`: the worker's entries were removed.
Times are milliseconds of the server's clock. A worker has a name of 16 characters.
"""

from wsgate.brokers.redis.scripts import Script, make_script

_COMMON = """
local prefix, grace = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local leases, leaving, taken = prefix .. 'leases', prefix .. 'leaving', prefix .. 'taken'

local function key_of(topic, member)
  return string.format('%d:', #topic) .. topic .. member
end

local function topic_and_member(key)
  local colon = string.find(key, ':', 1, true)
  local size = tonumber(string.sub(key, 1, colon - 1))
  return string.sub(key, colon + 1, colon + size), string.sub(key, colon + size + 1)
end

-- Returns whether the member is new.
local function add(topic, member, change)
  local totals = prefix .. 't:' .. topic
  local known = redis.call('HGET', totals, member)
  local total = tonumber(known or 0) + change
  if total > 0 then
    redis.call('HSET', totals, member, total)
    redis.call('ZREM', leaving, key_of(topic, member))
    return not known
  end
  if known then
    redis.call('HSET', totals, member, 0)
    redis.call('ZADD', leaving, now + grace, key_of(topic, member))
  end
  return false
end

local function live_workers()
  local live = {}
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', leases, '(' .. now, '+inf')) do
    live[worker] = true
  end
  return live
end
"""

# Renews the lease of a worker, and stores its numbers: topic, member, connections, token; or for
# the number of subscribers: topic, '', number, ''. What is sent again, because the reply was lost,
# has the same token: the member is as new as it was.
# -> 0 if the lease was there, 1 if nothing is known of it, 2 if others have removed its entries;
# and for each number 1 if it is of a new member
_UPDATE = """
local worker, lease = ARGV[3], tonumber(ARGV[4])
local state = 0
if not redis.call('ZSCORE', leases, worker) then
  state = redis.call('DEL', prefix .. 'swept:' .. worker) == 1 and 2 or 1
end
redis.call('ZADD', leases, now + lease, worker)
local topics, news = prefix .. 'of:' .. worker, {}
for i = 5, #ARGV, 4 do
  local topic, member, number, token = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local name, field = prefix .. 'n:' .. topic, worker
  if member ~= '' then
    name, field = prefix .. 'm:' .. topic, worker .. member
  end
  local old = tonumber(redis.call('HGET', name, field) or 0)
  if number > 0 then
    redis.call('HSET', name, field, number)
    redis.call('SADD', topics, topic)
  else
    redis.call('HDEL', name, field)
    if member == '' then
      redis.call('SREM', topics, topic)
    end
  end
  local is_new = member ~= '' and add(topic, member, number - old)
  if is_new then
    redis.call('HSET', prefix .. 'by:' .. topic, member, token)
  elseif member ~= '' then
    is_new = redis.call('HGET', prefix .. 'by:' .. topic, member) == token
  end
  news[#news + 1] = is_new and 1 or 0
end
return {state, news}
"""

# Removes what dead workers have left, a part at a time, and gives a worker those who have left.
# They are forgotten when it has confirmed that they are announced, because the reply may be lost:
# after some time without that, they are given to the next worker that asks.
# Arguments: a token, that time, and what is announced: topic and member, token ...
# -> those who have left, each as topic and member; and those who were announced, but are back
_SWEEP = """
local MAX_WORKERS, MAX_TOPICS, MAX_LEFT = 20, 200, 200
local token, claim = ARGV[3], tonumber(ARGV[4])
local left, back = {}, {}

local function is_there(key)
  local topic, member = topic_and_member(key)
  return tonumber(redis.call('HGET', prefix .. 't:' .. topic, member) or 0) > 0
end

local function forget(key)
  local topic, member = topic_and_member(key)
  redis.call('HDEL', prefix .. 't:' .. topic, member)
  redis.call('HDEL', prefix .. 'by:' .. topic, member)
  redis.call('ZREM', leaving, key)
  redis.call('HDEL', taken, key)
end

for i = 5, #ARGV, 2 do
  local key = ARGV[i]
  if redis.call('HGET', taken, key) == ARGV[i + 1] then
    if is_there(key) then
      back[#back + 1] = key
    else
      forget(key)
    end
  end
end
local dead = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, MAX_WORKERS)
local budget = MAX_TOPICS
for _, worker in ipairs(dead) do
  if budget == 0 then
    break
  end
  redis.call('SET', prefix .. 'swept:' .. worker, 1, 'PX', 86400000)
  local topics = redis.call('SPOP', prefix .. 'of:' .. worker, budget)
  budget = budget - #topics
  for _, topic in ipairs(topics) do
    redis.call('HDEL', prefix .. 'n:' .. topic, worker)
    local members = redis.call('HGETALL', prefix .. 'm:' .. topic)
    for i = 1, #members, 2 do
      if string.sub(members[i], 1, #worker) == worker then
        redis.call('HDEL', prefix .. 'm:' .. topic, members[i])
        add(topic, string.sub(members[i], #worker + 1), -tonumber(members[i + 1]))
      end
    end
  end
  if redis.call('EXISTS', prefix .. 'of:' .. worker) == 0 then
    redis.call('ZREM', leases, worker)
  end
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', leaving, '-inf', now, 'LIMIT', 0, MAX_LEFT)) do
  if is_there(key) then
    redis.call('ZREM', leaving, key)
  else
    redis.call('ZADD', leaving, now + claim, key)
    redis.call('HSET', taken, key, token)
    left[#left + 1] = key
  end
end
return {left, back}
"""

# -> member, number of connections, member ...
_MEMBERS = """
local live, sums, found = live_workers(), {}, {}
local members = redis.call('HGETALL', prefix .. 'm:' .. ARGV[3])
for i = 1, #members, 2 do
  if live[string.sub(members[i], 1, 16)] then
    local member = string.sub(members[i], 17)
    sums[member] = (sums[member] or 0) + members[i + 1]
  end
end
for member, sum in pairs(sums) do
  found[#found + 1] = member
  found[#found + 1] = sum
end
return found
"""

# -> the number of subscribers on all workers but one
_COUNT = """
local live, sum = live_workers(), 0
local numbers = redis.call('HGETALL', prefix .. 'n:' .. ARGV[3])
for i = 1, #numbers, 2 do
  if numbers[i] ~= ARGV[4] and live[numbers[i]] then
    sum = sum + numbers[i + 1]
  end
end
return sum
"""

UPDATE: Script = make_script(_COMMON + _UPDATE)
SWEEP: Script = make_script(_COMMON + _SWEEP)
MEMBERS: Script = make_script(_COMMON + _MEMBERS)
COUNT: Script = make_script(_COMMON + _COUNT)
ALL = (UPDATE, SWEEP, MEMBERS, COUNT)
