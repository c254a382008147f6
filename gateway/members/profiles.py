"""What fields cannot say by themselves: a birthday that is to come, attributes against the organisation's schema."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.members.attributes import attribute_errors
from gateway.members.model import Member
from gateway.problems import FieldError

_ONE_DAY = timedelta(days=1)  # it is tomorrow already somewhere


def profile_errors(member: Member, written: Mapping[str, Any], schema: str | None, now_ms: int) -> list[FieldError]:
    """What is wrong with a member after `written` was set. Attributes are held against the schema only where they are
    written: a schema that changed makes nobody's phone number impossible to change."""
    errors: list[FieldError] = []
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    if "birthday" in written and member.birthday is not None and member.birthday > today + _ONE_DAY:
        errors.append(FieldError("A birthday is not in the future.", pointer="#/birthday"))
    if "attributes" in written:
        errors += attribute_errors(schema, member.attributes, "#/attributes")
    return errors
