-- The frame of every act: arguments that all share, the ledger's clock, epoch and memory.
--
-- KEYS[1]  the region's meta key
-- ARGV     1 lease_us, 2 reservation_us, 3 rebuild_us, 4 request_us, 5 and 6: the highest epoch and fence that the calling
--          router has ever seen. An act's own arguments begin after them: `arg(1)` is the first.
--
-- Clock.  TIME is a wall clock. When it runs backwards the ledger's clock stands still and goes on from there (`behind_us` holds
-- the difference), so that no stored deadline moves into the far future, and the epoch grows. When it jumps forward the leases
-- end, and the workers register again with what they run.
-- Memory. A store without an epoch has lost everything (or is new). A store whose epoch or fence is below what a router has seen
-- has lost writes (a failover). Both begin a new epoch and grant nothing for rebuild_us, while the workers register.
-- The epoch of an empty store is its TIME in milliseconds, and the fence starts at its TIME in microseconds, so that both grow
-- across wipes that nobody remembers.
-- Full.   A server over `maxmemory` refuses a script's write that may need memory, until the script has made a write that may
-- not. Acts that must work then call begin(true), which deletes a key that never exists.
-- Numbers are doubles: exact up to 2^53, that is the year 2255 in microseconds. Never let Lua print one, it keeps 14 digits.

if redis.replicate_commands then redis.replicate_commands() end -- Redis before 7 needs it to write after TIME

local LEASE_US, RESERVATION_US = tonumber(ARGV[1]), tonumber(ARGV[2])
local REBUILD_US, REQUEST_US = tonumber(ARGV[3]), tonumber(ARGV[4])
local EPOCH_SEEN, FENCE_SEEN = tonumber(ARGV[5]), tonumber(ARGV[6])

local now, epoch, fence, held_until, rebuilt

local function arg(n) return ARGV[6 + n] end

local function digits(number) return string.format('%.0f', number + 0) end -- + 0: it would write -0 with its sign

local function new_memory(raw)
  now = raw
  epoch = math.max(math.floor(raw / 1000), EPOCH_SEEN + 1)
  fence = math.max(raw, FENCE_SEEN)
  held_until, rebuilt = now + REBUILD_US, epoch
  redis.call('HSET', META, 'epoch', digits(epoch), 'fence', digits(fence), 'seen_us', digits(now), 'behind_us', '0',
    'held_until_us', digits(held_until), 'rebuilt', digits(rebuilt))
end

local function lost_writes()
  epoch = math.max(epoch, EPOCH_SEEN) + 1
  fence = math.max(fence, FENCE_SEEN)
  held_until, rebuilt = now + REBUILD_US, epoch
  redis.call('HSET', META, 'epoch', digits(epoch), 'fence', digits(fence), 'held_until_us', digits(held_until),
    'rebuilt', digits(rebuilt))
end

local function begin(frees)
  local raw = server_time_us()
  local meta = redis.call('HMGET', META, 'epoch', 'fence', 'seen_us', 'behind_us', 'held_until_us', 'rebuilt')
  if frees then redis.call('DEL', NOTHING) end
  if not meta[1] then return new_memory(raw) end
  epoch, fence, held_until, rebuilt = tonumber(meta[1]), tonumber(meta[2]), tonumber(meta[5]), tonumber(meta[6])
  local seen, behind = tonumber(meta[3]), tonumber(meta[4])
  local lost = EPOCH_SEEN > epoch or FENCE_SEEN > fence
  now = raw + behind
  if now < seen then
    behind, now, epoch = behind + seen - now, seen, epoch + 1
    redis.call('HSET', META, 'epoch', digits(epoch), 'behind_us', digits(behind))
  end
  redis.call('HSET', META, 'seen_us', digits(now))
  if lost then lost_writes() end
end
