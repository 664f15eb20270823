-- Every slot group that has a worker.
--
-- ARGV   none of its own
-- Reply  {epoch, fence, {pool, models (JSON), slots, busy, live workers, sum of their mean service times in us}, …}

begin(true)
expire_due(LOOK_MAX)

local reply = {epoch, fence}
for _, group in ipairs(redis.call('SMEMBERS', GROUPS)) do
  local known = redis.call('HMGET', GROUP .. group, 'pool', 'models', 'service_us')
  local busy = redis.call('ZCARD', BUSY .. group)
  reply[#reply + 1] = {known[1], known[2], busy + redis.call('ZCARD', FREE .. group), busy,
    redis.call('SCARD', LIVE .. group), tonumber(known[3])}
end
return reply
