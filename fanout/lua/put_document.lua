-- Compare-and-set of one cached document: an older or equal one never wins.
-- KEYS: document, [external id]
-- ARGV: revision, last_seq or '', life in seconds, document, [session id]
-- Only the first bytes of what is cached are looked at: a document may have a megabyte.
local head = redis.pcall('GETRANGE', KEYS[1], 0, 95)
if type(head) == 'string' then
  local revision, rest = string.match(head, '^{"revision": ?(%d+)(.*)$')
  if revision then
    if tonumber(ARGV[1]) <= tonumber(revision) then
      return 0
    end
    local last_seq = string.match(rest, '^, ?"last_seq": ?(%d+)')
    if last_seq and ARGV[2] ~= '' and tonumber(ARGV[2]) < tonumber(last_seq) then
      return 0
    end
  end
end
redis.call('SET', KEYS[1], ARGV[4], 'EX', ARGV[3])
if KEYS[2] then
  redis.call('SET', KEYS[2], ARGV[5], 'EX', ARGV[3])
end
return 1
