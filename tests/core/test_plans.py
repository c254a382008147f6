"""Plans: how many cards an organisation may have, how they are counted, and who notices a wrong count."""

from __future__ import annotations

import pytest

from actors.admin import decide_change_card_state, decide_change_plan, decide_issue_card
from actors.codec import encode_facts
from actors.commands import ChangeCardState, ChangePlan, IssueCard
from actors.entry import Mark
from actors.facts import CardIssued, CardStateChanged, CommandRefused, Fact, TenantChanged, TenantOpened
from actors.queries import GetTenant
from actors.tenant import Tenant
from actors.terms import CARDS_PER_FREE_TENANT_MAX, CardState, Plan, TenantSettings
from storage.audit_checks import Findings
from storage.audit_plans import PlanCheck
from tests.core.build import NOW_MS, card, founding, scope, signed
from tests.core.drive import Drive, driven

MAX = CARDS_PER_FREE_TENANT_MAX


def issue(request_id: str = "issue", card_id: str = "card_new") -> IssueCard:
    return signed(IssueCard("org", request_id, b"", card_id, "member", "Ann", "gold"))


def change(state: CardState, request_id: str = "change", card_id: str = "card") -> ChangeCardState:
    return signed(ChangeCardState("org", request_id, b"", card_id, state))


def plan(name: Plan, request_id: str = "plan") -> ChangePlan:
    return signed(ChangePlan("org", request_id, b"", name))


def tenant(name: Plan, cards: int) -> Tenant:
    return Tenant("org", "Org", TenantSettings(plan=name), cards)


# --- deciding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cards", "outcome"),
    [
        ("free", 0, 1),
        ("free", MAX - 1, MAX),
        ("free", MAX, "quota_exceeded"),
        ("free", 5_000, "quota_exceeded"),
        ("premium", MAX, MAX + 1),
        ("premium", 5_000, 5_001),
    ],
)
def test_a_card_is_issued_as_far_as_the_plan_goes(name: Plan, cards: int, outcome: int | str) -> None:
    (fact,) = decide_issue_card(scope(tenant(name, cards)), issue(), NOW_MS)
    if isinstance(fact, CommandRefused):
        assert (fact.reason, fact.entity_id, fact.command) == (outcome, "card_new", "IssueCard")
        assert "upgrade" in fact.detail
    else:
        assert isinstance(fact, CardIssued)
        assert fact.cards_after == outcome


@pytest.mark.parametrize(
    ("was", "becomes", "cards", "cards_after"),
    [
        ("active", "revoked", 3, 2),
        ("suspended", "revoked", 3, 2),
        ("revoked", "revoked", 3, 3),
        ("active", "suspended", 3, 3),
        ("suspended", "active", 3, 3),
        ("active", "active", 3, 3),
        # A card from before there were plans does not count.
        ("active", "revoked", 0, 0),
    ],
)
def test_only_a_first_revocation_makes_room(was: CardState, becomes: CardState, cards: int, cards_after: int) -> None:
    (fact,) = decide_change_card_state(scope(tenant("free", cards), card(state=was)), change(becomes), NOW_MS)
    assert isinstance(fact, CardStateChanged)
    assert fact.cards_after == cards_after


def test_a_plan_changes_nothing_else() -> None:
    before = Tenant("org", "Org", TenantSettings("Asia/Ho_Chi_Minh", 7), 12)
    (fact,) = decide_change_plan(scope(before), plan("free"), NOW_MS)
    assert isinstance(fact, TenantChanged)
    assert (fact.name, fact.settings) == ("Org", TenantSettings("Asia/Ho_Chi_Minh", 7, (), "free"))


# --- in a partition --------------------------------------------------------------------------------------------------


def codes(drive: Drive, tokens: str) -> list[str]:
    return [getattr(drive.reply(token).fact, "reason", "issued") for token in tokens]


def test_the_limit_holds_within_a_batch_and_follows_the_plan_at_once() -> None:
    drive = driven()
    for name in "abcdefghij":
        drive.send((name, issue(name, f"card_{name}")))
    drive.send(("free", plan("free")), ("k", issue("k", "card_k")), ("premium", plan("premium", "p2")))
    drive.send(("l", issue("l", "card_l")), ("free2", plan("free", "p3")), ("m", issue("m", "card_m")))
    while drive.appends:
        drive.appended()
    assert codes(drive, "abcdefghijklm") == [*["issued"] * 10, "quota_exceeded", "issued", "quota_exceeded"]
    drive.send(("view", GetTenant("org")))
    assert drive.reply("view").cards == 11


def test_a_refusal_is_the_outcome_of_its_request_also_after_an_upgrade() -> None:
    drive = driven()
    drive.send(("free", plan("free")), *((n, issue(f"i{n}", f"card_{n}")) for n in range(MAX)))
    drive.send(("a", issue("a", "card_a")), ("premium", plan("premium", "p2")), ("again", issue("a", "card_b")))
    while drive.appends:
        drive.appended()
    assert drive.reply("again").replayed
    assert drive.reply("again").fact.reason == "quota_exceeded"


def test_the_count_comes_back_from_the_row_and_the_journals_tail() -> None:
    drive = Drive()
    drive.do(drive.partition.open(NOW_MS))
    founded = drive.write(encode_facts(founding()), 1)
    drive.projected = Mark(founded.epoch, founded.seq, founded.checksum)
    drive.write(encode_facts([issued(1, 8), issued(2, 9)]), 1)
    drive.opened()
    drive.send(("view", GetTenant("org")))
    drive.loaded(tenants={"org": Tenant("org", "Org", TenantSettings(plan="free"), 7, founded.seq << 16)})
    assert drive.reply("view").cards == 9


def test_a_row_that_is_newer_than_the_tail_is_not_set_back() -> None:
    row = tenant("free", 9)
    row.position = 50 << 16
    row.apply(issued(1, 8), 2 << 16)
    assert (row.cards, row.position) == (9, 50 << 16)


# --- the auditor -----------------------------------------------------------------------------------------------------


def findings(*facts: Fact, rows: tuple[list[tuple[str, int]], list[tuple[str, str]]] | None = None) -> int:
    found = Findings(0)
    check = PlanCheck(found)
    for fact in (TenantOpened("org", "o", b"", NOW_MS, "Org", TenantSettings(plan="free")), *facts):
        check.take(fact, "here")
    if rows is not None:
        check.compare_rows(*rows)
    return found.counts["plans"]


def issued(number: int, cards_after: int) -> CardIssued:
    return CardIssued("org", f"i{number}", b"", NOW_MS, f"card_{number}", "mem", "Ann", "gold", cards_after=cards_after)


def test_the_auditor_counts_for_itself() -> None:
    ten = [issued(n, n) for n in range(1, MAX + 1)]
    revoked = CardStateChanged("org", "r", b"", NOW_MS, "card_1", "revoked", cards_after=MAX - 1)
    assert findings(*ten, revoked, issued(11, MAX)) == 0
    assert findings(*ten, issued(11, MAX + 1)) == 1, "beyond Free"
    assert findings(*ten, revoked, revoked) == 0, "a second revocation makes no room"
    assert findings(issued(1, 1), issued(2, 3)) == 1
    assert findings(*founding()[2:], revoked) == 1, "nothing was counted before"
    assert findings(*founding()[2:], issued(1, 1), rows=([("org", 1)], [("org", "active")] * 2)) == 0, "uncounted cards"
    assert findings(issued(1, 1), issued(2, 2), rows=([("org", 2)], [("org", "active"), ("org", "revoked")])) == 1
    assert findings(issued(1, 1), rows=([("org", 1)], [("org", "suspended")])) == 0
