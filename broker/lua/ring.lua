-- Rings for queues that hold messages but have no bell: what a producer without bells has sent.
--
-- KEYS: a bell per queue, then the lists of the first queue, those of the second, ..., then a mark per queue that
--       somebody is at work and will soon be back
-- ARGV: queues, lists per queue, milliseconds a bell lasts
-- Returns how many bells were rung.
local queues, steps, rung = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
for queue = 1, queues do
  if redis.call('EXISTS', KEYS[queue], KEYS[queues * (1 + steps) + queue]) == 0 then
    for step = 1, steps do
      if redis.call('EXISTS', KEYS[queues + (queue - 1) * steps + step]) == 1 then
        redis.call('LPUSH', KEYS[queue], '1')
        redis.call('PEXPIRE', KEYS[queue], ARGV[3])
        rung = rung + 1
        break
      end
    end
  end
end
return rung
