"""The second opinion on paying boards out, worked out anew from semantics.md and the rules of `actors.paying_out`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from actors.board_commands import PayOutBoard
from tests.simulation.plain import Expected

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.oracle_boards import BoardOracle

EVERYBODYS = {"points": ("points", False), "visits": ("visits", False), "streak": ("streak", False)}


class PayoutOracle:
    """Knows which windows were paid out."""

    def __init__(self, oracle: Oracle, boards: BoardOracle) -> None:
        self._oracle = oracle
        self._boards = boards
        self._paid: set[tuple[str, str, str]] = set()

    def decide(self, command: PayOutBoard) -> list[Expected]:
        """What the command's facts should say."""
        oracle, tenant = self._oracle, self._oracle.tenants[command.tenant_id]
        known = EVERYBODYS | {one.name: (one.metric, one.is_shared) for one in tenant["boards"]}
        if command.board not in known:
            return _refused("board_unknown")
        if not command.prizes:
            return _refused("terms_invalid")
        end = self._end(command.window, tenant["time_zone"])
        if not end or oracle.at_ms < end + tenant["board_grace"]:
            return _refused("window_open")
        key = (command.tenant_id, command.board, command.window)
        if key in self._paid:
            return _refused("already_paid_out")
        self._paid.add(key)
        metric, is_shared = known[command.board]
        rows = self._boards.ranking(command.tenant_id, f"{metric}/{command.window}")
        winners, led_to = [], []
        for place, (card_id, score) in enumerate(rows):
            rank = 1 + (sum(other > score for _, other in rows) if is_shared else place)
            if rank > len(command.prizes):
                continue
            is_active = oracle.cards[card_id]["state"] == "active"
            winners.append((rank, card_id, score, command.prizes[rank - 1] if is_active else 0))
            if is_active:
                alarm = oracle.alarm(card_id)
                cause = f"payout:{command.tenant_id}/payout/{command.board}/{command.window}"
                led_to += oracle.lapse(card_id)
                led_to += oracle.awarded(card_id, command.prizes[rank - 1], cause)
                led_to += oracle.alarm_of(card_id, alarm)
        return [("BoardPaidOut", {"winners": winners, "note": command.note}), *led_to]

    def _end(self, window: str, zone: str) -> int:
        """When a window ends, 0: never."""
        kind, _, of = window.partition(":")
        if kind == "event":
            return int(self._oracle.events[of]["terms"]["doors_close_ms"])
        after = date(int(of[:4]), int(of[4:6]), int(of[6:])) + timedelta(days=1)
        # In these zones no clock changes at midnight.
        begins = datetime(after.year, after.month, after.day, tzinfo=ZoneInfo(zone))
        return int(begins.astimezone(UTC).timestamp() * 1000)


def _refused(reason: str) -> list[Expected]:
    return [("CommandRefused", {"reason": reason})]
