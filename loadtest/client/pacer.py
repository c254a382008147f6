"""Who sends next, and when.

Rules:
1. Who has room to send says so (`next`) and is called back with the time at which the send was due.
2. Without a rate the load is a closed loop: whoever has room sends at once. Where both ways are open, neither gets
   further ahead of its share of check-ins than `SLACK`: the one that is ahead waits for the other.
3. With a rate the load is an open loop: check-ins are due by the clock (`arrivals`), dealt to the two ways by their
   shares. One that finds nobody with room waits, and is late; the time at which it was due counts.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from loadtest.client.arrivals import due_times
from loadtest.client.orders import Orders

Way = Literal["rest", "socket"]
Send = Callable[[float], None]

SLACK = 64
TICK_S_MIN = 0.001


class Shares:
    """Counts what each way sent, and says which is behind its share. A way without connections has no share."""

    def __init__(self, orders: Orders) -> None:
        share = orders.socket_share if orders.rest_connections else 1.0
        self._parts: dict[Way, float] = {"socket": share if orders.sockets else 0.0}
        self._parts["rest"] = 1.0 - self._parts["socket"]
        self._sent: dict[Way, int] = {"socket": 0, "rest": 0}

    @property
    def are_two(self) -> bool:
        """Whether there is anything to share."""
        return 0.0 < self._parts["rest"] < 1.0

    def sent(self, way: Way, count: int) -> None:
        """So many check-ins went that way."""
        self._sent[way] += count

    def ahead(self, way: Way) -> float:
        """By how many check-ins a way is ahead of its share; negative: behind."""
        return self._sent[way] - self._parts[way] * (self._sent["rest"] + self._sent["socket"])

    def behind(self) -> Way:
        """Which way is behind, or the only one."""
        return "socket" if self._parts["socket"] and self.ahead("socket") <= 0 else "rest"


class Pacer:
    """See the rules."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._shares = Shares(orders)
        self._weights: dict[Way, int] = {"rest": 1, "socket": orders.scans_per_frame}
        self._waiting: dict[Way, deque[Send]] = {"rest": deque(), "socket": deque()}
        self._is_free = not orders.rate and not self._shares.are_two
        self._due: dict[Way, deque[float]] = {"rest": deque(), "socket": deque()}

    def next(self, way: Way, send: Send) -> None:
        """`send` has room."""
        if self._is_free:
            send(time.perf_counter())
        elif self._orders.rate:
            if self._due[way]:
                send(self._due[way].popleft())
            else:
                self._waiting[way].append(send)
        else:
            self._waiting[way].append(send)
            self._even_out()

    def _even_out(self) -> None:
        """Rule 2."""
        is_moving = True
        while is_moving:
            is_moving = False
            for way, waiting in self._waiting.items():
                if waiting and self._shares.ahead(way) < SLACK:
                    self._shares.sent(way, self._weights[way])
                    waiting.popleft()(time.perf_counter())
                    is_moving = True

    def release(self, due_s: float) -> None:
        """Rule 3: a send is due."""
        way = self._shares.behind()
        self._shares.sent(way, self._weights[way])
        if self._waiting[way]:
            self._waiting[way].popleft()(due_s)
        else:
            self._due[way].append(due_s)

    async def run(self) -> None:
        """Releases what is due, for ever; only with a rate."""
        orders = self._orders
        begun_s = time.perf_counter()
        due = due_times(orders.rate, orders.curve, orders.warmup_s, orders.seconds)
        next_s = next(due)
        while True:
            now_s = time.perf_counter() - begun_s
            while next_s <= now_s:
                # A frame counts for all of its scans, and goes when the first is due.
                weight = self._weights[self._shares.behind()]
                self.release(begun_s + next_s)
                for _ in range(weight):
                    next_s = next(due)
            await asyncio.sleep(max(TICK_S_MIN, next_s - (time.perf_counter() - begun_s)))
