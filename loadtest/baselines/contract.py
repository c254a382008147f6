"""What all baselines share: the question, the outcome, the answer's JSON, and what a design has to do."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from gateway.render import AttendanceCounts, First, Member, PointsAwarded, Verdict, rfc3339

POINTS_PER_FIRST_ENTRY = 10


class Question(msgspec.Struct, frozen=True, gc=False):
    """A scan of a card whose credential is good."""

    scan_id: str
    event_id: str
    card_id: str
    gate_id: str
    device_id: str
    direction: Literal["entry", "exit"]
    at_ms: int

    @property
    def fingerprint(self) -> str:
        """What makes another scan under the same id another request."""
        return f"{self.event_id}|{self.card_id}|{self.gate_id}|{self.direction}"


class Outcome(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What was decided; stored as it is, for retries. `reason` is "" for an admission, `member_id` where the card is
    not known, `first_at_ms` 0 unless the scan repeats an admission."""

    fingerprint: str
    card_id: str
    at_ms: int
    reason: str
    member_id: str
    member_name: str
    tier: str
    inside: int
    admitted: int
    capacity: int
    awarded: int
    balance: int
    first_at_ms: int = 0
    first_gate_id: str = ""
    first_device_id: str = ""


class Desk(Protocol):
    """A design."""

    async def judge(self, question: Question) -> tuple[Outcome, bool]:
        """The outcome, durable, and whether it is a replay. Raises `Problem`: `event_unknown`, `id_reused`."""
        ...


def answer(scan_id: str, event_id: str, outcome: Outcome, replayed: bool) -> bytes:
    """The body of the answer."""
    is_known = outcome.member_id != ""
    first = None
    if outcome.first_at_ms:
        first = First(rfc3339(outcome.first_at_ms), outcome.first_gate_id or None, outcome.first_device_id or None)
    return msgspec.json.encode(
        Verdict(
            scan_id,
            "refused" if outcome.reason else "admitted",
            outcome.reason or None,
            replayed,
            event_id,
            outcome.card_id or None,
            Member(outcome.member_id, outcome.member_name) if is_known else None,
            outcome.tier or None,
            rfc3339(outcome.at_ms),
            AttendanceCounts(outcome.inside, outcome.admitted, outcome.capacity) if outcome.capacity else None,
            PointsAwarded(outcome.awarded, outcome.balance) if is_known else None,
            first,
        )
    )
