-- Drops the entries before the projected one, which stays as the anchor of the chain.
-- KEYS: journal. ARGV: epoch, seq, checksum of the projected entry.
-- Replies {OK, entries dropped} or {CORRUPT, why}. XTRIM would happily empty the stream for an id that lies beyond its
-- tail, so it runs only with the anchor at hand.
local id = ARGV[1] .. '-' .. ARGV[2]
local anchor = redis.call('XRANGE', KEYS[1], id, id)[1]
if not anchor then
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if first then
    local epoch, seq = string.match(first[1], '^(%d+)-(%d+)$')
    -- Trimmed further already: a projector that lags behind another says so again, harmlessly.
    if tonumber(seq) > tonumber(ARGV[2]) and tonumber(epoch) >= tonumber(ARGV[1]) then return {'OK', 0} end
  end
  return {'CORRUPT', 'the projected entry ' .. id .. ' is not in the journal'}
end
local fields = anchor[2]
for i = 1, #fields, 2 do
  if fields[i] == 'c' and fields[i + 1] ~= ARGV[3] then
    return {'CORRUPT', 'the projected entry ' .. id .. ' has another checksum than the journal\'s'}
  end
end
return {'OK', redis.call('XTRIM', KEYS[1], 'MINID', '=', id)}
