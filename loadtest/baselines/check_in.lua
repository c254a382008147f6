-- A check-in in one step, decided and written.
-- KEYS: scan, card, event, attendance, ledger.
-- ARGV: fingerprint, card id, at_ms, direction, gate id, device id, points for the first entry, scan id.
-- Replies: {0, outcome} | {1, outcome of the scan that had the id before} | {2} id reused | {3} no such event. An outcome
-- is MessagePack, the fields of `contract.Outcome` in their order.
local earlier = redis.call('GET', KEYS[1])
if earlier then
  if cmsgpack.unpack(earlier)[1] ~= ARGV[1] then return {2} end
  return {1, earlier}
end
local event = redis.call('HMGET', KEYS[3], 'inside', 'admitted', 'capacity')
if not event[3] then return {3} end
local card = redis.call('HMGET', KEYS[2], 'member_id', 'member_name', 'tier', 'state', 'balance')
local seen = redis.call('HMGET', KEYS[4], 'inside', 'entries', 'first_at_ms', 'first_gate_id', 'first_device_id')
local inside, admitted, capacity = tonumber(event[1]), tonumber(event[2]), tonumber(event[3])
local balance, entries, awarded = tonumber(card[5] or 0), tonumber(seen[2] or 0), 0
local is_entry, is_inside = ARGV[4] == 'entry', seen[1] == '1'

local reason = ''
if not card[1] then reason = 'credential_invalid'
elseif card[4] ~= 'active' then reason = 'card_suspended'
elseif not is_entry then if not is_inside then reason = 'not_inside' end
elseif is_inside then reason = 'already_admitted'
elseif inside >= capacity then reason = 'full' end

if reason == '' and is_entry then
  inside, admitted, entries = inside + 1, admitted + 1, entries + 1
  redis.call('HSET', KEYS[3], 'inside', inside, 'admitted', admitted)
  if entries == 1 then
    awarded = tonumber(ARGV[7])
    balance = redis.call('HINCRBY', KEYS[2], 'balance', awarded)
    redis.call('RPUSH', KEYS[5], cmsgpack.pack({awarded, balance, ARGV[8], ARGV[3]}))
    redis.call('HSET', KEYS[4], 'inside', 1, 'entries', 1, 'first_at_ms', ARGV[3], 'first_gate_id', ARGV[5],
      'first_device_id', ARGV[6])
  else
    redis.call('HSET', KEYS[4], 'inside', 1, 'entries', entries)
  end
elseif reason == '' then
  inside = inside - 1
  redis.call('HSET', KEYS[3], 'inside', inside)
  redis.call('HSET', KEYS[4], 'inside', 0)
end

local outcome = {ARGV[1], ARGV[2], tonumber(ARGV[3]), reason, card[1] or '', card[2] or '', card[3] or '',
  inside, admitted, capacity, awarded, balance, 0, '', ''}
if reason == 'already_admitted' then
  outcome[13], outcome[14], outcome[15] = tonumber(seen[3]), seen[4], seen[5]
end
local packed = cmsgpack.pack(outcome)
redis.call('SET', KEYS[1], packed)
return {0, packed}
