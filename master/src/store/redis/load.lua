-- Puts a backup in the place of everything that is stored. KEYS[1]: the store's hash.
-- ARGV: format, cluster, at_least, leader, 'replace' or '', then field, value, ...
-- Answers {'ok', epoch}, {'not-empty'}, {'format', found} or {'epoch', found}: no epoch is left above that one.
-- The largest epoch that a double holds exactly, and that is read.
local MOST = 9007199254740991
-- Everything is looked at before the first write, and the first write is the one
-- that Redis may refuse (memory, read-only, disk): so a refusal changes nothing.
local store = KEYS[1]
local meta = redis.call('HMGET', store, 'format', 'epoch')
local old = {}
for _, field in ipairs(redis.call('HKEYS', store)) do
    if string.find(field, '/') or field == 'stats' then
        old[#old + 1] = field
    end
end
if redis.call('EXISTS', store) == 1 and meta[1] ~= ARGV[1] and meta[1] ~= '1' then
    return {'format', tostring(meta[1] or 'none')}
end
if #old > 0 and ARGV[5] ~= 'replace' then
    return {'not-empty'}
end
local stored = tonumber(meta[2] or '0') or 0
-- An epoch that nobody can read is replaced, too: this is how a damaged store is repaired.
if not (stored < MOST) and ARGV[5] == 'replace' then
    stored = 0
end
local highest = math.max(stored, tonumber(ARGV[3]))
if not (highest < MOST) then
    return {'epoch', string.format('%.0f', highest)}
end
local epoch = string.format('%.0f', highest + 1)
redis.call('HSET', store, 'format', ARGV[1], 'cluster', ARGV[2], 'epoch', epoch, 'leader', ARGV[4], 'session', '0')
-- Lua's unpack is bounded by its stack.
for from = 1, #old, 4000 do
    redis.call('HDEL', store, unpack(old, from, math.min(from + 3999, #old)))
end
for from = 6, #ARGV, 4000 do
    redis.call('HSET', store, unpack(ARGV, from, math.min(from + 3999, #ARGV)))
end
-- Whoever follows the change log reads everything.
redis.call('HSET', store, 'change', epoch .. ' loaded-' .. redis.sha1hex(table.concat(ARGV, ' ')))
return {'ok', epoch}
