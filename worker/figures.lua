-- What a process measured, for `reelhaul status`: one field a process in one hash.
--
-- KEYS[1]  the hash
-- ARGV[1]  the process; ARGV[2]  its figures; ARGV[3]  seconds until figures are too old to be read
--
-- Returns nothing. Fields hold "SECOND FIGURES", by Redis' clock. Whoever writes removes what is too old, and the hash
-- itself expires, so that a reader needs one HGETALL and no clock.

local now, life = tonumber(redis.call('TIME')[1]), tonumber(ARGV[3])
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if math.abs(now - tonumber(string.match(fields[i + 1], '^%d+'))) > life then redis.call('HDEL', KEYS[1], fields[i]) end
end
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
redis.call('EXPIRE', KEYS[1], life)
