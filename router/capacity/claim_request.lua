-- Mark a request id as running with this content.
--
-- ARGV   1 request, 2 digest, 3 deposit in milli-tokens, 4 floor in milli-tokens a second, 5 window in seconds, 6 cap in
--        milli-tokens
-- Reply  {epoch, fence, name of a RequestClaim}
--
-- Rules
-- * FRESH if the id is unknown, was forgotten, or failed with the same content. Only then is there a deposit.
-- * Every claim with the same content makes the id last its full time again.

begin(false)

local key = REQUEST .. arg(1)
local known = redis.call('HMGET', key, 'digest', 'state', 'until_us')
local remembered = known[3] and tonumber(known[3]) > now
if remembered and known[1] ~= arg(2) then return {epoch, fence, 'OTHER_CONTENT'} end
local claim = 'FRESH'
if remembered and known[2] ~= 'failed' then claim = known[2] end
redis.call('HSET', key, 'digest', arg(2), 'state', claim == 'FRESH' and 'RUNNING' or claim, 'until_us', digits(now + REQUEST_US))
redis.call('PEXPIRE', key, digits(math.ceil(REQUEST_US / 1000) * 2 + 1000))
if claim == 'FRESH' then change_budget(tonumber(arg(3)), tonumber(arg(4)), tonumber(arg(5)), tonumber(arg(6))) end
return {epoch, fence, claim}
