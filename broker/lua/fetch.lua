-- One round trip of a consumer: drop what it has finished with, take what it has room for, and note
-- each message as unacknowledged in the same step, so that no message is ever known to a socket alone.
-- Nothing is decoded here: the message is noted as it is, for the queue it came from.
--
-- KEYS: unacked index, unacked hash, alive, owned, quarantine, then a bell per queue, then the lists: all
--       queues of the first priority step, all of the second, ..., then a mark per queue that somebody is at work
-- ARGV: limit, owner ('' is not watched over), start of the tags, 1 for strict order of the queues, largest
--       message in bytes, milliseconds a bell lasts, queues, steps, 1 to take nothing for an owner that has left,
--       messages up to which their taker leaves its mark, 0 for never, acks, finished tags...,
--       per queue 1 where messages need no acknowledgement, queue names as JSON...
-- Returns {queue number, message, queue number, message, ...}, highest priority first. Message i has the
-- tag start .. i.
local index, unacked, alive, owned, quarantine = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local limit, owner, start, strict = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4] == '1'
local largest, life, queues = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
local steps, known_only, few, acks = tonumber(ARGV[8]), ARGV[9] == '1', tonumber(ARGV[10]), tonumber(ARGV[11])
local no_ack, names = 11 + acks, 11 + acks + queues

local function ring(bell)
  if redis.call('EXISTS', bell) == 0 then
    redis.call('LPUSH', bell, '1')
    redis.call('PEXPIRE', bell, life)
  end
end

-- Sent together with the wait before it: whoever waited may have gone meanwhile, and with it the bell it took.
if known_only and not redis.call('ZSCORE', alive, owner) then
  for queue = 1, queues do ring(KEYS[5 + queue]) end
  return {}
end

-- Every key is written to before the first message is taken. A key of another type must fail here; and
-- a script whose first write frees memory may go on writing on a full server: else it could never be emptied.
redis.call('ZREM', index, '')
redis.call('HDEL', unacked, '')
redis.call('LTRIM', quarantine, 0, -1)
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
if owner ~= '' then
  redis.call('SREM', owned, '')
  redis.call('ZADD', alive, now, owner)
end
for first = 12, 11 + acks, 1000 do
  local last = math.min(first + 999, 11 + acks)
  redis.call('ZREM', index, unpack(ARGV, first, last))
  redis.call('HDEL', unacked, unpack(ARGV, first, last))
  redis.call('SREM', owned, unpack(ARGV, first, last))
end

local out, scores, entries, tags, taken, size, trouble = {}, {}, {}, {}, 0, 0, nil

-- Large messages are taken few at a time: a consumer holds all it has taken in memory. A list is popped in small
-- parts, since how large its messages are is known only then.
local MOST_BYTES, AT_ONCE = 8 * 1024 * 1024, 4

local function room()
  return taken < limit and size < MOST_BYTES
end

local function take(queue, raw)
  local name = ARGV[names + queue]
  if #raw > largest then
    local head = '{"reason": "larger than ' .. ARGV[5] .. ' bytes", "queue": ' .. name .. ', "at": ' .. now .. '}'
    redis.call('LPUSH', quarantine, head .. '\n' .. raw)
    return
  end
  taken = taken + 1
  size = size + #raw
  out[#out + 1] = queue
  out[#out + 1] = raw
  if ARGV[no_ack + queue] ~= '1' then
    local tag = start .. taken
    scores[#scores + 1] = now
    scores[#scores + 1] = tag
    entries[#entries + 1] = tag
    entries[#entries + 1] = '[' .. raw .. ',"",' .. name .. ']'
    tags[#tags + 1] = tag
  end
end

-- Takes up to `most` from one list; whether there were any.
local function pop(step, queue, most)
  local found = redis.pcall('RPOP', KEYS[5 + step * queues + queue], most)
  if not found then return false end
  if found.err then
    trouble = found
    return false
  end
  for _, raw in ipairs(found) do take(queue, raw) end
  return #found > 0
end

for step = 1, steps do
  if strict or queues == 1 then
    for queue = 1, queues do
      while room() and pop(step, queue, math.min(AT_ONCE, limit - taken)) do end
    end
  else
    local found = true
    while found and room() do
      found = false
      for queue = 1, queues do
        if room() and pop(step, queue, 1) then found = true end
      end
    end
  end
end

if #tags > 0 then
  redis.call('ZADD', index, unpack(scores))
  redis.call('HSET', unacked, unpack(entries))
  if owner ~= '' then redis.call('SADD', owned, unpack(tags)) end
end

-- A bell means that something waits. Whoever leaves messages behind rings for the next consumer.
-- A mark means that somebody is at work who took few and left none, and will be back before another would have the
-- next: publishers ring for nobody else meanwhile. Whoever dies with it, or takes longer, has it no longer than this;
-- then the ringer sees what waits.
local MARK_MS = 20
for queue = 1, queues do
  local bell, mark, waiting = KEYS[5 + queue], KEYS[5 + (1 + steps) * queues + queue], 0
  if not room() then
    for step = 1, steps do
      local length = redis.pcall('LLEN', KEYS[5 + step * queues + queue])
      if type(length) == 'number' then waiting = waiting + length end
    end
  end
  if waiting == 0 then
    redis.call('DEL', bell)
  else
    ring(bell)
  end
  if taken > 0 and taken <= few and waiting == 0 then
    redis.call('SET', mark, owner, 'PX', MARK_MS)
  elseif few > 0 and redis.pcall('GET', mark) == owner then
    redis.call('DEL', mark)
  end
end
if trouble and taken == 0 then return trouble end
return out
