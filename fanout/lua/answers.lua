-- Answers of one worker: each channel gets one message, a JSON list, and a copy lies ready for a while where wanted.
-- KEYS: per answer that of its copy, '' for none
-- ARGV: life in seconds, per answer its channel and its text
local life, channels, lists = ARGV[1], {}, {}
for number, key in ipairs(KEYS) do
  local channel, text = ARGV[2 * number], ARGV[2 * number + 1]
  if key ~= '' then redis.call('SET', key, text, 'EX', life) end
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
