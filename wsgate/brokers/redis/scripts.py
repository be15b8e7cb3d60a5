"""The scripts that run within Redis, where nothing comes between their commands.

A history is three keys: a hash with what is known of it, a stream with the kept messages, whose
ids are their places, and a hash from their ids to their places. Messages that are too old or too
many are removed by each script that reads them, and by every eighth publication (it would be a
third of the time of each). Too many bytes are removed at once.

The hash holds: `epoch` and `place` of the newest message; `run` and `second`, which server has
given them; `newest`, `newest_id` and `newest_at` of the newest kept message; `dropped`,
`dropped_id` and `dropped_at` of the newest that was kept and is not any more; `bytes` of the kept
ones; and `chain`, see below.

**Epochs.** A server that is started anew, or becomes the master, may lack the newest messages: it
would give their places again. So the first script that runs on such a server begins a new epoch,
and `chain` holds the old ones that it continues, each with the last place that was reached (8 + 8
bytes). It continues them if the server writes each change to its file before it answers, and was no
replica: then nothing is lost. Otherwise messages may be, and the chain begins anew.
`run_id` changes with each start, `master_replid2` each time a replica becomes the master; it is
forgotten (zeros) when a master has had no replicas for a while.
"""

import hashlib
from dataclasses import dataclass

_HISTORY = """
local meta, log, ids = KEYS[1], KEYS[2], KEYS[3]
local history, lifetime, max_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local fresh, run, durable = ARGV[4], ARGV[5], ARGV[6]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ID_LIFETIMES, MIN_MS, MAX_CHAIN, NEVER = 10, 7200000, 256, string.rep('0', 40)
local TRIM_EVERY = 8

-- Redis would format a number with 17 digits and a fraction, which takes longer.
local function text(number)
  return string.format('%.0f', number)
end

local function open()
  local known = redis.call('HMGET', meta, 'epoch', 'place', 'run', 'second', 'chain', 'bytes')
  local second = string.match(redis.call('INFO', 'replication'), 'master_replid2:(%x+)') or NEVER
  local epoch, place = known[1], tonumber(known[2] or 0)
  if not epoch then
    epoch = fresh
    redis.call('HSET', meta, 'epoch', epoch, 'place', 0, 'run', run, 'second', second)
  elseif known[3] ~= run or (known[4] ~= second and second ~= NEVER) then
    local chain = ''
    if known[3] ~= run and durable == '1' and second == NEVER then
      chain = string.sub((known[5] or '') .. epoch .. struct.pack('>I8', place), -MAX_CHAIN)
    end
    redis.call('HSET', meta, 'epoch', fresh, 'run', run, 'second', second, 'chain', chain)
    epoch = fresh
  elseif known[4] ~= second then
    redis.call('HSET', meta, 'second', second)
  end
  return epoch, place, tonumber(known[6] or 0)
end

-- Removes what is kept no more. -> bytes of what is left, fields of the newest that was removed
local function trim(count, bytes)
  local dropped = {}
  if count == 0 then
    local of = redis.call('HMGET', meta, 'newest', 'newest_id', 'newest_at', 'dropped')
    if of[1] and of[1] ~= of[4] then
      return 0, {'dropped', of[1], 'dropped_id', of[2], 'dropped_at', of[3]}
    end
  end
  while count > 0 do
    -- Those that go because of their number, and the first that may stay.
    local first = math.max(count - history, 0) + 1
    for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', first)) do
      local fields = entry[2]
      if count <= history and bytes <= max_bytes and now < fields[4] + lifetime then
        return bytes, dropped
      end
      count, bytes = count - 1, bytes - fields[6]
      redis.call('XDEL', log, entry[1])
      redis.call('HDEL', ids, fields[2])
      local place = string.match(entry[1], '%d+')
      dropped = {'dropped', place, 'dropped_id', fields[2], 'dropped_at', fields[4]}
    end
  end
  return bytes, dropped
end

-- -> bytes of what is left
local function trim_and_store(bytes)
  local left, dropped = trim(redis.call('XLEN', log), bytes)
  if #dropped > 0 then
    redis.call('HSET', meta, 'bytes', left, unpack(dropped))
  end
  return left
end

local function renew()
  redis.call('PEXPIRE', meta, text(math.max(ID_LIFETIMES * lifetime, MIN_MS)))
end

local function payloads(entries)
  local found = {}
  for i, entry in ipairs(entries) do
    found[i] = entry[2][8]
  end
  return found
end
"""

# -> whether it is new, epoch, place
_PUBLISH = """
local channel, command, head, tail = KEYS[4], ARGV[7], ARGV[8], ARGV[9]
local id, size = ARGV[10], ARGV[11]
local epoch, former, bytes = open()
local place = text(former + 1)
local count
if id ~= '' then
  local is_new = redis.call('HSETNX', ids, id, place) == 1
  count = redis.call('XLEN', log)
  if not is_new or count == 0 then
    bytes = trim_and_store(bytes)
    local known = redis.call('HGET', ids, id)
    if not is_new and known then
      return {0, epoch, tonumber(known)}
    end
    redis.call('HSET', ids, id, place)
    count = redis.call('XLEN', log)
  end
end
local payload = head .. epoch .. struct.pack('>I8', former + 1) .. tail
if id == '' then
  redis.call('HSET', meta, 'place', place)
else
  local at, until_ = text(now), text(now + lifetime)
  redis.call('XADD', log, place .. '-0', 'i', id, 't', at, 's', size, 'd', payload)
  local left, dropped = bytes + size, {}
  count = count + 1
  if left > max_bytes or count % TRIM_EVERY == 0 then
    left, dropped = trim(count, left)
  end
  redis.call('HSET', meta, 'place', place, 'newest', place, 'newest_id', id, 'newest_at', at,
    'bytes', text(left), unpack(dropped))
  redis.call('PEXPIREAT', log, until_)
  redis.call('PEXPIREAT', ids, until_)
end
renew()
redis.call(command, channel, payload)
return {1, epoch, former + 1}
"""

# -> epoch, place, the chain of earlier epochs, the newest dropped place, payloads
_SINCE = """
local after = ARGV[7]
local epoch, place, bytes = open()
trim_and_store(bytes)
renew()
local of = redis.call('HMGET', meta, 'chain', 'dropped')
local found = {}
if after ~= '' then
  found = payloads(redis.call('XRANGE', log, '(' .. after .. '-0', '+'))
end
return {epoch, place, of[1] or '', tonumber(of[2] or 0), found}
"""

# -> epoch, place, whether the id is known, payloads
_MISSED = """
local after, last = ARGV[7], tonumber(ARGV[8])
local epoch, place, bytes = open()
trim_and_store(bytes)
renew()
local start
if after ~= '' then
  start = redis.call('HGET', ids, after)
  local of = redis.call('HMGET', meta, 'dropped', 'dropped_id', 'dropped_at')
  if not start and of[2] == after and now < of[3] + ID_LIFETIMES * lifetime then
    start = of[1]
  end
end
if start then
  return {epoch, place, 1, payloads(redis.call('XRANGE', log, '(' .. start .. '-0', '+'))}
end
local found = {}
if last > 0 then
  local entries = redis.call('XREVRANGE', log, '+', '-', 'COUNT', last)
  for i = #entries, 1, -1 do
    found[#found + 1] = entries[i][2][8]
  end
end
return {epoch, place, 0, found}
"""

# Stores rules unless newer ones are there. A version of 0 is replaced by the server's time, in
# microseconds. -> the version that the rules have
_STORE_RULES = """
local version = tonumber(ARGV[1])
if version == 0 then
  local time = redis.call('TIME')
  version = time[1] * 1000000 + time[2]
end
local stored = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
if version >= stored then
  redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version), 'rules', ARGV[2])
end
return string.format('%.0f', version)
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script. sha: by which a server calls it once it is loaded."""

    text: str
    sha: str


def make_script(text: str) -> Script:
    """Return a script."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


PUBLISH = make_script(_HISTORY + _PUBLISH)
SINCE = make_script(_HISTORY + _SINCE)
MISSED = make_script(_HISTORY + _MISSED)
STORE_RULES = make_script(_STORE_RULES)
ALL = (PUBLISH, SINCE, MISSED, STORE_RULES)
