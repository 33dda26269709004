-- Gives unacknowledged messages back, each once, whoever else tries at the same time, and all in one step: whoever
-- takes in the middle of it would get the last ones.
--
-- KEYS: unacked index, unacked hash, owned, then the lists the messages go to
-- ARGV: 1 to the end of the queue that is taken last, then for each message, in the order in which they are pushed: tag
--       ('' for a message that was not noted), message, how many lists, the number of each
-- Returns how many; those that somebody else had do not count.

-- A key of another type must fail here, before anything is moved.
for number = 4, #KEYS do redis.call('LLEN', KEYS[number]) end
local push = ARGV[1] == '1' and 'LPUSH' or 'RPUSH'
local place, returned = 2, 0
while place <= #ARGV do
  local tag, message, lists = ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2])
  -- Writes that free memory come first: then a full server does not refuse the rest.
  redis.call('ZREM', KEYS[1], tag)
  redis.call('SREM', KEYS[3], tag)
  if redis.call('HDEL', KEYS[2], tag) == 1 or tag == '' then
    for list = place + 3, place + 2 + lists do redis.call(push, KEYS[3 + tonumber(ARGV[list])], message) end
    returned = returned + 1
  end
  place = place + 3 + lists
end
return returned
