-- Cached texts by key, so many as have some bytes together, at least one. What is no string is a miss.
-- KEYS: of documents. ARGV: bytes at most, about.
-- Returns one entry per key that was looked at, false for a miss: the keys behind it were not.
local left, found = tonumber(ARGV[1]), {}
for number = 1, #KEYS do
  local size = redis.pcall('STRLEN', KEYS[number])
  if type(size) ~= 'number' then size = 0 end
  left = left - size
  if left < 0 and number > 1 then break end
  local text = redis.pcall('GET', KEYS[number])
  found[number] = type(text) == 'string' and text
end
return found
