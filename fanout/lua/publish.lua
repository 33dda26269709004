-- Publishes events, each wholly or not at all: both Streams, all channels, a look at the cached document, and
-- what goes to the Stream of its session's output.
-- KEYS: Stream of all events
-- ARGV: prefix, global channel, entries kept in the Stream of all, life of a session's Streams in seconds,
--       'check' or 'publish'; then per event: Stream entry id, event id, session id, seq, event name,
--       entries kept in the session's Stream, flags, message, number of arguments about output, and these:
--       none, or entry id, entries kept, message for the session's channel (may be empty), fields and values
--       flags: p = to the channels, g = also to the global one, d = the session is deleted
-- Answers per event: 1 published, 0 was published before, text = refused for its own sake. After the first
-- refusal the others are checked but not published (-1): entry ids must rise.
-- An error that concerns all events (no memory, read-only, ...) ends the call; what was answered is lost,
-- but a second call answers 0 for what was done. One server only: keys are made here.
local FIELDS, MARK_LIFE, LAST_LIFE = 9, 300, 300
local all, prefix, global = KEYS[1], ARGV[1], ARGV[2]
local keep_all, life, halted = ARGV[3], ARGV[4], ARGV[5] == 'check'
local answers = {}

-- A cached document from before this event is older than the truth, and a late writer of one must lose.
local function repair(session, seq)
  local key = 'sess:doc:' .. session
  local head = redis.pcall('GETRANGE', key, 0, 95)
  if type(head) ~= 'string' then
    return
  end
  local revision, last_seq = string.match(head, '^{"revision": ?(%d+), ?"last_seq": ?(%d+)')
  if head == '' or (last_seq and tonumber(last_seq) < tonumber(seq)) then
    local mark = '{"revision":' .. (revision or '0') .. ',"last_seq":' .. seq .. ',"stale":true}'
    redis.call('SET', key, mark, 'EX', MARK_LIFE)
  end
end

-- The entry ids of output rise with its chunks, so what is refused here is there already. A key of another
-- kind is nobody's fault: readers find the chunks in PostgreSQL.
local function output(session, lives, first, last)
  local key = prefix .. 'stream:output:' .. session
  if first <= last then
    local id, keep, message = unpack(ARGV, first, first + 2)
    redis.pcall('XADD', key, 'MAXLEN', keep, id, unpack(ARGV, first + 3, last))
    if message ~= '' then
      redis.call('PUBLISH', prefix .. 'session:' .. session, message)
    end
    redis.call('EXPIRE', key, lives)
  end
end

local first = 6
while first <= #ARGV do
  local id, event_id, session, seq, name, keep, flags, message, more = unpack(ARGV, first, first + FIELDS - 1)
  local last = first + FIELDS - 1 + more
  local own = prefix .. 'stream:session:' .. session
  local kind = redis.call('TYPE', own)['ok']
  local answer = -1
  if kind ~= 'none' and kind ~= 'stream' then
    answer = 'WRONGTYPE ' .. own .. ' is a ' .. kind .. ', not a stream'
    halted = true
  elseif not halted then
    local added = redis.pcall('XADD', all, 'MAXLEN', '~', keep_all, id, 'envelope', message,
      'event_id', event_id, 'session_id', session, 'seq', seq, 'event_name', name)
    if type(added) == 'table' and added['err'] then
      if not string.find(added['err'], 'equal or smaller', 1, true) then
        return added
      end
      answer = 0
    else
      answer = 1
      -- Only a Stream of all that was lost alone lets this be refused: then it is there already.
      redis.pcall('XADD', own, 'MAXLEN', keep, id, 'envelope', message,
        'event_id', event_id, 'session_id', session, 'seq', seq, 'event_name', name)
      local lives = string.find(flags, 'd', 1, true) and LAST_LIFE or life
      redis.call('EXPIRE', own, lives)
      repair(session, seq)
      if string.find(flags, 'p', 1, true) then
        redis.call('PUBLISH', prefix .. 'events:session', message)
        redis.call('PUBLISH', prefix .. 'session:' .. session, message)
        if string.find(flags, 'g', 1, true) then
          redis.call('PUBLISH', global, message)
        end
      end
      output(session, lives, first + FIELDS, last)
    end
  end
  answers[#answers + 1] = answer
  first = last + 1
end
return answers
