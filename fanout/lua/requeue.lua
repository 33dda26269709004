-- Adds an event to the Streams of groups, once for each marker.
-- KEYS: marker, Streams
-- ARGV: life of the marker in seconds, entries a Stream keeps, fields and values
-- Answers 1, or 0 when it was done before.
if not redis.call('SET', KEYS[1], 1, 'NX', 'EX', ARGV[1]) then
  return 0
end
for place = 2, #KEYS do
  redis.call('XADD', KEYS[place], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, 3))
end
return 1
