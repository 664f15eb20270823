-- Start a worker's lease, in place of an older one of the same name.
--
-- ARGV   1 worker, 2 incarnation, 3 address, 4 slots, 5 slot group, 6 pool, 7 models (JSON list), 8 offers (JSON list of
--        [model, variant, digest]), 9 number of offers, then the service time of each in microseconds, then the ids of the
--        reservations that the worker runs.
-- Reply  {epoch, fence, incarnation that held the name until now, or nil, 1 or 0: registered}
--
-- Rules
-- * The order of first calls decides which incarnation is newer. The older one is remembered, so that its heartbeats learn it,
--   and does not get the name back from another that is alive: not from the one that superseded it, nor, if it was silent for
--   a lease, from one that came meanwhile.
-- * What the worker runs stays or is adopted, in the order given, up to its slots; an id that another worker holds is skipped.
-- * What the same incarnation holds but does not run yet (a grant on its way) stays too, oldest fence first, while there are
--   slots. Whatever else the name held goes.
-- * An adopted reservation gets a new fence, the first offer's service time, and the full time to live.
-- * A worker that registers is ready, whatever it was before.

begin(false)
expire_due(LOOK_MAX)

local RETIRED_FORGET_MAX = 64 -- and how many old ones a call forgets

local worker, incarnation, slots, group = arg(1), arg(2), tonumber(arg(4)), arg(5)
local offers = tonumber(arg(9))
local running = {}
for n = 10 + offers, #ARGV - 6 do running[#running + 1] = arg(n) end

if redis.call('EXISTS', WORKER .. worker) == 1 and not alive(worker) then drop_worker(worker) end
local former = redis.call('HGET', WORKER .. worker, 'incarnation')
if former and former ~= incarnation and (is_retired(worker, incarnation) or is_retired(worker, incarnation, true)) then
  return {epoch, fence, former, 0}
end
local held = redis.call('HKEYS', HELD .. worker)

-- Which reservations the lease starts with: a list of {id, known, renewed}.
local kept, listed = {}, {}
local function keep(id, known, renewed)
  if #kept < slots and not listed[id] then
    kept[#kept + 1] = {id = id, known = known, renewed = renewed}
    listed[id] = true
  end
end
for _, id in ipairs(running) do
  local holder = redis.call('HGET', RESERVATION .. id, 'worker')
  if not holder or holder == worker then keep(id, holder, true) end
end
if former == incarnation then
  local waiting = {}
  for n, id in ipairs(held) do waiting[n] = {id, tonumber(redis.call('HGET', RESERVATION .. id, 'fence'))} end
  table.sort(waiting, function(a, b) return a[2] < b[2] end)
  for _, one in ipairs(waiting) do keep(one[1], true, false) end
end

-- Clear what was.
if former then leave(worker) end
for _, id in ipairs(held) do
  if not listed[id] then
    redis.call('DEL', RESERVATION .. id)
    redis.call('ZREM', EXPIRIES, id)
  end
end
redis.call('DEL', WORKER .. worker, HELD .. worker)

-- Join the slot group, or found it.
if redis.call('SADD', GROUPS, group) == 1 then
  redis.call('HSET', GROUP .. group, 'pool', arg(6), 'models', arg(7), 'offers', arg(8), 'service_us', '0')
  for n, offer in ipairs(cjson.decode(arg(8))) do
    local model, variant, digest = offer[1], offer[2], offer[3]
    redis.call('HSET', GROUP .. group, 'variant:' .. n, variant, 'digest:' .. n, digest)
    redis.call('HSETNX', GROUP .. group, 'm:' .. model, n)
    redis.call('HSETNX', GROUP .. group, 'v:' .. #model .. ':' .. model .. variant, n)
    redis.call('SADD', MODEL .. model, group)
  end
end
local service_sum = 0
for n = 1, offers do
  redis.call('HSET', WORKER .. worker, 'service_us:' .. n, arg(9 + n))
  service_sum = service_sum + tonumber(arg(9 + n))
end
local service_mean = digits(math.floor(service_sum / math.max(1, offers)))
redis.call('HINCRBY', GROUP .. group, 'service_us', service_mean)
redis.call('SADD', LIVE .. group, worker)
redis.call('SADD', READY .. group, worker)
redis.call('HSET', WORKER .. worker, 'incarnation', incarnation, 'address', arg(3), 'slots', digits(slots), 'state', 'ready',
  'group', group, 'epoch', digits(epoch), 'service_us', service_mean)
redis.call('ZADD', LEASES, digits(now + LEASE_US), worker)

-- Seat the reservations, then offer the other slots.
local function adopt(id)
  fence = redis.call('HINCRBY', META, 'fence', 1)
  local first = redis.call('HMGET', GROUP .. group, 'variant:1', 'digest:1')
  local service_us = offers > 0 and tonumber(arg(10)) or 0
  redis.call('HSET', RESERVATION .. id, 'worker', worker, 'request', '', 'variant', first[1] or '', 'digest', first[2] or '',
    'service_us', digits(service_us), 'epoch', digits(epoch), 'fence', digits(fence), 'ends_us', digits(now + service_us))
end
for n, one in ipairs(kept) do
  if not one.known then adopt(one.id) end
  redis.call('HSET', RESERVATION .. one.id, 'slot', n - 1)
  redis.call('HSET', HELD .. worker, one.id, n - 1)
  redis.call('ZADD', BUSY .. group, redis.call('HGET', RESERVATION .. one.id, 'ends_us'), one.id)
  if one.renewed then redis.call('ZADD', EXPIRIES, digits(now + RESERVATION_US), one.id) end
end
for slot = #kept, slots - 1 do redis.call('ZADD', FREE .. group, digits(now), slot_member(slot, worker)) end

-- Remember who is the older one.
local old = redis.call('ZRANGEBYSCORE', RETIRED, '-inf', digits(now), 'LIMIT', 0, RETIRED_FORGET_MAX)
in_chunks('ZREM', RETIRED, old)
redis.call('ZREM', RETIRED, retired(worker, incarnation), retired(worker, incarnation, true))
if former and former ~= incarnation then
  retire(worker, former)
  return {epoch, fence, former, 1}
end
return {epoch, fence, false, 1}
