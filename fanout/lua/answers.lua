-- Answers of one worker: each lies ready under its key for a while, and each channel gets one message, a JSON list.
-- KEYS: of the answers
-- ARGV: life in seconds, per answer its channel and its text
local life, channels, lists = ARGV[1], {}, {}
for number, key in ipairs(KEYS) do
  local channel, text = ARGV[2 * number], ARGV[2 * number + 1]
  redis.call('SET', key, text, 'EX', life)
  if not lists[channel] then
    channels[#channels + 1] = channel
    lists[channel] = {}
  end
  table.insert(lists[channel], text)
end
for _, channel in ipairs(channels) do
  redis.call('PUBLISH', channel, '[' .. table.concat(lists[channel], ',') .. ']')
end
return #channels
