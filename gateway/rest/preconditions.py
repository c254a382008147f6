"""Entity tags, and the conditions that clients put on them: `If-Match` and `If-None-Match` (RFC 9110, §8.8.3, §13.1).

Rules:
1. A tag is strong: `"<version>"`, or `"<version>.<shown>"`. The version stands for what can be edited, as whoever
   decides an edit knows it; `shown` for what the answer tells besides (counts, links), which nobody loses by an edit.
2. `If-Match` is about edits. One of its tags must be strong and have the version of now; a weak one never holds. `*`
   holds for whatever is there.
3. `If-None-Match` is about copies: the whole tag counts, weak ones are as good, and the answer is 304 without a body.
4. This reads and writes tags. **Whether a version holds is decided by whoever makes the change, together with it**: the
   actor (`actors.admin`), or whoever has the row locked.
5. What is absent, or beyond the caller's reach, is so first: 404 goes before 412.
6. A header that is not a list of tags is refused, not passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from hashlib import blake2b
from typing import Annotated, Final

import msgspec
from fastapi import Depends, Header, Request, Response

from actors.refusals import PRECONDITION_FAILED
from gateway import limits
from gateway.problems import FieldError, Problem

IF_MATCH: Final = "If-Match"
IF_NONE_MATCH: Final = "If-None-Match"
# A tag of a list, with what stands before it and the comma after it.
_TAG: Final = re.compile(r'[ \t,]*(W/)?"([!#-~\x80-\xff]*)"[ \t]*(?:,|\Z)')
_HEADER: Final = partial(Header, json_schema_extra={"pattern": r'^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$'})


class Tag(msgspec.Struct, frozen=True):
    """An entity tag without its quotes."""

    opaque: str
    is_weak: bool = False


class NotModified(Exception):
    """The client has a copy of this, with this tag."""

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


def tag_of(version: str, *shown: object) -> str:
    """The value of an `ETag` header; `shown` is what the answer tells besides (rule 1)."""
    return f'"{version}.{digest_of(*shown)}"' if shown else f'"{version}"'


def digest_of(*parts: object) -> str:
    """A version for what has none of its own: a digest of what it consists of."""
    return blake2b(msgspec.msgpack.encode(parts), digest_size=8).hexdigest()


def parsed(lines: Iterable[str], name: str) -> tuple[Tag, ...] | None:
    """The tags of a header; None for `*`. Raises `Problem` (rule 6)."""
    text = ",".join(lines).strip(" \t,")
    if text == "*":
        return None
    tags = tuple(_tags(text, name))
    if not 1 <= len(tags) <= limits.ENTITY_TAGS_MAX:
        raise _malformed(name, f"{name} has 1 to {limits.ENTITY_TAGS_MAX} entity tags.")
    return tags


def _tags(text: str, name: str) -> Iterator[Tag]:
    at = 0
    while at < len(text):
        found = _TAG.match(text, at)
        if found is None:
            raise _malformed(name, f'{name} is * or a list of entity tags, such as "a1b2c3", "d4e5f6".')
        yield Tag(found[2], found[1] is not None)
        at = found.end()


def _malformed(name: str, detail: str) -> Problem:
    return Problem("malformed", detail, [FieldError(detail, parameter=name)])


class Edit:
    """What a client says of the thing that it changes: `versions` has those that it may have; None: any."""

    def __init__(self, tags: tuple[Tag, ...] | None, response: Response) -> None:
        self.versions: tuple[str, ...] | None = None
        if tags is not None:
            self.versions = tuple(tag.opaque.partition(".")[0] for tag in tags if not tag.is_weak)
        self._response = response

    def check(self, version: str) -> None:
        """Raises `Problem` (412). Call it with the row locked."""
        if self.versions is not None and version not in self.versions:
            raise Problem(PRECONDITION_FAILED)

    def asked(self) -> str:
        """What tells this condition from others, for the fingerprint of a request; "" without one."""
        return "" if self.versions is None else f" if {self.versions}"

    def tagged(self, tag: str) -> None:
        """Says the tag of what the edit made."""
        self._response.headers["ETag"] = tag


class Copy:
    """The copies that a client has."""

    def __init__(self, request: Request, response: Response) -> None:
        lines = request.headers.getlist(IF_NONE_MATCH)
        self._tags = parsed(lines, IF_NONE_MATCH) if lines else ()
        self._response = response

    def tagged(self, tag: str) -> None:
        """Says the tag of what is answered. Raises `NotModified` where the client has just that."""
        held = self._tags
        if held is None or any(f'"{each.opaque}"' == tag for each in held):
            raise NotModified(tag)
        self._response.headers["ETag"] = tag


async def _edit(
    request: Request,
    response: Response,
    _if_match: Annotated[
        str | None, _HEADER(alias=IF_MATCH, description="Change it only if it still has one of these tags; * for any.")
    ] = None,
) -> Edit:
    lines = request.headers.getlist(IF_MATCH)
    return Edit(parsed(lines, IF_MATCH) if lines else None, response)


async def _copy(
    request: Request,
    response: Response,
    _if_none_match: Annotated[
        str | None, _HEADER(alias=IF_NONE_MATCH, description="Answer 304 if it still has one of these tags.")
    ] = None,
) -> Copy:
    return Copy(request, response)


Editing = Annotated[Edit, Depends(_edit)]
Copied = Annotated[Copy, Depends(_copy)]
