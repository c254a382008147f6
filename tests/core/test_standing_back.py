"""When the projector leaves the CPU to the doors, and for how long."""

from __future__ import annotations

import pytest

from storage import standing_back
from storage.standing_back import BACKLOG_BYTES_MAX, BACKLOG_MS_MAX, PAUSE_S_MAX, WORK_SHARE_MIN, MachineLoad, pause_s


def test_with_nothing_waiting_it_works_a_tenth_of_the_time() -> None:
    assert pause_s(0.05, 0, 0) == pytest.approx(0.05 / WORK_SHARE_MIN - 0.05)


@pytest.mark.parametrize("backlog", [(BACKLOG_MS_MAX, 0), (0, BACKLOG_BYTES_MAX), (2 * BACKLOG_MS_MAX, 0)])
def test_at_the_bound_it_does_not_rest(backlog: tuple[int, int]) -> None:
    assert pause_s(0.05, *backlog) == 0.0


def test_the_more_is_waiting_the_shorter_the_rest() -> None:
    for part in range(10):
        ages = [pause_s(0.05, BACKLOG_MS_MAX * more // 10, 0) for more in (part, part + 1)]
        sizes = [pause_s(0.05, 0, BACKLOG_BYTES_MAX * more // 10) for more in (part, part + 1)]
        assert ages[0] > ages[1]
        assert sizes[0] > sizes[1]


def test_a_long_transaction_is_not_followed_by_an_endless_rest() -> None:
    assert pause_s(10.0, 0, 0) == PAUSE_S_MAX


def test_clocks_that_disagree_do_no_harm() -> None:
    assert pause_s(0.05, -5_000, 0) == pause_s(0.05, 0, 0)


@pytest.mark.parametrize(("idle_s", "is_busy"), [(0.0, True), (0.13, True), (0.17, False), (1.0, False)])
def test_the_machine_is_busy_with_next_to_no_idle_cpu(
    monkeypatch: pytest.MonkeyPatch, idle_s: float, is_busy: bool
) -> None:
    now_s = [100.0]
    cpu_s = [(50.0, 200.0)]
    monkeypatch.setattr(standing_back, "_cpu_s", lambda: cpu_s[0])
    load = MachineLoad(lambda: now_s[0])
    cpu_s[0] = (50.0 + idle_s, 201.0)
    assert not load.is_busy(), "it has not looked again yet"
    now_s[0] += 0.3
    assert load.is_busy() == is_busy
    cpu_s[0] = (cpu_s[0][0] + 1.0, 202.0)
    assert load.is_busy() == is_busy, "the interval is not over"
    now_s[0] += 0.3
    assert not load.is_busy()


def test_this_machine_tells_its_cpu_seconds() -> None:
    idle_s, all_s = standing_back._cpu_s()
    assert 0.0 < idle_s < all_s
