-- Makes an entry that its consumer could not handle claimable after a pause, while it is still the consumer's.
-- KEYS: Stream
-- ARGV: group, consumer, entry id, milliseconds it counts as idle
-- Answers 1, or 0 when another consumer has it by now.
local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)[1]
if not found or found[2] ~= ARGV[2] then
  return 0
end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'JUSTID')
return 1
