-- How a rule last failed: its version, the organisation's day on which that was noted, and why. Once a day is enough for
-- people to see it, and a rule that always fails writes no more than that.
CREATE TABLE rule_failures (
    tenant_id text COLLATE "C" NOT NULL,
    rule_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    day integer NOT NULL,
    at_ms bigint NOT NULL,
    place text NOT NULL,
    reason text NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, rule_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE rule_failures IS 'tenant: how rules last failed';
