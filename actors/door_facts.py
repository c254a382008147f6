"""What happens at an event's doors besides scans. Rules as in `actors.facts`."""

from __future__ import annotations

import msgspec

from actors.terms import BoardPart
from actors.visits import Visits


class ScanAnnulled(msgspec.Struct, frozen=True, array_like=True, tag=30, gc=False):
    """The admission that scan `scan_id` led to was undone. Counts and the card's attendance are those after it.
    `zone_*` is the zone that the person did not enter, `back_zone_*` the one they are in after all, with the people.
    `visits`, `visit_day` and `counts_as` as in `ScanJudged`, of the visit that was taken back."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    event_id: str
    card_id: str
    scan_id: str
    device_id: str
    inside: int
    admitted: int
    card_entries: int
    card_inside: bool = False
    session_id: str = ""
    zone_id: str = ""
    zone_inside: int = 0
    back_zone_id: str = ""
    back_zone_inside: int = 0
    visits: Visits | None = None
    visit_day: int = 0
    counts_as: BoardPart | None = None

    @property
    def part(self) -> BoardPart:
        """Which part of boards the visit was; day 0: none that is taken back."""
        return self.counts_as or BoardPart(self.visit_day, self.event_id)


class EveryoneLeft(msgspec.Struct, frozen=True, array_like=True, tag=31):
    """All who were inside (`count`) are taken to have left at `left_ms`: because they were sent out (it answers a
    request), because the clock said so, or because session `session_id` began."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    event_id: str
    left_ms: int
    count: int
    session_id: str = ""


class AdmissionListChanged(msgspec.Struct, frozen=True, array_like=True, tag=32):
    """Cards were put on an event's list, others taken off it; `size` is how many are on it now."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    event_id: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    size: int


class QuestionsAnswered(msgspec.Struct, frozen=True, array_like=True, tag=33):
    """A person answered questions of an event, as (question, answer); `answered` are all that they have answered."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    event_id: str
    card_id: str
    answers: tuple[tuple[str, str], ...]
    answered: tuple[str, ...]


class CardNoted(msgspec.Struct, frozen=True, array_like=True, tag=34):
    """What the staff at a door are told of a card has changed."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    attention: str


DoorFact = ScanAnnulled | EveryoneLeft | AdmissionListChanged | QuestionsAnswered | CardNoted
