-- End the claim on a request id.
--
-- ARGV   1 request, 2 digest, 3 succeeded: 1 or 0
-- Reply  {epoch, fence}
--
-- Rules
-- * A success stays a success. One whose claim was lost with the ledger's memory is remembered all the same.
-- * A failure of a claim that is gone, or any end of a claim with other content, changes nothing.
-- * It allocates next to nothing, and works when memory is used up.

begin(true)

local key = REQUEST .. arg(1)
local known = redis.call('HMGET', key, 'digest', 'state', 'until_us')
local remembered = known[3] and tonumber(known[3]) > now
if remembered and (known[1] ~= arg(2) or known[2] == 'SUCCEEDED') then return {epoch, fence} end
if arg(3) == '0' and not remembered then return {epoch, fence} end
redis.call('HSET', key, 'digest', arg(2), 'state', arg(3) == '1' and 'SUCCEEDED' or 'failed',
  'until_us', digits(now + REQUEST_US))
redis.call('PEXPIRE', key, digits(math.ceil(REQUEST_US / 1000) * 2 + 1000))
return {epoch, fence}
