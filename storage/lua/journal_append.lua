-- Appends one entry if its epoch is the open one, its seq follows and it is chained to the tail.
-- KEYS: journal, fence, projected. ARGV: epoch, seq, previous epoch (= epoch), previous seq, previous checksum,
-- version, at_ms, checksum, payload.
-- Replies (one line): OK <projected hint> | FENCED why | CORRUPT why | REFUSED <Redis' own error>.
local epoch, seq, previous_seq, previous_checksum = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local tail, contradiction = agreed_tail(KEYS[1], KEYS[2])
if not tail then return redis.status_reply('CORRUPT ' .. contradiction) end

if tail.epoch ~= epoch then
  local story = 'the open epoch is ' .. tail.epoch .. ', the entry is of ' .. epoch
  if tonumber(tail.epoch) > tonumber(epoch) then return redis.status_reply('FENCED ' .. story) end
  return redis.status_reply('CORRUPT ' .. story .. ', which was never opened here')
end
if tail.seq ~= previous_seq then
  return redis.status_reply('CORRUPT the tail is at seq ' .. tail.seq .. ', the entry has ' .. seq)
end
if tail.checksum ~= previous_checksum then
  return redis.status_reply('CORRUPT entry ' .. seq .. ' is chained to another entry than the tail')
end
return write(KEYS, epoch, seq, ARGV[6], ARGV[7], ARGV[8], ARGV[9])
