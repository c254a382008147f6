-- What leaderboards of visits and streaks are made of.

-- A card's visit at an event on a day (yyyymmdd); one that was taken back has `visits` 0.
CREATE TABLE visit_days (
    tenant_id text COLLATE "C" NOT NULL,
    day integer NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    visits integer NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, day, event_id, card_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE visit_days IS 'tenant: visits by day and event';
CREATE INDEX visit_days_by_event ON visit_days (tenant_id, event_id);

-- A card's visits and its best streak of all time, and the positions at which it came to each.
CREATE TABLE visit_scores (
    tenant_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    ever bigint NOT NULL,
    ever_reached bigint NOT NULL,
    best bigint NOT NULL,
    best_reached bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, card_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE visit_scores IS 'tenant: visits and streaks of all time';

-- Windows of leaderboards (`win`: as in `actors.windows`) that were paid out; winners as a JSON array.
CREATE TABLE board_payouts (
    tenant_id text COLLATE "C" NOT NULL,
    board text COLLATE "C" NOT NULL,
    win text COLLATE "C" NOT NULL,
    paid_at_ms bigint NOT NULL,
    winners text NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, board, win)
);
COMMENT ON TABLE board_payouts IS 'tenant: what leaderboards were paid out';

-- What cards remember of before (`cards.visits` is a JSON array: first the count of all visits, ninth the best streak,
-- thirteenth the latest visits, each as day, event and more).
INSERT INTO visit_scores (tenant_id, card_id, ever, ever_reached, best, best_reached, position)
SELECT tenant_id, card_id, (visits::jsonb ->> 0)::bigint, position, (visits::jsonb ->> 8)::bigint, position, position
FROM cards WHERE visits <> '';
INSERT INTO visit_days (tenant_id, day, event_id, card_id, visits, position)
SELECT c.tenant_id, (v.visit ->> 0)::integer, v.visit ->> 1, c.card_id, 1, c.position
FROM cards AS c CROSS JOIN LATERAL jsonb_array_elements(c.visits::jsonb -> 12) AS v (visit)
WHERE c.visits <> '';
