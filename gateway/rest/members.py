"""Members: persons known to an organisation, with their profile. Plain Postgres; name, birthday and attributes travel
with the cards that they are issued, and what changes follows to them (`gateway.members.names`).

Rules:
1. Who may set what: an organiser everything that `MemberFields` has, a member of their own profile `OWN_FIELDS` only.
   Ids, times, versions and whose member it is nobody sets.
2. Whoever was erased stays as an id, for history refers to it; nothing about them can be set any more.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from actors.ports import StoreUnavailable
from gateway import limits
from gateway.access_feed import AccessChange
from gateway.admin_log import actor_of
from gateway.identity import memberships
from gateway.ids import derived_id
from gateway.lists import page_of
from gateway.members import listing, store
from gateway.members.fields import Email, ExternalId, MemberFields, MemberPatch, given
from gateway.members.listing import MemberFilter
from gateway.members.model import ConsentFlag, ConsentSource, Member, changed, erased, new_member
from gateway.members.names import Behind
from gateway.members.profiles import profile_errors
from gateway.members.told import profile_of_member
from gateway.members.work import MemberWork
from gateway.problems import FieldError, Problem
from gateway.rest.common import Allowed, Call, Cursor, Limit, PathId, Time, View, ms
from gateway.rest.member_csv import csv_lines
from gateway.rest.member_views import MemberView, member_view, views
from gateway.rest.preconditions import Copied, Editing, tag_of
from storage.postgres import Connection

T = TypeVar("T")
OWN_FIELDS: Final = frozenset({"name", "phone", "locale", "consents"})
Adder = Annotated[Call, Depends(Allowed("members.create"))]
Lister = Annotated[Call, Depends(Allowed("members.list"))]
MemberReader = Annotated[Call, Depends(Allowed("members.read"))]
MemberChanger = Annotated[Call, Depends(Allowed("members.update"))]
Eraser = Annotated[Call, Depends(Allowed("members.erase"))]
router = APIRouter(prefix="/v1/members", tags=["members"])


class MemberPage(View):
    """A page of members."""

    items: list[MemberView]
    next_cursor: str | None


def background(request: Request) -> MemberWork:
    """What this gateway does for members in the background."""
    work: MemberWork = request.app.state.member_work
    return work


@router.post("", status_code=201, summary="Add a member")
async def add_member(body: MemberFields, call: Adder) -> MemberView:
    """The id is derived from the request id. Attributes are held against the organisation's schema."""
    fields = {"attributes": {}, **given(body)}

    async def work(connection: Connection) -> dict[str, Any]:
        at_ms = call.parts.clock_ms()
        member = _new(call, fields, at_ms)
        await _check(connection, call, member, fields)
        await store.add(connection, call.tenant_id, [member], actor_of(call.caller))
        await call.note(connection, member.member_id, at_ms=at_ms)
        return {"at_ms": at_ms}

    answer = await _stored(call.once("members", body, work))
    return member_view(_new(call, fields, answer["at_ms"]), None)


@router.get(
    "",
    summary="Members",
    response_model=None,
    responses={
        200: {
            "model": MemberPage,
            "description": "A page, or with `Accept: text/csv` everything that passes the filters",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        }
    },
)
async def members(
    call: Lister,
    request: Request,
    email: Annotated[Email | None, Query()] = None,
    external_id: Annotated[ExternalId | None, Query()] = None,
    consent: Annotated[ConsentFlag | None, Query(description="Given, and not withdrawn")] = None,
    created_since: Annotated[Time | None, Query()] = None,
    created_until: Annotated[Time | None, Query()] = None,
    erased: Annotated[bool | None, Query()] = None,
    limit: Limit = limits.PAGE_ITEMS_DEFAULT,
    cursor: Cursor = None,
) -> MemberPage | StreamingResponse:
    """In the order of their ids. As CSV for organisers only: the same columns that an import takes."""
    which = MemberFilter(
        email=email,
        external_id=external_id,
        consent=consent,
        since_ms=ms(created_since) if created_since else None,
        until_ms=ms(created_until) if created_until else None,
        is_erased=erased,
    )
    if "text/csv" in request.headers.get("accept", ""):
        if call.caller.reach("members.export") is None:
            raise Problem("forbidden", "This caller may not do 'members.export'.")
        headers = {"content-disposition": 'attachment; filename="members.csv"'}
        lines = await csv_lines(call, which)
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)
    async with call.cold.connection() as connection:

        async def read(after: str, count: int) -> list[Member]:
            return await listing.page(connection, call.tenant_id, which, after, count)

        page = await page_of(("members", call.tenant_id, which), cursor, limit, read, lambda row: row.member_id)
        items = await views(connection, call.tenant_id, page.rows)
    return MemberPage(items=items, next_cursor=page.next_cursor)


@router.get("/{member_id}", summary="A member")
async def get_member(member_id: PathId, call: MemberReader, copied: Copied) -> MemberView:
    """Only the caller's own organisation's; a member sees themself."""
    call.sees_member(member_id, "member_unknown")
    async with call.cold.connection() as connection:
        member = await _view(connection, call, member_id)
    copied.tagged(_tag(member))
    return member


@router.patch("/{member_id}", summary="Change a member")
async def change_member(
    member_id: PathId, body: MemberPatch, call: MemberChanger, request: Request, edit: Editing
) -> MemberView:
    """A JSON merge patch: what is left out stays, null removes, attributes are merged at all levels. A new name follows
    to the member's cards, and so to verdicts and boards; birthday and attributes follow for rules. A member may change
    their own name, phone, locale and consents. A retry changes nothing more and tells the member as they are by
    then."""
    call.sees_member(member_id, "member_unknown")
    patch = given(body)
    _check_own(call, patch)
    source: ConsentSource = "member" if call.reach == "own" else "organiser"

    changes: list[Member] = []
    made: list[MemberView] = []

    async def work(connection: Connection) -> dict[str, Any]:
        before = await store.locked(connection, call.tenant_id, member_id)
        if before is None:
            raise Problem("member_unknown")
        if before.erased_at_ms is not None:
            raise Problem("member_erased")
        edit.check(str(before.version))
        now_ms = call.parts.clock_ms()
        after = changed(before, patch, now_ms, source)
        await _check(connection, call, after, patch)
        if after is not before:
            await store.save(connection, call.tenant_id, [(before, after)], actor_of(call.caller))
            if call.reach != "own":
                await call.note(connection, member_id, detail={"fields": sorted(patch), "version": after.version})
        if (before.name, profile_of_member(before)) != (after.name, profile_of_member(after)):
            changes.append(after)
        made.extend(await views(connection, call.tenant_id, [after]))
        return {}  # what is remembered of a request must not outlive an erasure

    # What was sent, not what it means by default: to a merge patch null is not nothing.
    sent = msgspec.json.encode(patch, order="sorted").decode()
    await _stored(call.once(f"change member {member_id}{edit.asked()} {sent}", body, work))
    for after in changes:
        await _follow(call, after, background(request))
    if not made:
        async with call.cold.connection() as connection:
            made.append(await _view(connection, call, member_id))
    edit.tagged(_tag(made[0]))
    return made[0]


@router.delete("/{member_id}", status_code=204, summary="Erase a member's personal data")
async def erase_member(member_id: PathId, call: Eraser, request: Request) -> Response:
    """Name, addresses, birthday, attributes and consents go, for good; the accounts that are linked are no longer. The
    id stays, and with it what happened: scans and ledgers, under the name of their time. The member's cards have to be
    revoked before; they forget what rules knew, but for the journal's archive, which keeps what happened as it did."""
    if not await call.is_fresh():
        raise Problem("unavailable", "Not all of the member's cards are known yet.", retry_after_ms=1_000)
    async with call.cold.connection() as connection, connection.transaction():
        before = await store.locked(connection, call.tenant_id, member_id)
        if before is None:
            raise Problem("member_unknown")
        if await store.has_cards_in_force(connection, call.tenant_id, member_id):
            raise Problem("member_has_cards")
        now_ms = call.parts.clock_ms()
        after = erased(before, now_ms)
        linked = await memberships.of_member(connection, call.tenant_id, member_id)
        for part in linked:
            await memberships.unlink(connection, part.account_id, call.tenant_id, now_ms)
        await store.forget_invitations(connection, call.tenant_id, member_id)
        if after is not before:
            await store.save(connection, call.tenant_id, [(before, after)], actor_of(call.caller))
            await call.note(connection, member_id, at_ms=now_ms)
    for part in linked:
        await call.parts.access.publish(AccessChange("account", part.account_id))
    await _follow(call, after, background(request))
    return Response(status_code=204)


async def _view(connection: Connection, call: Call, member_id: str) -> MemberView:
    """Raises `Problem` (`member_unknown`)."""
    found = await store.find(connection, call.tenant_id, [member_id])
    if member_id not in found:
        raise Problem("member_unknown")
    return (await views(connection, call.tenant_id, [found[member_id]]))[0]


def _tag(member: MemberView) -> str:
    """Who is linked to them is shown only: it changes without the member."""
    return tag_of(str(member.version), member.account_id)


def _new(call: Call, fields: dict[str, Any], at_ms: int) -> Member:
    """The new member; a retry under the same request id makes the same id."""
    return new_member(derived_id("mem", call.tenant_id, call.request_id), fields, at_ms, "organiser")


async def _check(connection: Connection, call: Call, member: Member, written: dict[str, Any]) -> None:
    """Raises `Problem` for what fields cannot say by themselves."""
    stored = await store.schema_of(connection, call.tenant_id) if "attributes" in written else None
    schema = stored.schema if stored is not None else None
    errors = profile_errors(member, written, schema, call.parts.clock_ms())
    if errors:
        raise Problem("malformed", errors[0].detail if len(errors) == 1 else "", errors)


def _check_own(call: Call, patch: dict[str, Any]) -> None:
    """Rule 1. Raises `Problem`; also for a name that is null, which nobody can be without."""
    if call.reach == "own":
        others = sorted(patch.keys() - OWN_FIELDS)
        if others:
            errors = [FieldError("Only the organisation changes this.", pointer=f"#/{name}") for name in others]
            raise Problem("forbidden", f"One changes one's own {', '.join(sorted(OWN_FIELDS))}.", errors)


async def _stored(work: Awaitable[T]) -> T:
    """What `work` gives. Raises `Problem` where an external id is somebody else's already."""
    try:
        return await work
    except store.ExternalIdTaken as error:
        detail = "Another member has this external id."
        raise Problem("external_id_taken", detail, [FieldError(detail, pointer="#/external_id")]) from error


async def _follow(call: Call, member: Member, work: MemberWork) -> None:
    """Has what changed follow to the cards, now if possible; it is marked to be done in any case."""
    behind = Behind(call.tenant_id, member.member_id, member.name, profile_of_member(member), member.version)
    try:
        is_done = await work.names.follow(behind)
    except StoreUnavailable:
        is_done = False
    if not is_done:
        work.wake()
