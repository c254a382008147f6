"""The moments of the past: those that the engine had rules look at, made again from the facts that it wrote."""

from __future__ import annotations

from random import Random
from typing import Any, get_args

import msgspec
import pytest

from actors.admin import checkin_rule
from actors.card_commands import SetCardTier
from actors.card_facts import CardTierChanged
from actors.codec import decode_facts, encode_facts
from actors.commands import AwardPoints, Command, IssueCard, RedeemPoints, Wake
from actors.coupon_commands import CaptureCoupon, RedeemCoupon, RollbackCoupon
from actors.coupon_facts import CodeIssued, CouponDefined
from actors.coupon_terms import CouponTerms, ItemValue, PointsValue
from actors.entry import Entry
from actors.facts import EventCreated, Fact, TenantOpened
from actors.member_commands import DescribeCardHolder
from actors.past import CardThen, Past, past_facts
from actors.points_commands import CapturePoints, HoldPoints, TransferPoints
from actors.profiles import Profile
from actors.rule_facts import RuleSaved
from actors.terms import EventTerms, Gate, TenantSettings, TierLevel, TierTerms
from actors.tier_commands import SetTiers
from actors.visits import Visits
from rules.compiled import RuleSet
from rules.language import Notify, RuleDefinition, Trigger
from rules.moment import EventView, Moment
from tests.core.build import NOW_MS, award, check_in, signed
from tests.core.drive import Drive, driven

ZONE = "Asia/Ho_Chi_Minh"
NO_VIEW = EventView("event", "Evening", (), 0)
CARDS = ("card", "card2", "card3")
HEARD: tuple[Trigger, ...] = (
    *("checkin", "exit", "points_earned", "points_spent"),
    *("top_up", "tier_changed", "card_issued", "streak_reached", "birthday", "coupon_used"),
)
LEVELS = (TierLevel("bronze", 0), TierLevel("silver", 60), TierLevel("gold", 300), TierLevel("diamond", 900))


def organisation() -> Drive:
    """One whose rules look at everything and change nothing."""
    drive = Drive()
    drive.do(drive.partition.open(NOW_MS))
    settings = TenantSettings(ZONE, 0, (checkin_rule(10),))
    terms = EventTerms("Evening", 99, gates=(Gate("gate_a", "A"),), reentry="after_exit")
    facts: list[Fact] = [
        TenantOpened("org", "open", b"f" * 8, NOW_MS, "Org", settings),
        EventCreated("org", "create", b"f" * 8, NOW_MS, "event", terms),
    ]
    for name, value in (("five", PointsValue(5)), ("tea", ItemValue("A tea"))):
        coupon = CouponTerms(name, value, stacking="with_others", shared_code=name)
        facts.append(CouponDefined("org", f"define-{name}", b"f" * 8, NOW_MS, name, coupon))
        facts.append(CodeIssued("org", "", b"", NOW_MS, f"code-{name}", name, "", "", f"define-{name}", 0, 0, True))
    for on in HEARD:
        rule = RuleDefinition(
            rule_id=on, version=1, name=on, on=on, when="true", then=(Notify("", on),), state="active"
        )
        facts.append(RuleSaved("org", f"save-{on}", b"f" * 8, NOW_MS, rule))
    drive.write(encode_facts(facts), 1)
    drive.opened()
    return drive


def asked(drive: Drive, command: Command) -> None:
    answered = len(drive.loads)
    drive.send((command.request_id or None, command))
    while drive.appends or answered < len(drive.loads):
        if answered < len(drive.loads):
            drive.loaded(drive.loads[answered].load_id)  # there is nothing but what is in memory
            answered += 1
        else:
            drive.appended()


def some_command(random: Random, number: int, now_ms: int) -> Command:
    """Anything that may move rules."""
    card, name = random.choice(CARDS), f"r{number}"
    head = ("org", name, b"", card)
    late_ms = now_ms - random.randrange(1, 3_600_000)
    amount = random.randrange(1, 80)
    hold_ms = random.choice((0, now_ms + 23 * 3_600_000))
    made: list[Any] = [
        check_in(name, card),
        check_in(name, card),
        check_in(name, card, "exit"),
        check_in(name, card, random.choice(("entry", "exit")), is_offline=True, scanned_at_ms=late_ms),
        award(amount, name, card),
        signed(AwardPoints(*head, amount, account="wallet")),
        signed(RedeemPoints(*head, amount)),
        signed(RedeemPoints(*head, amount, account="wallet")),
        signed(SetCardTier(*head, random.choice(("bronze", "gold", "platinum")))),
        signed(HoldPoints(*head, 1)),
        signed(CapturePoints(*head, random.randrange(1, 30), 1)),
        signed(TransferPoints(*head, random.choice(CARDS), 3)),
        signed(DescribeCardHolder(*head, Profile(0, 0, random.choice(("", '{"vip":true}'))))),
        signed(DescribeCardHolder(*head, Profile(*random.choice(((118, 1990), (119, 0), (121, 0)))))),
        signed(
            RedeemCoupon("org", name, b"", f"rdm-{number}", random.choice(("code-five", "code-tea")), card, "", hold_ms)
        ),
        signed(CaptureCoupon("org", name, b"", f"rdm-{random.randrange(max(0, number - 30), number + 1)}")),
        signed(RollbackCoupon("org", name, b"", f"rdm-{random.randrange(number + 1)}")),
        Wake("org", "", b"", "card", card),
    ]
    return random.choice(made)  # type: ignore[no-any-return]


def retold(entries: list[Entry], known: dict[str, CardThen] | None = None) -> list[tuple[str, Moment]]:
    """The moments that the facts tell."""
    past = Past(ZONE)
    told: list[tuple[str, Moment]] = []
    for entry in entries:
        facts = past_facts(decode_facts(entry), "org")
        cards, events = past.asks(facts)
        past.learn(
            {card: (known or {}).get(card, CardThen("", "bronze", 0, 0, 0, 0)) for card in cards},
            dict.fromkeys(events, NO_VIEW),
        )
        for fact in facts:
            told += [(one.cause, one.moment) for one in past.moments(fact)]
            past.apply(fact)
    return told


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Moment]:
    """All that the engine has rules look at."""
    moments: list[Moment] = []
    evaluate = RuleSet.evaluate

    def watched(rules: RuleSet, moment: Moment, uses: Any) -> Any:
        moments.append(moment)
        return evaluate(rules, moment, uses)

    monkeypatch.setattr(RuleSet, "evaluate", watched)
    return moments


@pytest.mark.parametrize("seed", range(12))
def test_the_facts_tell_the_moments_that_rules_looked_at(seen: list[Moment], seed: int) -> None:
    random = Random(seed)
    drive = organisation()
    if seed % 2:
        asked(drive, signed(SetTiers("org", "tiers", b"", TierTerms(LEVELS))))
    for number, card in enumerate(CARDS):
        asked(drive, signed(IssueCard("org", f"issue-{number}", b"", card, f"mem_{number}", "Ann", "bronze")))
    for number in range(150):
        drive.now_ms += random.choice((1, 60_000, 3 * 3_600_000, 30 * 3_600_000))
        asked(drive, some_command(random, number, drive.now_ms))
    asked(drive, signed(DescribeCardHolder("org", "told", b"", "card", Profile(601, 1990))))
    drive.now_ms += 700 * 24 * 3_600_000
    asked(drive, Wake("org", "", b"", "card", "card"))
    told = [moment for _, moment in retold(drive.journal)]
    assert told == seen
    assert {moment.trigger for moment in seen} == set(HEARD)


def test_what_happened_before_the_span_is_known_of_the_card_or_counts_nothing() -> None:
    drive = organisation()
    for number, card in enumerate(CARDS[:2]):
        asked(drive, signed(IssueCard("org", f"issue-{number}", b"", card, "mem", "Ann", "bronze")))
    before = len(drive.journal)
    drive.now_ms += 24 * 3_600_000
    asked(drive, award(5, "a"))
    asked(drive, award(5, "b", "card2"))
    asked(drive, check_in("c", "card2"))
    asked(drive, award(5, "d", "card2"))
    day = 20270116
    came_later = Visits(9, day + 5, 1, 1, 1, 1, 1, 1, 1, 1)
    came_before = Visits(4, day - 1, 2, 202702, 2, 202701, 2, 3, 3, 7)
    known = {
        "card": CardThen("mem", "silver", 40, 70, 8, NOW_MS, came_later),
        "card2": CardThen("mem", "gold", 1, 2, 3, NOW_MS, came_before),
    }
    told = retold(drive.journal[before:], known)
    assert [cause for cause, _ in told] == ["entry:1", "entry:1", "checkin:c", "checkin:c", "checkin:c", "entry:3"]
    first, second, entry, _, streak, last = [moment for _, moment in told]
    assert (first.card.tier, first.card.points, first.card.earned, first.card.wallet) == ("silver", 40, 70, 8)
    assert (first.counts.visits_ever, first.card.issued_days) == (0, 1)
    assert (second.counts.visits_ever, second.counts.visits_today, second.counts.streak_days) == (4, 0, 3)
    assert (entry.counts.visits_ever, entry.counts.visits_today, entry.base_points) == (1, 1, 10)
    assert streak.streak is not None
    assert last.counts.visits_today == 1


def test_coming_again_on_a_day_before_the_span_is_a_visit_at_least() -> None:
    drive = organisation()
    asked(drive, signed(IssueCard("org", "issue", b"", "card", "mem", "Ann", "bronze")))
    asked(drive, check_in("one"))
    asked(drive, check_in("two", direction="exit"))
    asked(drive, check_in("three"))
    before = len(drive.journal)
    asked(drive, check_in("four", direction="exit"))
    asked(drive, check_in("five"))
    (_, left), (_, again) = retold(drive.journal[before:])
    assert (left.trigger, left.counts.visits_today) == ("exit", 0)
    assert (again.counts.visits_today, again.counts.visits_ever, again.counts.visits_event) == (1, 1, 3)


def test_others_of_the_partition_and_what_rules_did_are_no_moments() -> None:
    drive = driven(1)
    asked(drive, award(5, "a"))
    facts = decode_facts(drive.journal[-1])
    assert past_facts(facts, "org") == facts
    assert past_facts(facts, "another") == []
    head = ("org", "", b"", NOW_MS, "card", "gold", "bronze")
    past = Past(ZONE)
    past.learn({"card": CardThen("mem", "gold", 0, 0, 0, 0)}, {})
    for reason in ("rule", "review", "until"):
        assert list(past.moments(CardTierChanged(*head, reason))) == []  # type: ignore[arg-type]
    unknown = msgspec.structs.replace(facts[0], card_id="another")
    assert list(past.moments(unknown)) == []  # type: ignore[arg-type]


def test_every_trigger_is_heard_or_has_no_facts_yet() -> None:
    assert set(get_args(Trigger)) - set(HEARD) == {"schedule"}
