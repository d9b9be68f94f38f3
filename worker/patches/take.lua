-- Take messages from a queue and note them as kombu does, in one step.
-- KEYS: the sorted set of delivery tags by time, the hash of messages by tag, the queue
-- ARGV: now, how many to take, a message that was taken before, the tags of acknowledged messages ...
-- Returns the messages taken. One that is not kombu's is not noted: the worker drops it.
local index, unacked, queue = KEYS[1], KEYS[2], KEYS[3]

local function note(message)
  local properties = cjson.decode(message).properties
  local info = properties.delivery_info
  local sent_to = cjson.encode({info.exchange, info.routing_key})
  redis.call('HSET', unacked, properties.delivery_tag, '[' .. message .. ',' .. sent_to:sub(2))
  redis.call('ZADD', index, ARGV[1], properties.delivery_tag)
end

for tag = 4, #ARGV do
  redis.call('ZREM', index, ARGV[tag])
  redis.call('HDEL', unacked, ARGV[tag])
end
pcall(note, ARGV[3])
local taken = {}
for _ = 1, tonumber(ARGV[2]) do
  local message = redis.call('RPOP', queue)
  if not message then break end
  pcall(note, message)
  taken[#taken + 1] = message
end
return taken
