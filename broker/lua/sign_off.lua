-- Forgets a consumer that holds nothing any more; one that has spoken meanwhile, or still holds something, stays.
--
-- KEYS: alive, owned
-- ARGV: consumer, seconds of silence ('' for a consumer that takes leave itself)
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or redis.call('SCARD', KEYS[2]) > 0 then return 0 end
local time = redis.call('TIME')
local now = tonumber(time[1] .. '.' .. string.format('%06d', tonumber(time[2])))
if ARGV[2] ~= '' and tonumber(score) > now - tonumber(ARGV[2]) then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
