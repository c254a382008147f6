"""What an ordinary admission earns: fixed points, by the organisation's simple award and by rules, straight to facts.
Pure.

Nearly all admissions that earn anything are so. What `actors.ledger` and `actors.rule_run` would make of them is the
same (`tests/core/test_door_rules_quick.py` holds one against the other) and takes four times as long: they are made for
lots and holds, tiers, limits, and rules that move rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from actors.accounts import POINTS_ISSUED
from actors.calendar import local_day
from actors.card import Card
from actors.facts import Fact, PointsPosted
from actors.ledger import BALANCE_MAX
from actors.rule_facts import RulesApplied, RuleStep, RuleUnits
from actors.tenant import Tenant
from rules.compiled import PlainAward


class Earned(msgspec.Struct, frozen=True, gc=False):
    """What a scan earned: the facts; of its awards the points in all, the balance after the last and the number of the
    first entry (all 0 where there is none); what rules used."""

    facts: Sequence[Fact] = ()
    points: int = 0
    balance: int = 0
    entry_seq: int = 0
    units: tuple[RuleUnits, ...] = ()


NOTHING_EARNED = Earned()


def earned_of(facts: Sequence[Fact]) -> Earned:
    """What these facts tell."""
    awards = [fact for fact in facts if isinstance(fact, PointsPosted) and fact.kind == "award"]
    units = tuple(step.units for fact in facts if isinstance(fact, RulesApplied) for step in fact.steps)
    if not awards:
        return Earned(facts, units=units)
    return Earned(facts, sum(one.amount for one in awards), awards[-1].balance_after, awards[0].entry_seq, units)


def is_plain(tenant: Tenant, card: Card, at_ms: int) -> bool:
    """Whether nothing is to be looked at but the card's balance: no lots, no holds, no tiers, nothing that has fallen
    due."""
    return (
        not card.lots
        and not card.seldom.holds
        and tenant.settings.tiers is None
        and not 0 < card.seldom.tier_due_ms <= at_ms
        and card.day <= local_day(at_ms, tenant.settings.time_zone)
    )


def plain_awards(
    tenant: Tenant,
    card: Card,
    at_ms: int,
    request_id: str,
    scored: tuple[str, int],
    simple: Iterable[tuple[int, str]],
    rules: tuple[PlainAward, ...],
) -> Earned | None:
    """What a check-in earns by the organisation's award (`simple`: points, and what gives them) and by its rules.
    `scored` is the event at which it counts, and what the card has earned there; `is_plain` has been asked. None where
    the balance would go beyond its limit."""
    cause = f"checkin:{request_id}"
    event_id, event_earned = scored
    day = local_day(at_ms, tenant.settings.time_zone)
    entry_seq, balance, earned = card.entry_count, card.balance, card.earned
    day_earned = card.day_earned if card.day == day else 0
    contra = tenant.accounts.get(POINTS_ISSUED, 0)
    facts: list[Fact] = []
    for points, rule in (*simple, *(award for one in rules for award in one.awards)):
        entry_seq += 1
        balance += points
        earned += points
        day_earned += points
        event_earned += points
        contra -= points
        facts.append(
            PointsPosted(
                card.tenant_id,
                "",
                b"",
                at_ms,
                card.card_id,
                card.member_name,
                entry_seq,
                "award",
                points,
                balance,
                cause,
                "",
                rule,
                event_id,
                day,
                earned,
                day_earned,
                event_earned if event_id else 0,
                (),
                (),
                0,
                0,
                "points",
                card.wallet,
                contra,
            )
        )
    if balance > BALANCE_MAX:
        return None
    units: tuple[RuleUnits, ...] = ()
    if rules:
        before = tenant.rule_points
        units = tuple([RuleUnits(one.rule_id, one.version, one.total) for one in rules])
        steps = tuple([RuleStep(one, before.get(one.rule_id, 0) + one.points) for one in units])
        facts.append(RulesApplied(card.tenant_id, "", b"", at_ms, card.card_id, cause, "checkin", 0, steps))
    return Earned(facts, balance - card.balance, balance, card.entry_count + 1, units)
