-- What the projector writes: the journal's archive, and the state and the history of tenants, cards and events.
--
-- Rules of every migration here (tests/conformance/test_citus_rules.py checks them):
-- 1. Each table's comment begins with its class, which says how Citus distributes it: "tenant" (by tenant_id), "partition"
--    (by partition_id) or "local" (not distributed).
-- 2. The distribution column leads every primary key and unique index; no foreign key leaves its class. There are none to
--    what the projector writes, which arrives later than what cold services write.
-- 3. Ids compare by bytes (COLLATE "C"): cheap, and the same order everywhere.
-- 4. A released migration is never edited.
--
-- A "position" orders the facts of a partition: journal seq << 16 | index within the entry. Times are milliseconds since 1970.

-- How far Postgres holds each partition's journal. The projector moves it by compare-and-set, in the transaction of the rows.
CREATE TABLE positions (
    partition_id integer NOT NULL PRIMARY KEY,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    checksum bytea NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE positions IS 'partition: how far the journal is projected';

-- Up to when request ids claim to have been made, where clocks ran ahead of ours: such an id tells nothing about its age.
CREATE TABLE claims (
    tenant_id text NOT NULL PRIMARY KEY,
    partition_id integer NOT NULL,
    until_ms bigint NOT NULL
);
CREATE INDEX claims_of_partition ON claims (partition_id);
COMMENT ON TABLE claims IS 'tenant: how far ahead of the clock its request ids have been';

-- The journal's archive and the outbox in one: the relay expands an entry to facts <partition>-<seq>-<index>.
CREATE TABLE journal_entries (
    partition_id integer NOT NULL,
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    version integer NOT NULL,
    at_ms bigint NOT NULL,
    checksum bytea NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (partition_id, seq)
);
-- Compressing payloads would be the largest single cost of a check-in in Postgres.
ALTER TABLE journal_entries ALTER COLUMN payload SET STORAGE EXTERNAL;
COMMENT ON TABLE journal_entries IS 'partition: every journal entry, unaltered';

-- Which fact answered a request id; the fact itself is in journal_entries.
CREATE TABLE requests (
    tenant_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    partition_id integer NOT NULL,
    position bigint NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
);
COMMENT ON TABLE requests IS 'tenant: request id to the fact that answered it';

-- `settings` is actors.terms.TenantSettings as msgspec writes it.
CREATE TABLE tenants (
    tenant_id text COLLATE "C" NOT NULL PRIMARY KEY,
    name text NOT NULL,
    settings jsonb NOT NULL,
    opened_at_ms bigint NOT NULL,
    position bigint NOT NULL
);
COMMENT ON TABLE tenants IS 'tenant: organisations';

CREATE TABLE cards (
    tenant_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    member_name text NOT NULL,
    tier text NOT NULL,
    valid_from_ms bigint NOT NULL,
    valid_until_ms bigint NOT NULL,
    issued_at_ms bigint NOT NULL,
    state text NOT NULL,
    balance bigint NOT NULL,
    entry_count bigint NOT NULL,
    earned bigint NOT NULL,
    earned_position bigint NOT NULL,
    day integer NOT NULL,
    day_earned bigint NOT NULL,
    day_position bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, card_id)
) WITH (fillfactor = 80);
-- No index on what a check-in changes, so that its updates stay heap-only.
CREATE INDEX cards_by_member ON cards (tenant_id, member_id);
COMMENT ON TABLE cards IS 'tenant: cards with their points';

-- Lots with an expiry; one that is used up stays with 0, a reversal may fill it again.
CREATE TABLE lots (
    tenant_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    lot bigint NOT NULL,
    remaining bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, card_id, lot)
);
CREATE INDEX lots_to_expire ON lots (tenant_id, expires_at_ms) WHERE remaining > 0;
COMMENT ON TABLE lots IS 'tenant: points that expire';

-- `terms` is actors.terms.EventTerms as msgspec writes it; name, state, capacity and doors repeat it for searching.
CREATE TABLE events (
    tenant_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    terms jsonb NOT NULL,
    name text NOT NULL,
    state text NOT NULL,
    capacity bigint NOT NULL,
    doors_open_ms bigint NOT NULL,
    doors_close_ms bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    inside bigint NOT NULL,
    admitted bigint NOT NULL,
    refused bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE events IS 'tenant: events with their counts';

-- A card at an event. A column is NULL until a fact has set it: scans and points each know their part only.
CREATE TABLE attendance (
    tenant_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    is_inside boolean,
    entries bigint,
    admitted_at_ms bigint,
    gate_id text,
    device_id text,
    earned bigint,
    earned_position bigint,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, event_id, card_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE attendance IS 'tenant: who is or was at an event';

-- Points earned by a card on a local day (yyyymmdd); `reached` is the position at which it came to that score.
CREATE TABLE day_scores (
    tenant_id text COLLATE "C" NOT NULL,
    day integer NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    earned bigint NOT NULL,
    reached bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, day, card_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE day_scores IS 'tenant: scores by day';

-- Every scan that was judged. The key is the scan log's reading order, so there is no second index to feed.
CREATE TABLE scans (
    tenant_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    at_ms bigint NOT NULL,
    scanned_at_ms bigint NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    gate_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    direction text NOT NULL,
    reason text NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    member_name text NOT NULL,
    tier text NOT NULL,
    inside bigint NOT NULL,
    admitted bigint NOT NULL,
    points_awarded bigint NOT NULL,
    points_balance bigint NOT NULL,
    first_at_ms bigint NOT NULL,
    first_gate_id text NOT NULL,
    first_device_id text NOT NULL,
    PRIMARY KEY (tenant_id, event_id, position)
);
COMMENT ON TABLE scans IS 'tenant: the scan log';

-- Every entry of every card's points ledger.
CREATE TABLE ledger (
    tenant_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    entry_seq bigint NOT NULL,
    position bigint NOT NULL,
    partition_id integer NOT NULL,
    at_ms bigint NOT NULL,
    kind text NOT NULL,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL,
    cause text NOT NULL,
    note text NOT NULL,
    rule text NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    reverses bigint NOT NULL,
    short_by bigint NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, card_id, entry_seq)
);
-- Unique: an entry is reversed once.
CREATE UNIQUE INDEX ledger_reversals ON ledger (tenant_id, card_id, reverses) WHERE reverses > 0;
COMMENT ON TABLE ledger IS 'tenant: the points ledger';
