-- Expire leases and reservations that are past their time. Works when memory is used up.
--
-- ARGV   1 the most to expire
-- Reply  {epoch, fence, how many went}

begin(true)
return {epoch, fence, expire_due(tonumber(arg(1)))}
