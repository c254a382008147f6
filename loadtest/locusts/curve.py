"""How many users there are at which time of a run. Pure: importing Locust would change the whole process.

"doors" is the curve of `loadtest.client.arrivals`: few before the doors open, a steep rise, a plateau, a slow fall.
"even" is the peak all the time.
"""

from __future__ import annotations

from loadtest.client.arrivals import height
from loadtest.client.orders import Curve

PEAK_AT = 0.4  # of the run: within the plateau


def users_at(curve: Curve, peak: int, part: float) -> int:
    """How many users there are at `part` (0 to 1) of the run, at least one."""
    return max(1, round(peak * height(curve, part) / height(curve, PEAK_AT)))
