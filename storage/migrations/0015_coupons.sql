-- Coupons: what holds for them, their codes, what cards have used of them, what is on which bill, and every redemption.
-- What changes with every redemption (counts, states of codes) stands apart from what does not.

-- `terms` is actors.coupon_terms.CouponTerms as msgspec writes it; name, state and shared_code repeat it for searching.
CREATE TABLE coupons (
    tenant_id text COLLATE "C" NOT NULL,
    coupon_id text COLLATE "C" NOT NULL,
    terms jsonb NOT NULL,
    name text NOT NULL,
    state text NOT NULL,
    shared_code text NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, coupon_id)
);
COMMENT ON TABLE coupons IS 'tenant: coupons';

CREATE TABLE coupon_counts (
    tenant_id text COLLATE "C" NOT NULL,
    coupon_id text COLLATE "C" NOT NULL,
    issued bigint NOT NULL,
    redeemed bigint NOT NULL,
    on_hold bigint NOT NULL,
    day bigint NOT NULL,
    day_uses bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, coupon_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE coupon_counts IS 'tenant: what counts against the limits of coupons';

-- A code is a bearer's secret: here is a digest of it and its last characters. `issue_id` and `number` are what the edge
-- derives it from.
CREATE TABLE coupon_codes (
    tenant_id text COLLATE "C" NOT NULL,
    code_id text COLLATE "C" NOT NULL,
    coupon_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    tail text NOT NULL,
    issue_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    issued_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    is_shared boolean NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, code_id)
);
CREATE INDEX coupon_codes_by_coupon ON coupon_codes (tenant_id, coupon_id, position);
CREATE INDEX coupon_codes_by_card ON coupon_codes (tenant_id, card_id, position) WHERE card_id <> '';
COMMENT ON TABLE coupon_codes IS 'tenant: codes of coupons';

-- Only of codes that were on hold or redeemed once.
CREATE TABLE coupon_code_states (
    tenant_id text COLLATE "C" NOT NULL,
    code_id text COLLATE "C" NOT NULL,
    state text NOT NULL,
    redemption_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, code_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE coupon_code_states IS 'tenant: what became of codes';

CREATE TABLE coupon_uses (
    tenant_id text COLLATE "C" NOT NULL,
    coupon_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    uses bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, coupon_id, card_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE coupon_uses IS 'tenant: how often cards used coupons';

CREATE TABLE coupon_bills (
    tenant_id text COLLATE "C" NOT NULL,
    bill text COLLATE "C" NOT NULL,
    begun_at_ms bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, bill)
);
COMMENT ON TABLE coupon_bills IS 'tenant: bills with coupons';

-- `value` is actors.coupon_terms.CouponValue as msgspec writes it.
CREATE TABLE coupon_redemptions (
    tenant_id text COLLATE "C" NOT NULL,
    redemption_id text COLLATE "C" NOT NULL,
    coupon_id text COLLATE "C" NOT NULL,
    code_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    bill text COLLATE "C" NOT NULL,
    state text NOT NULL,
    hold_until_ms bigint NOT NULL,
    day bigint NOT NULL,
    value jsonb NOT NULL,
    stacking text NOT NULL,
    stacking_group text NOT NULL,
    points_seq bigint NOT NULL,
    began_at_ms bigint NOT NULL,
    changed_at_ms bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, redemption_id)
) WITH (fillfactor = 80);
CREATE INDEX coupon_redemptions_on_hold ON coupon_redemptions (tenant_id, coupon_id) WHERE state = 'on_hold';
CREATE INDEX coupon_redemptions_by_bill ON coupon_redemptions (tenant_id, bill) WHERE bill <> '';
COMMENT ON TABLE coupon_redemptions IS 'tenant: redemptions of coupons and what became of them';
