"""Nobody can do more than the policy table says: every operation, asked by every kind of caller of two organisations,
with every id in it swapped for a stranger's.

The operations come from the running application (`tests.security.surface`), so a route that is added is in here.
"""

from __future__ import annotations

import pytest

from tests.edge.edge import FakeEdge
from tests.security.clerk import Clerk
from tests.security.judge import judged, leaks
from tests.security.questions import Asker
from tests.security.surface import Operation, Surface
from tests.security.world import World

SURFACE = Surface(FakeEdge().app)
ASKER = Asker(SURFACE)
PROTECTED = [operation for operation in SURFACE.operations if operation.action]
each_operation = pytest.mark.parametrize("operation", PROTECTED, ids=lambda operation: operation.name)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@each_operation
async def test_each_caller_may_do_what_the_table_says(world: World, operation: Operation) -> None:
    """With their own objects, under an Idempotency-Key that the same caller of the other organisation uses, too."""
    clerk = Clerk(world)
    findings = []
    for tenant, other in world.pairs():
        for usual in tenant.seats:
            for number, question in enumerate(ASKER.questions(operation)):
                seat = await clerk.seat(question, usual, tenant)
                values = await clerk.own(question, seat, tenant)
                key = {"Idempotency-Key": f"{number} {seat.name} {hash(operation.name)}"}
                answer = await clerk.ask(question, values, await clerk.token(question, seat), key)
                findings.append(judged(question, seat, answer))
                findings.append(leaks(question, seat, tenant, other, answer, ()))
    assert not any(findings), "\n".join(filter(None, findings))


@each_operation
async def test_what_is_foreign_looks_absent_and_stays_as_it_was(world: World, operation: Operation) -> None:
    clerk = Clerk(world)
    findings = []
    for tenant, other in world.pairs():
        before = await world.digest(other)
        for usual in tenant.seats:
            for question in ASKER.questions(operation):
                seat = await clerk.seat(question, usual, tenant)
                async for swap in clerk.swaps(question, seat, tenant, other):
                    findings.append(await clerk.compare(question, seat, tenant, other, swap))
        after = await world.digest(other)
        findings += [f"table {name} has changed" for name in before if before[name] != after[name]]
    assert not any(findings), "\n".join(filter(None, findings))


@each_operation
async def test_nobody_gets_in_without_a_token(world: World, operation: Operation) -> None:
    clerk = Clerk(world)
    tenant = world.tenants[0]
    wrong_secret = tenant.key[:-1] + ("0" if tenant.key[-1] != "0" else "1")
    for question in ASKER.questions(operation):
        values = await clerk.strangers(question, tenant)
        for token in (None, "", "x", "mvk_x", wrong_secret):
            answer = await clerk.ask(question, values, token, {})
            assert (answer.status, answer.json()["code"]) == (401, "unauthenticated"), token
