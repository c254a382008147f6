"""What a partition has not finished with: messages without an answer, entries without a report."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import msgspec

from actors.codec import Message, encode_fact
from actors.coupon_facts import CodeIssued
from actors.effects import Token
from actors.entry import Entry
from actors.facts import Fact, PointsPosted, ScanJudged
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


class Sealed(msgspec.Struct):
    """An entry that is being written, with what waits for it."""

    entry: Entry
    facts: list[Fact]
    held: list[tuple[Waiting, Reply]]


def weight_of(fact: Fact) -> int:
    """At least as many bytes as the encoded fact takes; ids have at most 64 characters. The frequent kinds are not
    encoded for it."""
    weight = 700
    if isinstance(fact, ScanJudged):
        if fact.visits is not None:
            weight += 80 + 72 * len(fact.visits.recent)
        if fact.details is not None:
            words = len(fact.details.message) + len(fact.details.attention)
            weight += 600 + 4 * words + 70 * len(fact.details.questions)
        return weight + 4 * len(fact.member_name) + 160 * len(fact.rules)
    if isinstance(fact, PointsPosted):
        return (
            weight
            + 4 * (len(fact.member_name) + len(fact.note))
            + 40 * (len(fact.lots) + len(fact.takings))
            + 160 * len(fact.rules)
        )
    if isinstance(fact, CodeIssued):
        # A thousand of them come at once.
        told = (fact.tenant_id, fact.coupon_id, fact.code_id, fact.card_id, fact.issue_id, fact.tail)
        return 100 + sum(map(len, told))
    return len(encode_fact(fact))
