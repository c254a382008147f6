"""What each process does once it has started."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import gc
from serve import processes
kept = [[number] for number in range(1_000)]
processes.settle()
kept[0].append(kept)
del kept
print(gc.get_freeze_count() > 1_000, gc.get_threshold() == processes.COLLECTOR_THRESHOLDS, gc.isenabled())
ring = []
ring.append(ring)
del ring
print(gc.collect())
"""


def test_the_collector_leaves_alone_what_was_there_at_the_start_and_still_finds_what_is_new() -> None:
    told = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "True", "True", "1"]
