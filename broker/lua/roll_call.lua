-- Notes that a consumer lives, if it is known; returns those that have been silent for too long.
--
-- KEYS: alive
-- ARGV: consumer ('' for nobody), seconds of silence ('' to ask for nobody)
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[1], 'XX', now, ARGV[1]) end
if ARGV[2] == '' then return {} end
return redis.call('ZRANGE', KEYS[1], '-inf', tonumber(now) - tonumber(ARGV[2]), 'BYSCORE', 'LIMIT', 0, 10)
