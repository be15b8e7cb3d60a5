"""The scripts that run within Redis, where nothing comes between their commands.

A history is three keys: a hash with what is known of it, a stream with the kept messages, whose
ids are their places, and a hash from their ids to their places.

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

local function open()
  local known = redis.call('HMGET', meta, 'epoch', 'place', 'run', 'second', 'chain')
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
  return epoch, place
end

local function drop(place, id, at, bytes)
  redis.call('HSET', meta, 'dropped', place, 'dropped_id', id, 'dropped_at', at, 'bytes', bytes)
end

local function trim()
  local count = redis.call('XLEN', log)
  if count == 0 then
    local of = redis.call('HMGET', meta, 'newest', 'newest_id', 'newest_at', 'dropped')
    if of[1] and of[1] ~= of[4] then
      drop(of[1], of[2], of[3], 0)
    end
    return
  end
  local bytes = tonumber(redis.call('HGET', meta, 'bytes') or 0)
  local place, id, at
  while count > 0 do
    local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    local fields = first[2]
    if count <= history and bytes <= max_bytes and now < fields[4] + lifetime then
      break
    end
    count, bytes = count - 1, bytes - fields[6]
    redis.call('XDEL', log, first[1])
    redis.call('HDEL', ids, fields[2])
    place, id, at = string.match(first[1], '%d+'), fields[2], fields[4]
  end
  if place then
    drop(place, id, at, bytes)
  end
end

local function renew()
  redis.call('PEXPIRE', meta, math.max(ID_LIFETIMES * lifetime, MIN_MS))
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
local epoch, place = open()
if id ~= '' then
  if redis.call('HEXISTS', ids, id) == 1 or redis.call('EXISTS', log) == 0 then
    trim()
    local known = redis.call('HGET', ids, id)
    if known then
      return {0, epoch, tonumber(known)}
    end
  end
end
place = place + 1
local payload = head .. epoch .. struct.pack('>I8', place) .. tail
if id == '' then
  redis.call('HSET', meta, 'place', place)
else
  redis.call('XADD', log, place .. '-0', 'i', id, 't', now, 's', size, 'd', payload)
  redis.call('HSET', ids, id, place)
  redis.call('HSET', meta, 'place', place, 'newest', place, 'newest_id', id, 'newest_at', now)
  redis.call('HINCRBY', meta, 'bytes', size)
  trim()
  redis.call('PEXPIREAT', log, now + lifetime)
  redis.call('PEXPIREAT', ids, now + lifetime)
end
renew()
redis.call(command, channel, payload)
return {1, epoch, place}
"""

# -> epoch, place, the chain of earlier epochs, the newest dropped place, payloads
_SINCE = """
local after = ARGV[7]
local epoch, place = open()
trim()
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
local epoch, place = open()
trim()
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
