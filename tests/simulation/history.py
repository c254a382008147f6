"""How something looked at each position of the journal."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any


class History:
    """How something looked at each position where it changed."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.views: list[Any] = []

    def add(self, position: int, view: Any) -> None:
        if not self.views or self.views[-1] != view:
            self.positions.append(position)
            self.views.append(view)

    def at(self, position: int) -> Any:
        index = bisect_right(self.positions, position) - 1
        return self.views[index] if index >= 0 else None

    def since(self, position: int) -> list[Any]:
        """The views from a position to now."""
        return self.views[max(0, bisect_right(self.positions, position) - 1) :]
