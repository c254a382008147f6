"""Which windows leaderboards have, and which of them a day belongs to. Pure.

Rules:
1. A window is "all", "day:YYYYMMDD", "week:YYYYWW" (ISO 8601), "month:YYYYMM" or "event:ID"; "day", "week" and "month"
   stand for those of now. Days, weeks and months are those of `actors.calendar`, in the organisation's time zone.
2. What a card has in a week or a month is what it has on the days of it.
3. A board is kept under "METRIC/WINDOW", for all boards of an organisation with that metric.
"""

from __future__ import annotations

from functools import lru_cache

from actors.calendar import add_days, first_of_week, last_of_month, month_of_day, week_of_day

ALL_WINDOW = "all"
EVENT_WINDOW = "event:"
_KINDS = ("day", "week", "month")


class NoWindow(ValueError):
    """There is no such window; the message says which there are."""


def board_key(metric: str, window: str) -> str:
    """What a board is kept under; the window is written in full."""
    return f"{metric}/{window}"


def metric_and_window(key: str) -> tuple[str, str]:
    """What a board shows that is kept under this."""
    metric, _, window = key.partition("/")
    return metric, window


def is_of_parts(metric: str, window: str) -> bool:
    """Whether such a board's scores are made of parts (`actors.board`, rule 3)."""
    if metric == "points":
        return window.startswith(("week:", "month:"))
    return window != ALL_WINDOW


@lru_cache(maxsize=4096)
def keys_of_day(metric: str, day: int) -> tuple[str, str, str]:
    """The boards that show what was on this day, those over all time and over an event apart."""
    first, second, third = windows_of(day)
    return board_key(metric, first), board_key(metric, second), board_key(metric, third)


@lru_cache(maxsize=4096)
def keys_of_part(metric: str, day: int, event_id: str) -> tuple[str, ...]:
    """The boards that show what was on this day (0: none) and at this event ("": none), those over all time apart."""
    keys = keys_of_day(metric, day) if day else ()
    return (*keys, board_key(metric, EVENT_WINDOW + event_id)) if event_id else keys


@lru_cache(maxsize=4096)
def windows_of(day: int) -> tuple[str, str, str]:
    """The windows that a day belongs to: itself, its week and its month."""
    return f"day:{day}", f"week:{week_of_day(day)}", f"month:{month_of_day(day)}"


def resolved(window: str, today: int) -> str:
    """The window as it is written in full. Raises `NoWindow`."""
    if window in _KINDS:
        return windows_of(today)[_KINDS.index(window)]
    if window != ALL_WINDOW and not window.startswith(EVENT_WINDOW):
        days_of(window)
    return window


@lru_cache(maxsize=1024)
def days_of(window: str) -> tuple[int, int]:
    """The first and the last day of a day, week or month. Raises `NoWindow`."""
    kind, _, key = window.partition(":")
    try:
        if kind not in _KINDS or not (key.isascii() and key.isdecimal()):
            raise ValueError(window)
        number = int(key)
        first = number if kind == "day" else first_of_week(number) if kind == "week" else number * 100 + 1
        if window not in windows_of(first):
            raise ValueError(window)  # a week 53 that its year does not have, zeros before
        if kind == "month":
            return first, last_of_month(number)
        return first, add_days(first, 6) if kind == "week" else first
    except (ValueError, OverflowError) as error:
        windows = "all, day, week, month, day:YYYYMMDD, week:YYYYWW, month:YYYYMM and event:ID"
        raise NoWindow(f"no window {window!r}; there is {windows}") from error
