-- The one place where a script learns the time. Tests put another file in its place.
-- Microseconds since the Unix epoch by the server's wall clock. It moves inside a script on some servers: read it once.
local function server_time_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
