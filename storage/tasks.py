"""Ending tasks that would go on for ever."""

from __future__ import annotations

import asyncio

# How long a task may take to hear that it was cancelled before it is told again.
AGAIN_AFTER_S = 0.5


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancels the tasks and returns when all have ended, whatever they ended with.

    They are told again and again, because once may not be enough: until Python 3.12 `asyncio.wait_for` forgets a
    cancellation that arrives in the moment its work is done, and redis-py sends under it. A task that loops would then
    go on, and whoever waits for it would wait for ever.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_AFTER_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # has been looked at: asyncio need not report it
