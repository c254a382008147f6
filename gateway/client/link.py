"""A websocket that comes back: connects, says hello, passes frames on, and connects again when it was cut.

Rules:
1. Close codes 4000-4499 end it (`SocketRefused`), all else connects again after a random pause that grows with each
   failure (`retry.RetryPolicy`). A token that can be renewed is renewed once after 4401.
2. One task sends. What is to be sent is the listener's: it is asked for a frame when there is room, so that a slow
   network fills no memory here.
3. A server that goes away says so (`reconnect`) and closes (4503) when it is this client's turn: it has spread its
   clients out already, so the next connection is tried at once. Who was not let in waits for the time that it said.
4. Pings measure the server's clock, and find a server that is gone: one that leaves a ping unanswered for
   `try_timeout_s` is left. The hello and the pongs carry this machine's time, by which the server measures its clock.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NoReturn, Protocol

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from gateway.client.clock import ServerClock
from gateway.client.errors import Json, MasterVipError, SignedOut, SocketClosed, SocketRefused, Unavailable
from gateway.client.http import Credentials, Http
from gateway.client.retry import RetryPolicy, retry_after_s

Wire = Literal["json", "msgpack"]
SUBPROTOCOLS: Final = {
    "json": Subprotocol("mastervip.v1.json"),
    "msgpack": Subprotocol("mastervip.v1.msgpack"),
}
FINAL_CODES: Final = range(4_000, 4_500)
TOKEN_INVALID: Final = 4_401
DRAINING: Final = 4_503
FRAME_BYTES_MAX: Final = 4 * 1_048_576
CLOSE_TIMEOUT_S: Final = 2.0
SENT_AWAY_JITTER_S: Final = 0.1
FIRST_PINGS: Final = 4  # one after the other, so that the clock is known soon
PING_EVERY_S: Final = 10.0
SOCKET_RETRY: Final = RetryPolicy(first_pause_s=1.0, pause_s_max=15.0, deadline_s=30.0, try_timeout_s=10.0)


class Listener(Protocol):
    """Whose link it is. None of these waits."""

    def hello(self) -> Json:
        """The first frame of a connection, without `t`."""

    def on_open(self, welcome: Json) -> None:
        """Connected."""

    def on_frame(self, frame: Json) -> None:
        """A frame that is not about the connection itself."""

    def next_frame(self) -> Json | None:
        """What to send next; None: nothing until `Link.wake`."""

    def on_down(self) -> None:
        """The connection is gone. What was sent may have arrived or not."""

    def on_end(self, error: MasterVipError) -> None:
        """There will be no other connection."""


@dataclass(frozen=True)
class _End:
    """Why a connection ended. `code` is a close code or an HTTP status, None where there was none. `is_sent_away`: the
    server has said when to come back (rule 3)."""

    code: int | None
    name: str
    message: str
    is_final: bool = False
    after_s: float = 0.0
    is_sent_away: bool = False


class _Lost(Exception):
    """The connection is of no use any more."""


class Link:
    """`start`, then `opened`; in the end `aclose`. Belongs to one event loop."""

    def __init__(
        self, http: Http, path: str, listener: Listener, credentials: Credentials, wire: Wire, retry: RetryPolicy
    ) -> None:
        self.clock = ServerClock()
        self.is_open = False
        self._url = "ws" + http.base_url.removeprefix("http") + path
        self._ssl = http.ssl_context if http.base_url.startswith("https") else None
        self._listener = listener
        self._credentials = credentials
        self._wire = wire
        self._retry = retry
        self._timing = http.timing
        self._task: asyncio.Task[None] | None = None
        self._first_open = asyncio.Event()
        self._over = asyncio.Event()
        self._measured = asyncio.Event()
        self._ended: MasterVipError | None = None
        self._trouble = ""
        self._wake = asyncio.Event()
        self._ping_due = False
        self._pongs_owed: list[int] = []
        self._number = 0
        self._pings: dict[int, float] = {}
        self._ponged = asyncio.Event()
        self._complaint: Json = {}
        self._sent_away_s: float | None = None  # how long to wait after the close; None: nothing was said
        self._tries = 0
        self._has_renewed = False

    # --- for the owner ---

    def start(self) -> None:
        """Begins to connect."""
        self._task = asyncio.create_task(self._run())

    async def opened(self, timeout_s: float) -> None:
        """Waits for the first welcome. Raises `SocketRefused`, or `Unavailable` after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._first_open.wait()
        except TimeoutError:
            raise Unavailable(f"{self._url}: not connected after {timeout_s:g} s: {self._trouble}") from None
        self.check()

    async def wait_closed(self) -> None:
        """Waits until the link is over, and raises why."""
        await self._over.wait()
        self.check()

    async def wait_clock(self) -> None:
        """Waits until the server's clock has been measured. Raises why the link is over, if it is before."""
        await self._measured.wait()
        self.check()

    def check(self) -> None:
        """Raises why the link is over, if it is."""
        if self._ended is not None:
            raise self._ended.with_traceback(None)

    def wake(self) -> None:
        """The listener has something to send."""
        self._wake.set()

    def next_number(self) -> int:
        """A number for a ping that no other ping of this link has. The pong to one of the listener's goes to it."""
        self._number += 1
        return self._number

    async def aclose(self) -> None:
        """Ends it. Raises what a callback raised."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()

    # --- over and over ---

    async def _run(self) -> None:
        ended: MasterVipError = SocketClosed("the socket was closed")
        try:
            ended = await self._until_refused()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            ended = SocketClosed(f"a callback failed: {type(error).__name__}: {error}")
            ended.__cause__ = error
            raise
        finally:
            self._ended = ended
            self._first_open.set()
            self._over.set()
            self._measured.set()
            self._listener.on_end(ended)

    async def _until_refused(self) -> MasterVipError:
        while True:
            try:
                end = await self._once()
            except SignedOut as error:
                return error
            if end.is_final:
                return SocketRefused(end.code or 0, end.name, end.message)
            self._trouble = f"{end.name}: {end.message}"
            await self._timing.sleep(self._pause_s(end))

    def _pause_s(self, end: _End) -> float:
        if end.is_sent_away:
            return end.after_s + self._timing.uniform(0.0, SENT_AWAY_JITTER_S)
        self._tries += 1
        return self._retry.pause_s(self._tries, end.after_s, uniform=self._timing.uniform)

    async def _once(self) -> _End:
        """One connection, from its beginning to its end. Raises `SignedOut`, and what a callback raises."""
        self._complaint = {}
        self._sent_away_s = None
        token: str | None = None
        try:
            token = await self._credentials.bearer()
            socket = await self._connected(token)
        except InvalidStatus as refused:
            return await self._renewed(token, self._end_of_handshake(refused))
        except (OSError, TimeoutError, InvalidHandshake, Unavailable) as error:
            return _End(None, type(error).__name__, str(error))
        try:
            await self._converse(socket)
        except ConnectionClosed as closed:
            return await self._renewed(token, self._end_of(closed))
        except _Lost as lost:
            return _End(None, "connection_lost", str(lost))
        finally:
            await socket.close()

    async def _connected(self, token: str | None) -> ClientConnection:
        return await connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {token}"} if token is not None else {},
            subprotocols=[SUBPROTOCOLS[self._wire]],
            compression=None,
            ssl=self._ssl,
            open_timeout=self._retry.try_timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,  # rule 4: the pings are ours
            max_size=FRAME_BYTES_MAX,
        )

    async def _renewed(self, token: str | None, end: _End) -> _End:
        """The end of a connection; not final where only the token had run out and there is a new one."""
        if end.code not in (TOKEN_INVALID, 401) or token is None or self._has_renewed:
            return end
        self._has_renewed = True
        try:
            has_another = await self._credentials.renew(token)
        except Unavailable:
            has_another = True  # nobody has refused it
        return replace(end, is_final=not has_another)

    def _end_of(self, closed: ConnectionClosed) -> _End:
        after_s = float(self._complaint.get("retry_after_ms") or 0) / 1_000
        if closed.rcvd is None:
            return _End(None, "connection_lost", str(closed), after_s=after_s)
        code, name = closed.rcvd.code, closed.rcvd.reason
        message = str(self._complaint.get("message") or "the server closed the socket")
        if code == DRAINING and self._sent_away_s is not None:
            return _End(code, name, message, after_s=self._sent_away_s, is_sent_away=True)
        return _End(code, name, message, code in FINAL_CODES, after_s)

    def _end_of_handshake(self, refused: InvalidStatus) -> _End:
        status = refused.response.status_code
        after_s = retry_after_s(refused.response.headers.get("Retry-After"), self._timing.wall_ms())
        is_final = 400 <= status < 500 and status != 429
        return _End(status, "handshake_refused", f"HTTP {status}", is_final, after_s or 0.0)

    # --- one connection ---

    async def _converse(self, socket: ClientConnection) -> NoReturn:
        """Runs until the connection ends, which is told by an exception."""
        try:
            async with asyncio.timeout(self._retry.try_timeout_s):
                welcome = await self._greeted(socket)
        except TimeoutError:
            raise _Lost("no welcome came") from None
        self._pings.clear()
        self._pongs_owed.clear()
        self.clock.begin()
        self.is_open = True
        self._listener.on_open(welcome)
        self._first_open.set()
        tasks = [asyncio.create_task(work) for work in (self._read(socket), self._write(socket), self._ping())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise AssertionError("none of them ends by itself")
        finally:
            self.is_open = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._listener.on_down()

    async def _greeted(self, socket: ClientConnection) -> Json:
        with suppress(ConnectionClosed):  # why it is closed may still be there to be read
            await self._send(socket, {"t": "hello", **self._listener.hello(), "now": self._timing.wall_ms()})
        while True:
            frame = _decoded(await socket.recv())
            if frame.get("t") == "welcome":
                if self._sent_away_s is not None:
                    self._sent_away_s = 0.0  # it is served until it is closed
                return frame
            if frame.get("t") == "error":
                self._complaint = frame
            elif frame.get("t") == "reconnect":
                self._sent_away_s = float(frame.get("after_ms") or 0) / 1_000

    async def _read(self, socket: ClientConnection) -> None:
        while True:
            frame = _decoded(await socket.recv())
            kind = frame.get("t")
            if kind == "pong":
                self._take_pong(frame)
            elif kind == "ping":
                if len(self._pongs_owed) < FIRST_PINGS:
                    self._pongs_owed.append(frame.get("n", 0))
                    self._wake.set()
            elif kind == "reconnect":
                self._sent_away_s = 0.0  # the close that follows comes when it is time
            else:
                if kind == "error" and "id" not in frame and "topic" not in frame:
                    self._complaint = frame
                self._listener.on_frame(frame)

    def _take_pong(self, frame: Json) -> None:
        sent_s = self._pings.pop(frame.get("n", -1), None)
        server_ms = frame.get("now")
        if sent_s is None or not isinstance(server_ms, int):
            self._listener.on_frame(frame)
            return
        self.clock.add(sent_s, self._timing.now_s(), server_ms)
        self._ponged.set()
        self._measured.set()
        # It works again: the next trouble begins with a short pause.
        self._tries = 0
        self._has_renewed = False

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            self._wake.clear()
            while (frame := self._next_frame()) is not None:
                await self._send(socket, frame)
            await self._wake.wait()

    def _next_frame(self) -> Json | None:
        if self._pongs_owed:
            return {"t": "pong", "n": self._pongs_owed.pop(0), "now": self._timing.wall_ms()}
        if self._ping_due:
            self._ping_due = False
            number = self.next_number()
            self._pings[number] = self._timing.now_s()
            return {"t": "ping", "n": number}
        return self._listener.next_frame()

    async def _ping(self) -> None:
        """Pings for ever; raises when one stays unanswered."""
        sent = 0
        while True:
            self._ponged.clear()
            self._ping_due = True
            self._wake.set()
            try:
                # Not `wait_for`, which in Python 3.11 can swallow a cancellation.
                async with asyncio.timeout(self._retry.try_timeout_s):
                    await self._ponged.wait()
            except TimeoutError:
                raise _Lost("a ping was not answered") from None
            sent += 1
            if sent >= FIRST_PINGS:
                await asyncio.sleep(PING_EVERY_S)

    async def _send(self, socket: ClientConnection, fields: Json) -> None:
        if self._wire == "msgpack":
            await socket.send(msgspec.msgpack.encode(fields))
        else:
            await socket.send(msgspec.json.encode(fields).decode())


def _decoded(data: str | bytes) -> Json:
    library: Any = msgspec.json if isinstance(data, str) else msgspec.msgpack
    try:
        frame: Json = library.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise _Lost(f"not a frame: {error}") from error
    return frame
