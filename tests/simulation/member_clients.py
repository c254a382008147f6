"""What clients tell of members: few birthdays, most of them on the day that begins soon after the start. All follows
from the request's id, so that asking for it takes nothing from the world's dice."""

from __future__ import annotations

from random import Random

from actors.commands import RenameCardHolder
from actors.member_commands import DescribeCardHolder
from actors.profiles import Profile
from actors.rule_commands import SaveRule
from rules.language import AwardPoints, Limits, Notify, RuleDefinition, Schedule, SetTier

BIRTHDAYS = (521, 521, 521, 521, 520, 522, 229, 1231, 0)
ATTRIBUTES = ("", "", '{"vip":1}', '{"vip":2}')
Head = tuple[str, str, bytes]


def some_profile(head: Head) -> Profile:
    """What is known of somebody: now and then nothing."""
    rng = Random(head[1])
    birthday = rng.choice(BIRTHDAYS)
    return Profile(birthday, 1990 if birthday else 0, rng.choice(ATTRIBUTES))


def about_holder(rng: Random, head: Head, card_id: str) -> RenameCardHolder | DescribeCardHolder:
    """The holder has another name, or something else is known of them; now and then what cannot be."""
    name = f"Ann {rng.randint(1, 9)}"
    dice = Random(head[1]).random()
    if dice < 0.3:
        return RenameCardHolder(*head, card_id, name)
    return DescribeCardHolder(*head, card_id, Profile(231) if dice < 0.35 else some_profile(head))


# Noon in one zone is midnight in another: these all come soon after the start, where the clocks are right for it.
MINUTES = (0, 0, 0, 780, 1_020, 1)


def scheduled_rule(head: Head) -> SaveRule:
    """A rule that comes at a local time."""
    rng = Random(head[1])
    days: dict[str, tuple[int, ...]] = rng.choice(({}, {"weekdays": (3, 4)}, {"days_of_month": (20, 21, 31)}))
    when = rng.choice(("true", "true", "card.tier == 'gold'", "member.attributes.vip == 1"))
    action = rng.choice((AwardPoints(6), AwardPoints(9, "", 1), Notify("news"), SetTier("silver")))
    limits = Limits(per_card=rng.choice((0, 1)), points_budget=rng.choice((0, 20)))
    told = {"rule_id": f"rule_{head[1]}", "version": 0, "name": "News", "on": "schedule", "when": when}
    schedule = Schedule(rng.choice(MINUTES), **days)
    definition = RuleDefinition(**told, then=(action,), limits=limits, state="active", schedule=schedule)
    return SaveRule(*head, definition, True)


def birthday_rule(head: Head) -> SaveRule:
    """A rule that birthdays move."""
    rng = Random(head[1])
    when = rng.choice(("true", "true", "member.birthday == 521", "member.attributes.vip == 1"))
    action = rng.choice((AwardPoints(8), AwardPoints(20, "", 1), Notify("wishes"), SetTier("gold")))
    limits = Limits(per_card=rng.choice((0, 1)))
    told = {"rule_id": f"rule_{head[1]}", "version": 0, "name": "Wishes", "on": "birthday", "when": when}
    return SaveRule(*head, RuleDefinition(**told, then=(action,), limits=limits, state="active"), True)
