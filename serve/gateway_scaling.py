"""How many gateways there should be, and who makes room for one that is new. Nothing here asks or waits.

Rules:
1. What counts is how busy the gateways are (CPU seconds a second: a gateway is one thread), and how many sockets they
   hold, each as a share of what one of several should have. Of the two the greater decides.
2. Gateways are added so that none has more than 1 of that, and taken away when those left would have no more than
   `SLACK`. Between these nothing changes, so that a steady load means a steady number. Ray Serve adds its delays.
3. Sockets stay where they are, so a new gateway would have nothing to do while the others are full. It asks them to
   send away what they have above the average. Those who leave choose their gateway by chance, so this is done in
   rounds.

Ray Serve runs `policy` in its controller. It sends this module there as it is: keep imports to the standard library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

BUSY = "busy"
FULL = "full"
# Of the sockets that a gateway takes.
FULL_AIM = 0.7
SLACK = 0.75
# A new gateway asks for room until it has this share of the average, and so often at most.
ROOM_ENOUGH = 0.7
ROUNDS_MAX = 6


def wanted(now: int, busy: Sequence[float], full: Sequence[float]) -> int:
    """How many gateways (rules 1 and 2). `busy` and `full` have a share for each."""
    if len(busy) < now:
        return now  # not all have told yet
    work = max(sum(busy), sum(full))
    most, least = math.ceil(work), max(1, math.ceil(work / SLACK))
    return most if most > now else min(now, least)


def policy(context: Any) -> tuple[int, dict[str, Any]]:
    """Ray Serve's question, with an `AutoscalingContext`. It answers within its own bounds."""
    told: Mapping[str, Mapping[Any, float]] = context.aggregated_metrics or {}
    busy, full = (list(told.get(name, {}).values()) for name in (BUSY, FULL))
    return wanted(context.target_num_replicas, busy, full), {}


def surplus(sockets: Mapping[str, int], newcomer: str) -> int | None:
    """Rule 3: above how many sockets a gateway should send away the rest; None if the newcomer has enough."""
    average = sum(sockets.values()) / max(1, len(sockets))
    return None if sockets.get(newcomer, 0) >= ROOM_ENOUGH * average else math.ceil(average)
