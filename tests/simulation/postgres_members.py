"""Rows of what rules know of members, as the model of Postgres keeps them."""

from __future__ import annotations

from typing import Any

from actors.member_facts import BirthdayCame, CardHolderDescribed
from actors.profiles import NO_PROFILE


def write_member(card: dict[str, Any], fact: CardHolderDescribed | BirthdayCame, position: int) -> None:
    """The card's row after a fact."""
    card.update(birthday=(fact.birthday_on, fact.birthday_due_ms), position=position)
    if isinstance(fact, CardHolderDescribed):
        card["profile"] = fact.profile
    elif fact.came_on:
        card["birthday_year"] = fact.came_on // 10_000


def member_of(card: dict[str, Any]) -> tuple[Any, ...]:
    """The columns of a card's row, as the engine's card ends with them."""
    return card.get("profile", NO_PROFILE), *card.get("birthday", (0, 0)), card.get("birthday_year", 0)
