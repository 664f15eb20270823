-- A worker's stream ended.
--
-- ARGV   1 worker, 2 incarnation, 3 gone: 1 if it said goodbye, else 0
-- Reply  {epoch, fence, known}, the last 0 or 1
--
-- Rules
-- * Gone, and nothing is reserved on it: the worker goes at once. A goodbye from one that may still run a job is none.
-- * Else its slots leave its group, and it goes when its lease ends, unless it registers again before.

begin(true)
expire_due(LOOK_MAX)

local worker = arg(1)
if not alive(worker, arg(2)) then return {epoch, fence, 0} end
if arg(3) == '1' and redis.call('HLEN', HELD .. worker) == 0 then
  drop_worker(worker)
  return {epoch, fence, 1}
end
local known = redis.call('HMGET', WORKER .. worker, 'state', 'group', 'slots')
if known[1] == 'ready' then leave_ready(worker, known[2], tonumber(known[3])) end
redis.call('HSET', WORKER .. worker, 'state', 'detached')
return {epoch, fence, 1}
