"""The report for a terminal. Pure."""

from __future__ import annotations

from loadtest.bench.load import Json

HEAD = f"{'':22} {'per s':>9} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'p99.9':>8} {'CPU µs':>8} {'errors':>7}"
STAGES = {"listener": "the listener", "redis": "Redis", "postgres": "Postgres"}


def text(document: Json) -> str:
    """The document of `__main__.run`."""
    own = document["mastervip"]
    lines = [HEAD, _line("mastervip", own)]
    lines += [_line(f"baseline {name}", one) for name, one in document.get("baselines", {}).items()]
    lines += [_line(f"limit {name}", one) for name, one in document.get("limits", {}).items()]
    if "healthz" in document:
        lines.append(_line("limit healthz", document["healthz"]))
    lines += ["", "outcomes: " + ", ".join(f"{count} {outcome}" for outcome, count in own["outcomes"].items())]
    if len(own["runs"]) > 1:
        rates = ", ".join(f"{one['per_s']:.0f}" for one in own["runs"])
        lines.append(f"the median of {len(own['runs'])} runs: {rates} a second")
    lines.append("CPU µs per check-in: " + ", ".join(f"{k} {v}" for k, v in own["cpu_us_per_checkin"].items()))
    lines.append(f"cores used: {own['cores_used']}; memory MB: {own['rss_mb']}")
    lines.append(
        f"bytes a check-in: journal {own['journal_bytes_per_checkin']}, Postgres {own['database_bytes_per_checkin']}; "
        f"{own['checkins_per_entry']} check-ins an entry"
    )
    lines.append(f"projector: {own['projector_lag_entries']} entries behind at the end, drained in {own['drain_s']} s")
    if "times_faster" in document:
        times = ", ".join(f"{times} × {name}" for name, times in document["times_faster"].items())
        parts = ", ".join(f"{share:.0%} of {STAGES[name]}" for name, share in document["shares_of_limits"].items())
        lines += [f"compared: {times}", f"of what each stage could do alone: {parts}"]
    return "\n".join(lines)


def _line(name: str, part: Json) -> str:
    cpu = part.get("cpu_us_per_checkin", {})
    line = f"{name:22} {part['per_s']:9.0f}"
    if "latency_ms" not in part:
        return line
    latency = "".join(f" {part['latency_ms'][name]:8.2f}" for name in ("p50", "p95", "p99", "p99.9"))
    return f"{line}{latency} {cpu['all']:8.1f} {part['errors']:7d}"
