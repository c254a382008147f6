"""Tasks that are ended have ended, also those that miss the first word of it."""

from __future__ import annotations

import asyncio

import pytest

from storage import tasks as tasks_module
from storage.tasks import ended


async def test_a_task_that_forgot_its_cancellation_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "AGAIN_AFTER_S", 0.01)
    forgotten = 0

    async def deaf_at_first() -> None:
        nonlocal forgotten
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if forgotten == 3:
                    raise
                forgotten += 1

    task = asyncio.create_task(deaf_at_first())
    await asyncio.sleep(0)
    await ended(task)
    assert task.cancelled()
    assert forgotten == 3


async def test_what_tasks_ended_with_is_nobodys_error() -> None:
    async def fails() -> None:
        raise ValueError("long ago")

    async def fails_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("just now")

    tasks = [asyncio.create_task(fails()), asyncio.create_task(fails_at_the_end())]
    await asyncio.sleep(0)
    await ended(*tasks)
    assert all(task.done() for task in tasks)
    await ended()
