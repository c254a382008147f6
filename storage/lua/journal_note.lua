-- Raises the projected hint, never lowers it. KEYS: projected. ARGV: seq. Replies the hint.
local hint = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) > hint then
  redis.call('SET', KEYS[1], ARGV[1])
  return tonumber(ARGV[1])
end
return hint
