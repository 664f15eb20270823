-- What the ledger knows of some workers. Those that are gone by now are left out.
--
-- ARGV   names of workers
-- Reply  {epoch, fence, {worker, incarnation, address, state, slots, mean service_us, lease_left_us, offers (JSON),
--        {service_us of each offer}, {reservations}}, …}

begin(true)

local reply = {epoch, fence}
for n = 1, #ARGV - 6 do
  local worker = arg(n)
  local lease = redis.call('ZSCORE', LEASES, worker)
  if lease and tonumber(lease) > now then
    local known = redis.call('HMGET', WORKER .. worker, 'incarnation', 'address', 'state', 'slots', 'service_us', 'group')
    local offers = redis.call('HGET', GROUP .. known[6], 'offers')
    local services = {}
    for offer = 1, #cjson.decode(offers) do
      services[offer] = tonumber(redis.call('HGET', WORKER .. worker, 'service_us:' .. offer))
    end
    reply[#reply + 1] = {worker, known[1], known[2], known[3], tonumber(known[4]), tonumber(known[5]), tonumber(lease) - now,
      offers, services, redis.call('HKEYS', HELD .. worker)}
  end
end
return reply
