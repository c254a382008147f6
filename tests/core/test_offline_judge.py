"""How a scanner judges that has no network: a row for each reason, and for what it must not refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from actors.refusals import SCAN_REASONS
from gateway.credentials import CredentialBook, CredentialClaims
from gateway.published_keys import PublishedKeys
from gateway.rotating import step_of
from loadtest.offline.judge import Presented, Seen, reason_against, session_of
from loadtest.offline.known import Admission, Event, Gate, Known, Session

MASTER = bytes(range(32))
TENANT, OTHER, CARD = "org_01k3zq8w5x4v7m9n2p6r", "org_01k3zq8w5x4v7m9n2p6s", "card_01k3zq8w5x4v7m9n2p6r"
HOUR_MS = 3_600_000
NOON_MS = 1_774_180_800_000  # 2026-03-22T12:00Z
CLAIMS = CredentialClaims(TENANT, CARD, "gold", 1, NOON_MS - HOUR_MS, serial=3)


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)


GATES = (Gate("north", True), Gate("shut", False), Gate("lounge", True, "zone_lounge"), Gate("hall", True, "zone_hall"))
EVENT = Event("evt_1", "Gala", "open", "UTC", "after_exit", gates=GATES)
INSIDE = Seen(1, True, "", NOON_MS - 60_000)
OUTSIDE = Seen(1, False, "", NOON_MS - 60_000)
DAYS = (
    Session("ses_1", at(NOON_MS - HOUR_MS), at(NOON_MS)),
    Session("ses_2", at(NOON_MS + HOUR_MS), at(NOON_MS + 2 * HOUR_MS)),
)

Changes = dict[str, Any]
# What is different from an ordinary entry: (of the event, of what is known, of the credential, of the scan), what this
# scanner has seen of the card, and the reason.
ROWS: list[tuple[str, Changes, Changes, Changes, Changes, Seen, str]] = [
    ("an ordinary entry", {}, {}, {}, {}, Seen(), ""),
    ("no gate", {}, {}, {}, {"gate_id": ""}, Seen(), ""),
    ("not readable", {}, {}, {}, {"claims": None}, Seen(), "credential_invalid"),
    ("issued again", {}, {"serials": {CARD: 4}}, {}, {}, Seen(), "credential_invalid"),
    ("the last one issued", {}, {"serials": {CARD: 3}}, {}, {}, Seen(), ""),
    ("issued again since the list", {}, {"serials": {CARD: 2}}, {}, {}, Seen(), ""),
    ("not valid yet", {}, {}, {"valid_from_ms": NOON_MS + 1}, {}, Seen(), "credential_expired"),
    ("valid from now on", {}, {}, {"valid_from_ms": NOON_MS}, {}, Seen(), ""),
    ("valid until now", {}, {}, {"valid_until_ms": NOON_MS}, {}, Seen(), "credential_expired"),
    ("valid a millisecond longer", {}, {}, {"valid_until_ms": NOON_MS + 1}, {}, Seen(), ""),
    ("on the list of revoked cards", {}, {"barred": {CARD}}, {}, {}, Seen(), "card_revoked"),
    ("another card is on it", {}, {"barred": {"card_2"}}, {}, {}, Seen(), ""),
    ("revoked, on the way out", {}, {"barred": {CARD}}, {}, {"direction": "exit"}, INSIDE, "card_revoked"),
    ("cancelled", {"state": "cancelled"}, {}, {}, {}, Seen(), "event_cancelled"),
    ("before the doors open", {"doors_open": at(NOON_MS + 1)}, {}, {}, {}, Seen(), "event_not_open"),
    ("as they open", {"doors_open": at(NOON_MS)}, {}, {}, {}, Seen(), ""),
    ("closed by hand", {"state": "closed"}, {}, {}, {}, Seen(), "event_closed"),
    ("as the doors close", {"doors_close": at(NOON_MS)}, {}, {}, {}, Seen(), "event_closed"),
    ("between two days", {"sessions": DAYS}, {}, {}, {}, Seen(), "event_not_open"),
    ("after the last day", {"sessions": DAYS[:1]}, {}, {}, {}, Seen(), "event_closed"),
    ("no gate of the event", {}, {}, {}, {"gate_id": "south"}, Seen(), "gate_unknown"),
    ("a closed gate", {}, {}, {}, {"gate_id": "shut"}, Seen(), "gate_closed"),
    ("another tier", {"admission": Admission(("silver",))}, {}, {}, {}, Seen(), "not_eligible"),
    ("the tier", {"admission": Admission(("silver", "gold"))}, {}, {}, {}, Seen(), ""),
    ("not on the list", {"admission": Admission((), True)}, {}, {}, {}, Seen(), "not_eligible"),
    ("on the list", {"admission": Admission((), True)}, {"listed": {CARD}}, {}, {}, Seen(), ""),
    ("not on the list, leaves", {"admission": Admission((), True)}, {}, {}, {"direction": "exit"}, INSIDE, ""),
    ("inside already", {}, {}, {}, {}, INSIDE, "already_admitted"),
    ("back after leaving", {}, {}, {}, {}, OUTSIDE, ""),
    ("back where nobody comes back", {"reentry": "none"}, {}, {}, {}, OUTSIDE, "already_admitted"),
    ("again where that is allowed", {"reentry": "multiple"}, {}, {}, {}, INSIDE, ""),
    ("from one zone to another", {"reentry": "none"}, {}, {}, {"gate_id": "hall"}, Seen(1, True, "zone_lounge", 9), ""),
    ("the zone it is in", {}, {}, {}, {"gate_id": "hall"}, Seen(1, True, "zone_hall", 9), "already_admitted"),
    ("since then all have left", {"exit_all_at": "11:59"}, {}, {}, {}, Seen(1, True, "", NOON_MS - 60_001), ""),
    ("all left before", {"exit_all_at": "11:59"}, {}, {}, {}, INSIDE, "already_admitted"),
    ("all left yesterday", {"exit_all_at": "12:01"}, {}, {}, {}, Seen(1, True, "", NOON_MS - 24 * HOUR_MS), ""),
    ("an exit of somebody who is not inside", {}, {}, {}, {"direction": "exit"}, OUTSIDE, ""),
    ("revoked, at a closed gate", {}, {"barred": {CARD}}, {}, {"gate_id": "shut"}, INSIDE, "card_revoked"),
    ("inside, at a closed gate", {}, {}, {}, {"gate_id": "shut"}, INSIDE, "gate_closed"),
]


def known_with(event: Event, **changes: Any) -> Known:
    fields: Changes = {"barred": set(), "serials": {}, "listed": set()} | changes
    return Known(event, PublishedKeys(TENANT, {}), cursor="", clock_ahead_ms=0, **fields)


@pytest.mark.parametrize(
    ("name", "event", "known", "claims", "scan", "seen", "reason"), ROWS, ids=[row[0] for row in ROWS]
)
def test_a_scanner_alone_judges(
    name: str, event: Changes, known: Changes, claims: Changes, scan: Changes, seen: Seen, reason: str
) -> None:
    fields: Changes = {
        "claims": msgspec.structs.replace(CLAIMS, **claims),
        "direction": "entry",
        "gate_id": "north",
        "at_ms": NOON_MS,
    }
    presented = Presented(**(fields | scan))
    assert reason_against(known_with(msgspec.structs.replace(EVENT, **event), **known), presented, seen) == reason


def test_every_reason_that_it_can_know_has_its_row() -> None:
    """The others are the system's alone: a tag's counter, the card's own state and dates, who is inside elsewhere."""
    told = {row[-1] for row in ROWS} - {""}
    alone = {"credential_replayed", "card_suspended", "card_expired", "not_inside", "full"}
    assert told == set(SCAN_REASONS) - alone


def test_a_session_lasts_until_before_its_doors_close() -> None:
    event = msgspec.structs.replace(EVENT, sessions=DAYS)
    times = (NOON_MS - HOUR_MS - 1, NOON_MS - HOUR_MS, NOON_MS - 1, NOON_MS, NOON_MS + HOUR_MS)
    assert [session_of(event, time) for time in times] == ["", "ses_1", "ses_1", "", "ses_2"]


class TestPublishedKeys:
    book = CredentialBook(MASTER, (1, 2))

    def keys(self, tenant_id: str = TENANT) -> PublishedKeys:
        return PublishedKeys(tenant_id, self.book.public_keys(tenant_id))

    def test_what_the_edge_reads_is_read_alike(self) -> None:
        static = self.book.issue(TENANT, CARD, "gold", NOON_MS, NOON_MS, NOON_MS + HOUR_MS, 7)
        claims = self.keys().read(static)
        assert claims is not None
        assert claims == self.book.verify(static)
        rotating = self.book.issue(TENANT, CARD, "gold", NOON_MS, serial=7, is_rotating=True)
        shown = self.keys().read(rotating + self.book.codes.code(TENANT, CARD, 7, step_of(NOON_MS)))
        assert shown is not None
        assert (shown.card_id, shown.serial) == (CARD, 7)

    def test_what_is_none_of_ours_is_not_read(self) -> None:
        text = self.book.issue(TENANT, CARD, "gold", NOON_MS)
        rotating = self.book.issue(TENANT, CARD, "gold", NOON_MS, is_rotating=True)
        newer = CredentialBook(MASTER, (3,)).issue(TENANT, CARD, "gold", NOON_MS)
        made_up = CredentialBook(b"x" * 32, (1,)).issue(TENANT, CARD, "gold", NOON_MS)
        cut_off = "MV1:" + rotating.removeprefix("MV1R:")
        others = self.book.issue(OTHER, CARD, "gold", NOON_MS)
        for bad in (text[:-1], text + "A", newer, made_up, cut_off, others, "", "MV1:", "MV1R:", "MV1N:x", "hello"):
            assert self.keys().read(bad) is None, bad
        assert self.keys(OTHER).read(text) is None
