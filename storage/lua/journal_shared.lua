-- Put before journal_tail, journal_open and journal_append by redis_journal.py: Redis scripts cannot import.
--
-- Lua in Redis has no rollback. So every script validates everything first, and then `write` makes its two writes: the
-- first one is the only one Redis may still refuse (memory, disk, read-only), and then nothing has been written.

-- The tail, if fence and stream tell the same story; otherwise nil and what contradicts what. Redis itself would accept
-- gaps, and a DEL would erase a fence kept in one place only: hence two witnesses.
local function agreed_tail(journal, fence_key)
  local fence = redis.call('HMGET', fence_key, 'epoch', 'seq', 'checksum')
  local has_stream = redis.call('EXISTS', journal) == 1
  if not fence[1] and not fence[2] and not fence[3] then
    if has_stream then return nil, 'the stream exists but its fence does not' end
    return {epoch = '0', seq = '0', checksum = string.rep('\0', 8)}
  end
  if not (fence[1] and fence[2] and fence[3]) then return nil, 'the fence lacks a field' end
  if not has_stream then return nil, 'the fence exists but its stream does not' end

  local id = fence[1] .. '-' .. fence[2]
  local info = redis.call('XINFO', 'STREAM', journal)
  local last_id, last_entry
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last_id = info[i + 1] end
    if info[i] == 'last-entry' then last_entry = info[i + 1] end
  end
  if last_id ~= id then return nil, 'the fence says ' .. id .. ', the stream last gave out ' .. tostring(last_id) end
  if not last_entry then return nil, 'the fence says ' .. id .. ', the stream is empty' end
  if last_entry[1] ~= id then return nil, 'the fence says ' .. id .. ', the stream ends with ' .. last_entry[1] end
  local fields = last_entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'c' and fields[i + 1] == fence[3] then return {epoch = fence[1], seq = fence[2], checksum = fence[3]} end
  end
  return nil, 'the checksums of fence and last entry ' .. id .. ' differ'
end

-- XADD comes last and cannot fail any more: the id is beyond the last one given out, and Redis checks memory and disk
-- only for the first write of a script.
local function write(keys, epoch, seq, version, at_ms, checksum, payload)
  local fenced = redis.pcall('HSET', keys[2], 'epoch', epoch, 'seq', seq, 'checksum', checksum)
  if type(fenced) == 'table' and fenced.err then return redis.status_reply('REFUSED ' .. fenced.err) end
  redis.call('XADD', keys[1], epoch .. '-' .. seq, 'v', version, 't', at_ms, 'c', checksum, 'f', payload)
  return redis.status_reply('OK ' .. (redis.call('GET', keys[3]) or '0'))
end

