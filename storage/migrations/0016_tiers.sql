-- Tiers by points: when a card's tier is looked at next, what it goes by, and how it came to be.

ALTER TABLE cards ADD COLUMN tier_due_ms bigint NOT NULL DEFAULT 0;
ALTER TABLE cards ADD COLUMN tier_is_held boolean NOT NULL DEFAULT false;

-- Points earned by day, in organisations with tiers by points. Cards remember the last two years of it.
CREATE TABLE earned_days (
    tenant_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    day integer NOT NULL,
    points bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, card_id, day)
) WITH (fillfactor = 80);
COMMENT ON TABLE earned_days IS 'tenant: points earned by day, for tiers';

-- Every change of a card's tier; `points` are those of the window at `as_of_ms`.
CREATE TABLE tier_changes (
    tenant_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    changed_position bigint NOT NULL,
    at_ms bigint NOT NULL,
    as_of_ms bigint NOT NULL,
    tier text NOT NULL,
    tier_before text NOT NULL,
    reason text NOT NULL,
    points bigint NOT NULL,
    note text NOT NULL,
    cause text NOT NULL,
    rule text NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, card_id, changed_position)
);
COMMENT ON TABLE tier_changes IS 'tenant: how cards came into their tiers';
