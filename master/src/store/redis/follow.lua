-- What has changed since a place in the change log; changes nothing. KEYS: the store's hash, its change log.
-- ARGV: format, the place, or '' to read everything.
-- Answers {'changed' or 'everything', place, cluster, epoch, leader, field, value, ...} (a value is '' where the record
-- is gone), {'emptied'} or {'format', found}.
local store = KEYS[1]
local meta = redis.call('HMGET', store, 'format', 'cluster', 'epoch', 'leader', 'change')
if not meta[1] and redis.call('EXISTS', store) == 0 then
    return {'emptied'}
end
if meta[1] ~= ARGV[1] then
    return {'format', tostring(meta[1] or 'none')}
end
local newest, place = meta[5] or 'none', ARGV[2]
local answer = {'changed', newest, meta[2] or '', meta[3] or '', meta[4] or ''}
-- Each entry names the one before it.
local function since()
    local changed = {}
    if place == newest then
        return changed
    end
    if not string.match(place, '^%d+%-%d+$') then
        return nil
    end
    local entries = redis.pcall('XRANGE', KEYS[2], '(' .. place, '+')
    for _, entry in ipairs(entries) do
        local id, fields = entry[1], entry[2]
        if fields[2] ~= place then
            return nil
        end
        place = id
        for field in string.gmatch(fields[4], '%S+') do
            changed[field] = true
        end
    end
    return place == newest and changed or nil
end
local changed = since()
if changed then
    for field in pairs(changed) do
        answer[#answer + 1] = field
        answer[#answer + 1] = redis.call('HGET', store, field) or ''
    end
    return answer
end
answer[1] = 'everything'
for _, text in ipairs(redis.call('HGETALL', store)) do
    answer[#answer + 1] = text
end
return answer
