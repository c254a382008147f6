-- Scanner devices in full, and which cards are revoked.

-- `event_id` "" binds a device to its whole organisation. `gate_id` is the gate that the device stands at ("": not told).
-- `paired_at_ms` is when its token of now was given out, NULL where that is its first: a device that is known may be
-- paired again.
ALTER TABLE devices
    ADD COLUMN gate_id text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN paired_at_ms bigint,
    ADD COLUMN last_seen_ms bigint;

-- `device_id` "" makes a new device; else the code gives the device of that id a new token.
ALTER TABLE pairing_codes
    ADD COLUMN device_id text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN gate_id text COLLATE "C" NOT NULL DEFAULT '';

-- The position of the fact that last changed a card's state, 0 while none did: scanners ask what came after the one they
-- know. Points and check-ins change neither the column nor what the index asks for, so their updates stay heap-only.
ALTER TABLE cards ADD COLUMN state_position bigint NOT NULL DEFAULT 0;
UPDATE cards SET state_position = position WHERE state <> 'active';
CREATE INDEX cards_by_state_change ON cards (tenant_id, state_position) WHERE state_position > 0;
