-- Makes a consumer group where it is missing and removes its consumers that are gone.
-- KEYS: its Streams
-- ARGV: group, milliseconds after which a consumer that holds nothing is removed
-- Answers how many consumers went. Looking and removing are one step: a consumer that takes an event in between
-- would lose it.
local gone = 0
for _, stream in ipairs(KEYS) do
  redis.pcall('XGROUP', 'CREATE', stream, ARGV[1], '0', 'MKSTREAM')
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, ARGV[1])) do
    local consumer = {}
    for place = 1, #flat, 2 do
      consumer[flat[place]] = flat[place + 1]
    end
    if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) then
      redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], consumer.name)
      gone = gone + 1
    end
  end
end
return gone
