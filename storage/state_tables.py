"""Tables of state whose rows are always known as a whole: each fact that changes a row says all of it.

Rules:
1. A row is its key, which begins with the tenant, then its values, then the position of the fact that set them.
2. A batch writes each row once, with what the last fact said; a row that Postgres holds from a later position
   contradicts the journal.
3. Tables of which a fact knows only a part of a row are written by statements of their own (`storage.row_statements`).
"""

from __future__ import annotations

from typing import NamedTuple

Row = tuple[object, ...]


class StateTable(NamedTuple):
    """`key` and `values` are (column, Postgres type)."""

    name: str
    key: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, str], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, in the order of the rows."""
        return (*(name for name, _ in (*self.key, *self.values)), "position")

    @property
    def types(self) -> str:
        """Their types, as `storage.row_statements.arrays` wants them."""
        return " ".join([*(kind for _, kind in (*self.key, *self.values)), "bigint"])


ALARMS = StateTable(
    "alarms",
    (("tenant_id", "text"), ("kind", "text"), ("entity_id", "text")),
    (("partition_id", "integer"), ("wake_ms", "bigint")),
)
_EVENT = (("tenant_id", "text"), ("event_id", "text"))
EVENT_ZONES = StateTable("event_zones", (*_EVENT, ("zone_id", "text")), (("inside", "bigint"),))
ADMISSION_LIST = StateTable("admission_list", (*_EVENT, ("card_id", "text")), (("is_listed", "boolean"),))
ANNULMENTS = StateTable(
    "annulments",
    (*_EVENT, ("scan_id", "text")),
    (("card_id", "text"), ("device_id", "text"), ("at_ms", "bigint")),
)
ANSWERS = StateTable(
    "answers",
    (*_EVENT, ("card_id", "text"), ("question_id", "text")),
    (("answer", "text"), ("at_ms", "bigint")),
)
TENANT_ACCOUNTS = StateTable("tenant_accounts", (("tenant_id", "text"), ("account", "text")), (("balance", "bigint"),))
HOLDS = StateTable(
    "holds",
    (("tenant_id", "text"), ("card_id", "text"), ("entry_seq", "bigint")),
    (
        *(("account", "text"), ("held", "bigint"), ("captured", "bigint"), ("lapses_at_ms", "bigint")),
        *(("state", "text"), ("parts", "text")),
    ),
)
TAGS = StateTable("tags", (("tenant_id", "text"), ("tag_uid", "text")), (("card_id", "text"), ("counter", "bigint")))
_CARD = (("tenant_id", "text"), ("card_id", "text"))
BOARD_PAYOUTS = StateTable(
    "board_payouts",
    (("tenant_id", "text"), ("board", "text"), ("win", "text")),
    (("paid_at_ms", "bigint"), ("winners", "text")),
)
VISIT_DAYS = StateTable(
    "visit_days",
    (("tenant_id", "text"), ("day", "integer"), ("event_id", "text"), ("card_id", "text")),
    (("visits", "integer"),),
)
EARNED_DAYS = StateTable("earned_days", (*_CARD, ("day", "integer")), (("points", "bigint"),))
TIER_CHANGES = StateTable(
    "tier_changes",
    (*_CARD, ("changed_position", "bigint")),
    (
        *(("at_ms", "bigint"), ("as_of_ms", "bigint"), ("tier", "text"), ("tier_before", "text"), ("reason", "text")),
        *(("points", "bigint"), ("note", "text"), ("cause", "text"), ("rule", "text")),
    ),
)
COUPONS = StateTable(
    "coupons",
    (("tenant_id", "text"), ("coupon_id", "text")),
    (("terms", "jsonb"), ("name", "text"), ("state", "text"), ("shared_code", "text")),
)
COUPON_COUNTS = StateTable(
    "coupon_counts",
    (("tenant_id", "text"), ("coupon_id", "text")),
    tuple((name, "bigint") for name in ("issued", "redeemed", "on_hold", "day", "day_uses")),
)
COUPON_CODES = StateTable(
    "coupon_codes",
    (("tenant_id", "text"), ("code_id", "text")),
    (
        *(("coupon_id", "text"), ("card_id", "text"), ("tail", "text"), ("issue_id", "text"), ("number", "bigint")),
        *(("issued_at_ms", "bigint"), ("expires_at_ms", "bigint"), ("is_shared", "boolean")),
    ),
)
# Codes that were on hold or redeemed once; the others are as they were issued.
COUPON_CODE_STATES = StateTable(
    "coupon_code_states",
    (("tenant_id", "text"), ("code_id", "text")),
    (("state", "text"), ("redemption_id", "text")),
)
COUPON_USES = StateTable(
    "coupon_uses",
    (("tenant_id", "text"), ("coupon_id", "text"), ("card_id", "text")),
    (("uses", "bigint"),),
)
COUPON_BILLS = StateTable("coupon_bills", (("tenant_id", "text"), ("bill", "text")), (("begun_at_ms", "bigint"),))
COUPON_REDEMPTIONS = StateTable(
    "coupon_redemptions",
    (("tenant_id", "text"), ("redemption_id", "text")),
    (
        *(("coupon_id", "text"), ("code_id", "text"), ("card_id", "text"), ("bill", "text"), ("state", "text")),
        *(("hold_until_ms", "bigint"), ("day", "bigint"), ("value", "jsonb"), ("stacking", "text")),
        *(("stacking_group", "text"), ("points_seq", "bigint")),
        *(("began_at_ms", "bigint"), ("changed_at_ms", "bigint"), ("rules", "jsonb"), ("rules_seq", "bigint")),
    ),
)
COUPON_TABLES = (
    *(COUPONS, COUPON_COUNTS, COUPON_CODES, COUPON_CODE_STATES, COUPON_USES, COUPON_BILLS),
    COUPON_REDEMPTIONS,
)
RULES = StateTable(
    "rules",
    (("tenant_id", "text"), ("rule_id", "text")),
    (("definition", "text"), ("changed_at_ms", "bigint")),
)
RULE_VERSIONS = StateTable(
    "rule_versions",
    (("tenant_id", "text"), ("rule_id", "text"), ("version", "bigint")),
    (("definition", "text"), ("at_ms", "bigint")),
)
RULE_POINTS = StateTable("rule_points", (("tenant_id", "text"), ("rule_id", "text")), (("points", "bigint"),))
RULE_FAILURES = StateTable(
    "rule_failures",
    (("tenant_id", "text"), ("rule_id", "text")),
    (("version", "bigint"), ("day", "integer"), ("at_ms", "bigint"), ("place", "text"), ("reason", "text")),
)
RULE_SCHEDULES = StateTable("rule_schedules", (("tenant_id", "text"),), (("state", "text"),))
RULE_USES = StateTable(
    "rule_uses",
    (("tenant_id", "text"), ("card_id", "text"), ("rule_id", "text")),
    (("times", "bigint"), ("day", "integer"), ("day_times", "bigint")),
)
STATE_TABLES = (
    *(ALARMS, EVENT_ZONES, ADMISSION_LIST, ANNULMENTS, ANSWERS, TENANT_ACCOUNTS, HOLDS, TAGS),
    *COUPON_TABLES,
    *(RULES, RULE_VERSIONS, RULE_POINTS, RULE_FAILURES, RULE_USES, RULE_SCHEDULES),
    *(BOARD_PAYOUTS, VISIT_DAYS, EARNED_DAYS, TIER_CHANGES),
)
