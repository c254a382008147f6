"""Where each action of the policy table is asked for, read from the running application, and the page that shows it.

Rules:
1. An entrance is a route of the API, a path of the fast lane, a socket or a kind of topic. Each names the one action of
   `gateway.identity.policy.POLICY` that it needs, or stands in `PUBLIC` with the reason why it needs none.
2. Nothing here decides anything: the page and the tests of security read from here what is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

import msgspec
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from gateway import doorway
from gateway.identity.policy import POLICY, PRINCIPALS, Principal, Reach
from gateway.points import VERBS
from gateway.rest.common import Allowed
from gateway.rest.docs import page_head
from gateway.sockets import live, scan, topics

SOCKET = "SOCKET"
HOT_PATHS: dict[str, str] = {
    "/v1/checkins": doorway.ACTION,
    "/v1/checkins:batch": doorway.ACTION,
    **{f"/v1/cards/{{card_id}}/{name}": verb.action for name, verb in VERBS.items()},
}
"""POSTs of the fast lane; what it asks for is in `gateway.fast_lane` and `gateway.doorway`."""
# What a route needs besides, for something of what it answers.
BESIDES: dict[tuple[str, str], tuple[str, str]] = {
    ("GET", "/v1/members"): ("Accept: text/csv", "members.export"),
}
PUBLIC: dict[tuple[str, str], str] = {
    ("GET", "/healthz"): "tells only that the process lives",
    ("GET", "/readyz"): "tells only whether a check-in would succeed",
    ("GET", "/metrics"): "counts without names; the operator's network decides who reaches it",
    ("GET", "/openapi.json"): "the document is for everyone",
    ("HEAD", "/openapi.json"): "the document is for everyone",
    ("GET", "/docs"): "the document is for everyone",
    ("GET", "/docs/permissions"): "the document is for everyone",
    ("GET", "/docs/rules"): "the document is for everyone",
    ("GET", "/docs/sockets"): "the document is for everyone",
    ("GET", "/docs/sockets/schema.json"): "the document is for everyone",
    ("GET", "/.well-known/jwks.json"): "public keys are for everyone",
    ("POST", "/v1/auth/register"): "whoever has no account yet",
    ("POST", "/v1/auth/login"): "the password is the credential",
    ("POST", "/v1/auth/refresh"): "the refresh token is the credential",
    ("POST", "/v1/auth/verify"): "the mailed code is the credential",
    ("POST", "/v1/auth/reset-password"): "the mailed code is the credential",
    ("POST", "/v1/auth/resend-verification"): "sends a mail to the owner, and answers the same for every address",
    ("POST", "/v1/auth/forgot-password"): "sends a mail to the owner, and answers the same for every address",
    ("POST", "/v1/devices/pair"): "the pairing code is the credential",
}
_REACH: dict[Reach, str] = {"platform": "all", "tenant": "organisation", "event": "its event", "own": "own"}
_PRINCIPAL: dict[Principal, str] = {
    "superadmin": "SuperAdmin",
    "org_admin": "OrgAdmin",
    "staff": "Staff",
    "member": "Member",
    "account": "Account",
    "key:manage": "Key: manage",
    "key:read": "Key: read",
    "key:scan": "Key: scan",
    "device": "Device",
}


class Entrance(msgspec.Struct, frozen=True, order=True):
    """One place where something can be asked of the edge. `action` is "" where it is public."""

    path: str
    method: str
    action: str


def entrances(app: FastAPI) -> list[Entrance]:
    """All of them, by path. Raises `ValueError` for a route that asks for two actions."""
    found = [Entrance(path, method, action) for method, path, action in _routes(app)]
    found += [Entrance(path, "POST", action) for path, action in HOT_PATHS.items()]
    found += [Entrance(f"{path} ({what})", method, action) for (method, path), (what, action) in BESIDES.items()]
    found += [Entrance("/v1/scan", SOCKET, scan.ACTION), Entrance("/v1/live", SOCKET, live.ACTION)]
    found += [Entrance(f"/v1/live {kind.name}", SOCKET, kind.action) for kind in topics.KINDS]
    return sorted(found)


def _routes(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    for route in iter_route_contexts(app.routes):
        actions = sorted(set(_actions(getattr(route, "dependant", None))))
        if len(actions) > 1:
            raise ValueError(f"{route.path} asks for several actions: {actions}")
        for method in sorted(route.methods or ()):
            yield method, route.path or "", "".join(actions)


def _actions(dependant: Dependant | None) -> Iterator[str]:
    if dependant is None:
        return
    if isinstance(dependant.call, Allowed):
        yield dependant.call.action
    for inner in dependant.dependencies:
        yield from _actions(inner)


def permissions_page(app: FastAPI) -> bytes:
    """The policy table with the entrances that each action opens, for people; in UTF-8."""
    return "".join(_page(entrances(app))).encode()


def _page(found: Iterable[Entrance]) -> Iterator[str]:
    yield page_head("MasterVIP: who may do what")
    yield "<h1>Who may do what</h1><p><a href=/docs>The API</a>. Generated from the table that is enforced.</p>"
    yield (
        "<p><b>all</b>: any organisation. <b>organisation</b>: everything of the caller's own. <b>its event</b>: what "
        "belongs to the event that a device is bound to; a device that is bound to no event reaches all of its "
        "organisation's. <b>own</b>: what belongs to the caller as a person or device. Whatever is beyond the reach "
        "looks absent. An API key may do what each of its scopes may.</p>"
    )
    heads = "".join(f"<th>{escape(_PRINCIPAL[principal])}" for principal in PRINCIPALS)
    yield f"<table><tr><th>Action{heads}<th>Where</tr>"
    places: dict[str, list[str]] = {}
    for entrance in found:
        places.setdefault(entrance.action, []).append(f"<code>{escape(f'{entrance.method} {entrance.path}')}</code>")
    for name, action in POLICY.items():
        cells = "".join(f"<td>{_REACH[action.reach[who]] if who in action.reach else ''}" for who in PRINCIPALS)
        where = "<br>".join(places.get(name, ()))
        yield f"<tr><td><b>{escape(name)}</b><br>{escape(action.summary)}{cells}<td>{where}</tr>"
    yield "</table><h2>Open to everybody</h2><table><tr><th>Where<th>Why</tr>"
    for (method, path), reason in PUBLIC.items():
        yield f"<tr><td><code>{escape(f'{method} {path}')}</code><td>{escape(reason)}</tr>"
    yield "</table>"
