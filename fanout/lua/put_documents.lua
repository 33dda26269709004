-- Compare-and-set of cached documents: an older or equal one never wins. Then the relay's hint, if asked for.
-- One of the last revision there is marks a deleted session: longer than any writer can be late, but not for ever.
-- KEYS: per document its key and that of its external id ('' where it has none); [hint]
-- ARGV: number of the database ('' for the connection's own), life in seconds, documents, per document revision,
--       last_seq or '', text, session id
-- Returns how many were stored. Only the first bytes of what is cached are looked at: it may have a megabyte.
local LAST, MARK_LIFE = '9007199254740991', 300
local database, life, count, stored = ARGV[1], ARGV[2], tonumber(ARGV[3]), 0
if database ~= '' then redis.call('SELECT', database) end  -- until the script ends

local function newer(key, revision, last_seq)
  local head = redis.pcall('GETRANGE', key, 0, 95)
  if type(head) ~= 'string' then return false end
  local cached, rest = string.match(head, '^{"revision": ?(%d+)(.*)$')
  if not cached then return false end
  if tonumber(revision) <= tonumber(cached) then return true end
  local seq = string.match(rest, '^, ?"last_seq": ?(%d+)')
  return seq and last_seq ~= '' and tonumber(last_seq) < tonumber(seq)
end

for number = 1, count do
  local key, external, at = KEYS[2 * number - 1], KEYS[2 * number], 4 * number
  if not newer(key, ARGV[at], ARGV[at + 1]) then
    if ARGV[at] == LAST then
      redis.call('SET', key, ARGV[at + 2], 'EX', MARK_LIFE)
      if external ~= '' then redis.call('UNLINK', external) end
    else
      redis.call('SET', key, ARGV[at + 2], 'EX', life)
      if external ~= '' then redis.call('SET', external, ARGV[at + 3], 'EX', life) end
    end
    stored = stored + 1
  end
end

local hint = KEYS[2 * count + 1]
if hint then
  redis.call('LPUSH', hint, 1)
  redis.call('LTRIM', hint, 0, 0)
end
return stored
