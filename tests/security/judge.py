"""What the policy table demands of an answer, and whether two answers are the same to whoever reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.identity.policy import POLICY, Reach
from tests.edge.asgi import Answer
from tests.security.questions import Hole, Question
from tests.security.world import Seat, Tenant

# Kinds of object that a narrow reach narrows; what else a request names, the caller may name any of its organisation's.
NARROWED: dict[Reach, frozenset[str]] = {
    "own": frozenset({"member", "linked_member", "card", "card_number", "device", "account", "session"}),
    "event": frozenset({"event", "gate"}),
    "tenant": frozenset(),
    "platform": frozenset(),
}
# Where a route allows less than the table, with the answer's status and the reason.
NARROWER: dict[tuple[str, str], tuple[int, str]] = {
    ("GET /v1/events", "device of an event"): (403, "it sees its own event and lists none"),
    ("POST /v1/events/{event_id}/checkins/{scan_id}/annul", "device of an event"): (409, "another device admitted"),
    ("POST /v1/events/{event_id}/checkins/{scan_id}/annul", "device of the organisation"): (
        409,
        "another device admitted",
    ),
    ("PATCH /v1/devices/self", "device of the organisation"): (400, "bound to no event, it stands at no gate"),
    ("POST /v1/members/{member_id}/link", "member"): (403, "the organisation invites; a member ends the link"),
    ("POST /v1/invitations/accept", "the first superadmin"): (403, "it is a token, not an account"),
    ("GET /v1/me", "the first superadmin"): (404, "it is a token, not an account"),
    ("PATCH /v1/me", "the first superadmin"): (404, "it is a token, not an account"),
    ("POST /v1/auth/change-password", "the first superadmin"): (404, "it is a token, not an account"),
    ("DELETE /v1/auth/sessions/{session_id}", "the first superadmin"): (404, "it is a token, not an account"),
}
_NOT_COMPARED = ("content-length", "ratelimit", "ratelimit-policy")
MADE_BY_THE_SERVER = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|(?:req|bat)_[0-9a-z]{20}"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    # How fast work went.
    r'|"per_second":[0-9.]+'
)


def reach_to(action: str, seat: Seat) -> Reach | None:
    """What the table says, read without the code that enforces it; what is public, everybody may do."""
    return "own" if not action else POLICY[action].reach.get(seat.principal)


def reach_of(question: Question, seat: Seat) -> Reach | None:
    """The same for all that a question needs."""
    reaches = [reach_to(action, seat) for action in question.actions]
    return None if None in reaches else reaches[0]


def narrower(question: Question, seat: Seat) -> int | None:
    """The status where a route allows the seat less than the table does; None where it does not."""
    found = NARROWER.get((question.operation.name, seat.name))
    return found[0] if found else None


def outcome(answer: Answer, named: Iterable[str] = ()) -> tuple[Any, ...]:
    """What a reader can learn from an answer: status, headers and body, but for ids that the request itself named and
    what the server makes anew each time."""
    headers = {name: value for name, value in answer.headers.items() if name not in _NOT_COMPARED}
    return answer.status, headers, MADE_BY_THE_SERVER.sub("(made)", _without(answer, named))


def _without(answer: Answer, named: Iterable[str]) -> str:
    body = answer.body.decode("utf-8", "backslashreplace")
    for value in named:
        body = body.replace(value, "(named)")
    return body


def shape(answer: Answer) -> tuple[Any, ...]:
    """Of an answer that differs each time: its status, and which fields it has."""
    is_json = answer.headers.get("content-type", "").startswith(("application/json", "application/problem+json"))
    return answer.status, _shape(answer.json()) if is_json else None


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(inner) for name, inner in value.items()}
    return [_shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__


def judged(question: Question, seat: Seat, answer: Answer) -> str | None:
    """What is wrong with the answer to a request that names the seat's own things only; None when it is as the table
    says."""
    operation = question.operation
    reach = reach_of(question, seat)
    what = f"{answer.status} {answer.body[:300]!r}"
    if reach is None:
        is_refused = answer.status == 403 and answer.json()["code"] == "forbidden"
        return None if is_refused else f"may not {operation.action}, but got {what}"
    status = narrower(question, seat)
    if status is not None:
        return None if answer.status == status else f"should get {status}, but got {what}"
    return None if 200 <= answer.status < 300 else f"may {operation.action} ({reach}), but got {what}"


def mine(question: Question, seat: Seat) -> Mapping[str, str]:
    """What the seat names as its own, where the table lets it reach no further."""
    return seat.own if reach_of(question, seat) in ("own", "event") else {}


def strangers(hole: Hole, question: Question, seat: Seat, own: str, tenant: Tenant) -> list[str]:
    """Of the seat's own organisation, the objects that its reach ends before."""
    reach = reach_of(question, seat)
    sibling = tenant.shared.ids.get(hole.kind)
    is_beyond = reach is not None and hole.kind in NARROWED[reach] and hole.kind in (*mine(question, seat), "session")
    return [sibling] if is_beyond and sibling is not None and sibling != own else []


def leaks(question: Question, seat: Seat, tenant: Tenant, other: Tenant, answer: Answer, named: Iterable[str]) -> str:
    """What the answer tells that the seat must not know, beyond what the request itself named; "" for nothing."""
    reach = reach_of(question, seat)
    body = _without(answer, named)
    if reach != "platform" and (found := [kind for kind, value in other.shared.ids.items() if value in body]):
        return f"{seat.name} is told the other organisation's {found}: {body[:300]}"
    own = mine(question, seat)
    if reach is None or not own:
        return ""
    beyond = {kind: tenant.shared.ids[kind] for kind in NARROWED[reach] if kind in own}
    found = [kind for kind, value in beyond.items() if value != seat.own[kind] and value in body]
    return f"{seat.name} is told of somebody else's {found}: {body[:300]}" if found else ""
