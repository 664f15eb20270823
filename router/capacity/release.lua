-- Free a reservation's slot. Works when memory is used up: it frees before it writes.
--
-- ARGV   1 reservation
-- Reply  {epoch, fence, released}, the last 0 if the reservation was gone, or past its time

begin(true)

local expiry = redis.call('ZSCORE', EXPIRIES, arg(1))
local in_time = expiry and tonumber(expiry) > now
local released = drop_reservation(arg(1)) and in_time
expire_due(LOOK_MAX)
return {epoch, fence, released and 1 or 0}
