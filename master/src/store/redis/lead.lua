-- Takes the leadership. KEYS[1]: the store's hash.
-- ARGV: format, leader, at_least, cluster_if_new.
-- Answers {'ok', cluster, epoch, was_empty, field, value, ...}, {'format', found} or {'epoch', found}:
-- no epoch is left above that one.
-- The largest epoch that a double holds exactly, and that is read.
local MOST = 9007199254740991
local store = KEYS[1]
local meta = redis.call('HMGET', store, 'format', 'cluster', 'epoch')
local was_empty = redis.call('EXISTS', store) == 0
-- Format 1 becomes ours with the first leadership of this version.
local readable = meta[1] == ARGV[1] or meta[1] == '1'
if not was_empty and (not readable or not meta[2] or not tonumber(meta[3] or 'x')) then
    return {'format', tostring(meta[1] or 'none')}
end
-- A store that knows no service, host or CA is still free to join another cluster.
local cluster = ARGV[4]
for _, field in ipairs(redis.call('HKEYS', store)) do
    if string.find(field, '^service/') or string.find(field, '^node/') or field == 'authority/ca' then
        cluster = meta[2]
        break
    end
end
local highest = math.max(tonumber(meta[3] or '0'), tonumber(ARGV[3]))
if not (highest < MOST) then
    return {'epoch', string.format('%.0f', highest)}
end
local epoch = string.format('%.0f', highest + 1)
redis.call('HSET', store, 'format', ARGV[1], 'cluster', cluster, 'epoch', epoch, 'leader', ARGV[2], 'session', '0')
-- Its place in the change log goes on under this epoch, if whoever led before has kept it.
local place = string.match(redis.call('HGET', store, 'change') or '', '^' .. (meta[3] or '') .. ' (.+)$')
if place then
    redis.call('HSET', store, 'change', epoch .. ' ' .. place)
end
local answer = {'ok', cluster, epoch, was_empty and '1' or '0'}
local all = redis.call('HGETALL', store)
for i = 1, #all do
    answer[#answer + 1] = all[i]
end
return answer
