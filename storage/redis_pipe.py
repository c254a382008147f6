"""The connection through which the Redis journal writes: scripts go out, one-line replies come back, in order.

Rules:
1. Commands are sent in the order of `submit` and settled in that order. Those submitted in one turn of the event loop
   leave in one socket write; Redis then fsyncs once for all of them, whatever their partitions (group commit).
2. A command is sent once. The one exception is proof that it was not executed: the server did not know the script
   (NOSCRIPT), or refused it because a command of its lane before it met NOSCRIPT. These are asked again in their order,
   with the script's text, before anything newer leaves.
3. If the connection fails, or the oldest command has waited too long for its reply, every command fails with
   `OutcomeUnknown`. The next one submitted makes a new connection, and nothing is sent on it before `dial` has found it
   good (settings, scripts).

redis-py makes the connection (TLS, authentication, database); then this module reads and writes the socket itself,
because a task and a timeout for each reply would cost more than the rest of an append together.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from hashlib import sha1

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from actors.ports import JournalError, JournalFull, OutcomeUnknown

# A caller that does not wait for replies is stopped here: what is queued beyond this would only wait in memory.
PENDING_BYTES_MAX = 64 * 1024 * 1024

CRLF = b"\r\n"


class Script:
    """A Redis script: its text, and the first words of a command that runs it by digest or by text."""

    def __init__(self, text: bytes, arguments_count: int) -> None:
        self.text = text
        digest = sha1(text, usedforsecurity=False).hexdigest().encode()
        words = b"*%d\r\n" % (2 + arguments_count)
        self.by_digest = words + b"$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % digest
        self.by_text = words + b"$4\r\nEVAL\r\n$%d\r\n%b\r\n" % (len(text), text)


class Command:
    """A call of a script. `lane` tells which commands depend on each other (the partition)."""

    __slots__ = ("arguments", "lane", "script", "sent_at_s")

    def __init__(self, lane: int, script: Script, arguments: bytes) -> None:
        self.lane = lane
        self.script = script
        self.arguments = arguments
        self.sent_at_s = 0.0

    @abstractmethod
    def settle(self, line: bytes) -> None:
        """Takes the server's reply: `+…` from the script, `-…` from Redis."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Takes the reason why there will be no reply."""


class Pipe:
    """Sends commands over one connection at a time. `dial` gives a connection that is ready for use."""

    def __init__(self, dial: Callable[[], Awaitable[AbstractConnection]], reply_timeout_ms: int) -> None:
        self._dial = dial
        self._reply_timeout_s = reply_timeout_ms / 1000
        self._queue: list[Command] = []
        self._pending_bytes = 0
        self._wire: _Wire | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._is_flush_due = False
        self._is_closed = False

    def submit(self, command: Command) -> None:
        """Queues a command; it will be settled, or failed (at once with `JournalFull` if too much is waiting)."""
        if self._is_closed:
            command.fail(OutcomeUnknown("the journal is closed; nothing was sent"))
            return
        if self._pending_bytes >= PENDING_BYTES_MAX:
            command.fail(JournalFull(f"{self._pending_bytes} bytes are waiting for Redis already; nothing was sent"))
            return
        self._pending_bytes += len(command.arguments)
        self._queue.append(command)
        if self._wire is not None:
            self._flush_soon()
        elif self._dialling is None:
            self._dialling = asyncio.get_running_loop().create_task(self._connect())
            self._dialling.add_done_callback(self._dialled)

    async def close(self) -> None:
        """Fails what is pending and gives back the connection."""
        self._is_closed = True
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        if self._wire is not None:
            self._wire.lose(OutcomeUnknown("the journal was closed before Redis replied"))

    async def _connect(self) -> None:
        try:
            connection = await self._dial()
        except (RedisError, OSError) as error:
            raise OutcomeUnknown(f"no connection to Redis, nothing was sent: {error}") from error
        # In one step, so that a wire that is lost at once finds itself in its place.
        self._wire = _Wire(self, connection, self._reply_timeout_s)
        self._dialling = None
        self._flush_soon()

    def _dialled(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._dialling = None
            self._fail_queue(OutcomeUnknown("the journal was closed before anything was sent"))
        elif (error := task.exception()) is not None:
            self._dialling = None
            self._fail_queue(error)

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        wire = self._wire
        # While commands wait to be asked again nothing newer may overtake them; the wire flushes when it is through.
        if wire is None or wire.unscripted or not self._queue:
            return
        commands, self._queue = self._queue, []
        wire.send(commands, by_text=False)

    def _fail_queue(self, error: BaseException) -> None:
        commands, self._queue = self._queue, []
        for command in commands:
            self._done(command)
            command.fail(_copy(error))

    def _done(self, command: Command) -> None:
        self._pending_bytes -= len(command.arguments)

    def _lost(self, wire: _Wire, error: BaseException) -> None:
        if self._wire is wire:
            self._wire = None
            self._fail_queue(error)


class _Wire(asyncio.Protocol):
    """One connection: the commands sent on it that await their replies, and the bytes of an unfinished reply."""

    def __init__(self, pipe: Pipe, connection: AbstractConnection, reply_timeout_s: float) -> None:
        self.unscripted: list[Command] = []  # to be asked again, see rule 2
        self._pipe = pipe
        self._reply_timeout_s = reply_timeout_s
        self._sent: deque[Command] = deque()
        self._unfinished = b""
        self._watchdog: asyncio.TimerHandle | None = None
        # redis-py has no public way to hand over its socket. Every reply so far has been read, nothing is buffered. The
        # writer is kept for as long as the wire: its finalizer would close the socket.
        reader, connection._reader = connection._reader, None
        self._writer, connection._writer = connection._writer, None
        if reader is None or self._writer is None or reader.at_eof() or self._writer.transport.is_closing():
            raise OutcomeUnknown("the connection was lost as soon as it was made; nothing was sent")
        self._transport = self._writer.transport
        self._transport.set_protocol(self)

    def send(self, commands: list[Command], by_text: bool) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        pieces = []
        for command in commands:
            command.sent_at_s = now_s
            pieces.append(command.script.by_text if by_text else command.script.by_digest)
            pieces.append(command.arguments)
        self._sent.extend(commands)
        self._transport.write(b"".join(pieces))
        if self._watchdog is None:
            self._watchdog = loop.call_later(self._reply_timeout_s, self._watch)

    def data_received(self, data: bytes) -> None:
        lines = (self._unfinished + data if self._unfinished else data).split(CRLF)
        self._unfinished = lines.pop()
        for line in lines:
            if line[:1] not in (b"+", b"-") or not self._sent:
                # Not a reply to what was asked: no later reply could be told to belong to which command.
                self.lose(OutcomeUnknown(f"Redis sent what is no reply to a script: {line[:80]!r}"))
                return
            command = self._sent.popleft()
            if self._is_to_be_asked_again(command, line):
                self.unscripted.append(command)
            else:
                self._pipe._done(command)
                command.settle(line)
        if self.unscripted and not self._sent:
            commands, self.unscripted = self.unscripted, []
            self.send(commands, by_text=True)
            self._pipe._flush_soon()

    def _is_to_be_asked_again(self, command: Command, line: bytes) -> bool:
        if line.startswith(b"-NOSCRIPT"):
            return True
        # Another client may have loaded the script in the meantime: then a command behind one that was not executed is
        # refused by the script itself, and its refusal says nothing.
        if self.unscripted and line[:1] == b"+" and not line.startswith(b"+OK"):
            return any(earlier.lane == command.lane for earlier in self.unscripted)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose(OutcomeUnknown(f"the connection to Redis was lost before it replied: {exc or 'closed by Redis'}"))

    def _watch(self) -> None:
        self._watchdog = None
        if not self._sent:
            return
        loop = asyncio.get_running_loop()
        left_s = self._sent[0].sent_at_s + self._reply_timeout_s - loop.time()
        if left_s > 0:
            self._watchdog = loop.call_later(left_s, self._watch)
        else:
            self.lose(OutcomeUnknown(f"Redis has not replied for {self._reply_timeout_s} s"))

    def lose(self, error: JournalError) -> None:
        """Gives the connection up. May be called again, by the transport: then nothing is left to do."""
        self._transport.abort()
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        # Those to be asked again were sent before the rest.
        commands = [*self.unscripted, *self._sent]
        self.unscripted = []
        self._sent.clear()
        for command in commands:
            self._pipe._done(command)
            command.fail(_copy(error))
        self._pipe._lost(self, error)


def _copy(error: BaseException) -> BaseException:
    """An exception for each command that fails: raising one object in many tasks would mix their tracebacks."""
    return type(error)(*error.args) if isinstance(error, JournalError) else error
