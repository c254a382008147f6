"""Tables of state whose rows are always known as a whole: each fact that changes a row says all of it.

Rules:
1. A row is its key, which begins with the tenant, then its values, then the position of the fact that set them.
2. A batch writes each row once, with what the last fact said; a row that Postgres holds from a later position
   contradicts the journal.
3. Tables of which a fact knows only a part of a row are written by statements of their own (`storage.row_writer`).
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
        """Their types, as `storage.row_writer` wants them."""
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
EARNED_DAYS = StateTable("earned_days", (*_CARD, ("day", "integer")), (("points", "bigint"),))
TIER_CHANGES = StateTable(
    "tier_changes",
    (*_CARD, ("changed_position", "bigint")),
    (
        *(("at_ms", "bigint"), ("as_of_ms", "bigint"), ("tier", "text"), ("tier_before", "text"), ("reason", "text")),
        *(("points", "bigint"), ("note", "text"), ("cause", "text"), ("rule", "text")),
    ),
)
STATE_TABLES = (
    *(ALARMS, EVENT_ZONES, ADMISSION_LIST, ANNULMENTS, ANSWERS, TENANT_ACCOUNTS, HOLDS, TAGS),
    *(EARNED_DAYS, TIER_CHANGES),
)
