"""The pipe by itself, its server played by the test: what depends on bytes arriving just so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from actors.ports import JournalFull, OutcomeUnknown
from storage import redis_pipe
from storage.redis_pipe import Command, Pipe, Script

SCRIPT = Script(b"return 1", 0)


class Call(Command):
    """Remembers what it was told."""

    def __init__(self, lane: int, name: bytes) -> None:
        super().__init__(lane, SCRIPT, name)
        self.told: list[bytes | type] = []

    def settle(self, line: bytes) -> None:
        self.told.append(line)

    def fail(self, error: BaseException) -> None:
        self.told.append(type(error))


class Transport:
    """Takes what the pipe writes; the test plays the server by giving the protocol bytes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.protocol: Any = None
        self.is_aborted = False

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted


class Server:
    """Makes connections; `transport` is the newest."""

    def __init__(self) -> None:
        self.transports: list[Transport] = []
        self.has_hung_up = False

    async def dial(self) -> Any:
        self.transports.append(Transport())
        reader = SimpleNamespace(at_eof=lambda: self.has_hung_up)
        return SimpleNamespace(_reader=reader, _writer=SimpleNamespace(transport=self.transports[-1]))

    @property
    def transport(self) -> Transport:
        return self.transports[-1]

    def reply(self, data: bytes) -> None:
        self.transport.protocol.data_received(data)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def pipe(server: Server) -> Pipe:
    return Pipe(server.dial, reply_timeout_ms=1_000)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def submitted(pipe: Pipe, *calls: tuple[int, bytes]) -> list[Call]:
    commands = [Call(lane, name) for lane, name in calls]
    for command in commands:
        pipe.submit(command)
    await turns()
    return commands


def by_digest(*names: bytes) -> bytes:
    return b"".join(SCRIPT.by_digest + name for name in names)


def by_text(*names: bytes) -> bytes:
    return b"".join(SCRIPT.by_text + name for name in names)


async def test_commands_of_one_turn_leave_in_one_write(server: Server, pipe: Pipe) -> None:
    await submitted(pipe, (0, b"a"), (1, b"b"), (0, b"c"))
    await submitted(pipe, (1, b"d"), (1, b"e"))
    assert server.transport.written == [by_digest(b"a", b"b", b"c"), by_digest(b"d", b"e")]


async def test_replies_are_told_apart_wherever_they_are_split(server: Server, pipe: Pipe) -> None:
    replies = b"+OK 1\r\n-ERR no\r\n+OK 3\r\n"
    for cut in range(len(replies)):
        calls = await submitted(pipe, (0, b"a"), (0, b"b"), (0, b"c"))
        server.reply(replies[:cut])
        server.reply(replies[cut:])
        assert [call.told for call in calls] == [[b"+OK 1"], [b"-ERR no"], [b"+OK 3"]]
    await pipe.close()


async def test_what_met_no_script_is_asked_again_before_anything_newer(server: Server, pipe: Pipe) -> None:
    calls = await submitted(pipe, (0, b"a"), (1, b"b"), (0, b"c"), (2, b"d"))
    # Another client loads the script between a and b. So c is refused because a was not executed; d stands by itself.
    server.reply(b"-NOSCRIPT No matching script.\r\n+OK 1\r\n")
    calls += await submitted(pipe, (0, b"e"))
    assert server.transport.written == [by_digest(b"a", b"b", b"c", b"d")]
    server.reply(b"+CORRUPT not contiguous\r\n+CORRUPT really\r\n")
    await turns()
    assert server.transport.written[1:] == [by_text(b"a", b"c"), by_digest(b"e")]
    server.reply(b"+OK 2\r\n+OK 3\r\n+OK 4\r\n")
    assert [call.told for call in calls] == [[b"+OK 2"], [b"+OK 1"], [b"+OK 3"], [b"+CORRUPT really"], [b"+OK 4"]]
    await pipe.close()


async def test_an_error_of_redis_is_no_proof_and_is_not_asked_again(server: Server, pipe: Pipe) -> None:
    calls = await submitted(pipe, (0, b"a"), (0, b"b"))
    server.reply(b"-NOSCRIPT No matching script.\r\n-ERR who knows\r\n")
    assert server.transport.written[1:] == [by_text(b"a")]
    assert [call.told for call in calls] == [[], [b"-ERR who knows"]]
    await pipe.close()


async def test_a_lost_connection_fails_all_and_the_next_command_makes_another(server: Server, pipe: Pipe) -> None:
    calls = await submitted(pipe, (0, b"a"), (1, b"b"), (0, b"c"))
    server.reply(b"-NOSCRIPT No matching script.\r\n+OK 1\r\n")
    late = Call(0, b"d")
    pipe.submit(late)
    server.transport.protocol.connection_lost(ConnectionResetError())
    assert [call.told for call in (*calls, late)] == [[OutcomeUnknown], [b"+OK 1"], [OutcomeUnknown], [OutcomeUnknown]]
    calls = await submitted(pipe, (0, b"e"))
    assert len(server.transports) == 2
    assert server.transport.written == [by_digest(b"e")]
    server.transports[0].protocol.connection_lost(None)  # a late word from the old one changes nothing
    calls += await submitted(pipe, (0, b"f"))
    assert len(server.transports) == 2
    server.reply(b"+OK 5\r\n+OK 6\r\n")
    assert [call.told for call in calls] == [[b"+OK 5"], [b"+OK 6"]]
    await pipe.close()


@pytest.mark.parametrize("nonsense", [b"$3\r\nabc\r\n", b":1\r\n", b"*0\r\n", b"\r\n", b"+OK 1\r\n+OK 2\r\n"])
async def test_what_is_no_reply_ends_the_connection(server: Server, pipe: Pipe, nonsense: bytes) -> None:
    calls = await submitted(pipe, (0, b"a"))
    server.reply(nonsense)
    assert server.transport.is_aborted
    assert calls[0].told == ([b"+OK 1"] if nonsense.startswith(b"+") else [OutcomeUnknown])
    await submitted(pipe, (0, b"b"))
    assert len(server.transports) == 2
    await pipe.close()


async def test_too_much_waiting_is_refused_before_it_is_sent(
    server: Server, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_pipe, "PENDING_BYTES_MAX", 10)
    calls = await submitted(pipe, (0, b"12345"), (0, b"67890"), (0, b"!"))
    assert [call.told for call in calls] == [[], [], [JournalFull]]
    server.reply(b"+OK 1\r\n")
    calls = await submitted(pipe, (0, b"?"))
    assert server.transport.written == [by_digest(b"12345", b"67890"), by_digest(b"?")]
    await pipe.close()


async def test_a_failure_to_connect_is_told_to_all_that_waited() -> None:
    async def dial() -> Any:
        await asyncio.sleep(0)
        raise ConnectionRefusedError("nobody there")

    pipe = Pipe(dial, reply_timeout_ms=1_000)
    calls = await submitted(pipe, (0, b"a"), (1, b"b"))
    assert [call.told for call in calls] == [[OutcomeUnknown], [OutcomeUnknown]]
    await pipe.close()


async def test_a_bug_while_connecting_is_not_hidden_and_leaves_nobody_waiting() -> None:
    async def dial() -> Any:
        raise KeyError("a bug")

    pipe = Pipe(dial, reply_timeout_ms=1_000)
    calls = await submitted(pipe, (0, b"a"))
    assert calls[0].told == [KeyError]
    await pipe.close()


@pytest.mark.parametrize("how", ["hung up", "closed"])
async def test_a_connection_that_ends_as_soon_as_it_is_made_is_not_used(
    server: Server, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "hung up":
        server.has_hung_up = True
    else:
        monkeypatch.setattr(Transport, "is_closing", lambda transport: True)
    calls = await submitted(pipe, (0, b"a"))
    assert calls[0].told == [OutcomeUnknown]
    assert server.transport.written == []


async def test_a_closed_pipe_makes_no_connection(server: Server, pipe: Pipe) -> None:
    await pipe.close()
    calls = await submitted(pipe, (0, b"a"))
    assert calls[0].told == [OutcomeUnknown]
    assert server.transports == []


async def test_closing_does_not_wait_for_a_connection() -> None:
    async def dial() -> Any:
        await asyncio.Event().wait()

    pipe = Pipe(dial, reply_timeout_ms=1_000)
    calls = await submitted(pipe, (0, b"a"))
    async with asyncio.timeout(1):
        await pipe.close()
    await turns()
    assert calls[0].told == [OutcomeUnknown]
