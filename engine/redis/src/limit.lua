-- A slice of a limit that several processes hold together, by this server's clock.
--
-- KEYS: 1 the limit, a hash {at, requests, tokens, pause, first, since}; times in microseconds, levels as
--   floats.  2 who holds it, a sorted set by the time when each was last here.
-- ARGV: 1 holder.  2 microseconds after which a silent holder is gone.  3 its standing: new, known, back.
--   4 a pause that its server asked for, microseconds.  Then for requests and for tokens, five each:
--   per second (0: no such limit), the most that it holds, the least that is any use, what is wanted,
--   what was taken besides (negative: given back).
-- Returns strings: requests, tokens, microseconds until the least can be had, until the pause is over, holders.
--
-- Whatever stands in these keys that was not written here counts as nothing.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local holder, standing = ARGV[1], ARGV[3]

local function number(text)
  local value = tonumber(text or '')
  if value ~= value or value == math.huge or value == -math.huge then return nil end
  return value
end

local function clean(key, kind)
  local found = redis.call('TYPE', key)['ok']
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end

clean(KEYS[1], 'hash')
clean(KEYS[2], 'zset')
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], string.format('(%.0f', now), '+inf')
redis.call('ZADD', KEYS[2], now, holder)
local holders = redis.call('ZCARD', KEYS[2])

local kept = redis.call('HMGET', KEYS[1], 'at', 'requests', 'tokens', 'pause', 'first', 'since')
local elapsed = math.max(0, now - (number(kept[1]) or now)) / 1000000
local pause = math.max(0, math.min((number(kept[4]) or 0) - now, 300000000), tonumber(ARGV[4]))

local wait, enough, asked = 0, true, false
local levels, grants = {}, {}
for side = 1, 2 do
  local from = 5 * side
  local per_second, most = tonumber(ARGV[from]), tonumber(ARGV[from + 1])
  local least, want, spent = tonumber(ARGV[from + 2]), tonumber(ARGV[from + 3]), tonumber(ARGV[from + 4])
  levels[side], grants[side] = 0, 0
  if per_second > 0 then
    local level = number(kept[side + 1])
    -- Who was here before and finds nothing: it was lost. Nobody knows what had been taken.
    if level == nil then level = standing == 'new' and most or 0 end
    level = math.min(most, level + elapsed * per_second)
    if standing == 'back' then level = math.min(level, 0) end
    level = math.max(-60 * per_second, math.min(most, level - spent))
    if least > 0 or want > 0 then asked = true end
    if level < least - 0.000001 then
      enough = false
      wait = math.max(wait, (least - level) / per_second * 1000000)
    end
    levels[side], grants[side] = level, math.max(0, math.min(want, level))
  end
end

-- Who could not be served is served before the others, if it comes again within a second.
local first, since = kept[5] or '', number(kept[6]) or 0
if now - since > 1000000 or since > now then first = '' end
if asked then
  if first ~= '' and first ~= holder then
    enough = false
  elseif enough then
    first = ''
  elseif first == '' then
    first, since = holder, now
  end
end

if pause > 0 or not enough then
  grants = { 0, 0 }
else
  grants[1] = math.floor(grants[1] + 0.000001)
end

redis.call('HSET', KEYS[1],
  'at', string.format('%.0f', now),
  'requests', string.format('%.6f', levels[1] - grants[1]),
  'tokens', string.format('%.6f', levels[2] - grants[2]),
  'pause', string.format('%.0f', now + pause),
  'first', first, 'since', string.format('%.0f', since))
redis.call('PEXPIRE', KEYS[1], 3600000)
redis.call('PEXPIRE', KEYS[2], 3600000)

return {
  string.format('%.6f', grants[1]), string.format('%.6f', grants[2]),
  string.format('%.0f', wait), string.format('%.0f', pause), tostring(holders),
}
