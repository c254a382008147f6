"""The report as one HTML file that needs nothing else. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from loadtest.bench import charts
from loadtest.bench.load import Json
from loadtest.bench.text import STAGES, text

INTERVAL_S = 0.5  # of `per_s_over_time`
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430;
  background: #fff }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: right; padding: .25rem .5rem;
  border-bottom: 1px solid #d7dce3 } th:first-child, td:first-child { text-align: left }
pre { overflow-x: auto; font-size: .72rem } svg { width: 100%; height: auto }
svg text { font-size: 12px; fill: #1c2430 }
.end { text-anchor: end } .axis { fill: none; stroke: #8792a2 } .line { fill: none; stroke: #2563a8; stroke-width: 2 }
.c0 { fill: #2563a8 } .c1 { fill: #d97b29 } .c2 { fill: #3f8f5b } .c3 { fill: #b0413e } .c4 { fill: #7a5aa6 }
.c5 { fill: #8a6d4b } .c6 { fill: #c66a9b } .c7 { fill: #6b7788 } .c8 { fill: #8fc1e3 }
"""


def html(document: Json) -> str:
    """The document of `__main__.run`."""
    own, load = document["mastervip"], document["load"]
    asked = f"{load['rate']:,.0f} check-ins a second" if load["rate"] else "as many check-ins as it takes"
    latency = own["latency_ms"]
    parts = [
        f"<h1>{own['per_s']:,.0f} check-ins a second</h1>",
        f"<p>Profile <b>{escape(document['profile'])}</b>: {asked}, {load['cards']:,} cards, {load['events']} events, "
        f"{load['rest_connections']} REST connections, {load['sockets']} sockets, scans in frames of "
        f"{load['scans_per_frame']}, {load['seconds']:.0f} s, runs: {load['runs']} (this is the median), "
        f"errors: {own['errors']}. The load client is on the same machine, and billed.</p>",
        _table({"per s": own["per_s"], **{f"{name} ms": ms for name, ms in latency.items()}}),
        _section("Latency", charts.latencies(own["latency_curve"])),
        _section("Check-ins a second over time", charts.over_time(own["per_s_over_time"], INTERVAL_S)),
        _section("CPU µs per check-in", charts.stacked(_cpu(document))),
    ]
    if "baselines" in document:
        rates = {"MasterVIP": own["per_s"]} | {name: one["per_s"] for name, one in document["baselines"].items()}
        parts.append(_section("Check-ins a second beside the usual designs", charts.bars(rates, "a second")))
        alone = {name: one["per_s"] for name, one in document["limits"].items()}
        parts.append(
            _section(
                "What each stage could do alone, check-ins a second",
                charts.bars({"MasterVIP": own["per_s"]} | alone, "a second"),
            )
        )
        shares = {STAGES[name]: share * 100 for name, share in document["shares_of_limits"].items()}
        parts.append(_section("How much of that is used, per cent", charts.bars(shares, "%")))
    parts.append(f"<h2>All figures</h2><pre>{escape(text(document))}</pre>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>MasterVIP: benchmark</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _cpu(document: Json) -> dict[str, dict[str, float]]:
    """By bar, by kind of process."""
    bars = {"MasterVIP": document["mastervip"]} | document.get("baselines", {})
    return {
        name: {kind: us for kind, us in part["cpu_us_per_checkin"].items() if kind != "all"}
        for name, part in bars.items()
    }


def _section(title: str, chart: str) -> str:
    return f"<h2>{escape(title)}</h2>{chart}"


def _table(row: Mapping[str, float]) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in row)
    cells = "".join(f"<td>{value:,.2f}</td>" for value in row.values())
    return f"<table><tr>{heads}</tr><tr>{cells}</tr></table>"
