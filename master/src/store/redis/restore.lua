-- Fills an emptied store. KEYS[1]: the store's hash.
-- ARGV: format, cluster, epoch, leader, session, then field, value, ...
-- Answers {'ok'} or {'not-empty'}. The first HSET is the one Redis may refuse.
local store = KEYS[1]
if redis.call('EXISTS', store) == 1 then
    return {'not-empty'}
end
redis.call('HSET', store, 'format', ARGV[1], 'cluster', ARGV[2], 'epoch', ARGV[3], 'leader', ARGV[4], 'session', ARGV[5])
for from = 6, #ARGV, 4000 do
    redis.call('HSET', store, unpack(ARGV, from, math.min(from + 3999, #ARGV)))
end
-- Whoever follows the change log reads everything.
redis.call('HSET', store, 'change', ARGV[3] .. ' restored-' .. redis.sha1hex(table.concat(ARGV, ' ')))
return {'ok'}
