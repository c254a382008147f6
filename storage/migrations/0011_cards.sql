-- A card's credential has a serial, a card a number and perhaps an NFC tag; validity and tier change.

ALTER TABLE cards ADD COLUMN serial bigint NOT NULL DEFAULT 0;
-- Which card of its organisation it is, 0 for those from before there were numbers.
ALTER TABLE cards ADD COLUMN number bigint NOT NULL DEFAULT 0;
ALTER TABLE cards ADD COLUMN tag_uid text COLLATE "C" NOT NULL DEFAULT '';
-- Neither is changed by points and check-ins, so their updates stay heap-only.
CREATE UNIQUE INDEX cards_by_number ON cards (tenant_id, number) WHERE number > 0;

ALTER TABLE tenants ADD COLUMN issued bigint NOT NULL DEFAULT 0;

-- `counter` is the last one accepted of the tag; `card_id` is '' while it is no card's.
CREATE TABLE tags (
    tenant_id text COLLATE "C" NOT NULL,
    tag_uid text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    counter bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, tag_uid)
) WITH (fillfactor = 80);
COMMENT ON TABLE tags IS 'tenant: NFC tags and how far their counters are';
