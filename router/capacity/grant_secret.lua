-- The region's secret for signing grants.
--
-- ARGV   1 proposal
-- Reply  {epoch, fence, secret}: the first proposal since the store was last empty

begin(false)
redis.call('HSETNX', META, 'secret', arg(1))
return {epoch, fence, redis.call('HGET', META, 'secret')}
