-- KEYS: the hash of a site's cookies, the set of the session's sites.
-- ARGV: the version that the caller knows, a nonce, how long to keep the key in milliseconds, how
-- long to keep tombstones in microseconds, how many sites a session may have, this site; then for
-- each record its field and its value: 20 digits of the stamp, '+' and the body, or '-'.
local hash, sites = KEYS[1], KEYS[2]
local version = redis.call('HGET', hash, 'v') or ''
local before = version

-- All is read and checked before anything is written: a script that fails is not undone.
local stored, writes = {}, {}
for i = 7, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  local old = stored[field] or redis.call('HGET', hash, field)
  if old and not string.find(old, '^%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d[+-]') then
    return {3}
  end
  -- As texts: a number of Lua has 53 bits, and a stamp has 64.
  if not old or string.sub(old, 1, 20) < string.sub(value, 1, 20) then
    stored[field] = value
    writes[#writes + 1] = field
  end
end

local ttl = tonumber(ARGV[3])
if #writes > 0 then
  if version == '' and redis.call('SISMEMBER', sites, ARGV[6]) == 0 then
    if redis.call('SCARD', sites) >= tonumber(ARGV[5]) then
      -- The set still names sites whose cookies have expired.
      for _, site in ipairs(redis.call('SMEMBERS', sites)) do
        if redis.call('EXISTS', sites .. ':' .. site) == 0 then
          redis.call('SREM', sites, site)
        end
      end
      if redis.call('SCARD', sites) >= tonumber(ARGV[5]) then
        return {2}
      end
    end
  end
  redis.call('SADD', sites, ARGV[6])
  local count = tonumber(string.match(version, '^(%d+):')) or 0
  version = string.format('%.0f:%s', count + 1, ARGV[2])
  redis.call('HSET', hash, 'v', version)
  for _, field in ipairs(writes) do
    redis.call('HSET', hash, field, stored[field])
  end
  local time = redis.call('TIME')
  local horizon = string.format('%020.0f', time[1] * 1000000 + time[2] - tonumber(ARGV[4]))
  local all = redis.call('HGETALL', hash)
  for i = 1, #all, 2 do
    if string.sub(all[i + 1], 21, 21) == '-' and string.sub(all[i + 1], 1, 20) < horizon
        and all[i] ~= 'v' then
      redis.call('HDEL', hash, all[i])
    end
  end
end

if version ~= '' then
  -- Never shorter: who has not loaded the key does not know its longest-lived cookie.
  if redis.call('PTTL', hash) < ttl then
    redis.call('PEXPIRE', hash, ttl)
  end
  -- The set stays as long as the last of its sites.
  if redis.call('PTTL', sites) < ttl then
    redis.call('PEXPIRE', sites, ttl)
  end
end

-- The last command reads the hash, which tracks it again: the writes above have ended that, and
-- with NOLOOP without a word.
if before == ARGV[1] then
  return {0, redis.call('HGET', hash, 'v') or ''}
end
return {1, redis.call('HGETALL', hash)}
