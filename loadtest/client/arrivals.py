"""When check-ins are due in an open loop. Pure.

Rules:
1. The mean over the measured time is the rate that was asked for, whatever the curve.
2. "doors" is what a door sees: few before it opens, a steep rise to nearly twice the mean, a slow fall. Its shape is
   a line between points; nothing is random, so every run has the same load.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from loadtest.client.orders import Curve

# (part of the time, how high), before it is brought to a mean of one.
_DOORS = ((0.0, 0.2), (0.35, 1.9), (0.5, 1.9), (1.0, 0.2))
_DOORS_MEAN = sum((end - begin) * (low + high) / 2 for (begin, low), (end, high) in pairwise(_DOORS))


def height(curve: Curve, part: float) -> float:
    """The rate at `part` (0 to 1) of the measured time, as a multiple of the mean. Before and after: as at the ends."""
    if curve == "even":
        return 1.0
    part = min(1.0, max(0.0, part))
    for (begin, low), (end, high) in pairwise(_DOORS):
        if part <= end:
            return (low + (high - low) * (part - begin) / (end - begin)) / _DOORS_MEAN
    return _DOORS[-1][1] / _DOORS_MEAN


def due_times(rate: float, curve: Curve, warmup_s: float, seconds: float) -> Iterator[float]:
    """Seconds after the start at which one check-in after the other is due, for ever; the curve's time begins with the
    end of the warm-up."""
    at_s = 0.0
    while True:
        yield at_s
        at_s += 1.0 / (rate * height(curve, (at_s - warmup_s) / seconds))
