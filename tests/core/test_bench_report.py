"""The benchmark's command line and its report: nothing measured, all made up."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from loadtest.bench import charts, engine, limits, page
from loadtest.bench.fixtures import FixtureCard, FixtureEvent, Fixtures, FixtureScanner
from loadtest.bench.load import per_checkin
from loadtest.bench.options import PROFILES, orders_for, parse
from loadtest.bench.text import text

LATENCY = {"p50": 1.0, "p95": 5.0, "p99": 9.0, "p99.9": 20.0}


def part(per_s: float) -> dict[str, Any]:
    return {
        "per_s": per_s,
        "latency_ms": LATENCY,
        "latency_curve": [(0.5, 1.0), (0.99, 9.0), (1.0, 30.0)],
        "per_s_over_time": [per_s, per_s / 2],
        "cpu_us_per_checkin": {"client": 10.0, "gateway": 30.5, "all": 40.5},
        "errors": 3,
        "outcomes": {"admitted": 100, "<b>": 3},
        "cores_used": 1.5,
        "rss_mb": {"host": 100},
        "journal_bytes_per_checkin": 800.0,
        "database_bytes_per_checkin": 900.0,
        "checkins_per_entry": 50.0,
        "projector_lag_entries": 2,
        "drain_s": 0.5,
        "runs": [{"per_s": per_s, "p95_ms": 5.0}, {"per_s": per_s + 1, "p95_ms": 5.0}],
    }


def document() -> dict[str, Any]:
    load = {"cards": 9, "events": 1, "rest_connections": 2, "sockets": 3, "scans_per_frame": 1, "seconds": 5.0}
    return {
        "profile": "mixed",
        "load": load | {"rate": 0.0, "runs": 2},
        "mastervip": part(20_000),
        "baselines": {
            name: part(rate) for name, rate in (("transaction", 1_000), ("statement", 2_000), ("redis", 4_000))
        },
        "limits": {
            "constant": part(30_000),
            "echo": part(50_000),
            "redis": {"per_s": 80_000.0},
            "postgres": {"per_s": 40_000.0},
        },
        "shares_of_limits": {"listener": 0.5, "redis": 0.25, "postgres": 0.5},
        "times_faster": {"transaction": 20.0, "statement": 10.0, "redis": 5.0},
        "healthz": part(3_000),
    }


def some_fixtures(cards: int) -> Fixtures:
    events = [FixtureEvent("evt_1", 10, [FixtureScanner("token")])]
    return Fixtures(
        "org_1", "key", events, [FixtureCard(f"card_{n}", f"mem_{n}", "gold", f"MV1:{n}") for n in range(cards)]
    )


@pytest.mark.parametrize("profile", list(PROFILES))
def test_every_profile_has_orders(profile: str) -> None:
    orders = orders_for(parse(["--profile", profile]), some_fixtures(1_000), 8080)
    assert (orders.rest_connections > 0) == (profile != "ws")
    assert (orders.sockets > 0) == (profile != "rest")
    assert (orders.curve, orders.rate > 0) == (("doors", True) if profile == "doors" else ("even", False))


def test_orders_can_be_changed_and_fit_the_cards() -> None:
    options = parse(["--profile", "mixed", "--connections", "10", "--rate", "100", "--scans-per-frame", "32"])
    orders = orders_for(options, some_fixtures(1_000), 8080)
    assert (orders.rest_connections, orders.sockets, orders.rate, orders.window) == (5, 5, 100.0, 32)
    few = orders_for(parse(["--profile", "mixed"]), some_fixtures(10), 8080)
    assert (few.rest_connections, few.sockets) == (5, 5)


def test_the_median_run_is_reported_and_all_are_told() -> None:
    runs = [part(rate) for rate in (300.0, 100.0, 200.0)]
    median = engine.median(runs)
    assert median["per_s"] == 200.0
    assert [one["per_s"] for one in median["runs"]] == [300.0, 100.0, 200.0]
    assert engine.median(runs[:2])["per_s"] == 100.0


def test_cpu_is_billed_by_check_in() -> None:
    assert per_checkin({"host": 0.5, "client": 0.25}, 10_000) == {"client": 25.0, "host": 50.0, "all": 75.0}
    assert per_checkin({"host": 0.5}, 0)["all"] == 500_000.0


@pytest.mark.parametrize(("socket_share", "listener"), [(0.0, 0.5), (1.0, 0.25), (0.8, 0.3)])
def test_a_share_is_of_the_ways_that_were_used(socket_share: float, listener: float) -> None:
    stages = {"constant": part(20_000), "echo": part(40_000), "redis": part(100_000), "postgres": part(20_000)}
    shares = limits.shares(part(10_000), stages, socket_share)
    assert shares == {"listener": pytest.approx(listener), "redis": 0.1, "postgres": 0.5}


def test_the_text_has_everything() -> None:
    told = text(document())
    for words in (
        *("mastervip", "baseline transaction", "baseline statement", "baseline redis", "limit constant", "limit echo"),
        *("limit redis", "limit postgres", "99.9", "gateway 30.5", "journal 800.0, Postgres 900.0", "drained in 0.5 s"),
        *("2 entries behind", "5.0 × redis", "50% of the listener", "the median of 2 runs"),
    ):
        assert words in told
    alone = {name: value for name, value in document().items() if name in ("profile", "load", "mastervip")}
    assert "baseline" not in text(alone)


def test_the_page_stands_alone_and_what_it_shows_is_escaped() -> None:
    made = page.html(document())
    assert made.count("<svg") == 6
    assert '<b>"' not in made
    assert "&lt;b&gt;" in made
    assert "http" not in made, "nothing is loaded from elsewhere"
    for svg in made.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + svg.partition("</svg>")[0] + "</svg>")
    alone = {name: value for name, value in document().items() if name in ("profile", "load", "mastervip")}
    assert page.html(alone).count("<svg") == 3


def test_bars_are_as_long_as_their_values() -> None:
    svg = ElementTree.fromstring(charts.stacked({"one": {"a": 10.0, "b": 30.0}, "two": {"b": 20.0}}))
    widths = [float(shape.get("width", "")) for shape in svg.iter("rect") if shape.find("title") is not None]
    assert widths[1] == pytest.approx(3 * widths[0], rel=0.01)
    assert widths[2] == pytest.approx(2 * widths[0], rel=0.01)
    colours = [shape.get("class") for shape in svg.iter("rect")]
    assert colours == ["c0", "c1", "c1", "c0", "c1"], "three parts and two in the legend"


def test_as_many_kinds_as_there_are_have_colours_of_their_own() -> None:
    parts = {f"kind {number}": 1.0 for number in range(charts.COLOURS)}
    svg = ElementTree.fromstring(charts.stacked({"one": parts}))
    colours = {shape.get("class") for shape in svg.iter("rect")}
    assert len(colours) == charts.COLOURS == 9
    assert all(f".{colour} " in page.STYLE for colour in colours)


def test_a_line_goes_through_its_points() -> None:
    svg = ElementTree.fromstring(charts.over_time([0.0, 10.0, 5.0], 0.5))
    line = next(svg.iter("polyline")).get("points", "")
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert heights[1] < heights[2] < heights[0], "the highest value is nearest to the top"
