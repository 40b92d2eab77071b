-- Raises the epoch of the leadership that the fence names. KEYS[1]: the store's hash.
-- ARGV: format, epoch, leader, at_least, cluster_if_new.
-- Answers {'ok', cluster, epoch}, {'epoch', found} as lead.lua does, or as commit.lua does.
-- The largest epoch that a double holds exactly, and that is read.
local MOST = 9007199254740991
local store = KEYS[1]
local meta = redis.call('HMGET', store, 'format', 'epoch', 'leader', 'cluster')
if not meta[1] and redis.call('EXISTS', store) == 0 then
    return {'emptied'}
end
if meta[1] ~= ARGV[1] then
    return {'format', tostring(meta[1] or 'none')}
end
-- A higher epoch was given out here before the tail was lost: it leads all the same.
local higher = tonumber(ARGV[2]) > (tonumber(meta[2] or '') or 0)
if not higher and (meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3]) then
    return {'fenced', meta[2] or '', meta[3] or ''}
end
-- A store that knows no service, host or CA is still free to join another cluster.
local cluster = ARGV[5]
for _, field in ipairs(redis.call('HKEYS', store)) do
    if string.find(field, '^service/') or string.find(field, '^node/') or field == 'authority/ca' then
        cluster = meta[4]
        break
    end
end
local highest = math.max(tonumber(ARGV[2]), tonumber(ARGV[4]))
if not (highest < MOST) then
    return {'epoch', string.format('%.0f', highest)}
end
local epoch = string.format('%.0f', highest + 1)
redis.call('HSET', store, 'cluster', cluster, 'epoch', epoch, 'leader', ARGV[3])
-- Its place in the change log goes on under this epoch, if whoever led before has kept it.
local place = string.match(redis.call('HGET', store, 'change') or '', '^' .. (meta[2] or '') .. ' (.+)$')
if place then
    redis.call('HSET', store, 'change', epoch .. ' ' .. place)
end
return {'ok', cluster, epoch}
