-- Start or join the epoch.
--
-- ARGV   none of its own
-- Reply  {epoch, fence}

begin(false)
return {epoch, fence}
