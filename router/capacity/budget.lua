-- The region's retry budget. Included by the acts that deposit or withdraw.
--
-- As in Finagle's RetryBudget: credit counts for a window of seconds and is worth nothing after it. The balance is a reserve
-- (the floor, for a whole window) plus what the seconds of the window brought and took. Kept as one net amount a second, in
-- milli-tokens, in a ring of as many seconds as the window has. Seconds are those of the ledger's clock.

-- Deposit `milli`, or withdraw it (negative) if as much is there; false if not. The balance never exceeds `milli_max`.
local function change_budget(milli, floor_milli_per_s, window_s, milli_max)
  local second = math.floor(now / 1000000)
  local ring = redis.call('HGETALL', BUDGET)
  local net, last = {}, second
  for n = 1, #ring, 2 do
    if ring[n] == 'second' then last = tonumber(ring[n + 1]) else net[tonumber(ring[n])] = tonumber(ring[n + 1]) end
  end
  local fields = {'second', digits(second)}
  for past = last + 1, math.min(second, last + window_s) do
    net[past % window_s] = 0
    fields[#fields + 1], fields[#fields + 2] = digits(past % window_s), '0'
  end
  local balance = math.min(floor_milli_per_s * window_s, milli_max)
  for _, amount in pairs(net) do balance = balance + amount end
  local capped = math.min(balance, milli_max)
  local wanted = math.min(capped + milli, milli_max)
  local done = milli >= 0 or wanted >= 0
  local change = (done and wanted or capped) - balance
  fields[#fields + 1], fields[#fields + 2] = digits(second % window_s), digits((net[second % window_s] or 0) + change)
  redis.call('HSET', BUDGET, unpack(fields))
  return done
end
