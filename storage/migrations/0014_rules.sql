-- Rules of organisations: `actors.rulebook`. A definition is JSON as `rules.language.RuleDefinition` has it, '' once
-- the rule is deleted.
CREATE TABLE rules (
    tenant_id text COLLATE "C" NOT NULL,
    rule_id text COLLATE "C" NOT NULL,
    definition text NOT NULL,
    changed_at_ms bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, rule_id)
);
COMMENT ON TABLE rules IS 'tenant: rules as they are';

CREATE TABLE rule_versions (
    tenant_id text COLLATE "C" NOT NULL,
    rule_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    definition text NOT NULL,
    at_ms bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, rule_id, version)
);
COMMENT ON TABLE rule_versions IS 'tenant: every version of every rule, for effects cite them';

-- The points that a rule gave in all, less what came back: its budget is counted by this.
CREATE TABLE rule_points (
    tenant_id text COLLATE "C" NOT NULL,
    rule_id text COLLATE "C" NOT NULL,
    points bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, rule_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE rule_points IS 'tenant: points that rules gave';

-- How often a rule with a limit per card applied to a card, in all and on its latest day.
CREATE TABLE rule_uses (
    tenant_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    rule_id text COLLATE "C" NOT NULL,
    times bigint NOT NULL,
    day integer NOT NULL,
    day_times bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, card_id, rule_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE rule_uses IS 'tenant: uses of rules by cards';
