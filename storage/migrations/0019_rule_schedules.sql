-- When an organisation's scheduled rules come next, and how far the round under way is (`actors.schedule_facts.Schedules`
-- as a JSON array).
CREATE TABLE rule_schedules (
    tenant_id text COLLATE "C" NOT NULL,
    state text NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE rule_schedules IS 'tenant: when scheduled rules come, and for which cards they were moved';
