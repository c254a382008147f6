"""Plots as SVG text, for a page that has to stand alone. Pure.

Rules:
1. Colours and fonts come from the page's style by class: `c0` … `c8` are the series in order, as many as there are
   kinds of process.
2. Whatever text comes in is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

WIDTH = 640
COLOURS = 9
ROW = 26
LABEL = 200
PLOT_HEIGHT = 220
MARGIN = 44


def bars(values: Mapping[str, float], unit: str) -> str:
    """A bar for each name, one below the other."""
    return stacked({name: {unit: value} for name, value in values.items()})


def stacked(rows: Mapping[str, Mapping[str, float]]) -> str:
    """A bar for each name, made of parts; equal parts have equal colours, told below."""
    kinds = list(dict.fromkeys(kind for parts in rows.values() for kind in parts))
    widest = max((sum(parts.values()) for parts in rows.values()), default=0.0) or 1.0
    scale = (WIDTH - LABEL - 80) / widest
    shapes = []
    for number, (name, parts) in enumerate(rows.items()):
        y, x = number * ROW, float(LABEL)
        shapes.append(f'<text x="{LABEL - 8}" y="{y + 17}" class="end">{escape(name)}</text>')
        for kind, value in parts.items():
            width = max(0.0, value) * scale
            title = f"<title>{escape(kind)}: {value:,.1f}</title>"
            shapes.append(
                f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 6}" '
                f'class="c{kinds.index(kind) % COLOURS}">{title}</rect>'
            )
            x += width
        shapes.append(f'<text x="{x + 6:.1f}" y="{y + 17}">{sum(parts.values()):,.1f}</text>')
    height = len(rows) * ROW
    if len(kinds) > 1:
        x = 0
        for number, kind in enumerate(kinds):
            shapes.append(f'<rect x="{x}" y="{height + 10}" width="12" height="12" class="c{number % COLOURS}"/>')
            shapes.append(f'<text x="{x + 16}" y="{height + 21}">{escape(kind)}</text>')
            x += 24 + 8 * len(kind)
        height += 28
    return _svg(height, shapes)


def over_time(values: Sequence[float], interval_s: float) -> str:
    """A line of a rate over time, from zero."""
    highest = max(values, default=0.0) or 1.0
    seconds = len(values) * interval_s
    points = [((number + 0.5) / max(1, len(values)), value / highest) for number, value in enumerate(values)]
    return _plot(points, f"{highest:,.0f}", "0", "0 s", f"{seconds:.0f} s")


def latencies(curve: Sequence[tuple[float, float]]) -> str:
    """Latency (logarithmic) by the part of answers that came within it, so spread that the slow ones can be seen."""
    shown = [(part, max(0.01, ms)) for part, ms in curve if part < 1.0]
    if not shown:
        return _svg(0, [])
    low, high = log10(shown[0][1]), max(log10(shown[-1][1]), log10(shown[0][1]) + 0.1)
    rarest = -log10(1 - shown[-1][0])
    points = [(-log10(1 - part) / rarest, (log10(ms) - low) / (high - low)) for part, ms in shown]
    last = f"{shown[-1][0]:.2%} of answers"
    return _plot(points, f"{shown[-1][1]:g} ms", f"{shown[0][1]:g} ms", "the fastest", last)


def _plot(points: Sequence[tuple[float, float]], top: str, bottom: str, left: str, right: str) -> str:
    """A line through points of the unit square, and what its edges are called."""
    wide, high = WIDTH - MARGIN - 90, PLOT_HEIGHT - 2 * MARGIN
    line = " ".join(f"{MARGIN + 40 + x * wide:.1f},{MARGIN + (1 - y) * high:.1f}" for x, y in points)
    x, y = MARGIN + 40, PLOT_HEIGHT - MARGIN
    shapes = [
        f'<path d="M{x},{MARGIN} V{y} H{x + wide}" class="axis"/>',
        f'<polyline points="{line}" class="line"/>',
        f'<text x="{x - 6}" y="{MARGIN + 5}" class="end">{escape(top)}</text>',
        f'<text x="{x - 6}" y="{y}" class="end">{escape(bottom)}</text>',
        f'<text x="{x}" y="{y + 18}">{escape(left)}</text>',
        f'<text x="{x + wide}" y="{y + 18}" class="end">{escape(right)}</text>',
    ]
    return _svg(PLOT_HEIGHT, shapes)


def _svg(height: int, shapes: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(shapes)}</svg>'
