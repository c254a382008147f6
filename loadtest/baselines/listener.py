"""A limit: the gateways' own listener with nothing behind it. What HTTP and sockets alone cost here.

A check-in is answered with the same verdict as every other, on the way that gateways answer it (without ASGI), any
other request through ASGI. A socket's frames are answered with themselves, as gateways do all that have come in one
write; a `hello` is welcomed.
`python -m loadtest.baselines.listener PORT` runs one process; several share the port, as gateways do.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
import uvloop

from gateway.fast_lane import CHECKINS
from gateway.http import Headers, OnAnswer, Receive, Scope, Send, lines
from gateway.sockets.connection import FRAMES, FramePipe
from serve.listener import Listener
from serve.settings import Settings

ANSWER = (
    b'{"scan_id":"01a20482-d87f-78ab-9579-9a4f68b2092a","verdict":"admitted","reason":null,"replayed":false,'
    b'"event_id":"evt_01m8285ngyt23z1eswx1","card_id":"card_01m8285nqkmgfdqm1v86","member":{"id":'
    b'"mem_br73h2j4v68f2m9x32ka","name":"Thu Vu"},"tier":"gold","at":"2026-11-22T18:26:53.732Z","attendance":'
    b'{"inside":1,"admitted":1,"capacity":500},"points":{"awarded":10,"balance":10},"first":null}'
)
HEAD: Headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
LINES = lines(HEAD)
HELLO = msgspec.msgpack.encode("hello")
WELCOME = msgspec.msgpack.encode({"t": "welcome"})


class Nothing:
    """The application."""

    def __init__(self) -> None:
        self._start = {"type": "http.response.start", "status": 200, "headers": HEAD}
        self._body = {"type": "http.response.body", "body": ANSWER}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the body, answers; or talks on a socket until it is closed."""
        if scope["type"] == "websocket":
            await self._echo(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        await send(self._start)
        await send(self._body)

    async def _echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        pipe: FramePipe = scope["extensions"].pop(FRAMES)
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "mastervip.v1.msgpack"})
        while True:
            messages = [await receive(), *pipe.take_waiting()]
            frames = [message["bytes"] for message in messages if message["type"] == "websocket.receive"]
            if pipe.may_send:
                pipe.send_messages([WELCOME if HELLO in frame else frame for frame in frames], is_text=False)
            if len(frames) < len(messages):
                return


def check_in(_headers: Headers, _body: bytes, _is_tls: bool, on_answer: OnAnswer) -> bool:
    """The verdict."""
    on_answer(200, LINES, ANSWER)
    return True


async def serve(port: int) -> None:
    """Until the process is told to end."""
    path = CHECKINS.encode()
    settings = Settings.model_validate({"port": port})
    listener = Listener(Nothing(), settings, lambda url: check_in if url == path else None)
    await listener.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
