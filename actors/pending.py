"""What a partition has not finished with: messages without an answer, entries without a report."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import msgspec

from actors.codec import Message
from actors.effects import Token
from actors.entry import Entry
from actors.facts import Fact
from actors.replies import Reply
from actors.waiting import Known


class Waiting(msgspec.Struct):
    """A message that has not been answered; without a token it is the partition's own and nobody waits for it."""

    token: Token | None
    message: Message
    arrived_ms: int
    known: Known | None = None


def told_absent(*waiting: Iterable[Waiting]) -> set[str]:
    """Whom messages that wait believe not to exist, because a load said so. Whoever of them came to be since must stay
    in memory, which is asked first: else they would come to be a second time."""
    absent: set[str] = set()
    for message in chain.from_iterable(waiting):
        if message.known is not None:
            absent |= message.known.absent
    return absent


class Draft(msgspec.Struct):
    """The entry that is being made: its facts, the same encoded, the bytes of those, and what waits for it."""

    facts: list[Fact] = []
    encoded: list[bytes] = []
    bytes: int = 0
    held: list[tuple[Waiting, Reply]] = []


class Sealed(msgspec.Struct):
    """An entry that is being written, with what waits for it."""

    entry: Entry
    facts: list[Fact]
    held: list[tuple[Waiting, Reply]]
