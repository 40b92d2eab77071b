-- What has changed since a place in the change log; changes nothing. KEYS[1]: the store's hash.
-- ARGV: format, the key of the change log, the place, or '' to read everything.
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
local newest, place = meta[5] or '', ARGV[3]
local answer = {'changed', newest, meta[2] or '', meta[3] or '', meta[4] or ''}
-- What has changed, by name; nil: not known. A place is an epoch and the id of an entry, and each entry names the place
-- before it, under whichever epoch that goes on.
local function id_of(of)
    return string.match(of, '^%d+ (.+)$')
end
local function since()
    local changed, id, last = {}, id_of(place), id_of(newest)
    -- A leader that does not know the log has no place in it under its epoch.
    if not id or string.match(newest, '^(%d+) ') ~= meta[3] then
        return nil
    end
    if id == last then
        return changed
    end
    if not string.match(id, '^%d+%-%d+$') then
        return nil
    end
    local entries = redis.pcall('XRANGE', ARGV[2], '(' .. id, '+', 'COUNT', '1000')
    for _, entry in ipairs(entries) do
        local fields = entry[2]
        if fields[1] ~= 'after' or id_of(fields[2]) ~= id or fields[5] ~= 'changed' or fields[6] == '*' then
            return nil
        end
        id = entry[1]
        for field in string.gmatch(fields[6], '%S+') do
            changed[field] = true
        end
    end
    return id == last and changed or nil
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
