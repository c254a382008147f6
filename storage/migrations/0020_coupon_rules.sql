-- What rules used for a redemption (`actors.rule_facts.RuleUnits` as JSON arrays) and the first entry that they awarded for
-- it, 0 for none: its rollback takes them back.
ALTER TABLE coupon_redemptions
    ADD COLUMN rules jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN rules_seq bigint NOT NULL DEFAULT 0;
