"""What can go wrong for a client, each with what the caller may do about it.

Rules:
1. A verdict "refused" is an answer, not an error.
2. `OutcomeUnknown` is never mixed up with a failure: what was asked may have happened. The same request under the same
   id finds out, now or days later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]


class MasterVipError(Exception):
    """All errors of this package."""


class ApiError(MasterVipError):
    """The system answered with a status that trying again would not change. `code` is stable (see /docs), `errors`
    names bad fields by JSON pointer, `request_id` is what the system's log knows the request by, where it tells."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.idempotency_key = idempotency_key


class Unavailable(MasterVipError):
    """No answer within the deadline, and nothing was changed: the system was not reached, or only read from, or said
    each time that it takes no more. `__cause__` is the last trouble."""


class OutcomeUnknown(MasterVipError):
    """No answer within the deadline to a request that may have been executed. Asking again with `idempotency_key` gets
    the outcome. `item` is a socket's scan as it was sent, for `ScanSocket.again`."""

    def __init__(self, message: str, idempotency_key: str, item: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{message} (Idempotency-Key {idempotency_key})")
        self.idempotency_key = idempotency_key
        self.item = item


class SignedOut(MasterVipError):
    """The refresh token is no longer good: the person has to sign in again. `__cause__` says why."""


class SocketRefused(MasterVipError):
    """The system ended the socket and said not to come back (close codes 4000-4499, or the HTTP status of a refused
    handshake)."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(f"{code} {name}: {message}")
        self.code = code
        self.name = name
        self.message = message


class SocketClosed(MasterVipError):
    """The socket was closed on this side."""


class ScanError(MasterVipError):
    """A scan that got no verdict and never will under this id, because it was malformed or not allowed. It had no
    effect."""

    def __init__(self, scan_id: str, code: str, message: str) -> None:
        super().__init__(f"{code}: {message} (scan {scan_id})")
        self.scan_id = scan_id
        self.code = code
        self.message = message


class TopicError(MasterVipError):
    """A topic that there is not for this caller, or one too many."""

    def __init__(self, topic: str, code: str, message: str) -> None:
        super().__init__(f"{topic}: {code}: {message}")
        self.topic = topic
        self.code = code
        self.message = message
