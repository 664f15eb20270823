-- What the ledger knows of some workers. Those that are gone by now are left out.
--
-- ARGV   names of workers
-- Reply  {epoch, fence, {worker, incarnation, address, state, slots, mean service_us, lease_left_us, offers (JSON),
--        {service_us of each offer, as digits}, {reservations}}, …}

begin(true)

local groups = {} -- offers (JSON) of a slot group, and the fields that hold their service times
local function group_of(name)
  if not groups[name] then
    local offers, fields = redis.call('HGET', GROUP .. name, 'offers'), {}
    for n = 1, #cjson.decode(offers) do fields[n] = 'service_us:' .. n end
    groups[name] = {offers = offers, fields = fields}
  end
  return groups[name]
end

local reply = {epoch, fence}
for n = 1, #ARGV - 6 do
  local worker = arg(n)
  local lease = redis.call('ZSCORE', LEASES, worker)
  if lease and tonumber(lease) > now then
    local known = redis.call('HMGET', WORKER .. worker, 'incarnation', 'address', 'state', 'slots', 'service_us', 'group')
    local group = group_of(known[6])
    local services = #group.fields > 0 and redis.call('HMGET', WORKER .. worker, unpack(group.fields)) or {}
    reply[#reply + 1] = {worker, known[1], known[2], known[3], tonumber(known[4]), tonumber(known[5]), tonumber(lease) - now,
      group.offers, services, redis.call('HKEYS', HELD .. worker)}
  end
end
return reply
