-- Applies the writes whose version fits. KEYS[1]: the store's hash.
-- ARGV: format, epoch, leader, session, cluster, the key of the change log, then for each write:
--   field, expected version or '', version after, 'set' or 'delete', value.
-- Answers {'ok', outcome, ...} (an outcome is 'done', or the version found, or
-- '' where there is none, or 'withheld': it fits, and another part of its service does not), or {'emptied'}, {'fenced', epoch, leader},
-- {'format', found}, {'stale', session}.
-- Everything is looked at before the first write, and the first write is the one
-- that Redis may refuse (memory, read-only, disk): so a refusal changes nothing.
local store = KEYS[1]
local meta = redis.call('HMGET', store, 'format', 'epoch', 'leader', 'session')
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
-- A request that was delayed on an earlier connection of this leadership, behind a later one.
-- Sessions are counted within one leadership: the session of an earlier one says nothing about ours.
if not higher and tonumber(ARGV[4]) < (tonumber(meta[4] or '') or 0) then
    return {'stale', meta[4]}
end
local outcomes, wanted, conflicts = {}, {}, {}
local function service(field)
    return string.match(field, '^service/[^/]+')
end
for at = 7, #ARGV, 5 do
    local field, expect, after, kind, value = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    local stored = redis.call('HGET', store, field)
    local version = stored and string.match(stored, '^(%d+) ') or ''
    wanted[at] = kind == 'set' and (after .. ' ' .. value) or false
    if stored == wanted[at] then
        outcomes[at] = 'there'
    elseif version == expect then
        outcomes[at] = 'fits'
    else
        outcomes[at] = version
        conflicts[service(field) or field] = true
    end
end
local answer, sets, deletes = {'ok'}, {}, {}
for at = 7, #ARGV, 5 do
    local field, outcome = ARGV[at], outcomes[at]
    if outcome ~= 'there' and outcome ~= 'fits' then
        answer[#answer + 1] = outcome
    elseif conflicts[service(field) or field] then
        answer[#answer + 1] = 'withheld'
    else
        answer[#answer + 1] = 'done'
        if outcome == 'fits' and wanted[at] then
            sets[#sets + 1] = field
            sets[#sets + 1] = wanted[at]
        elseif outcome == 'fits' then
            deletes[#deletes + 1] = field
        end
    end
end
-- Written only where it changes, so that a Redis short of memory still takes deletes.
if ARGV[4] ~= meta[4] then
    redis.call('HSET', store, 'session', ARGV[4])
end
if higher then
    redis.call('HSET', store, 'cluster', ARGV[5], 'epoch', ARGV[2], 'leader', ARGV[3])
end
-- Lua's unpack is bounded by its stack.
for from = 1, #sets, 4000 do
    redis.call('HSET', store, unpack(sets, from, math.min(from + 3999, #sets)))
end
for from = 1, #deletes, 4000 do
    redis.call('HDEL', store, unpack(deletes, from, math.min(from + 3999, #deletes)))
end
-- Last, and whatever becomes of it: a follower that finds no entry reads everything. Each entry names the place before
-- it, so that a missing one is noticed. The log's key is no KEYS: where the store may not use it, commits go on.
if #sets + #deletes > 0 then
    local changed = {}
    for i = 1, #sets, 2 do
        changed[#changed + 1] = sets[i]
    end
    for _, field in ipairs(deletes) do
        changed[#changed + 1] = field
    end
    -- A leader that does not know the log may have committed since the place that stands there.
    local before = redis.call('HGET', store, 'change') or ''
    if string.match(before, '^(%d+) ') ~= ARGV[2] then
        before = ''
    end
    -- Of many, a follower reads everything.
    local names = #changed <= 100 and table.concat(changed, ' ') or '*'
    local id = redis.pcall('XADD', ARGV[6], 'MAXLEN', '~', '1000', '*', 'after', before, 'epoch', ARGV[2], 'changed', names)
    if type(id) == 'table' then
        id = 'unlogged-' .. redis.sha1hex(before .. table.concat(sets, ' ') .. table.concat(deletes, ' '))
    end
    redis.call('HSET', store, 'change', ARGV[2] .. ' ' .. id)
end
return answer
