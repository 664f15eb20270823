-- Extend a worker's lease, renew the reservations that it runs, note the service times that it measured.
--
-- ARGV   1 worker, 2 incarnation, 3 number of running reservations, then their ids, then variant and microseconds in turn
-- Reply  {epoch, fence, known, superseded}, the last two 0 or 1
--
-- Rules
-- * Known is the live lease of this incarnation, ready or draining, registered since the ledger last lost memory. Anyone else
--   is to register again, with what it runs: a heartbeat adopts nothing (a late one would bring a finished job back).
-- * Superseded: another incarnation holds the name, or took it not long ago.
-- * It allocates next to nothing, and works when memory is used up: a full store must not let its workers die.

begin(true)
expire_due(LOOK_MAX)

local worker, incarnation, running = arg(1), arg(2), tonumber(arg(3))

if not alive(worker, incarnation) then
  local superseded = alive(worker) or is_retired(worker, incarnation)
  return {epoch, fence, 0, superseded and 1 or 0}
end
local known = redis.call('HMGET', WORKER .. worker, 'state', 'group', 'epoch', 'service_us')
if known[1] == 'detached' or tonumber(known[3]) < rebuilt then return {epoch, fence, 0, 0} end

redis.call('ZADD', LEASES, digits(now + LEASE_US), worker)
for n = 1, running do
  local id = arg(3 + n)
  local expiry = redis.call('HEXISTS', HELD .. worker, id) == 1 and redis.call('ZSCORE', EXPIRIES, id)
  if expiry and tonumber(expiry) > now then redis.call('ZADD', EXPIRIES, digits(now + RESERVATION_US), id) end
end

local measured = {}
for n = 4 + running, #ARGV - 6, 2 do measured[arg(n)] = arg(n + 1) end
if next(measured) then
  local offers = cjson.decode(redis.call('HGET', GROUP .. known[2], 'offers'))
  local sum = 0
  for n, offer in ipairs(offers) do
    local field = 'service_us:' .. n
    if measured[offer[2]] then redis.call('HSET', WORKER .. worker, field, measured[offer[2]]) end
    sum = sum + tonumber(redis.call('HGET', WORKER .. worker, field))
  end
  local mean = math.floor(sum / math.max(1, #offers))
  redis.call('HSET', WORKER .. worker, 'service_us', digits(mean))
  redis.call('HINCRBY', GROUP .. known[2], 'service_us', digits(mean - tonumber(known[4])))
end
return {epoch, fence, 1, 0}
