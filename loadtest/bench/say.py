"""Progress, for whoever waits: on stderr, so that stdout is the report alone."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """One line."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
