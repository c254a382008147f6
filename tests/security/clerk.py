"""Asks questions for the callers of a world, with their own objects and with strangers'."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from tests.edge.asgi import Answer
from tests.security.judge import leaks, mine, narrower, outcome, reach_of, shape, strangers
from tests.security.people import person
from tests.security.questions import Hole, Question, Values
from tests.security.world import Bundle, Seat, Tenant, World, absent

# Something unrelated may come between two requests (a caller is looked up anew, a list waits for Postgres); what tells
# a foreign object from an absent one comes between them each time.
TRIES = 3
# What ends the caller's own session, what uses the caller up (a quota, an invitation), and what ends the organisation:
# asked with a session, by somebody, about an organisation that can be done without.
ENDS_THE_SESSION = ("POST /v1/auth/logout",)
USES_UP_THE_CALLER = ("POST /v1/orgs", "POST /v1/invitations/accept", "DELETE /v1/members/{member_id}/link")
# Whoever has one knows that it exists: it may cost something else than one that does not.
SECRETS = ("invitation_token",)
ENDS_THE_ORG = (
    "DELETE /v1/orgs/{org_id}",
    "POST /v1/orgs/{org_id}/suspend",
    "PUT /v1/orgs/{org_id}/plan",
)


class Swap(msgspec.Struct, frozen=True):
    """A request that names a stranger's object, and the same one that names nobody's."""

    label: str
    foreign: dict[Hole, str]
    absent: dict[Hole, str]
    foreign_headers: dict[str, str] = {}
    absent_headers: dict[str, str] = {}

    def named(self) -> tuple[list[str], list[str]]:
        """What the two name that differs."""
        foreign = [value for hole, value in self.foreign.items() if value != self.absent[hole]]
        absent = [value for hole, value in self.absent.items() if value != self.foreign[hole]]
        return foreign + list(self.foreign_headers.values()), absent + list(self.absent_headers.values())


class Clerk:
    """Asks in one world."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def seat(self, question: Question, seat: Seat, tenant: Tenant) -> Seat:
        """Who asks: the seat, or somebody new of its kind."""
        if question.operation.name not in USES_UP_THE_CALLER or not seat.email:
            return seat
        return await person(self.world, tenant, seat.principal)

    async def own(self, question: Question, seat: Seat, tenant: Tenant) -> dict[Hole, str]:
        """What the seat may name; fresh where the request could change it."""
        is_reading, own = question.operation.method == "GET", mine(question, seat)
        if is_reading and not own:
            bundle = tenant.shared
        else:
            bundle = self.world.bundle(tenant, tenant.shared.ids if is_reading else None)
            bundle.take(own)
            if question.operation.name in ENDS_THE_ORG and reach_of(question, seat) is not None:
                bundle.ids["org"] = await self.world.spare_org(seat)
            kinds = {hole.kind for hole in question.holes}
            if "account" in own and "session" in kinds:
                _, bundle.ids["session"] = await self.world.signed_in(seat.email)
            if seat.email and "invitation_token" in kinds:
                bundle.ids["email"] = seat.email
        values = await self.values(question, bundle)
        may_list = reach_of(question, seat) is not None and narrower(question, seat) is None
        if reach_of(question, seat) == "own" and may_list:
            # A list of one's own may have one page only, and another's cursor does not fit it.
            return values | {hole: "" for hole in question.holes if hole.kind == "cursor"}
        return values | await self.cursors(question, tenant, values, [seat] if may_list else [])

    async def strangers(self, question: Question, other: Tenant) -> dict[Hole, str]:
        """What another organisation would name."""
        values = await self.values(question, other.shared)
        return values | await self.cursors(question, other, values, [])

    async def values(self, question: Question, bundle: Bundle) -> dict[Hole, str]:
        """The bundle's objects for all holes but those for cursors."""
        return {hole: await bundle.get(hole.kind) for hole in question.holes if hole.kind != "cursor"}

    async def cursors(
        self, question: Question, tenant: Tenant, values: Values, seats: Sequence[Seat]
    ) -> dict[Hole, str]:
        """One of the list as the seats see it; where they have no second page, as somebody sees it who has."""
        shared = await self.values(question, tenant.shared)
        wide = [seat for seat in tenant.seats if reach_of(question, seat) in ("tenant", "platform")]
        tries = [(values, seat) for seat in seats] + [(shared, seat) for seat in wide]
        found: dict[Hole, str] = {}
        for hole in question.holes:
            for named, seat in tries if hole.kind == "cursor" else ():
                address = question.address({**named, hole: "X"}).replace("cursor=X", "").rstrip("?&")
                found[hole] = found.get(hole) or await self.world.cursor(tenant, address, seat.token)
            assert hole.kind != "cursor" or found[hole], "no list has a second page: `World._fill` makes too little"
        return found

    async def token(self, question: Question, seat: Seat) -> str:
        """What the seat calls with; where the request ends its own session, one that it can do without."""
        if question.operation.name in ENDS_THE_SESSION and seat.email:
            return (await self.world.signed_in(seat.email))[0]
        return seat.token

    async def ask(self, question: Question, values: Values, token: str | None, headers: Mapping[str, str]) -> Answer:
        """One request."""
        address, body = question.address(values), question.content(values)
        named = {"X-Request-Id": "matrix", **dict(question.headers), **headers}
        if question.operation.file is not None:
            named["Content-Type"] = question.operation.file[0]
        if question.operation.method == "POST":
            for work in (self.world.system.app.member_work.imports, self.world.system.app.member_work.card_batches):
                while await work.one():
                    pass  # one at a time
        return await self.world.system.call(question.operation.method, address, body, token, **named)

    async def swaps(self, question: Question, seat: Seat, tenant: Tenant, other: Tenant) -> AsyncIterator[Swap]:
        """Every way to name a stranger's object: one hole at a time, all at once, and the header."""
        own = await self.own(question, seat, tenant)
        is_everybodys = reach_of(question, seat) == "platform"
        # Organisations, their list, and accounts as such are no strangers to whoever runs the platform; what is new is
        # nobody's yet.
        known = (
            "org",
            "cursor",
            "new_email",
            *(("account",) if question.operation.path.startswith("/v1/accounts/") else ()),
        )
        holes = [hole for hole in question.holes if not (is_everybodys and hole.kind in known)]
        others = await self.strangers(question, other)
        foreign = {hole: others[hole] for hole in holes}
        for hole in holes:
            for stranger in [foreign[hole], *strangers(hole, question, seat, own[hole], tenant)]:
                nobody = absent(hole.kind, stranger)
                yield Swap(f"{hole.kind} in {hole.at}", own | {hole: stranger}, own | {hole: nobody})
        if len(holes) > 1:
            nobodies = {hole: absent(hole.kind, stranger) for hole, stranger in foreign.items()}
            yield Swap("everything", own | foreign, own | nobodies)
        org = other.org_id
        is_sent_twice = any(hole.kind in SECRETS for hole in own)  # a second one would end the first
        another = own if is_sent_twice else await self.own(question, seat, tenant)
        yield Swap("X-Org-Id", own, another, {"X-Org-Id": org}, {"X-Org-Id": absent("org", org)})

    async def compare(self, question: Question, seat: Seat, tenant: Tenant, other: Tenant, swap: Swap) -> str:
        """Whether the two of a swap are the same, in what they answer and in what they cost; "" when they are."""
        told_named, known_named = swap.named()
        for _ in range(TRIES):
            told, told_cost = await self._watched(question, seat, swap.foreign, swap.foreign_headers)
            known, known_cost = await self._watched(question, seat, swap.absent, swap.absent_headers)
            leak = leaks(question, seat, tenant, other, told, told_named)
            if leak:
                return leak
            if swap.foreign_headers and told.status == known.status < 300:
                return "" if shape(told) == shape(known) else _differ(seat, swap, told.body, known.body)
            if outcome(told, told_named) != outcome(known, known_named):
                return _differ(seat, swap, (told.status, told.body), (known.status, known.body))
            is_secret = any(hole.kind in SECRETS and told_named for hole in swap.foreign)
            if told_cost == known_cost or is_secret:
                return ""
        return _differ(seat, swap, told_cost, known_cost)

    async def _watched(
        self, question: Question, seat: Seat, values: Values, headers: Mapping[str, str]
    ) -> tuple[Answer, list[str]]:
        token = await self.token(question, seat)
        with self.world.system.watch.looking() as cost:
            return await self.ask(question, values, token, headers), cost


def _differ(seat: Seat, swap: Swap, told: Any, known: Any) -> str:
    return f"{seat.name} with a foreign {swap.label}: {str(told)[:400]}; with an absent one: {str(known)[:400]}"
