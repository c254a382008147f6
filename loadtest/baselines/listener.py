"""A limit: the gateways' own listener with nothing behind it. What HTTP and sockets alone cost here.

A request is answered with the same verdict as every other, a socket's frame with itself; a `hello` is welcomed.
`python -m loadtest.baselines.listener PORT` runs one process; several share the port, as gateways do.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
import uvloop

from gateway.http import Receive, Scope, Send
from serve.listener import Listener
from serve.settings import Settings

ANSWER = (
    b'{"scan_id":"01a20482-d87f-78ab-9579-9a4f68b2092a","verdict":"admitted","reason":null,"replayed":false,'
    b'"event_id":"evt_01m8285ngyt23z1eswx1","card_id":"card_01m8285nqkmgfdqm1v86","member":{"id":'
    b'"mem_br73h2j4v68f2m9x32ka","name":"Thu Vu"},"tier":"gold","at":"2026-11-22T18:26:53.732Z","attendance":'
    b'{"inside":1,"admitted":1,"capacity":500},"points":{"awarded":10,"balance":10},"first":null}'
)
HELLO = msgspec.msgpack.encode("hello")
WELCOME = msgspec.msgpack.encode({"t": "welcome"})


class Nothing:
    """The application."""

    def __init__(self) -> None:
        self._start = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())],
        }
        self._body = {"type": "http.response.body", "body": ANSWER}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the body, answers; or talks on a socket until it is closed."""
        if scope["type"] == "websocket":
            await self._echo(receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        await send(self._start)
        await send(self._body)

    async def _echo(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "mastervip.v1.msgpack"})
        while (message := await receive())["type"] == "websocket.receive":
            frame = message["bytes"]
            await send({"type": "websocket.send", "bytes": WELCOME if HELLO in frame else frame})


async def serve(port: int) -> None:
    """Until the process is told to end."""
    listener = Listener(Nothing(), Settings.model_validate({"port": port}))
    await listener.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
