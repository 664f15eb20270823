-- Mark a request id as running with this content.
--
-- ARGV   1 request, 2 digest, 3 longest time in microseconds that it may run, 4 deposit in milli-tokens, 5 floor in milli-tokens
--        a second, 6 window in seconds, 7 cap in milli-tokens
-- Reply  {epoch, fence, name of a RequestClaim}
--
-- Rules
-- * FRESH if the id is unknown, was forgotten, failed with the same content, or should have ended by now (its router died).
--   Only then is there a deposit.
-- * Asking for a success again makes it last its full time again; asking for a run does not make it longer.

begin(false)

local key = REQUEST .. arg(1)
local known = redis.call('HMGET', key, 'digest', 'state', 'until_us')
local remembered = known[3] and tonumber(known[3]) > now
if remembered and known[1] ~= arg(2) then return {epoch, fence, 'OTHER_CONTENT'} end
local claim = 'FRESH'
if remembered and known[2] ~= 'failed' then claim = known[2] end
if claim == 'RUNNING' then return {epoch, fence, claim} end
local lasts = claim == 'FRESH' and tonumber(arg(3)) or REQUEST_US
redis.call('HSET', key, 'digest', arg(2), 'state', claim == 'FRESH' and 'RUNNING' or claim, 'until_us', digits(now + lasts))
redis.call('PEXPIRE', key, digits(math.ceil(math.max(lasts, REQUEST_US) / 1000) * 2 + 1000))
if claim == 'FRESH' then change_budget(tonumber(arg(4)), tonumber(arg(5)), tonumber(arg(6)), tonumber(arg(7))) end
return {epoch, fence, claim}
