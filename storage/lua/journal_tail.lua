-- KEYS: journal, fence. Replies {OK, epoch, seq, checksum} (zeros before the first entry) or {CORRUPT, why}.
local tail, contradiction = agreed_tail(KEYS[1], KEYS[2])
if not tail then return {'CORRUPT', contradiction} end
return {'OK', tail.epoch, tail.seq, tail.checksum}
