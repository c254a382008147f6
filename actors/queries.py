"""Questions to the engine that change nothing. They are answered from durable state only and never cost a journal
write."""

from __future__ import annotations

import msgspec

BOARD_ROWS_MAX = 1_000
EVENT_TOPIC = "event:"
BOARD_TOPIC = "leaderboard:"
CARD_TOPIC = "card:"
REVOCATIONS_TOPIC = "revocations"


class GetTenant(msgspec.Struct, frozen=True, array_like=True, tag=101):
    tenant_id: str


class GetCard(msgspec.Struct, frozen=True, array_like=True, tag=102):
    tenant_id: str
    card_id: str


class GetCardTier(msgspec.Struct, frozen=True, array_like=True, tag=170):
    """A card's tier, and how far it is from the next one."""

    tenant_id: str
    card_id: str


class GetEvent(msgspec.Struct, frozen=True, array_like=True, tag=103):
    """Terms and live counts of an event."""

    tenant_id: str
    event_id: str


class GetBoard(msgspec.Struct, frozen=True, array_like=True, tag=104):
    """A leaderboard's top `limit` rows after skipping `offset`; with `around`, the rows around that card instead.

    `board` is one of `actors.board.BOARDS` or of the organisation's own, `window` one of `actors.windows`.
    """

    tenant_id: str
    board: str
    window: str
    limit: int = 10
    offset: int = 0
    around: str = ""


class GetTopic(msgspec.Struct, frozen=True, array_like=True, tag=105):
    """A live topic ("event:ID", "leaderboard:BOARD[:WINDOW]", "card:ID" or "revocations"): what came after
    `since_offset` of `since_epoch`, or a snapshot when that cannot be told any more (or was never asked: both -1).
    Asking also keeps the topic's updates coming for `actors.live.WATCHED_MS`."""

    tenant_id: str
    topic: str
    since_epoch: int = -1
    since_offset: int = -1


class GetCoupon(msgspec.Struct, frozen=True, array_like=True, tag=130):
    """Terms and counts of a coupon."""

    tenant_id: str
    coupon_id: str


class GetRedemption(msgspec.Struct, frozen=True, array_like=True, tag=131):
    """What became of a coupon's redemption."""

    tenant_id: str
    redemption_id: str


class GetPayout(msgspec.Struct, frozen=True, array_like=True, tag=150):
    """What a board's window was paid out by; `window` is written in full."""

    tenant_id: str
    board: str
    window: str


class GetRules(msgspec.Struct, frozen=True, array_like=True, tag=160):
    """All rules of an organisation."""

    tenant_id: str


Query = (
    GetTenant
    | GetCard
    | GetCardTier
    | GetEvent
    | GetBoard
    | GetTopic
    | GetCoupon
    | GetRedemption
    | GetPayout
    | GetRules
)


def board_of_topic(topic: str) -> tuple[str, str]:
    """Board and window of a topic "leaderboard:BOARD[:WINDOW]"; window "all" where none is named, two empty strings
    for another topic."""
    if not topic.startswith(BOARD_TOPIC):
        return "", ""
    board, _, window = topic.removeprefix(BOARD_TOPIC).partition(":")
    return board, window or "all"


def event_of_window(window: str) -> str:
    """The event of window "event:ID", "" for another window."""
    return window.removeprefix(EVENT_TOPIC) if window.startswith(EVENT_TOPIC) else ""
