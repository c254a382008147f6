"""Working on batches of cards: one at a time on a gateway, chunk by chunk, for as long as the lease is ours.

Rules:
1. Each row has one request id, derived from batch and place. Whoever takes a batch up asks again for what may have been
   decided and was not kept: the engine gives the first outcome. So each row takes effect once.
2. What the engine refuses is a failed row. Where it has no answer the chunk waits, and is asked for as a whole again.
3. What cards know of their holders follows as everywhere (`gateway.members.names`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from actors.card_commands import ReissueCard, RenewCard
from actors.card_facts import CardReissued
from actors.commands import ChangeCardState, Command, IssueCard, fingerprint
from actors.facts import CardIssued, CommandRefused
from actors.ports import StoreUnavailable
from actors.queries import GetCard
from actors.replies import CardView, Done, Failed, Reply
from actors.terms import CardState
from gateway import limits
from gateway.card_batches import store
from gateway.card_batches.store import Act, Asked, LeasedBatch, Outcome
from gateway.cold import ColdStore
from gateway.ids import IdMaker, derived_id
from gateway.jobs import JobState, JobWork, LeaseLost
from gateway.members import store as members
from gateway.members.model import Member
from gateway.members.names import note_issued
from gateway.members.told import profile_of_member
from gateway.ports import Engine
from gateway.problems import Problem, problem_of

_STATES: Final[dict[Act, CardState]] = {"suspend": "suspended", "resume": "active", "revoke": "revoked"}


class CardBatchWork(JobWork[LeasedBatch]):
    """Works on batches of cards."""

    table = store.JOBS

    def __init__(self, cold: ColdStore, holder: str, clock_ms: Callable[[], int], engine: Engine, ids: IdMaker) -> None:
        super().__init__(cold, holder, clock_ms)
        self._engine = engine
        self._ids = ids

    async def _work(self, leased: LeasedBatch) -> None:
        while leased.done < leased.rows:
            async with self._cold.connection() as connection:
                if leased.asked == leased.done:
                    asked = min(leased.done + limits.CARD_BATCH_CHUNK_ROWS, leased.rows)
                    if not await store.begin(connection, leased, self._holder, asked):
                        await store.end_cancelled(connection, leased, self._holder, self._clock_ms())
                        raise LeaseLost
                    leased = msgspec.structs.replace(leased, asked=asked)
                rows = await store.rows_from(connection, leased, leased.asked)
                wanted = [row.target for _, row in rows] if leased.act == "issue" else []
                holders = await members.find(connection, leased.tenant_id, wanted)
            issued: list[CardIssued] = []
            asking = (self._outcome(leased, place, row, holders, issued) for place, row in rows)
            outcomes = zip([place for place, _ in rows], await asyncio.gather(*asking), strict=True)
            leased = await self._keep(leased, list(outcomes), issued)
        await self._end(leased, "done")

    async def _end(self, leased: LeasedBatch, state: JobState, reason: str = "") -> None:
        async with self._cold.connection() as connection:
            await store.JOBS.end(connection, leased.tenant_id, leased.job_id, state, self._clock_ms(), reason)

    async def _keep(
        self, leased: LeasedBatch, outcomes: Sequence[tuple[int, Outcome]], issued: Sequence[CardIssued]
    ) -> LeasedBatch:
        """Raises `LeaseLost`."""
        failed = sum(bool(outcome.code) for _, outcome in outcomes)
        counted = {"succeeded": len(outcomes) - failed, "failed": failed}
        async with self._cold.connection() as connection, connection.transaction():
            await store.keep(connection, leased, outcomes)
            if not await store.JOBS.advance(connection, leased, self._holder, leased.asked, counted):
                raise LeaseLost
            await note_issued(connection, leased.tenant_id, issued)
        return msgspec.structs.replace(leased, done=leased.asked)

    async def _outcome(
        self, leased: LeasedBatch, place: int, row: Asked, holders: dict[str, Member], issued: list[CardIssued]
    ) -> Outcome:
        """What becomes of a row; a card that is issued is noted in `issued`."""
        if row.code:
            return Outcome(code=row.code, reason=row.reason)
        request_id = derived_id("req", leased.tenant_id, leased.job_id, str(place))
        try:
            if leased.act == "issue":
                return await self._issued(leased, request_id, row, holders.get(row.target), issued)
            return await self._changed(leased, request_id, row)
        except Problem as problem:
            return Outcome(code=problem.code, reason=problem.detail or problem.row.title)

    async def _issued(
        self, leased: LeasedBatch, request_id: str, row: Asked, member: Member | None, issued: list[CardIssued]
    ) -> Outcome:
        if member is None or member.erased_at_ms is not None:
            raise Problem("member_unknown")
        command = IssueCard(
            leased.tenant_id,
            request_id,
            b"",
            self._ids.entity("card"),
            member.member_id,
            member.name,
            row.tier,
            row.valid_from_ms,
            row.valid_until_ms,
            profile_of_member(member),
        )
        # The name is not asked for, it is the member's of now: after they were renamed it is the same request.
        asked = fingerprint(msgspec.structs.replace(command, member_name=""))
        fact = (await self._ask(msgspec.structs.replace(command, fingerprint=asked))).fact
        assert isinstance(fact, CardIssued), "that is what an issue leads to"
        issued.append(fact)
        return Outcome(
            tier=fact.tier,
            valid_from_ms=fact.valid_from_ms,
            valid_until_ms=fact.valid_until_ms,
            card_id=fact.card_id,
            member_id=fact.member_id,
            number=fact.number,
            at_ms=fact.at_ms,
        )

    async def _changed(self, leased: LeasedBatch, request_id: str, row: Asked) -> Outcome:
        tenant_id, card_id, act = leased.tenant_id, row.target, leased.act
        command: Command
        if act == "reissue":
            command = ReissueCard(tenant_id, request_id, b"", card_id, leased.note)
        elif act == "renew":
            command = RenewCard(tenant_id, request_id, b"", card_id, row.valid_from_ms, row.valid_until_ms)
        else:
            command = ChangeCardState(tenant_id, request_id, b"", card_id, _STATES[act], leased.note)
        fact = (await self._ask(msgspec.structs.replace(command, fingerprint=fingerprint(command)))).fact
        if act not in ("reissue", "renew"):
            return Outcome(card_id=card_id, at_ms=fact.at_ms)
        view = await self._engine.ask(GetCard(tenant_id, card_id))
        if not isinstance(view, CardView):
            raise _failure(view)
        return Outcome(
            tier=view.tier,
            valid_from_ms=view.valid_from_ms,
            valid_until_ms=view.valid_until_ms,
            card_id=card_id,
            member_id=view.member_id,
            number=view.number,
            serial=fact.serial if isinstance(fact, CardReissued) else view.serial,
            at_ms=fact.at_ms,
        )

    async def _ask(self, command: Command) -> Done:
        """Raises `Problem` where it is refused, `StoreUnavailable` where there is no answer."""
        reply = await self._engine.ask(command)
        if isinstance(reply, Done) and not isinstance(reply.fact, CommandRefused):
            return reply
        raise _failure(reply)


def _failure(reply: Reply) -> Problem | StoreUnavailable:
    """Rule 2."""
    if isinstance(reply, Failed):
        return StoreUnavailable(f"the engine: {reply.code}") if reply.retry_after_ms else problem_of(reply)
    refusal = reply.fact if isinstance(reply, Done) else None
    assert isinstance(refusal, CommandRefused), "what else is no yes"
    return problem_of(refusal)
