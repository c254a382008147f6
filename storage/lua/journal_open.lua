-- Opens an epoch by appending its first entry, if the tail is still the one the opener read (compare-and-set).
-- KEYS and ARGV as in journal_append, but previous epoch is the tail's.
-- Replies (one line): OK <projected hint> | RACED | CORRUPT why | REFUSED <Redis' own error>.
local tail, contradiction = agreed_tail(KEYS[1], KEYS[2])
if not tail then return redis.status_reply('CORRUPT ' .. contradiction) end
if tail.epoch ~= ARGV[3] or tail.seq ~= ARGV[4] or tail.checksum ~= ARGV[5] then return redis.status_reply('RACED') end
return write(KEYS, ARGV[1], ARGV[2], ARGV[6], ARGV[7], ARGV[8], ARGV[9])
