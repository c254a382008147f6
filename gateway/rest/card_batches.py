"""Batches of cards: asked for in one request, done behind it row by row, for anybody to watch.

Rules:
1. Whom a batch is about is settled when it is asked for; its id is derived from the request id, so a retry with the
   same body finds the same batch.
2. A row that fails says why and holds up no other; what is refused for one (`quota_exceeded`) is asked anew for the
   next.
3. Credentials are made when the result is read, and that it was read is noted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from actors.card_numbers import number_of
from actors.refusals import UNAVAILABLE
from actors.terms import Tier
from gateway import limits
from gateway.admin_log import actor_of
from gateway.card_batches import choice, store
from gateway.card_batches.choice import CardChoice, MemberChoice
from gateway.card_batches.store import Act, Asked, Batch, BatchUnderWay, Failure, Line, Made
from gateway.ids import derived_id
from gateway.lists import page_of
from gateway.problems import FieldError, Problem
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.card_batch_csv import read_rows
from gateway.rest.common import Allowed, Body, Call, Cursor, Id, Limit, Note, PathId, Time, View, csv_cell, ms
from gateway.rest.exports import CSV, NDJSON, Export, Format, wanted_format
from gateway.rest.members import background
from gateway.rest.uploads import NOT_CSV, check_is_csv, csv_file, in_thread, job_place, parts_of
from storage.postgres import Connection

PATH = "/v1/cards/batches"
CSV_PATH = "/v1/cards:csv"
CHANGE_PATH = "/v1/cards:change"
Batcher = Annotated[Call, Depends(Allowed("cards.batch"))]
Consent = Literal["marketing_email", "marketing_sms", "marketing_push", "profiling", "photo", "data_sharing"]
Text = Annotated[str, Field(max_length=limits.NAME_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f]*$")]
Whole = Annotated[int, Field(ge=-limits.SAFE_INTEGER_MAX, le=limits.SAFE_INTEGER_MAX)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=limits.CARD_BATCH_IDS_MAX)]
Told = TypeVar("Told", bound=Line)
router = APIRouter(tags=["cards"])


class ChosenMembers(Body):
    """Members by what is known of them: all conditions hold. `attributes` are some that they have, with these
    values; `has_card` is about cards that are not revoked."""

    consent: Consent | None = None
    created_since: Time | None = None
    created_until: Time | None = None
    attributes: (
        Annotated[dict[Text, Text | Whole | bool], Field(max_length=limits.CARD_BATCH_ATTRIBUTES_MAX)] | None
    ) = None
    has_card: bool | None = None


class IssueBatch(Body):
    """A card for each of `member_ids`, or for all that `members` chooses (with both: for those among the ids)."""

    member_ids: Ids | None = None
    members: ChosenMembers | None = None
    tier: Tier = "bronze"
    valid_from: Time | None = None
    valid_until: Time | None = None

    @model_validator(mode="after")
    def _consistent(self) -> IssueBatch:
        if self.member_ids is None and self.members is None:
            raise PydanticCustomError("members", "give member_ids, members, or both")
        _in_order(self.valid_from, self.valid_until)
        return self


class ChosenCards(Body):
    """Cards by what is known of them: all conditions hold. Revoked ones only where that `state` is asked for;
    `batch_id` are those of an earlier batch, `expires_before` those that end before then."""

    state: Literal["active", "suspended", "revoked"] | None = None
    tier: Tier | None = None
    issued_since: Time | None = None
    issued_until: Time | None = None
    expires_before: Time | None = None
    batch_id: Id | None = None


class ChangeBatch(Body):
    """What happens to each of `card_ids`, or to all that `cards` chooses (with both: to those among the ids).
    `valid_from` and `valid_until` are for `renew`, as with one card."""

    act: Literal["suspend", "resume", "revoke", "reissue", "renew"]
    card_ids: Ids | None = None
    cards: ChosenCards | None = None
    valid_from: Time | None = None
    valid_until: Time | None = None
    note: Note = ""

    @model_validator(mode="after")
    def _consistent(self) -> ChangeBatch:
        if self.card_ids is None and self.cards is None:
            raise PydanticCustomError("cards", "give card_ids, cards, or both")
        if self.act != "renew" and (self.valid_from or self.valid_until):
            raise PydanticCustomError("validity", "valid_from and valid_until are for renew")
        _in_order(self.valid_from, self.valid_until)
        return self


class BatchProgressView(View):
    """Of `rows`, `done` are decided: succeeded or failed. `per_second` is the rate since a gateway took it up,
    `ends_at` when it will be done at that rate; null while there is none."""

    rows: int
    done: int
    succeeded: int
    failed: int
    per_second: float | None
    ends_at: str | None


class BatchView(View):
    """A batch. It is over when its state is `done`, `cancelled` or `failed` (then `reason` says why)."""

    id: str
    act: Act
    state: Literal["queued", "running", "done", "cancelled", "failed"]
    progress: BatchProgressView
    note: str
    reason: str | None
    created_at: str
    finished_at: str | None


class BatchPage(View):
    """A page of batches."""

    items: list[BatchView]
    next_cursor: str | None


Fill = Callable[[Connection, str], Awaitable[int]]


@router.post(PATH, status_code=202, summary="Issue many cards")
async def start_issue(body: IssueBatch, call: Batcher, request: Request) -> BatchView:
    """At most 100,000, to a list of members or to all that a filter chooses. The answer comes at once; watch the batch
    until it is over, then read its result. One batch at a time."""
    terms = Asked(row=0, tier=body.tier, valid_from_ms=ms(body.valid_from), valid_until_ms=ms(body.valid_until))
    if body.members is None:
        return await _start(call, request, "issue", "", _digest(body), _listed(call, body.member_ids or [], terms))
    chosen = body.members
    which = MemberChoice(
        member_ids=body.member_ids,
        consent=chosen.consent,
        since_ms=_ms_or_none(chosen.created_since),
        until_ms=_ms_or_none(chosen.created_until),
        attributes=None if chosen.attributes is None else msgspec.json.encode(chosen.attributes).decode(),
        has_card=chosen.has_card,
    )
    if which.has_card is not None:
        await _needs_fresh(call)
    return await _start(call, request, "issue", "", _digest(body), _chosen(call, which, terms))


@router.post(
    CSV_PATH,
    status_code=202,
    summary="Issue many cards to the members of a file",
    openapi_extra=csv_file("external_id,tier\nC-1,gold\n"),
    responses={415: NOT_CSV},
)
async def start_issue_from_csv(
    request: Request,
    call: Batcher,
    tier: Annotated[Tier, Query()] = "bronze",
    valid_from: Annotated[Time | None, Query()] = None,
    valid_until: Annotated[Time | None, Query()] = None,
) -> BatchView:
    """UTF-8, separated by `,` or `;`, at most 20 MB and 100,000 rows. The first line names the columns: `member_id`,
    `external_id` or `email` says whose card it is (the first of them that is filled in), `tier`, `valid_from` and
    `valid_until` what the query says for all others."""
    check_is_csv(request)
    if valid_from and valid_until and valid_until <= valid_from:
        detail = "valid_until must be after valid_from"
        raise Problem("malformed", detail, [FieldError(detail, parameter="valid_until")])
    terms = Asked(row=0, tier=tier, valid_from_ms=ms(valid_from), valid_until_ms=ms(valid_until))
    with background(request).uploads.one():
        parts = await parts_of(request)
        rows = await in_thread(lambda read: read_rows(read, terms), parts)

        async def fill(connection: Connection, batch_id: str) -> int:
            asked = await choice.resolved(connection, call.tenant_id, rows)
            await store.add_rows(connection, call.tenant_id, batch_id, asked)
            return len(asked)

        digest = blake2b(f"{CSV_PATH}\n{msgspec.json.encode(terms).decode()}\n".encode(), digest_size=8)
        for part in parts:
            digest.update(part)
        return await _start(call, request, "issue", "", digest.digest(), fill)


@router.post(CHANGE_PATH, status_code=202, summary="Suspend, resume, revoke, reissue or renew many cards")
async def start_change(body: ChangeBatch, call: Batcher, request: Request) -> BatchView:
    """At most 100,000, of a list or all that a filter chooses, each as with one card. One batch at a time."""
    terms = Asked(row=0, valid_from_ms=ms(body.valid_from), valid_until_ms=ms(body.valid_until))
    fill = _listed(call, body.card_ids or [], terms)
    if body.cards is not None:
        await _needs_fresh(call)
        chosen = body.cards
        which = CardChoice(
            card_ids=body.card_ids,
            state=chosen.state,
            tier=chosen.tier,
            since_ms=_ms_or_none(chosen.issued_since),
            until_ms=_ms_or_none(chosen.issued_until),
            expires_before_ms=_ms_or_none(chosen.expires_before),
            batch_id=chosen.batch_id,
        )
        fill = _chosen(call, which, terms)
    return await _start(call, request, body.act, body.note, _digest(body), fill)


@router.get(PATH, summary="Batches of cards")
async def list_batches(call: Batcher, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None) -> BatchPage:
    """The latest first; those of the last 90 days."""
    async with call.cold.connection() as connection:

        async def read(after: str, count: int) -> list[Batch]:
            return await store.latest(connection, call.tenant_id, job_place(after), count)

        page = await page_of(
            ("card batches", call.tenant_id), cursor, limit, read, lambda row: f"{row.created_at_ms} {row.batch_id}"
        )
    return BatchPage(items=[_view(call, row) for row in page.rows], next_cursor=page.next_cursor)


@router.get(PATH + "/{batch_id}", summary="How far a batch of cards is")
async def get_batch(batch_id: PathId, call: Batcher) -> BatchView:
    """Ask again now and then; it goes on whether somebody asks or not."""
    async with call.cold.connection() as connection:
        found = await store.find(connection, call.tenant_id, batch_id)
    if found is None:
        raise Problem("batch_unknown")
    return _view(call, found)


@router.post(PATH + "/{batch_id}/cancel", summary="Cancel a batch of cards")
async def cancel_batch(batch_id: PathId, call: Batcher, request: Request) -> BatchView:
    """What is done stays. The rows that are being asked for are finished first; until then it says `running`."""
    async with call.cold.connection() as connection, connection.transaction():
        at_ms = call.parts.clock_ms()
        if await store.cancel(connection, call.tenant_id, batch_id, at_ms):
            await call.note(connection, batch_id, at_ms=at_ms, detail={"cancelled": True})
    background(request).wake()
    return await get_batch(batch_id, call)


_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One JSON object a line, or with `Accept: text/csv` a table",
        "content": {NDJSON: {"schema": {"type": "string"}}, CSV: {"schema": {"type": "string"}}},
    }
}


@router.get(PATH + "/{batch_id}/report", summary="Rows of a batch that failed", response_model=None, responses=_LINES)
async def report(batch_id: PathId, call: Batcher, request: Request) -> Export[Failure]:
    """`row` (as a spreadsheet counts, for a file), `id` of the member or card, `column` where it is one's fault, `code`
    as in a problem, and `reason`; while the batch is under way, as far as it is."""
    await get_batch(batch_id, call)
    columns = ("row", "id", "column", "code", "reason")
    return _export(call, request, batch_id, store.failures, columns, _failure)


@router.get(
    PATH + "/{batch_id}/result",
    summary="Cards of a batch, with their credentials, for the printer",
    response_model=None,
    responses=_LINES,
)
async def result(batch_id: PathId, call: Batcher, request: Request) -> Export[Made]:
    """Of batches that issue, reissue or renew: `row`, `member_id`, `member_name`, `external_id`, `card_id`, `number`,
    `tier`, `valid_from`, `valid_until` and `credential`, the text of the QR code; as they were when the batch came to
    them. While the batch is under way, as far as it is."""
    await get_batch(batch_id, call)
    async with call.cold.connection() as connection:
        await call.note(connection, batch_id, detail={"result": True})
    columns = ("row", "member_id", "member_name", "external_id", "card_id", "number", "tier", "valid_from")
    return _export(call, request, batch_id, store.made, (*columns, "valid_until", "credential"), partial(_made, call))


def _in_order(valid_from: Time | None, valid_until: Time | None) -> None:
    if valid_from and valid_until and valid_until <= valid_from:
        raise PydanticCustomError("validity_order", "valid_until must be after valid_from")


def _ms_or_none(time: Time | None) -> int | None:
    return None if time is None else ms(time)


def _digest(body: Body) -> bytes:
    return blake2b(f"{PATH}\n{type(body).__name__}\n{body.model_dump_json()}".encode(), digest_size=8).digest()


async def _needs_fresh(call: Call) -> None:
    """What is chosen by its cards needs all of them. Raises `Problem` (503)."""
    if not await call.is_fresh():
        raise Problem(UNAVAILABLE, "What was just confirmed is not there to choose from yet.")


def _listed(call: Call, ids: Sequence[str], terms: Asked) -> Fill:
    """Rows by their ids, each once."""

    async def fill(connection: Connection, batch_id: str) -> int:
        rows = [
            msgspec.structs.replace(terms, row=number, target=target)
            for number, target in enumerate(dict.fromkeys(ids), 1)
        ]
        await store.add_rows(connection, call.tenant_id, batch_id, rows)
        return len(rows)

    return fill


def _chosen(call: Call, which: MemberChoice | CardChoice, terms: Asked) -> Fill:
    async def fill(connection: Connection, batch_id: str) -> int:
        return await choice.choose(connection, call.tenant_id, batch_id, which, terms, limits.CARD_BATCH_ROWS_MAX)

    return fill


async def _start(call: Call, request: Request, act: Act, note: str, digest: bytes, fill: Fill) -> BatchView:
    """Rule 1. Raises `Problem`."""
    batch_id = derived_id("bat", call.tenant_id, call.request_id)

    async def work(connection: Connection) -> dict[str, Any]:
        at_ms = call.parts.clock_ms()
        await store.create(connection, call.tenant_id, batch_id, act, note, actor_of(call.caller), at_ms)
        rows = await fill(connection, batch_id)
        if rows > limits.CARD_BATCH_ROWS_MAX:
            detail = f"A batch has at most {limits.CARD_BATCH_ROWS_MAX} rows: choose fewer."
            raise Problem("malformed", detail, [FieldError(detail)])
        await call.note(connection, batch_id, at_ms=at_ms, detail={"act": act, "rows": rows})
        return {}

    try:
        await call.cold.once(call.tenant_id, call.request_id, digest, work)
    except BatchUnderWay as error:
        raise Problem("batch_under_way") from error
    background(request).wake()
    return await get_batch(batch_id, call)


def _view(call: Call, batch: Batch) -> BatchView:
    now_ms = batch.finished_at_ms or call.parts.clock_ms()
    spent_ms, done = max(1, now_ms - batch.taken_at_ms), batch.done - batch.taken_done
    rate = done * 1_000 / spent_ms if batch.taken_at_ms and done else None
    is_running = rate is not None and batch.finished_at_ms is None
    return BatchView(
        id=batch.batch_id,
        act=batch.act,
        state=batch.state,
        progress=BatchProgressView(
            rows=batch.rows,
            done=batch.done,
            succeeded=batch.succeeded,
            failed=batch.failed,
            per_second=None if rate is None else round(rate, 1),
            ends_at=rfc3339(now_ms + round((batch.rows - batch.done) * 1_000 / rate)) if rate and is_running else None,
        ),
        note=batch.note,
        reason=batch.reason or None,
        created_at=rfc3339(batch.created_at_ms),
        finished_at=rfc3339_or_none(batch.finished_at_ms or 0),
    )


def _export(
    call: Call,
    request: Request,
    batch_id: str,
    read: Callable[[Connection, str, str, int, int], Awaitable[list[Told]]],
    columns: Sequence[str],
    fields: Callable[[Told], tuple[object, ...]],
) -> Export[Told]:
    """Rows with a `place`, a line each: `fields` of them under the names of `columns`."""

    async def pages() -> AsyncGenerator[Sequence[Told]]:
        after = -1
        while True:
            async with call.cold.connection() as connection:
                rows = await read(connection, call.tenant_id, batch_id, after, limits.EXPORT_PAGE_ROWS)
            if not rows:
                return
            yield rows
            after = rows[-1].place

    def csv_line(row: Told) -> str:
        return ",".join(map(csv_cell, fields(row))) + "\r\n"

    def json_line(row: Told) -> str:
        return msgspec.json.encode(dict(zip(columns, fields(row), strict=True))).decode() + "\n"

    is_csv = wanted_format(request.headers.get("accept", "")) == CSV
    form = Format(CSV, csv_line, ",".join(columns) + "\r\n") if is_csv else Format(NDJSON, json_line)
    headers = {
        "content-disposition": f'attachment; filename="{batch_id}.{"csv" if is_csv else "ndjson"}"',
        "cache-control": "no-store",
    }
    return Export(request.app.state.exports, call.tenant_id, form, pages(), headers)


def _failure(row: Failure) -> tuple[object, ...]:
    return row.row, row.target or None, row.column or None, row.code, row.reason


def _made(call: Call, row: Made) -> tuple[object, ...]:
    credential = call.parts.credentials.issue(
        call.tenant_id, row.card_id, row.tier, row.at_ms, row.valid_from_ms, row.valid_until_ms, row.serial
    )
    return (
        row.row,
        row.member_id,
        row.member_name or None,
        row.external_id or None,
        row.card_id,
        number_of(call.tenant_id, row.number) if row.number else None,
        row.tier,
        rfc3339_or_none(row.valid_from_ms),
        rfc3339_or_none(row.valid_until_ms),
        credential,
    )
