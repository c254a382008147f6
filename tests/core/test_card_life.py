"""What becomes of a card after its issue: new credentials, validity, tiers, NFC tags and their counters."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.card import Card
from actors.card_commands import AssignTag, ReissueCard, RemoveTag, RenewCard, SetCardTier
from actors.card_facts import TagAssigned, TagEnrolled, TagRemoved, tag_id_of
from actors.checkin import decide_check_in
from actors.commands import Command, fingerprint
from actors.facts import CardIssued, CommandRefused, Fact, ScanDetails, ScanJudged
from actors.handlers import HANDLERS
from actors.offline import decide_offline
from actors.tag import Tag
from actors.terms import CARD_SERIAL_MAX
from storage.audit_cards import CardCheck
from storage.audit_checks import Findings
from tests.core.build import NOW_MS, card, check_in, event, founding, scope, tenant

UID, OTHER = "04C767F2066180", "04C767F2066181"
HEAD = ("org", "id", b"")


def decided(command: Command, the_card: Card, *tags: Tag) -> list[Fact]:
    return HANDLERS[type(command)].decide(scope(tenant(), the_card, *tags), command, NOW_MS)


def reason_of(command: Command, the_card: Card, *tags: Tag) -> str:
    (fact,) = decided(command, the_card, *tags)
    return fact.reason if isinstance(fact, CommandRefused) else ""


def scanned(the_card: Card | None, tag: Tag | None = None, **command: Any) -> ScanJudged:
    (fact, *_) = decide_check_in(tenant(), the_card, event(), check_in(**command), NOW_MS, tag)
    assert isinstance(fact, ScanJudged)
    return fact


def tag(counter: int = 0, card_id: str = "card", uid: str = UID) -> Tag:
    return Tag("org", uid, card_id, counter)


@pytest.mark.parametrize(
    "command",
    [
        ReissueCard(*HEAD, "card"),
        RenewCard(*HEAD, "card", 0, 0),
        SetCardTier(*HEAD, "card", "silver"),
        AssignTag(*HEAD, "card", UID),
    ],
    ids=lambda command: type(command).__name__,
)
def test_nothing_becomes_of_a_revoked_card(command: Command) -> None:
    assert reason_of(command, card(state="revoked")) == "card_revoked"


def test_a_revoked_card_gives_its_tag_back() -> None:
    (fact,) = decided(RemoveTag(*HEAD, "card"), card(state="revoked", tag_uid=UID), tag(7))
    assert isinstance(fact, TagRemoved)
    assert (fact.tag_uid, fact.counter) == (UID, 7)


class TestReissue:
    def test_only_the_latest_credential_opens(self) -> None:
        (fact,) = decided(ReissueCard(*HEAD, "card"), the_card := card(serial=2, state="suspended"))
        the_card.apply(fact, 1)  # type: ignore[arg-type]
        assert (the_card.serial, the_card.state) == (3, "suspended")
        the_card.state = "active"
        told = [scanned(the_card, serial=serial).reason for serial in (0, 2, 3, 4)]
        assert told == ["credential_invalid", "credential_invalid", "", "credential_invalid"]

    def test_nobody_forces_an_old_credential(self) -> None:
        assert scanned(card(serial=1), serial=0, forced_by="acc").reason == "credential_invalid"

    def test_an_old_one_that_an_offline_scanner_let_in_conflicts(self) -> None:
        command = check_in(is_offline=True, serial=0)
        scan = decide_offline(tenant(), card(serial=1), event(), command, NOW_MS)[0]
        assert isinstance(scan, ScanJudged)
        assert scan.details is not None
        assert (scan.reason, scan.card_inside, scan.details.conflict) == ("", True, "credential_invalid")

    def test_serials_end(self) -> None:
        assert reason_of(ReissueCard(*HEAD, "card"), card(serial=CARD_SERIAL_MAX)) == "limit_reached"

    def test_which_of_its_credentials_was_shown_is_not_asked(self) -> None:
        assert fingerprint(check_in(serial=3)) == fingerprint(check_in())


class TestRenewal:
    @pytest.mark.parametrize(
        ("starts", "ends", "reason"),
        [
            (0, 0, ""),
            (0, NOW_MS + 1, ""),
            (0, NOW_MS, "expiry_invalid"),
            (NOW_MS + 5, NOW_MS + 5, "expiry_invalid"),
            (NOW_MS + 5, NOW_MS + 6, ""),
            (NOW_MS + 5, 0, ""),
        ],
    )
    def test_bounds(self, starts: int, ends: int, reason: str) -> None:
        assert reason_of(RenewCard(*HEAD, "card", starts, ends), card()) == reason

    def test_an_expired_card_is_good_again(self) -> None:
        the_card = card(valid_until_ms=NOW_MS)
        assert scanned(the_card).reason == "card_expired"
        (fact,) = decided(RenewCard(*HEAD, "card", 0, NOW_MS + 1), the_card)
        the_card.apply(fact, 1)  # type: ignore[arg-type]
        assert scanned(the_card).reason == ""

    def test_another_validity_is_another_request(self) -> None:
        assert fingerprint(RenewCard(*HEAD, "card", 0, 1)) != fingerprint(RenewCard(*HEAD, "card", 0, 2))


def test_a_tier_set_by_hand_tells_the_one_before() -> None:
    (fact,) = decided(SetCardTier(*HEAD, "card", "diamond", "a friend"), the_card := card())
    the_card.apply(fact, 1)  # type: ignore[arg-type]
    told = msgspec.to_builtins(msgspec.structs.asdict(fact))  # type: ignore[arg-type]
    assert [told[name] for name in ("tier", "tier_before", "reason", "note", "cause", "rule")] == [
        *("diamond", "gold", "manual", "a friend", "", "")
    ]
    assert the_card.tier == "diamond"


class TestTags:
    def test_a_tag_that_nobody_named_comes_to_be(self) -> None:
        nobodys = scope(tenant(), card(), absent=(tag_id_of("org", UID),))
        facts = HANDLERS[AssignTag].decide(nobodys, AssignTag(*HEAD, "card", UID), NOW_MS)
        assert [type(fact) for fact in facts] == [TagEnrolled, TagAssigned]
        assert [type(fact) for fact in decided(AssignTag(*HEAD, "card", UID), card(), tag(0, ""))] == [TagAssigned]

    def test_the_one_that_the_card_had_is_nobodys(self) -> None:
        facts = decided(AssignTag(*HEAD, "card", OTHER), card(tag_uid=UID), tag(7), tag(4, "", OTHER))
        assert [(type(fact), fact.tag_uid, fact.counter, bool(fact.request_id)) for fact in facts] == [  # type: ignore[union-attr]
            (TagRemoved, UID, 7, False),
            (TagAssigned, OTHER, 4, True),
        ], "each keeps its counter"

    def test_another_cards_tag_is_not_taken(self) -> None:
        assert reason_of(AssignTag(*HEAD, "card", UID), card(), tag(0, "card2")) == "tag_in_use"
        assert reason_of(AssignTag(*HEAD, "card", UID), card(tag_uid=UID), tag(0, "card")) == ""

    def test_there_is_no_tag_to_take(self) -> None:
        assert reason_of(RemoveTag(*HEAD, "card"), card()) == "tag_unknown"

    @pytest.mark.parametrize(("counter", "reason"), [(8, ""), (7, "credential_replayed"), (6, "credential_replayed")])
    def test_a_counter_is_good_above_the_last_one(self, counter: int, reason: str) -> None:
        scan = scanned(card(serial=4), tag(7), tag_uid=UID, tag_counter=counter)
        assert scan.reason == reason
        assert scan.details == ScanDetails(tag_uid=UID, tag_counter=max(7, counter))

    def test_it_is_used_up_by_a_refusal(self) -> None:
        the_tag = tag(7)
        refused = scanned(card(state="suspended"), the_tag, tag_uid=UID, tag_counter=8)
        the_tag.apply(refused, 1)
        assert (refused.reason, the_tag.counter) == ("card_suspended", 8)
        again = scanned(card(), the_tag, tag_uid=UID, tag_counter=8)
        the_tag.apply(again, 2)
        assert (again.reason, the_tag.counter) == ("credential_replayed", 8)

    def test_a_replay_comes_before_the_cards_state_and_nobody_forces_it(self) -> None:
        scan = scanned(card(state="revoked"), tag(7), tag_uid=UID, tag_counter=7, forced_by="acc")
        assert scan.reason == "credential_replayed"

    def test_a_late_upload_below_the_counter_conflicts(self) -> None:
        command = check_in(is_offline=True, tag_uid=UID, tag_counter=5)
        scan = decide_offline(tenant(), card(), event(), command, NOW_MS, tag(7))[0]
        assert isinstance(scan, ScanJudged)
        assert scan.details is not None
        assert (scan.reason, scan.details.conflict, scan.details.tag_counter) == ("", "credential_replayed", 7)

    def test_a_newer_tap_under_the_same_id_is_the_same_request(self) -> None:
        first, second = (check_in(card_id="", tag_uid=UID, tag_counter=counter) for counter in (8, 9))
        assert fingerprint(first) == fingerprint(second)
        assert fingerprint(first) != fingerprint(check_in(card_id="", tag_uid=OTHER, tag_counter=8))

    def test_two_organisations_may_name_one_uid(self) -> None:
        assert tag_id_of("org_a", UID) != tag_id_of("org_b", UID)


# --- the auditor -----------------------------------------------------------------------------------------------------


def findings(*facts: Fact) -> dict[str, int]:
    found = Findings(0)
    check = CardCheck(found)
    for fact in facts:
        check.take(fact, "here")
    return dict(found.counts)


def tapped(counter: int, reason: str = "", card_id: str = "card") -> ScanJudged:
    scan = scanned(card(card_id), tag(counter - 1, card_id), card_id=card_id, tag_uid=UID, tag_counter=counter)
    return msgspec.structs.replace(scan, reason=reason)


def assigned(card_id: str = "card", uid: str = UID, counter: int = 0) -> list[Fact]:
    return [TagEnrolled("org", "", b"", NOW_MS, "", uid, 0), TagAssigned(*HEAD, NOW_MS, card_id, uid, counter)]


def numbered(n: int, number: int) -> CardIssued:
    return CardIssued("org", f"i{n}", b"", NOW_MS, f"card_{n}", "mem", "Ann", "gold", cards_after=n, number=number)


def test_the_auditor_counts_taps_for_itself() -> None:
    removed = TagRemoved(*HEAD, NOW_MS, "card", UID, 5)
    assert findings(*assigned(), tapped(3), tapped(5), removed) == {}
    assert findings(*assigned(), tapped(3), tapped(3, "credential_replayed")) == {}
    assert findings(*assigned(), tapped(3), tapped(3)) == {"tags": 1}
    assert findings(*assigned(), tapped(3), tapped(2, "full")) == {"tags": 1}
    assert findings(*assigned(), tapped(3), tapped(9, "credential_replayed")) == {"tags": 1}
    assert findings(*assigned(), tapped(3, card_id="card2")) == {"tags": 1}
    assert findings(*assigned(), TagAssigned(*HEAD, NOW_MS, "card2", UID, 0)) == {"tags": 1}
    assert findings(*assigned(), *assigned("card", OTHER)) == {"tags": 1}
    assert findings(*assigned(), removed) == {"tags": 1}, "another counter"


def test_the_auditor_counts_numbers_for_itself() -> None:
    assert findings(*founding()[2:], numbered(1, 1), numbered(2, 2)) == {}, "the first is from before"
    assert findings(numbered(1, 1), numbered(2, 1)) == {"card_numbers": 1}
    assert findings(numbered(1, 1), numbered(2, 0)) == {"card_numbers": 1}
