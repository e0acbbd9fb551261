-- KEYS: the set of the session's sites.
local sites = KEYS[1]
for _, site in ipairs(redis.call('SMEMBERS', sites)) do
  redis.call('DEL', sites .. ':' .. site)
end
return redis.call('DEL', sites)
