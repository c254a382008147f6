"""What is done at an event's doors besides check-ins: annulments, sending out, the list, answers, conflicts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from actors.conflicts import TimedScan
from actors.door_commands import AnnulScan, AnswerQuestions, ChangeAdmissionList, NoteCard, SendOut
from actors.door_facts import AdmissionListChanged, CardNoted, EveryoneLeft, QuestionsAnswered, ScanAnnulled
from actors.queries import GetEvent
from actors.replies import EventView
from actors.terms import LISTED_PER_CHANGE_MAX, QUESTIONS_PER_EVENT_MAX
from gateway import limits
from gateway.lists import page_of
from gateway.render import rfc3339
from gateway.rest.common import Allowed, Body, Call, Cursor, Id, Limit, PathId, View
from gateway.rest.scans import ScanMember
from storage.door_queries import conflict_cards, conflicts_of, listed_cards

ScanId = Annotated[str, Path(min_length=1, max_length=limits.REQUEST_ID_CHARS_MAX, pattern="^[!-~]([ -~]*[!-~])?$")]
Attention = Annotated[str, Field(max_length=limits.ATTENTION_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f]*$")]
Doorkeeper = Annotated[Call, Depends(Allowed("checkins.create"))]
Changer = Annotated[Call, Depends(Allowed("events.change"))]
ListReader = Annotated[Call, Depends(Allowed("admission_list.read"))]
LogReader = Annotated[Call, Depends(Allowed("scans.read"))]
CardChanger = Annotated[Call, Depends(Allowed("cards.change"))]
router = APIRouter(prefix="/v1/events", tags=["check-ins"])
card_router = APIRouter(prefix="/v1/cards", tags=["cards"])


class AnnulledView(View):
    """An admission that was undone, with the counts after it."""

    scan_id: str
    event_id: str
    card_id: str
    at: str
    inside: int
    admitted: int


class LeftView(View):
    """How many were inside, and are taken to have left."""

    event_id: str
    left: int
    at: str


class ListChange(Body):
    """Cards to put on the list and to take off it. One that is named on both sides is taken off."""

    add: Annotated[list[Id], Field(max_length=LISTED_PER_CHANGE_MAX)] = Field(default_factory=list)
    remove: Annotated[list[Id], Field(max_length=LISTED_PER_CHANGE_MAX)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _something(self) -> ListChange:
        if not self.add and not self.remove:
            raise PydanticCustomError("nothing_asked", "give add, remove or both")
        return self


class ListChangedView(View):
    """How many cards were put on the list and taken off, and how many are on it now."""

    added: int
    removed: int
    size: int


class ListPage(View):
    """A page of cards on the list. `stale`: what was just confirmed may be missing."""

    items: list[str]
    next_cursor: str | None
    stale: bool


class Answer(Body):
    """What a person answered."""

    question_id: Id
    answer: Annotated[str, Field(max_length=limits.ANSWER_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Answers(Body):
    """The answers of the person who holds the card. One that was given before is replaced."""

    card_id: Id
    answers: Annotated[list[Answer], Field(min_length=1, max_length=QUESTIONS_PER_EVENT_MAX)]


class AnswersView(View):
    """The questions that the person has answered by now."""

    card_id: str
    answered: list[str]


class ConflictSide(View):
    """An admission: when, by the scanner's corrected clock, and where."""

    scan_id: str
    at: str
    gate_id: str | None
    device_id: str | None
    offline: bool


class ConflictView(View):
    """`scan` should not have been let in for `reason`; `other` is the admission that it contradicts, if that is why."""

    reason: str
    card_id: str
    member: ScanMember | None
    session_id: str | None
    scan: ConflictSide
    other: ConflictSide | None


class ConflictPage(View):
    """The conflicts of a page of cards; there may be none on a page that is not the last. `stale`: what was just
    confirmed may be missing."""

    items: list[ConflictView]
    next_cursor: str | None
    stale: bool


class CardNote(Body):
    """What the staff at a door are told when the card is scanned; "" for nothing."""

    attention: Attention


class CardNoteView(View):
    """What they are told."""

    card_id: str
    attention: str


@router.post("/{event_id}/checkins/{scan_id}/annul", summary="Annul an admission")
async def annul(event_id: PathId, scan_id: ScanId, call: Doorkeeper) -> AnnulledView:
    """The turnstile did not turn: attendance is as before the scan, what it earned is reversed. A device annuls its own
    admissions, people and keys those of any device; for 15 minutes, and while nothing else became of the card."""
    call.sees_event(event_id)
    command = AnnulScan(call.tenant_id, call.request_id, b"", event_id, scan_id, call.caller.device_id)
    fact = await call.tell(command, ScanAnnulled, is_noted=False)
    return AnnulledView(
        scan_id=fact.scan_id,
        event_id=fact.event_id,
        card_id=fact.card_id,
        at=rfc3339(fact.at_ms),
        inside=fact.inside,
        admitted=fact.admitted,
    )


@router.post("/{event_id}/exit-all", summary="Everybody has left")
async def exit_all(event_id: PathId, call: Changer) -> LeftView:
    """Nobody is inside from now on. (Every day at a time: `exit_all_at` of the event.)"""
    fact = await call.tell(SendOut(call.tenant_id, call.request_id, b"", event_id), EveryoneLeft)
    return LeftView(event_id=fact.event_id, left=fact.count, at=rfc3339(fact.at_ms))


@router.post("/{event_id}/admission-list", summary="Change an event's admission list")
async def change_list(event_id: PathId, body: ListChange, call: Changer) -> ListChangedView:
    """It counts where the event's `admission` says `list_only`."""
    command = ChangeAdmissionList(call.tenant_id, call.request_id, b"", event_id, tuple(body.add), tuple(body.remove))
    fact = await call.tell(command, AdmissionListChanged)
    return ListChangedView(added=len(fact.added), removed=len(fact.removed), size=fact.size)


@router.get("/{event_id}/admission-list", summary="An event's admission list")
async def admission_list(
    event_id: PathId, call: ListReader, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None
) -> ListPage:
    """By card id. A scanner that may lose its network keeps it."""
    call.sees_event(event_id)
    await call.query(GetEvent(call.tenant_id, event_id), EventView)
    is_fresh = await call.is_fresh()
    page = await page_of(
        ("admission list", call.tenant_id),
        cursor,
        limit,
        lambda after, count: listed_cards(call.parts.pool, call.tenant_id, event_id, after, count),
        lambda card_id: card_id,
    )
    return ListPage(items=page.rows, next_cursor=page.next_cursor, stale=not is_fresh)


@router.post("/{event_id}/answers", summary="Answer an event's questions")
async def answer(event_id: PathId, body: Answers, call: Doorkeeper) -> AnswersView:
    """The verdict on an entry names the questions that are open."""
    call.sees_event(event_id)
    given = tuple((one.question_id, one.answer) for one in body.answers)
    command = AnswerQuestions(call.tenant_id, call.request_id, b"", event_id, body.card_id, given)
    fact = await call.tell(command, QuestionsAnswered, is_noted=False)
    return AnswersView(card_id=fact.card_id, answered=list(fact.answered))


@router.get("/{event_id}/conflicts", summary="Where offline scans contradict others")
async def conflicts(
    event_id: PathId, call: LogReader, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None
) -> ConflictPage:
    """By card; the same list in whatever order the scans were uploaded. `limit` bounds the cards looked at."""
    view = await call.query(GetEvent(call.tenant_id, event_id), EventView)
    is_fresh = await call.is_fresh()
    pool = call.parts.pool
    page = await page_of(
        ("conflicts", call.tenant_id, event_id),
        cursor,
        limit,
        lambda after, count: conflict_cards(pool, call.tenant_id, event_id, after, count),
        lambda card_id: card_id,
    )
    found = await conflicts_of(pool, call.tenant_id, event_id, page.rows, view.terms.reentry)
    items = [
        ConflictView(
            reason=one.reason,
            card_id=one.scan.card_id,
            member=ScanMember(id=one.scan.member_id, name=one.scan.member_name) if one.scan.member_id else None,
            session_id=one.scan.session_id or None,
            scan=_side(one.scan),
            other=_side(one.other) if one.other is not None else None,
        )
        for one in found
    ]
    return ConflictPage(items=items, next_cursor=page.next_cursor, stale=not is_fresh)


@card_router.post("/{card_id}/attention", summary="Tell door staff something about a card")
async def note_card(card_id: PathId, body: CardNote, call: CardChanger) -> CardNoteView:
    """It comes with every verdict on the card, as `attention`."""
    fact = await call.tell(NoteCard(call.tenant_id, call.request_id, b"", card_id, body.attention), CardNoted)
    return CardNoteView(card_id=fact.card_id, attention=fact.attention)


def _side(scan: TimedScan) -> ConflictSide:
    return ConflictSide(
        scan_id=scan.scan_id,
        at=rfc3339(scan.seen_ms),
        gate_id=scan.gate_id or None,
        device_id=scan.device_id or None,
        offline=scan.is_offline,
    )
