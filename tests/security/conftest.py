"""What tests of security may ask for."""

from __future__ import annotations

from tests.edge.conftest import system

__all__ = ["system"]
