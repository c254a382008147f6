"""When the load client's check-ins are due, who sends them, and how their latencies are counted."""

from __future__ import annotations

from itertools import islice, takewhile

import pytest

from loadtest.client.arrivals import due_times, height
from loadtest.client.orders import Curve, Orders
from loadtest.client.pacer import SLACK, Pacer, Way
from loadtest.client.tally import LATENCY_S_MAX, Tally


def orders(**more: object) -> Orders:
    given: dict[str, object] = {"host": "h", "port": 1, "seconds": 10.0, "warmup_s": 2.0}
    return Orders(**(given | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("curve", ["even", "doors"])
def test_the_mean_rate_is_the_one_asked_for(curve: Curve) -> None:
    due = list(takewhile(lambda at_s: at_s < 12.0, due_times(500.0, curve, 2.0, 10.0)))
    measured = [at_s for at_s in due if at_s >= 2.0]
    assert len(measured) == pytest.approx(5_000, rel=0.01)
    assert due == sorted(due)


def test_doors_rise_to_nearly_twice_the_mean_and_fall() -> None:
    assert [round(height("doors", part), 2) for part in (-1.0, 0.0, 0.4, 1.0, 2.0)] == [0.17, 0.17, 1.61, 0.17, 0.17]
    due = list(islice(due_times(500.0, "doors", 0.0, 10.0), 5_000))
    by_second = [sum(second <= at_s < second + 1 for at_s in due) for second in range(10)]
    assert by_second[0] < by_second[2] < by_second[4] > by_second[7] > by_second[9]


def test_check_ins_go_both_ways_by_their_shares_however_fast_one_is() -> None:
    pacer = Pacer(orders(rest_connections=4, sockets=4, socket_share=0.8))
    sent: dict[Way, int] = {"rest": 0, "socket": 0}

    def room(way: Way) -> None:
        def send(_: float) -> None:
            sent[way] += 1

        pacer.next(way, send)

    # The REST side has room a hundred times as often.
    for _ in range(1_000):
        for _ in range(100):
            room("rest")
        room("socket")
    assert sent["socket"] == 1_000
    assert sent["rest"] == pytest.approx(250, abs=2 * SLACK)


def test_one_way_alone_sends_at_once() -> None:
    sent = []
    Pacer(orders(sockets=1)).next("socket", sent.append)
    assert len(sent) == 1


def test_what_finds_nobody_with_room_is_late_and_keeps_the_time_at_which_it_was_due() -> None:
    pacer = Pacer(orders(rest_connections=1, rate=10.0))
    sent: list[float] = []
    for due_s in (1.0, 2.0):
        pacer.release(due_s)
    assert sent == []
    pacer.next("rest", sent.append)
    pacer.next("rest", sent.append)
    pacer.next("rest", sent.append)
    assert sent == [1.0, 2.0], "what was not due yet has not gone"
    pacer.release(3.0)
    assert sent == [1.0, 2.0, 3.0]


def test_an_open_loop_deals_what_is_due_by_the_shares() -> None:
    pacer = Pacer(orders(rest_connections=1, sockets=1, socket_share=0.8, rate=10.0))
    sent: list[Way] = []
    for _ in range(100):
        pacer.next("rest", lambda _: sent.append("rest"))
        pacer.next("socket", lambda _: sent.append("socket"))
    for number in range(100):
        pacer.release(float(number))
    assert (sent.count("socket"), sent.count("rest")) == (80, 20)


def test_percentiles() -> None:
    tally = Tally()
    tally.is_measuring = True
    for number in range(1, 1_001):
        tally.done(0.0, number / 1_000 - 0.000_001, "admitted")
    assert tally.percentiles_ms() == {"p50": 500.0, "p95": 950.0, "p99": 990.0, "p99.9": 999.0}
    curve = dict(tally.curve_ms())
    assert (curve[0.5], curve[1.0]) == (500.0, 1_000.0)


def test_answers_outside_the_measured_time_do_not_count_and_endless_ones_count_as_long() -> None:
    tally = Tally()
    tally.done(0.0, 1.0, "admitted")
    assert (tally.scans, tally.percentiles_ms()["p50"]) == (0, 0.0)
    tally.is_measuring = True
    tally.done(0.0, 10 * LATENCY_S_MAX, "admitted")
    assert tally.percentiles_ms()["p50"] == pytest.approx(LATENCY_S_MAX * 1_000, rel=0.001)
    tally.interval()
    tally.done(0.0, 0.1, "refused")
    tally.done(0.0, 0.1, "refused")
    tally.interval()
    assert tally.per_interval == [1, 2]
    assert (tally.scans, tally.answers) == (3, 4)
    assert dict(tally.outcomes) == {"admitted": 1, "refused": 2}
