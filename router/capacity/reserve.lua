-- Select a slot and claim it, in one act.
--
-- ARGV   1 reservation, 2 request, 3 model, 4 share of the pool's slots to keep free, 5 and 6: 1 and a variant, or 0 and anything,
--        then the workers to leave out
-- Reply  {epoch, fence, 'GRANTED', worker, incarnation, address, variant, digest, service_us, its epoch, its fence, slots, busy,
--        expires_in_us}, or {epoch, fence, name of a Refusal, eta_us, slots, busy}
--
-- Rules
-- * A reservation that exists is answered again, whatever else holds.
-- * Nothing is granted while the workers register after a loss of memory.
-- * Of the free slots that qualify, the one free longest; ties by slot number, then by the worker's name, bytewise.
-- * A pool of S slots keeps floor(S * share + 0.5) free after the claim.
-- * Granted: slots and busy of the slot's pool. Refused: of all pools that serve the model.
-- * The clock's write comes first, and is refused when memory is used up, so that nothing is claimed then.

begin(false)
expire_due(LOOK_MAX)

local DEAD_MAX = 64 -- free slots of dead workers skipped on the way; expire_due left them, the next call gets on with it
local PAGE = 32 -- free slots read at once when the first one does not do
local OVERDUE_ETA_US = 50000 -- when the next job should have ended already
local CROWDED_ETA_US = 1000 -- when only dead workers' slots were met

local id, model, share = arg(1), arg(3), tonumber(arg(4))
local excluded = {}
for n = 7, #ARGV - 6 do excluded[arg(n)] = true end

-- The model's slot groups that have the wanted offer, and the totals of its pools.
local field = 'm:' .. model
if arg(5) == '1' then field = 'v:' .. #model .. ':' .. model .. arg(6) end
local groups, pools, all_slots, all_busy = {}, {}, 0, 0
for _, name in ipairs(redis.call('SMEMBERS', MODEL .. model)) do
  local known = redis.call('HMGET', GROUP .. name, 'pool', field)
  local busy = redis.call('ZCARD', BUSY .. name)
  local slots = busy + redis.call('ZCARD', FREE .. name)
  local pool = pools[known[1]] or {slots = 0, busy = 0}
  pool.slots, pool.busy = pool.slots + slots, pool.busy + busy
  pools[known[1]] = pool
  all_slots, all_busy = all_slots + slots, all_busy + busy
  if known[2] then groups[#groups + 1] = {name = name, pool = pool, offer = known[2]} end
end

local function pool_of(group)
  local pool, found = {slots = 0, busy = 0}, redis.call('HGET', GROUP .. group, 'pool')
  for _, name in ipairs(redis.call('SMEMBERS', GROUPS)) do
    if redis.call('HGET', GROUP .. name, 'pool') == found then
      local busy = redis.call('ZCARD', BUSY .. name)
      pool.busy, pool.slots = pool.busy + busy, pool.slots + busy + redis.call('ZCARD', FREE .. name)
    end
  end
  return pool
end

local function granted_before(expiry)
  local held = redis.call('HMGET', RESERVATION .. id, 'worker', 'variant', 'digest', 'service_us', 'epoch', 'fence')
  local worker = redis.call('HMGET', WORKER .. held[1], 'incarnation', 'address', 'group')
  local pool = pool_of(worker[3])
  return {epoch, fence, 'GRANTED', held[1], worker[1], worker[2], held[2], held[3], tonumber(held[4]), tonumber(held[5]),
    tonumber(held[6]), pool.slots, pool.busy, expiry - now}
end

local function refused(reason, eta_us) return {epoch, fence, reason, eta_us, all_slots, all_busy} end

local function next_free_eta()
  local first
  for _, group in ipairs(groups) do
    local ends = tonumber(redis.call('ZRANGE', BUSY .. group.name, 0, 0, 'WITHSCORES')[2])
    if ends and (not first or ends < first) then first = ends end
  end
  if not first then return 0 end
  return first > now and first - now or OVERDUE_ETA_US
end

-- Ready workers with the wanted offer; those that the claim leaves out are workers, too.
local function able_workers()
  local count = 0
  for _, group in ipairs(groups) do
    count = count + redis.call('SCARD', READY .. group.name)
  end
  return count
end

-- The group's slot free longest: member, since when. Nil if none qualifies; and true if dead ones crowd the way.
local function free_longest(group)
  local from, size, dead = 0, 1, 0
  while true do
    local page = redis.call('ZRANGE', FREE .. group, digits(from), digits(from + size - 1), 'WITHSCORES')
    if #page == 0 then return nil, nil, false end
    for n = 1, #page, 2 do
      local worker = string.sub(page[n], 6)
      if not excluded[worker] then
        if alive(worker) then return page[n], tonumber(page[n + 1]), false end
        dead = dead + 1
      end
    end
    if dead >= DEAD_MAX then return nil, nil, true end
    from, size = from + size, PAGE
  end
end

local function bytewise_less(a, b) -- Lua's own < follows the server's locale
  for n = 1, math.min(#a, #b) do
    local x, y = string.byte(a, n), string.byte(b, n)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function select_slot()
  local best, kept, crowded
  for _, group in ipairs(groups) do
    local member, since, in_the_way = free_longest(group.name)
    crowded = crowded or in_the_way
    if member then
      local pool = group.pool
      if pool.slots - pool.busy - 1 < math.floor(pool.slots * share + 0.5) then
        kept = true
      elseif not best or since < best.since or (since == best.since and bytewise_less(member, best.member)) then
        best = {group = group, member = member, since = since}
      end
    end
  end
  return best, kept, crowded
end

local function claim(group, member)
  local slot, worker = string.sub(member, 1, 4), string.sub(member, 6)
  local offer = redis.call('HMGET', GROUP .. group.name, 'variant:' .. group.offer, 'digest:' .. group.offer)
  local known = redis.call('HMGET', WORKER .. worker, 'incarnation', 'address', 'service_us:' .. group.offer)
  local service_us = tonumber(known[3])
  local ends = digits(now + service_us)
  fence = redis.call('HINCRBY', META, 'fence', 1)
  redis.call('HSET', RESERVATION .. id, 'worker', worker, 'request', arg(2), 'variant', offer[1], 'digest', offer[2],
    'service_us', digits(service_us), 'slot', tonumber(slot), 'epoch', digits(epoch), 'fence', digits(fence), 'ends_us', ends)
  redis.call('HSET', HELD .. worker, id, tonumber(slot))
  redis.call('ZADD', EXPIRIES, digits(now + RESERVATION_US), id)
  redis.call('ZREM', FREE .. group.name, member)
  redis.call('ZADD', BUSY .. group.name, ends, id)
  return {epoch, fence, 'GRANTED', worker, known[1], known[2], offer[1], offer[2], service_us, epoch, fence,
    group.pool.slots, group.pool.busy + 1, RESERVATION_US}
end

local expiry = redis.call('ZSCORE', EXPIRIES, id)
if expiry and tonumber(expiry) > now then return granted_before(tonumber(expiry)) end
if expiry then drop_reservation(id) end
if now < held_until then return refused('REBUILDING', held_until - now) end
local best, kept, crowded = select_slot()
if best then return claim(best.group, best.member) end
if able_workers() == 0 then return refused('NO_WORKER', 0) end
if crowded then return refused('FULL', CROWDED_ETA_US) end
return refused(kept and 'NOT_OFFERED' or 'FULL', next_free_eta())
