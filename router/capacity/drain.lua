-- Give a worker no new job. Its slots leave its group; what it runs goes on.
--
-- ARGV   1 worker, 2 incarnation
-- Reply  {epoch, fence, known}, the last 0 or 1

begin(true)
expire_due(LOOK_MAX)

local worker = arg(1)
if not alive(worker, arg(2)) then return {epoch, fence, 0} end
local known = redis.call('HMGET', WORKER .. worker, 'state', 'group', 'slots')
if known[1] == 'ready' then
  leave_ready(worker, known[2], tonumber(known[3]))
  redis.call('HSET', WORKER .. worker, 'state', 'draining')
end
return {epoch, fence, 1}
