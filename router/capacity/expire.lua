-- Ending leases and reservations. Included by the acts that do so; all of it frees memory first.
--
-- A worker and its reservations go together. A slot goes back to its group's free set only while its worker is ready, which is
-- what keeps free + busy = slots of the ready workers.

-- (%s would end at a zero byte in the worker's name.)
local function slot_member(slot, worker) return string.format('%04d:', slot) .. worker end

-- Call a command on `key` with many arguments: Lua's stack takes about 8,000 at once.
local function in_chunks(command, key, values)
  for from = 1, #values, 1000 do
    redis.call(command, key, unpack(values, from, math.min(from + 999, #values)))
  end
end

-- Take the worker's slots out of its group's free and busy sets: it takes no more jobs. Reservations stay with the worker.
local function leave_ready(worker, group, slots)
  local held = redis.call('HKEYS', HELD .. worker)
  local members = {}
  for slot = 0, slots - 1 do members[slot + 1] = slot_member(slot, worker) end
  redis.call('SREM', READY .. group, worker)
  in_chunks('ZREM', FREE .. group, members)
  in_chunks('ZREM', BUSY .. group, held)
end

local function leave_group(worker, group, service_us)
  redis.call('SREM', LIVE .. group, worker)
  if redis.call('SCARD', LIVE .. group) > 0 then
    redis.call('HINCRBY', GROUP .. group, 'service_us', digits(-service_us))
    return
  end
  for _, model in ipairs(cjson.decode(redis.call('HGET', GROUP .. group, 'models') or '[]')) do
    redis.call('SREM', MODEL .. model, group)
  end
  redis.call('DEL', GROUP .. group)
  redis.call('SREM', GROUPS, group)
end

-- Take the worker out of its group, whatever its state. Its own keys, lease and reservations stay. (A worker without its key
-- can only come from someone's hand in the store; ending its lease must not fail for it.)
local function leave(worker)
  local known = redis.call('HMGET', WORKER .. worker, 'state', 'group', 'slots', 'service_us')
  if not known[2] then return end
  if known[1] == 'ready' then leave_ready(worker, known[2], tonumber(known[3])) end
  leave_group(worker, known[2], tonumber(known[4]))
end

local RETIRED_LEASES = 150 -- how long an incarnation that lost its name is remembered: 10 minutes at a lease of 4 s

-- Remembered incarnations: those that a newer one superseded, and (`ended`) those whose lease is over.
local function retired(worker, incarnation, ended) return (ended and '+' or '') .. #worker .. ':' .. worker .. incarnation end
local function retire(worker, incarnation, ended)
  redis.call('ZADD', RETIRED, digits(now + RETIRED_LEASES * LEASE_US), retired(worker, incarnation, ended))
end
local function is_retired(worker, incarnation, ended)
  local forget_at = redis.call('ZSCORE', RETIRED, retired(worker, incarnation, ended))
  return forget_at and tonumber(forget_at) > now
end

local function drop_worker(worker)
  local incarnation = redis.call('HGET', WORKER .. worker, 'incarnation')
  local held = redis.call('HKEYS', HELD .. worker)
  for _, id in ipairs(held) do redis.call('DEL', RESERVATION .. id) end
  in_chunks('ZREM', EXPIRIES, held)
  leave(worker)
  redis.call('DEL', HELD .. worker, WORKER .. worker)
  redis.call('ZREM', LEASES, worker)
  if incarnation then retire(worker, incarnation, true) end
end

-- Returns false if there was no such reservation.
local function drop_reservation(id)
  local known = redis.call('HMGET', RESERVATION .. id, 'worker', 'slot')
  local worker = known[1]
  if not worker then return false end
  redis.call('DEL', RESERVATION .. id)
  redis.call('HDEL', HELD .. worker, id)
  redis.call('ZREM', EXPIRIES, id)
  local holder = redis.call('HMGET', WORKER .. worker, 'state', 'group')
  if holder[1] == 'ready' then
    redis.call('ZREM', BUSY .. holder[2], id)
    redis.call('ZADD', FREE .. holder[2], digits(now), slot_member(known[2], worker))
  end
  return true
end

-- Expire at most `limit` leases, then reservations, that are past their time; earliest first. Returns how many. What goes
-- with a worker is not counted again.
local function expire_due(limit)
  local dead = redis.call('ZRANGEBYSCORE', LEASES, '-inf', digits(now), 'LIMIT', 0, limit)
  for _, worker in ipairs(dead) do drop_worker(worker) end
  if #dead == limit then return limit end
  local due = redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', digits(now), 'LIMIT', 0, limit - #dead)
  for _, id in ipairs(due) do drop_reservation(id) end
  return #dead + #due
end

local LOOK_MAX = 64 -- an act that only looks expires at most this many on its way

-- True if the worker holds the lease, under this incarnation if one is given.
local function alive(worker, incarnation)
  local lease = redis.call('ZSCORE', LEASES, worker)
  if not lease or tonumber(lease) <= now then return false end
  return incarnation == nil or redis.call('HGET', WORKER .. worker, 'incarnation') == incarnation
end
