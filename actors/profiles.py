"""What rules may know of who holds a card, and when the birthday comes. Pure.

Rules:
1. A birthday comes with the start of its day in the organisation's time zone, once in a calendar year. One that becomes
   known on its day or later comes the next year; so does one that is changed after it came.
2. 29 February means 28 February in a common year (`actors.schedule`, rule 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from actors.calendar import last_of_month, local_day
from actors.schedule import Schedule, next_scheduled

ATTRIBUTES_BYTES_MAX = 16_384  # of one member, as JSON
_LEAP_YEAR = 2000


class Profile(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`birthday` is month * 100 + day, `birth_year` its year; 0 where that is not known. `attributes` are the
    organisation's own, as the text of a JSON object; "" for none."""

    birthday: int = 0
    birth_year: int = 0
    attributes: str = ""


NO_PROFILE = Profile()
_decoder = msgspec.json.Decoder(dict[str, Any])


@lru_cache(maxsize=4096)
def attributes_of(text: str) -> Mapping[str, Any]:
    """The attributes of a profile by their names; nobody changes them."""
    return _decoder.decode(text) if text else {}


def fault_of_profile(profile: Profile) -> str:
    """What is wrong with a profile, "" if nothing."""
    month, day = divmod(profile.birthday, 100)
    is_day = 1 <= month <= 12 and 1 <= day <= last_of_month(_LEAP_YEAR * 100 + month) % 100
    if profile.birthday and not is_day:
        return "the birthday is no day of any year"
    if not 0 <= profile.birth_year <= 9_999 or (profile.birth_year and not profile.birthday):
        return "the year of birth is 1 to 9999, and comes with a birthday"
    if len(profile.attributes.encode()) > ATTRIBUTES_BYTES_MAX:
        return f"attributes take at most {ATTRIBUTES_BYTES_MAX} bytes"
    try:
        attributes_of(profile.attributes)
    except msgspec.DecodeError:
        return "attributes are a JSON object"
    return ""


def next_birthday(birthday: int, time_zone: str, after_ms: int, came_in: int) -> tuple[int, int]:
    """The local day (yyyymmdd) on which it comes next, strictly after `after_ms` and in a year later than `came_in`,
    and the moment at which that day begins; 0 and 0 where no birthday is known."""
    if not birthday:
        return 0, 0
    yearly = Schedule(0, 0, month=birthday // 100, day=birthday % 100)
    due_ms = next_scheduled(after_ms, yearly, time_zone)
    if local_day(due_ms, time_zone) // 10_000 <= came_in:
        due_ms = next_scheduled(due_ms, yearly, time_zone)
    return local_day(due_ms, time_zone), due_ms
