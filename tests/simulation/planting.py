"""How bugs are planted on purpose (`tests.simulation.bugs`, `tests.simulation.bugs_of_decisions`): each is a small
change of a production class or of a model, in force as long as its context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from actors.handlers import HANDLERS

BUGS: dict[str, Callable[[], AbstractContextManager[None]]] = {}


def planted(bug: Callable[[], Iterator[None]]) -> None:
    """Puts a bug on the list, under the name of its function."""
    BUGS[bug.__name__] = contextmanager(bug)


def around(cls: type, name: str, instead: Callable[..., Any]) -> Any:
    """Replaces a method; `instead` gets the original first, then what the method gets."""
    original = getattr(cls, name)
    return patch.object(cls, name, lambda *args, **more: instead(original, *args, **more))


def deciding(command: type, instead: Callable[..., Any]) -> Any:
    """Has a command decided by another function."""
    return patch.dict(HANDLERS, {command: HANDLERS[command]._replace(decide=instead)})
