-- The tables of the two designs on Postgres. What changes at every check-in leaves room in its pages, so that updates
-- need no new index entries.
CREATE TABLE cards (card_id text PRIMARY KEY, member_id text NOT NULL, member_name text NOT NULL, tier text NOT NULL,
    state text NOT NULL DEFAULT 'active', balance bigint NOT NULL DEFAULT 0, entry_count bigint NOT NULL DEFAULT 0)
    WITH (fillfactor = 80);
CREATE TABLE events (event_id text PRIMARY KEY, capacity bigint NOT NULL, inside bigint NOT NULL DEFAULT 0,
    admitted bigint NOT NULL DEFAULT 0) WITH (fillfactor = 20);
CREATE TABLE attendance (event_id text, card_id text, is_inside boolean NOT NULL, entries int NOT NULL,
    turn int NOT NULL, first_at_ms bigint NOT NULL, first_gate_id text NOT NULL, first_device_id text NOT NULL,
    PRIMARY KEY (event_id, card_id)) WITH (fillfactor = 80);
-- `turn` counts what changed a card's attendance at an event. That no two scans have the same makes a scan that was
-- decided on what another has changed meanwhile fail, and be decided again.
CREATE TABLE scans (scan_id text PRIMARY KEY, event_id text NOT NULL, direction text NOT NULL, gate_id text NOT NULL,
    device_id text NOT NULL, turn int, fingerprint text NOT NULL, card_id text NOT NULL, at_ms bigint NOT NULL,
    reason text NOT NULL, member_id text NOT NULL, member_name text NOT NULL, tier text NOT NULL, inside bigint NOT NULL,
    admitted bigint NOT NULL, capacity bigint NOT NULL, awarded bigint NOT NULL, balance bigint NOT NULL,
    first_at_ms bigint NOT NULL, first_gate_id text NOT NULL, first_device_id text NOT NULL,
    UNIQUE (event_id, card_id, turn));
CREATE TABLE ledger (card_id text, entry_seq bigint, amount bigint NOT NULL, balance_after bigint NOT NULL,
    cause text NOT NULL, at_ms bigint NOT NULL, PRIMARY KEY (card_id, entry_seq));
