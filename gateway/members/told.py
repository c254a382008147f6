"""What the engine is told of a member, for rules: birthday and attributes. Pure.

Attributes go as they are stored, in an order of their own, so that the same ones are the same text."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

from actors.profiles import Profile
from gateway.members.model import Member


def profile_of(birthday: date | None, attributes: dict[str, Any]) -> Profile:
    """What rules may know of somebody."""
    text = msgspec.json.encode(attributes, order="sorted").decode() if attributes else ""
    if birthday is None:
        return Profile(0, 0, text)
    return Profile(birthday.month * 100 + birthday.day, birthday.year, text)


def profile_of_member(member: Member) -> Profile:
    """The same of a member."""
    return profile_of(member.birthday, member.attributes)
