"""Stand-ins for what lies behind the edge: a transport and a directory under the test's command, and an engine that
admits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from actors.codec import Answers, Message, decode_messages, encode_answers
from actors.commands import AwardPoints, CheckIn, Command, RedeemPoints, ReversePoints
from actors.facts import CommandRefused, PointsPosted, ScanJudged
from actors.replies import Deferred, Done, Failed, Reply
from gateway.identity.callers import Caller
from gateway.ports import HostUnavailable, Placement

NOW_MS = 1_795_341_600_123
TENANT, OTHER_TENANT = "org_a", "org_d"
SUPERADMIN = Caller("", "superadmin", is_verified=True)


def judged(command: CheckIn, position: int = 0, replayed: bool = False, reason: str = "") -> Done:
    """The verdict on a scan, with counts that are easy to recognise."""
    fact = ScanJudged(
        command.tenant_id,
        command.request_id,
        command.fingerprint,
        NOW_MS,
        command.event_id,
        command.card_id,
        command.gate_id,
        command.device_id,
        command.direction,
        command.scanned_at_ms or NOW_MS,
        reason,
        "mem_1",
        'Ann "A" Ño',
        "gold",
        12,
        15,
        3,
        500,
        True,
        1,
        0 if reason else 10,
        260,
    )
    return Done(fact, replayed, position)


def check_in(request_id: str, tenant_id: str = TENANT, card_id: str = "card_1") -> CheckIn:
    """A scan."""
    return CheckIn(tenant_id, request_id, b"12345678", "evt_1", card_id, "", "", "entry")


class Submission:
    """A batch that a host was given; the test decides when and how it is answered."""

    def __init__(self, host: str, batch: bytes) -> None:
        self.host = host
        self.batch = batch
        self.messages = decode_messages(batch)
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @property
    def ids(self) -> list[str]:
        """The request ids, in order."""
        return [getattr(message, "request_id", "") for message in self.messages]

    def reply(self, *replies: Reply, ticket: int = 0) -> None:
        """Answers with exactly these."""
        self.answer.set_result(encode_answers(Answers(list(replies), ticket)))

    def admit(self, position: int = 0) -> None:
        """Answers each scan with an admission."""
        self.reply(*(judged(message, position) for message in self.messages if isinstance(message, CheckIn)))

    def fail(self) -> None:
        """The host dies."""
        self.answer.set_exception(HostUnavailable(self.host))


class FakeTransport:
    """Hands each batch to the test. With `answer`, answers at once instead."""

    def __init__(self, answer: Callable[[str, Sequence[Message]], Answers] | None = None) -> None:
        self.submissions: asyncio.Queue[Submission] = asyncio.Queue()
        self.collections: asyncio.Queue[tuple[int, asyncio.Future[bytes]]] = asyncio.Queue()
        self.sizes: list[int] = []
        self._answer = answer

    async def submit(self, host: str, batch: bytes) -> bytes:
        """See `gateway.ports.Transport`."""
        self.sizes.append(len(batch))
        if self._answer is not None:
            return encode_answers(self._answer(host, decode_messages(batch)))
        submission = Submission(host, batch)
        self.submissions.put_nowait(submission)
        return await submission.answer

    async def collect(self, host: str, ticket: int) -> bytes:
        """See `gateway.ports.Transport`."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.collections.put_nowait((ticket, answer))
        return await answer

    async def next(self) -> Submission:
        """The next batch; fails the test when none comes."""
        async with asyncio.timeout(2):
            return await self.submissions.get()


class FakeDirectory:
    """A placement that the test sets."""

    def __init__(self, hosts: dict[str, list[int]] | None, partition_count: int = 2) -> None:
        self.current = None if hosts is None else Placement(1, partition_count, hosts)
        self.reads = 0
        self._changes: asyncio.Queue[Placement] = asyncio.Queue()

    def move(self, hosts: dict[str, list[int]], announce: bool = False, partition_count: int = 2) -> None:
        """A new placement; announced, or left to be asked for."""
        self.current = Placement((self.current.version if self.current else 0) + 1, partition_count, hosts)
        if announce:
            self._changes.put_nowait(self.current)

    async def placement(self) -> Placement | None:
        """See `gateway.ports.Directory`."""
        self.reads += 1
        return self.current

    async def changes(self) -> AsyncIterator[Placement]:
        """See `gateway.ports.Directory`."""
        while True:
            yield await self._changes.get()


class FakeEngine:
    """Admits every scan and grants every award, and remembers what it was asked. `failure` is the reply to all
    instead."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.failure: Reply | None = None

    async def ask(self, message: Message) -> Reply:
        """See `gateway.ports.Engine`."""
        replies: list[Reply] = []
        self.submit(message, replies.append)
        return replies[0]

    def submit(self, message: Message, on_reply: Callable[[Reply], None]) -> None:
        """See `gateway.ports.Engine`."""
        self.messages.append(message)
        on_reply(self.failure or self._decide(message))

    def _decide(self, message: Message) -> Reply:
        if isinstance(message, CheckIn):
            return judged(message)
        if isinstance(message, AwardPoints | RedeemPoints):
            return Done(posted(message, message.amount))
        if isinstance(message, ReversePoints):
            return Done(posted(message, -1))
        return Failed("unavailable", "this engine only admits", 0)


def posted(command: AwardPoints | RedeemPoints | ReversePoints, amount: int) -> PointsPosted:
    """A ledger entry."""
    return PointsPosted(
        command.tenant_id,
        command.request_id,
        command.fingerprint,
        NOW_MS,
        command.card_id,
        "Ann",
        1,
        "award",
        amount,
        amount,
        "request",
        command.note,
        "",
        "",
        20261122,
        amount,
        amount,
        0,
    )


def refused(command: Command, reason: str) -> Done:
    """A refusal of a command that is no scan."""
    return Done(
        CommandRefused(
            command.tenant_id, command.request_id, b"", NOW_MS, type(command).__name__, "card_1", reason, "no"
        )
    )


def deferred(count: int) -> list[Reply]:
    """As many deferred replies."""
    return [Deferred() for _ in range(count)]


class FakeIdentity:
    """Tokens to callers, from a table."""

    def __init__(self, callers: dict[str, Caller]) -> None:
        self._callers = callers

    def cached(self, token: str, org_id: str = "") -> Caller | None:
        """See `gateway.identity.callers.Identity`."""
        return self._callers.get(token)

    def has_seen(self, token: str) -> bool:
        """See `gateway.identity.callers.Identity`."""
        return token in self._callers

    async def authenticate(self, token: str, org_id: str = "") -> Caller | None:
        """See `gateway.identity.callers.Identity`."""
        return self._callers.get(token)
