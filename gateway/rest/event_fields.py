"""What an event's doors can be told, as clients write and read it: zones, sessions, who is let in, questions, tags.

Rules:
1. A list that is given replaces the one there was. What has an id in it keeps it; what has none gets one derived from
   the request, so a retry names the same.
2. Whether it all fits together (a gate's zone exists, sessions do not overlap) the engine decides: `terms_invalid`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from actors.terms import (
    CAPACITY_MAX,
    NEVER,
    QUESTIONS_PER_EVENT_MAX,
    SESSIONS_PER_EVENT_MAX,
    ZONES_PER_EVENT_MAX,
    Admission,
    EventTerms,
    Question,
    Session,
    Tier,
    Zone,
)
from gateway import limits
from gateway.ids import derived_id
from gateway.render import rfc3339
from gateway.rest.common import Body, Id, Name, Note, Time, View, ms
from rules.limits import EXPRESSION_CHARS_MAX, TAGS_PER_EVENT_MAX, TEXT_CHARS_MAX

LocalTime = Annotated[str, Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["04:00"])]


class ZoneFields(Body):
    """A part of the venue. Without a `capacity` it holds as many as the event."""

    id: Id | None = None
    name: Name
    capacity: Annotated[int, Field(ge=1, le=CAPACITY_MAX)] | None = None


class SessionFields(Body):
    """A day or a show, attended for itself."""

    id: Id | None = None
    name: Name
    doors_open: Time
    doors_close: Time

    @model_validator(mode="after")
    def _in_order(self) -> SessionFields:
        if self.doors_close <= self.doors_open:
            raise PydanticCustomError("doors_order", "doors_close must be after doors_open")
        return self


def _condition(value: str) -> str:
    error = Admission(condition=value).compiled.error if value else None
    if error is not None:
        about = {"message": error.message, "line": error.line, "column": error.column}
        raise PydanticCustomError("expression", "{message} (line {line}, column {column})", about)
    return value


Condition = Annotated[
    str,
    Field(min_length=1, max_length=EXPRESSION_CHARS_MAX, examples=["card.points >= 100 && now.hour < 22"]),
    AfterValidator(_condition),
]


class AdmissionFields(Body):
    """Who is let in: cards of these `tiers` (none named: of any), with `list_only` those on the event's list, and those
    for which `condition` is true: CEL of `card`, `member`, `event`, `scan`, `counts` and `now`, as in rules on
    check-ins. One that cannot be computed (an attribute is missing) says no. `message` is what the scanner shows to
    others."""

    tiers: Annotated[list[Tier], Field(max_length=5)] = Field(default_factory=list)
    list_only: bool = False
    message: Note = ""
    condition: Condition | None = None


class QuestionFields(Body):
    """What a person is asked at the first check-in; free text where there are no `choices`."""

    id: Id | None = None
    text: Name
    choices: Annotated[list[Name], Field(max_length=limits.CHOICES_PER_QUESTION_MAX)] = Field(default_factory=list)
    required: bool = False


def _distinct_tags(tags: list[str]) -> list[str]:
    if len(set(tags)) < len(tags):
        raise PydanticCustomError("tags_distinct", "two tags are the same")
    return tags


Tags = Annotated[
    list[Annotated[Name, Field(max_length=TEXT_CHARS_MAX)]],
    Field(max_length=TAGS_PER_EVENT_MAX, description="Words that rules and conditions can go by, as `event.tags`."),
    AfterValidator(_distinct_tags),
]


class DoorFields(Body):
    """What is left out stays as it is."""

    zones: Annotated[list[ZoneFields], Field(max_length=ZONES_PER_EVENT_MAX)] | None = None
    sessions: Annotated[list[SessionFields], Field(max_length=SESSIONS_PER_EVENT_MAX)] | None = None
    admission: AdmissionFields | None = Field(None, description="Replaces the whole of it; null: everybody is let in.")
    exit_all_at: LocalTime | None = Field(
        None, description="Everybody is taken to have left at this time of day, in the event's time zone; null: never."
    )
    questions: Annotated[list[QuestionFields], Field(max_length=QUESTIONS_PER_EVENT_MAX)] | None = None
    tags: Tags | None = None

    def zones_of(self, tenant_id: str, request_id: str) -> tuple[Zone, ...] | None:
        """The zones asked for."""
        if self.zones is None:
            return None
        ids = _ids("zone", tenant_id, request_id, [zone.id for zone in self.zones])
        return tuple(Zone(own_id, zone.name, zone.capacity or 0) for own_id, zone in zip(ids, self.zones, strict=True))

    def sessions_of(self, tenant_id: str, request_id: str) -> tuple[Session, ...] | None:
        """The sessions asked for, in the order of their times."""
        if self.sessions is None:
            return None
        ids = _ids("ses", tenant_id, request_id, [session.id for session in self.sessions])
        made = (
            Session(own_id, one.name, ms(one.doors_open), ms(one.doors_close))
            for own_id, one in zip(ids, self.sessions, strict=True)
        )
        return tuple(sorted(made, key=lambda session: session.doors_open_ms))

    def admission_of(self) -> Admission | None:
        """The admission rule asked for: the one that lets everybody in where null was, None where nothing was."""
        asked = self.admission
        if asked is None:
            return Admission() if "admission" in self.model_fields_set else None
        return Admission(tuple(asked.tiers), asked.list_only, asked.message, asked.condition or "")

    def exit_all_minute(self) -> int | None:
        """The minute of the day asked for; `NEVER` where null was, None where nothing was."""
        if "exit_all_at" not in self.model_fields_set:
            return None
        if self.exit_all_at is None:
            return NEVER
        hours, minutes = self.exit_all_at.split(":")
        return 60 * int(hours) + int(minutes)

    def tags_of(self) -> tuple[str, ...] | None:
        """The tags asked for."""
        return None if self.tags is None else tuple(self.tags)

    def questions_of(self, tenant_id: str, request_id: str) -> tuple[Question, ...] | None:
        """The questions asked for."""
        if self.questions is None:
            return None
        ids = _ids("q", tenant_id, request_id, [question.id for question in self.questions])
        return tuple(
            Question(own_id, one.text, tuple(one.choices), one.required)
            for own_id, one in zip(ids, self.questions, strict=True)
        )


def _ids(kind: str, tenant_id: str, request_id: str, given: Sequence[str | None]) -> list[str]:
    return [own or derived_id(kind, tenant_id, request_id, str(index)) for index, own in enumerate(given)]


class ZoneView(View):
    """A part of the venue."""

    id: str
    name: str
    capacity: int | None


class SessionView(View):
    """A day or a show."""

    id: str
    name: str
    doors_open: str
    doors_close: str


class AdmissionView(View):
    """Who is let in."""

    tiers: list[str]
    list_only: bool
    message: str
    condition: str | None


class QuestionView(View):
    """What a person is asked."""

    id: str
    text: str
    choices: list[str]
    required: bool


class DoorView(View):
    """What an event's doors know."""

    zones: list[ZoneView]
    sessions: list[SessionView]
    admission: AdmissionView
    exit_all_at: str | None
    questions: list[QuestionView]
    tags: list[str]


def door_view(terms: EventTerms) -> DoorView:
    """An event's terms as far as they are here."""
    minute = terms.exit_all_minute
    return DoorView(
        zones=[ZoneView(id=zone.zone_id, name=zone.name, capacity=zone.capacity or None) for zone in terms.zones],
        sessions=[
            SessionView(
                id=one.session_id,
                name=one.name,
                doors_open=rfc3339(one.doors_open_ms),
                doors_close=rfc3339(one.doors_close_ms),
            )
            for one in terms.sessions
        ],
        admission=AdmissionView(
            tiers=list(terms.admission.tiers),
            list_only=terms.admission.list_only,
            message=terms.admission.message,
            condition=terms.admission.condition or None,
        ),
        exit_all_at=None if minute == NEVER else f"{minute // 60:02d}:{minute % 60:02d}",
        questions=[
            QuestionView(id=one.question_id, text=one.text, choices=list(one.choices), required=one.is_required)
            for one in terms.questions
        ],
        tags=list(terms.tags),
    )
