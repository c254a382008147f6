"""Files that a request brings, and lists of the jobs (`gateway.jobs`) that they become."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastapi import Request

from gateway import limits
from gateway.members.csv_file import BadFile
from gateway.members.limits import IMPORT_PART_BYTES
from gateway.problems import FieldError, Problem
from storage.logs import BadCursor

Read = TypeVar("Read")
NOT_CSV: Final[dict[str, Any]] = {
    "description": "Not text/csv",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def csv_file(example: str) -> dict[str, Any]:
    """What the OpenAPI document says of a route that takes a file."""
    content = {"text/csv": {"schema": {"type": "string"}, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def check_is_csv(request: Request) -> None:
    """Raises `Problem` for a body that says to be something else."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/csv":
        raise Problem("media_type_unsupported", "A file is text/csv.")


async def parts_of(request: Request) -> list[bytes]:
    """The file in pieces of `IMPORT_PART_BYTES`. `gateway.app` keeps it within its limit."""
    parts: list[bytes] = []
    rest = bytearray()
    async for chunk in request.stream():
        rest += chunk
        while len(rest) >= IMPORT_PART_BYTES:
            parts.append(bytes(rest[:IMPORT_PART_BYTES]))
            del rest[:IMPORT_PART_BYTES]
    return [*parts, bytes(rest)] if rest else parts


async def in_thread(read: Callable[[list[bytes]], Read], parts: list[bytes]) -> Read:
    """What `read` makes of the file, in a thread: a large one takes some tenths of a second. Raises `Problem` for
    `BadFile`."""
    try:
        return await asyncio.to_thread(read, parts)
    except BadFile as error:
        errors = [FieldError(reason) for reason in error.reasons]
        raise Problem("malformed", errors[0].detail if len(errors) == 1 else "", errors) from error


def job_place(key: str) -> tuple[int, str] | None:
    """Time and id of the job before a page, None at the beginning. Raises `BadCursor`."""
    if not key:
        return None
    at_ms, _, job_id = key.partition(" ")
    if not (at_ms.isascii() and at_ms.isdigit() and int(at_ms) <= limits.SAFE_INTEGER_MAX):
        raise BadCursor(f"not a cursor of this list: {key[:40]!r}")
    return int(at_ms), job_id
