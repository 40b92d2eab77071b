-- Whether the fence still leads; changes nothing. KEYS[1]: the store's hash.
-- ARGV: format, epoch, leader. Answers as commit.lua does.
local store = KEYS[1]
local meta = redis.call('HMGET', store, 'format', 'epoch', 'leader')
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
return {'ok'}
