"""What clients tell of members: few birthdays, most of them on the day that begins soon after the start."""

from __future__ import annotations

from random import Random

from actors.member_commands import DescribeCardHolder
from actors.profiles import Profile

BIRTHDAYS = (521, 521, 521, 521, 520, 522, 229, 1231, 0)
ATTRIBUTES = ("", "", '{"vip":1}', '{"vip":2}')


def some_profile(rng: Random) -> Profile:
    """What is known of somebody: now and then nothing."""
    birthday = rng.choice(BIRTHDAYS)
    return Profile(birthday, 1990 if birthday else 0, rng.choice(ATTRIBUTES))


def describe(rng: Random, head: tuple[str, str, bytes], card_id: str) -> DescribeCardHolder:
    """Something else is known; now and then what cannot be."""
    return DescribeCardHolder(*head, card_id, Profile(231) if rng.random() < 0.05 else some_profile(rng))
