-- Moves the messages a consumer knows it holds to its new name. What stays behind under the old one was in an
-- answer that never arrived, and comes back as the messages of the dead do.
--
-- KEYS: alive, owned by the old name, owned by the new name
-- ARGV: new name, tags...
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] .. '.' .. string.format('%06d', tonumber(time[2])), ARGV[1])
for place = 2, #ARGV do redis.call('SMOVE', KEYS[2], KEYS[3], ARGV[place]) end
return #ARGV - 1
