"""The fields of members as clients may set them, checked: the same rules for REST and for imports.

What is not here nobody sets: ids, times, versions, and whose member it is.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from gateway.members import limits
from gateway.members.attributes import structure_errors
from gateway.rest.common import Body, Name

EMAIL_PATTERN: Final = r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$"


def _date(value: Any) -> Any:
    if isinstance(value, str) and len(value) == 10 and value.isascii():
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise PydanticCustomError("date", "a date is a string, such as 1990-02-28")


def _birthday(value: date) -> date:
    if value.year < limits.BIRTHDAY_YEAR_MIN:
        raise PydanticCustomError("birthday", f"a birthday is not before {limits.BIRTHDAY_YEAR_MIN}")
    return value


def _structured(value: dict[str, Any]) -> dict[str, Any]:
    errors = structure_errors(value, "")
    if errors:
        where = f"{errors[0].pointer}: " if errors[0].pointer else ""
        raise PydanticCustomError("attributes", "{reason}", {"reason": where + errors[0].detail})
    return value


Email = Annotated[str, Field(min_length=3, max_length=254, pattern=EMAIL_PATTERN)]
Phone = Annotated[str, Field(min_length=3, max_length=32, pattern=r"^\+?[0-9 ().-]+$")]
Birthday = Annotated[
    date,
    BeforeValidator(_date, json_schema_input_type=Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]),
    AfterValidator(_birthday),
    Field(strict=False),
]
Locale = Annotated[
    str, Field(max_length=limits.LOCALE_CHARS_MAX, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", examples=["vi-VN"])
]
ExternalId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[!-~]+$")]
Attributes = Annotated[dict[str, Any], AfterValidator(_structured)]


class ConsentFlags(Body):
    """What a member agrees to: true gives a consent, false or null withdraws it."""

    marketing_email: bool | None = None
    marketing_sms: bool | None = None
    marketing_push: bool | None = None
    profiling: bool | None = None
    photo: bool | None = None
    data_sharing: bool | None = None


class NewMember(Body):
    """A person, for a card that is issued to them."""

    name: Name
    email: Email | None = None
    phone: Phone | None = None


class MemberFields(NewMember):
    """A person, in full."""

    birthday: Birthday | None = None
    locale: Locale | None = None
    external_id: ExternalId | None = None
    attributes: Attributes = Field(default_factory=dict)
    consents: ConsentFlags = Field(default_factory=ConsentFlags)


class MemberPatch(Body):
    """A JSON merge patch (RFC 7396): what is left out stays, null removes. A consent that is null is withdrawn."""

    name: Name = Field(default_factory=str)
    email: Email | None = None
    phone: Phone | None = None
    birthday: Birthday | None = None
    locale: Locale | None = None
    external_id: ExternalId | None = None
    attributes: Attributes | None = None
    consents: ConsentFlags | None = None


PATCH: Final = TypeAdapter(MemberPatch)


def given(body: MemberFields | MemberPatch) -> dict[str, Any]:
    """The fields as they were sent, without what was left out."""
    fields = {name: getattr(body, name) for name in body.model_fields_set}
    if isinstance(fields.get("consents"), ConsentFlags):
        fields["consents"] = fields["consents"].model_dump(exclude_unset=True)
    return fields
