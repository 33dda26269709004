-- Gives one unacknowledged message back, once, whoever else tries at the same time.
--
-- KEYS: unacked index, unacked hash, owned, then a list and a bell for each queue it goes to
-- ARGV: tag ('' for a message that was not noted), message, 1 to the end of the queue that is taken last,
--       milliseconds a bell lasts, 0 to ring none
-- Returns 1, or 0 when somebody else had it.
local tag = ARGV[1]
redis.call('ZREM', KEYS[1], tag)
redis.call('SREM', KEYS[3], tag)
if tag ~= '' and redis.call('HDEL', KEYS[2], tag) == 0 then return 0 end
for place = 4, #KEYS, 2 do
  redis.call(ARGV[3] == '1' and 'LPUSH' or 'RPUSH', KEYS[place], ARGV[2])
  if ARGV[4] ~= '0' then
    redis.call('LPUSH', KEYS[place + 1], '1')
    redis.call('PEXPIRE', KEYS[place + 1], ARGV[4])
  end
end
return 1
