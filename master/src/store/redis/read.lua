-- Reads one record, or all; changes nothing. KEYS[1]: the store's hash. ARGV: format, and the record's key.
-- Answers the key and the record, or as commit.lua does. Without a key: {'ok', cluster, field, value, ...}.
local store = KEYS[1]
local format = redis.call('HGET', store, 'format')
if not format and redis.call('EXISTS', store) == 0 then
    return {'emptied'}
end
if format ~= ARGV[1] and format ~= '1' then
    return {'format', tostring(format or 'none')}
end
if not ARGV[2] then
    local answer = {'ok', redis.call('HGET', store, 'cluster') or ''}
    local all = redis.call('HGETALL', store)
    for i = 1, #all do
        answer[#answer + 1] = all[i]
    end
    return answer
end
local found = redis.call('HGET', store, ARGV[2])
if not found then
    return {'ok'}
end
return {'ok', ARGV[2], found}
