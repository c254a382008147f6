-- The list of a coupon's redemptions, newest first (ids go up with time), of one card or in one state, too.
CREATE INDEX coupon_redemptions_by_coupon ON coupon_redemptions (tenant_id, coupon_id, redemption_id);
CREATE INDEX coupon_redemptions_by_card ON coupon_redemptions (tenant_id, coupon_id, card_id, redemption_id);
CREATE INDEX coupon_redemptions_by_state ON coupon_redemptions (tenant_id, coupon_id, state, redemption_id);
