"""`python -m loadtest.client` reads its orders (JSON) from stdin, and obeys them.

Rules:
1. A card belongs to one connection, a connection to one event: connections are dealt to the events in turn.
2. stdout: a line `begin` after the warm-up, a line `end` after the measured time, then one JSON document.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import msgspec
import picows
import uvloop

from loadtest.client.orders import Event, Orders
from loadtest.client.pacer import Pacer
from loadtest.client.rest import RestConnection
from loadtest.client.sockets import ScanSocket
from loadtest.client.tally import Tally
from loadtest.plan import RequestIds, rest_check_ins, rest_gets, scan_items, shares

WELCOME_TIMEOUT_S = 30.0
LAST_ANSWERS_S = 0.2
LAST_ANSWERS_LOOKS_MAX = 25
INTERVAL_S = 0.5
ANSWERS = ("admitted", "refused", "echoed")


async def _connect_rest(orders: Orders, tally: Tally, pacer: Pacer, cards: list[list[str]]) -> list[RestConnection]:
    loop = asyncio.get_running_loop()
    ids = RequestIds()
    host = f"{orders.host}:{orders.port}"
    connections = []
    for number, share in enumerate(cards):
        if orders.is_get:
            plan = rest_gets(host, orders.path)
        else:
            event, token = _seat(orders, number)
            plan = rest_check_ins(host, orders.path, token, event.id, share)
        _, connection = await loop.create_connection(
            lambda plan=plan: RestConnection(plan, ids, tally, pacer),
            orders.host,
            orders.port,
            ssl=orders.ssl_context(),
        )
        connections.append(connection)
    return connections


async def _connect_sockets(orders: Orders, tally: Tally, pacer: Pacer, cards: list[list[str]]) -> list[ScanSocket]:
    ids = RequestIds()
    sockets = []
    for number, share in enumerate(cards):
        event, token = _seat(orders, number)
        hello = msgspec.msgpack.encode({"t": "hello", "token": token, "event_id": event.id})
        plan = scan_items(share, is_frame=orders.scans_per_frame == 1)
        made = ScanSocket(hello, plan, ids, tally, pacer, orders)
        await picows.ws_connect(
            # It looks at how many arguments there are, so nothing can be bound as a default.
            made.itself,
            f"{'ws' if orders.ca_file is None else 'wss'}://{orders.host}:{orders.port}/v1/scan",
            ssl_context=orders.ssl_context(),
            extra_headers={"Sec-WebSocket-Protocol": "mastervip.v1.msgpack"},
        )
        sockets.append(made)
    await asyncio.wait_for(asyncio.gather(*(socket.welcomed for socket in sockets)), WELCOME_TIMEOUT_S)
    return sockets


def _seat(orders: Orders, number: int) -> tuple[Event, str]:
    """Event and token of a connection."""
    event = orders.events[number % len(orders.events)]
    return event, event.tokens[number // len(orders.events) % len(event.tokens)]


async def run(orders: Orders) -> dict[str, Any]:
    """Connects, warms up, measures."""
    tally, pacer = Tally(), Pacer(orders)
    credentials = orders.credentials or [""] * (orders.rest_connections + orders.sockets)
    parts = shares(credentials, orders.rest_connections + orders.sockets)
    rest = await _connect_rest(orders, tally, pacer, parts[: orders.rest_connections])
    sockets = await _connect_sockets(orders, tally, pacer, parts[orders.rest_connections :])
    pacing = asyncio.create_task(pacer.run()) if orders.rate else None
    for connection in rest:
        connection.begin()
    for socket in sockets:
        socket.begin()
    await asyncio.sleep(orders.warmup_s)
    print("begin", flush=True)  # noqa: T201 — the line that the benchmark waits for
    tally.is_measuring = True
    cpu_s, begun_s = time.process_time(), time.perf_counter()
    for number in range(1, max(1, round(orders.seconds / INTERVAL_S)) + 1):
        await asyncio.sleep(max(0.0, begun_s + number * INTERVAL_S - time.perf_counter()))
        tally.interval()
    tally.is_measuring = False
    tally.is_over = True
    cpu_s, took_s = time.process_time() - cpu_s, time.perf_counter() - begun_s
    print("end", flush=True)  # noqa: T201
    if pacing is not None:
        pacing.cancel()
    await _last_answers(tally)
    return {
        "answers": tally.answers,
        "scans": tally.scans,
        "seconds": round(took_s, 3),
        "per_s": round(tally.scans / took_s, 1),
        "latency_ms": tally.percentiles_ms(),
        "latency_curve": tally.curve_ms(),
        "per_s_over_time": [round(count / INTERVAL_S, 1) for count in tally.per_interval],
        "outcomes": dict(tally.outcomes),
        "errors": sum(count for outcome, count in tally.outcomes.items() if outcome not in ANSWERS),
        "client_cpu_s": round(cpu_s, 3),
    }


async def _last_answers(tally: Tally) -> None:
    """Returns once no more answers come to what was sent before the end."""
    for _ in range(LAST_ANSWERS_LOOKS_MAX):
        before = tally.answers
        await asyncio.sleep(LAST_ANSWERS_S)
        if tally.answers == before:
            return


def main() -> None:
    """Reads orders, obeys, reports."""
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        document = runner.run(run(orders))
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")


if __name__ == "__main__":
    main()
