"""Plain code's way into asynchronous code: an event loop in a thread of its own.

Rules:
1. `run` may be called from any thread but the loop's own: a callback that asked it would wait for itself.
2. Whoever is interrupted while it waits (Ctrl-C) cancels what it waited for.
3. The thread is a daemon: a client that was never closed does not keep its program from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """The thread. `close` it in the end."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._closing = threading.Lock()
        self.is_closed = False
        self._failure: RuntimeError | None = None
        self._thread = threading.Thread(target=self._main, name="mastervip-client", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise RuntimeError(f"no event loop in a thread of its own: {self._failure}") from self._failure

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns or raises. Raises `RuntimeError` when closed."""
        if self.is_closed or threading.get_ident() == self._thread.ident:
            work.close()
            raise RuntimeError("the client is closed" if self.is_closed else "a callback cannot call its own client")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """The items of an asynchronous iterator; a generator is closed when nobody wants more."""
        while True:
            try:
                item = self.run(_next(source))
            except StopAsyncIteration:
                return
            try:
                yield item
            except GeneratorExit:
                if isinstance(source, AsyncGenerator) and not self.is_closed:
                    self.run(_close(source))
                raise

    def close(self) -> None:
        """Cancels all that is under way and ends the thread."""
        with self._closing:
            if self.is_closed:
                return
            self.is_closed = True
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        serving = self._serve()
        try:
            with asyncio.Runner() as runner:
                runner.run(serving)
        except RuntimeError as error:
            # Where threads are none (gevent), there can be one event loop, and so one client.
            serving.close()
            if self._ready.is_set():
                raise
            self._failure = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._ready.set()
        await self._stop.wait()


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)


async def _close(source: AsyncGenerator[Any, Any]) -> None:
    await source.aclose()
