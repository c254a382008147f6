-- Zones, sessions, offline scans, lists, annulments, answers: what doors know beyond who is inside.

-- Attendance is by session, '' outside of sessions.
ALTER TABLE attendance ADD COLUMN session_id text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE attendance ADD COLUMN zone_id text COLLATE "C";
ALTER TABLE attendance ADD COLUMN seen_ms bigint;
-- The ids of the questions that were answered, with a comma between them.
ALTER TABLE attendance ADD COLUMN answered text;
ALTER TABLE attendance DROP CONSTRAINT attendance_pkey;
ALTER TABLE attendance ADD PRIMARY KEY (tenant_id, event_id, card_id, session_id);
-- When a card was seen last is not known of before; its latest admission is the best there is.
UPDATE attendance SET seen_ms = admitted_at_ms WHERE admitted_at_ms IS NOT NULL;

ALTER TABLE events ADD COLUMN session_id text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN left_ms bigint NOT NULL DEFAULT 0;

ALTER TABLE scans ADD COLUMN zone_id text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE scans ADD COLUMN session_id text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE scans ADD COLUMN is_offline boolean NOT NULL DEFAULT false;
ALTER TABLE scans ADD COLUMN conflict text NOT NULL DEFAULT '';
ALTER TABLE scans ADD COLUMN forced text NOT NULL DEFAULT '';
ALTER TABLE scans ADD COLUMN forced_by text COLLATE "C" NOT NULL DEFAULT '';
-- Offline scans are few, and conflicts are looked for among them.
CREATE INDEX scans_offline ON scans (tenant_id, event_id, position) WHERE is_offline;

ALTER TABLE cards ADD COLUMN attention text NOT NULL DEFAULT '';

CREATE TABLE event_zones (
    tenant_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    zone_id text COLLATE "C" NOT NULL,
    inside bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, event_id, zone_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE event_zones IS 'tenant: the people in each zone of an event';

CREATE TABLE admission_list (
    tenant_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    is_listed boolean NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, event_id, card_id)
);
COMMENT ON TABLE admission_list IS 'tenant: the cards that events let in by name';

CREATE TABLE annulments (
    tenant_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    scan_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, event_id, scan_id)
);
COMMENT ON TABLE annulments IS 'tenant: admissions that were undone';

CREATE TABLE answers (
    tenant_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    question_id text COLLATE "C" NOT NULL,
    answer text NOT NULL,
    at_ms bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, event_id, card_id, question_id)
);
COMMENT ON TABLE answers IS 'tenant: what people answered to questions at the door';
