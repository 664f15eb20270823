-- Take one token from the region's retry budget.
--
-- ARGV   1 floor in milli-tokens a second, 2 window in seconds, 3 cap in milli-tokens
-- Reply  {epoch, fence, taken}, the last 0 or 1

begin(false)
local taken = change_budget(-1000, tonumber(arg(1)), tonumber(arg(2)), tonumber(arg(3)))
return {epoch, fence, taken and 1 or 0}
