"""Nobody gets anywhere with a cursor of his own making: whatever place it names, it is a 400 or a page of the same
list, and never a failure of ours."""

from __future__ import annotations

import base64

import msgspec
import pytest

from tests.edge.edge import FakeEdge
from tests.security.clerk import Clerk
from tests.security.judge import leaks, reach_of
from tests.security.questions import Asker, Question
from tests.security.surface import Surface
from tests.security.world import World

ASKER = Asker(Surface(FakeEdge().app))
QUESTIONS = [
    question
    for operation in Surface(FakeEdge().app).operations
    if operation.action
    for question in ASKER.questions(operation)
    if any(hole.kind == "cursor" for hole in question.holes)
]
PLACES = (
    "", " ", "0", "-1", "1.5", "1e400", "9" * 400, str(2**63), str(-(2**63)), "٣", "½", "\x00", "\ud7ff", "a" * 5_000,
    "%", "'", "x y", "1 x", "1 2 3", "x" * 64, "org_", "mem_\x7f", "../..", "9223372036854775807 x", " x", "1  x",
)  # fmt: skip

pytestmark = pytest.mark.asyncio(loop_scope="module")


def taken_apart(cursor: str) -> tuple[bytes, str]:
    """The mark of the list, and the place."""
    return msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=tuple[bytes, str])


def forged(mark: bytes, place: object) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((mark, place))).rstrip(b"=").decode()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.operation.name)
async def test_any_place_is_refused_or_a_page_of_the_same_list(world: World, question: Question) -> None:
    clerk = Clerk(world)
    tenant, other = world.tenants
    seat = next(seat for seat in tenant.seats if reach_of(question, seat) in ("tenant", "platform"))
    values = await clerk.own(question, seat, tenant)
    hole = next(hole for hole in question.holes if hole.kind == "cursor")
    mark, place = taken_apart(values[hole])
    foreign = await clerk.strangers(question, other)
    _, foreign_place = taken_apart(foreign[hole])
    cursors = [forged(mark, each) for each in (*PLACES, foreign_place, 7, None, ["x"], {"x": 1}, b"x", 1.5)]
    cursors += [forged(b"", place), forged(mark + b"x", place), forged(mark, place) + "AAAA", "A", "_-_-", "A" * 300]
    for cursor in cursors:
        answer = await clerk.ask(question, values | {hole: cursor}, seat.token, {})
        assert answer.status in (200, 400), (cursor[:80], answer.status, answer.body[:300])
        assert not leaks(question, seat, tenant, other, answer, ())
    for wrong in (b"", mark[:-1], bytes(len(mark))):
        answer = await clerk.ask(question, values | {hole: forged(wrong, place)}, seat.token, {})
        assert (answer.status, answer.json()["code"]) == (400, "cursor_invalid")
