"""How many gateways there should be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from serve.gateway_scaling import policy, surplus, wanted


@pytest.mark.parametrize(
    ("now", "busy", "full", "then"),
    [
        (1, [0.0], [0.0], 1),
        (1, [1.0], [0.0], 1),
        (1, [1.01], [0.0], 2),
        (1, [3.2], [0.0], 4),  # one thread that has been told to do little: the aim is far below a core
        (1, [0.2], [1.5], 2),  # sockets that do nothing need room, too
        (2, [0.9, 0.9], [0.1, 0.1], 2),
        (2, [0.4, 0.4], [0.0, 0.0], 2),  # one could do it, but would have nothing to spare
        (2, [0.35, 0.35], [0.0, 0.0], 1),
        (2, [0.1, 0.1], [0.4, 0.4], 2),  # its sockets would have nowhere to go
        (4, [0.1] * 4, [0.0] * 4, 1),
        (3, [0.9, 0.9], [0.0, 0.0], 3),  # the third has not told yet: it may be idle or drowning
        (2, [], [], 2),
        (1, [0.1, 0.1], [0.0, 0.0], 1),  # one that is going still tells
    ],
)
def test_as_many_as_there_is_work_for(now: int, busy: list[float], full: list[float], then: int) -> None:
    assert wanted(now, busy, full) == then


def test_serve_is_answered_from_what_the_gateways_told() -> None:
    told = {"busy": {"a": 0.9, "b": 1.4}, "full": {"a": 0.0, "b": 0.0}}
    assert policy(SimpleNamespace(target_num_replicas=2, aggregated_metrics=told)) == (3, {})
    assert policy(SimpleNamespace(target_num_replicas=2, aggregated_metrics={})) == (2, {})
    assert policy(SimpleNamespace(target_num_replicas=2, aggregated_metrics=None)) == (2, {})


def test_a_steady_load_means_a_steady_number() -> None:
    for work in (0.1 * tenth for tenth in range(1, 100)):
        now = 1
        for _ in range(3):
            before, now = now, wanted(now, [work / now] * now, [0.0] * now)
        assert now == before


@pytest.mark.parametrize(
    ("sockets", "most"),
    [
        ({"a": 100, "new": 0}, 50),
        ({"a": 75, "new": 25}, 50),
        ({"a": 60, "new": 40}, None),
        ({"a": 10, "b": 11, "new": 0}, 7),
        ({"new": 0}, None),
        ({"a": 0, "new": 0}, None),
        ({"a": 1, "new": 0}, 1),
    ],
)
def test_a_newcomer_asks_for_what_is_above_the_average(sockets: dict[str, int], most: int | None) -> None:
    assert surplus(sockets, "new") == most
