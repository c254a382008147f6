"""One running, seeded system for all tests of this folder that ask for it. Tests share it: make what you change
yourself (an event, a card), or take from `fixtures` only what others do not mind. It ends with the folder: idle, it
takes a third of a core, which all tests after it would miss.

Whoever stops the system, or kills what it cannot replace, starts one of his own (`tests.support.running.Running`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import Running


@dataclass(frozen=True)
class SeededSystem:
    """A system with one organisation in it; `fixtures` is the contract's fixtures file."""

    running: Running
    fixtures: dict[str, Any]

    @property
    def base_url(self) -> str:
        return self.running.base_url

    @property
    def data(self) -> Path:
        return self.running.data

    @property
    def headers(self) -> dict[str, str]:
        """What identifies a caller with all rights in the organisation."""
        return {"X-API-Key": self.fixtures["api_key"]}


@pytest.fixture(scope="package")
def seeded_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeededSystem]:
    """Started with `mastervip up`, filled with `mastervip seed`: 60 cards, 2 events."""
    with Running(tmp_path_factory.mktemp("system") / "data", hosts=1, gateways=2) as running:
        yield SeededSystem(running, running.seed(members=60, events=2))
