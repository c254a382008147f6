"""The client's pure rules: pauses, Retry-After, the measured clock, and that it knows the server from outside only."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from gateway.client.clock import ServerClock
from gateway.client.retry import RetryPolicy, retry_after_s

NOW_MS = 1_795_341_600_000  # 2026-11-22T10:00:00Z
ALLOWED = ("gateway.client", "gateway.ids")


# --- pauses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tries", "longest_s"), [(1, 0.1), (2, 0.2), (5, 1.6), (7, 5.0), (1_000_000, 5.0)])
def test_pauses_double_up_to_the_longest(tries: int, longest_s: float) -> None:
    policy = RetryPolicy(first_pause_s=0.1, pause_s_max=5.0)
    assert policy.pause_s(tries, uniform=lambda low, high: high) == pytest.approx(longest_s)
    assert policy.pause_s(tries, uniform=lambda low, high: low) == 0


def test_pauses_are_spread_over_their_whole_length() -> None:
    chance = random.Random(1)
    pauses = [RetryPolicy().pause_s(4, uniform=chance.uniform) for _ in range(1_000)]
    assert 0 <= min(pauses) < 0.05
    assert 0.75 < max(pauses) <= 0.8


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0", 0.0),
        ("17", 17.0),
        (" 2 ", 2.0),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 12:00:30 +0200", 30.0),
        ("Sun, 22 Nov 2026 09:59:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    assert retry_after_s(header, NOW_MS) == expected


# --- the clock --------------------------------------------------------------------------------------------------------


def ping(clock: ServerClock, sent_s: float, there_s: float, back_s: float, ahead_ms: float) -> None:
    """A ping that takes so long each way, with a server `ahead_ms` ahead of a wall clock that shows 1000 s at 0."""
    server_ms = round(1_000 * (1_000 + sent_s + there_s) + ahead_ms)
    clock.add(sent_s, sent_s + there_s + back_s, server_ms)


def offset_ms(clock: ServerClock, now_s: float = 50.0) -> float:
    return clock.offset_ms(now_s, round(1_000 * (1_000 + now_s)))


def test_nothing_is_known_before_the_first_answer() -> None:
    clock = ServerClock()
    assert not clock.is_known
    assert offset_ms(clock) == 0


@pytest.mark.parametrize("ahead_ms", [0, 7_200_000, -250])
def test_a_ping_that_takes_as_long_there_as_back_is_exact(ahead_ms: int) -> None:
    clock = ServerClock()
    ping(clock, 10, 0.04, 0.04, ahead_ms)
    assert offset_ms(clock) == pytest.approx(ahead_ms, abs=0.6)


def test_slow_pings_do_not_count_beside_quick_ones() -> None:
    clock = ServerClock()
    for number in range(4):
        ping(clock, number, 0.005, 0.005, 300)
    for number in range(4, 12):
        ping(clock, number, 2.0, 0.005, 300)  # alone each would be wrong by a second
    assert offset_ms(clock) == pytest.approx(300, abs=1)


def test_one_wrong_answer_among_the_quick_ones_does_not_count() -> None:
    clock = ServerClock()
    for number in range(4):
        ping(clock, number, 0.005, 0.005, 300 if number else 90_000)
    assert offset_ms(clock) == pytest.approx(300, abs=1)


def test_old_answers_are_forgotten() -> None:
    clock = ServerClock()
    for number in range(40):
        ping(clock, number, 0.005, 0.005 + number / 1_000, 300 if number < 20 else 800)
    assert offset_ms(clock) == pytest.approx(790, abs=12)


def test_a_new_connection_begins_a_new_series_with_its_first_answer() -> None:
    clock = ServerClock()
    ping(clock, 1, 0.001, 0.001, 300)
    clock.begin()
    assert offset_ms(clock) == pytest.approx(300, abs=1)
    ping(clock, 2, 0.05, 0.05, 5_000)
    assert offset_ms(clock) == pytest.approx(5_000, abs=1)


def test_setting_this_machines_clock_changes_the_offset_and_not_the_servers_time() -> None:
    clock = ServerClock()
    ping(clock, 1, 0.001, 0.001, 300)
    set_back_ms = 60_000
    wall_ms = 1_050_000 - set_back_ms
    assert wall_ms + clock.offset_ms(50.0, wall_ms) == pytest.approx(1_050_300, abs=1)


# --- from outside -----------------------------------------------------------------------------------------------------


def test_it_imports_nothing_of_the_server_but_the_making_of_ids() -> None:
    ours = ("rules", "actors", "storage", "gateway", "serve", "loadtest")
    files = list((Path(__file__).parents[2] / "gateway" / "client").glob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                if name.split(".")[0] in ours:
                    assert name.startswith(ALLOWED), f"{file.name} imports {name}"
