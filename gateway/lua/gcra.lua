-- GCRA (gateway/rates.py) for several keys in one step. Redis' own clock counts, so gateways need not agree on the time.
-- KEYS: one string each, holding its theoretical arrival time (TAT) in microseconds since 1970, expiring when it is over.
-- ARGV: "all" (everything or nothing) or "some" (of each as much as there is), then interval_us, burst, cost for each key.
-- Replies one list for each key: granted, remaining, retry_after_us, reset_us.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local is_all = ARGV[1] == 'all'

local function believable(tat, window)
  return math.min(math.max(tat, now), now + 2 * window)
end

local replies, tats, is_granted = {}, {}, true
for i, key in ipairs(KEYS) do
  local interval, burst, cost = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local window = burst * interval
  local tat = believable(tonumber(redis.call('GET', key) or '0'), window)
  local function remaining(at) return math.max(0, math.floor((window - (at - now)) / interval)) end

  local granted, after, retry_after = cost, nil, 0
  if is_all then
    after = believable(tat + cost * interval, window)
    local early = tat + math.min(cost, burst) * interval - now - window
    if cost > 0 and early > 0 then granted, after, retry_after, is_granted = 0, tat, early, false end
  else
    granted = math.min(cost, remaining(tat))
    after = tat + granted * interval
    if granted < cost then retry_after = math.max(1, after + interval - now - window) end
  end
  tats[i] = {tat, after}
  replies[i] = {granted, remaining(after), retry_after, math.max(0, after - now), remaining(tat), tat - now}
end

for i, key in ipairs(KEYS) do
  local tat, after, reply = tats[i][1], tats[i][2], replies[i]
  if is_all and not is_granted then
    replies[i] = {0, reply[5], reply[3], reply[6]}
  else
    replies[i] = {reply[1], reply[2], reply[3], reply[4]}
    if after > now then
      redis.call('SET', key, string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
    elseif tat > now then
      redis.call('DEL', key)
    end
  end
end
return replies
