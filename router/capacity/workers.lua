-- Names of the workers with a live lease.
--
-- ARGV   none of its own
-- Reply  {epoch, fence, worker, …}

begin(true)
expire_due(LOOK_MAX)

local reply = {epoch, fence}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '(' .. digits(now), '+inf')) do reply[#reply + 1] = worker end
return reply
