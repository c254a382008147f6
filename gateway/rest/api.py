"""The FastAPI application of the ordinary routes: routers, one place for errors, the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from actors.ports import StoreUnavailable
from gateway import limits
from gateway.cold import ColdStore
from gateway.deprecations import Deprecations
from gateway.entrance import Entrance
from gateway.exchange import exchange_of
from gateway.identity.sign_in import SignIn
from gateway.identity.sign_up import SignUp
from gateway.members.work import MemberWork
from gateway.parts import EdgeParts
from gateway.problems import PROBLEM_TYPE, FieldError, Problem
from gateway.rest import (
    accounts,
    api_keys,
    audit_log,
    auth,
    card_batches,
    card_credentials,
    card_life,
    card_points,
    cards,
    coupons,
    devices,
    event_doors,
    events,
    invitations,
    jwks,
    leaderboards,
    me,
    member_facts,
    member_imports,
    member_links,
    member_schema,
    members,
    openapi,
    org_boards,
    org_roles,
    orgs,
    revocations,
    rule_simulation,
    rules,
    scans,
    statistics,
    system,
    tiers,
)
from gateway.rest.preconditions import NotModified
from gateway.rest.routes import RouteTable
from gateway.revocations import Revocations
from gateway.slots import Slots
from gateway.statistics import Statistician

_CODES = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "media_type_unsupported",
}
_log = structlog.get_logger(__name__)


ROUTERS = (
    auth.router,
    me.router,
    jwks.router,
    accounts.router,
    orgs.router,
    org_boards.router,
    tiers.router,
    api_keys.router,
    org_roles.router,
    invitations.router,
    audit_log.router,
    member_schema.router,
    # Before the members: `search` and `imports` are no ids.
    member_imports.router,
    member_facts.router,
    member_links.router,
    members.router,
    cards.batch_router,
    card_batches.router,  # before /v1/cards/{card_id}
    revocations.router,  # before /v1/cards/{card_id}
    cards.router,
    card_credentials.router,
    card_points.router,
    card_life.router,
    tiers.card_router,
    coupons.router,
    coupons.card_router,
    events.router,
    scans.router,
    event_doors.router,
    event_doors.card_router,
    statistics.router,
    devices.router,
    leaderboards.router,
    rules.router,
    rule_simulation.router,
    system.router,
)


class Api(FastAPI):
    """FastAPI with our document."""

    def openapi(self) -> dict[str, Any]:
        """The whole edge's, hot paths included."""
        return openapi.document(self)


def routes_of() -> RouteTable:
    """All that the application answers."""
    return RouteTable(ROUTERS, ["/openapi.json"])


def build_api(parts: EdgeParts, entrance: Entrance, deprecations: Deprecations, work: MemberWork) -> FastAPI:
    """The application, ready to serve."""
    api = Api(
        title="MasterVIP",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    api.state.parts = parts
    api.state.revocations = Revocations(parts.pool, parts.freshness.partition)
    api.state.exports = Slots(
        "exports", limits.EXPORTS_MAX, limits.EXPORTS_PER_TENANT_MAX, limits.EXPORT_RETRY_AFTER_MS
    )
    api.state.simulations = Slots(
        "simulations",
        limits.SIMULATIONS_MAX,
        limits.SIMULATIONS_PER_TENANT_MAX,
        limits.SIMULATION_RETRY_AFTER_MS,
    )
    api.state.cold = cold = ColdStore(parts.pool, parts.clock_ms)
    api.state.statistician = Statistician(cold)
    api.state.sign_up = SignUp(parts, cold)
    api.state.sign_in = SignIn(parts, cold)
    api.state.member_work = work
    api.state.entrance = entrance
    api.state.deprecations = deprecations
    for router in ROUTERS:
        api.include_router(router)
    api.add_exception_handler(Problem, _on_problem)
    api.add_exception_handler(NotModified, _on_not_modified)
    api.add_exception_handler(RequestValidationError, _on_validation_error)
    api.add_exception_handler(HTTPException, _on_http_exception)
    api.add_exception_handler(StoreUnavailable, _on_store_unavailable)
    return api


def _answer(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    own = {name.decode(): value.decode() for name, value in problem.headers()}
    body = problem.body(exchange_of(request.scope).trace_id.decode())
    return Response(body, problem.row.status, {**own, **(headers or {})}, PROBLEM_TYPE.decode())


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _answer(request, error)


async def _on_not_modified(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NotModified)
    return Response(status_code=304, headers={"ETag": error.tag})


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [_field_error(found["loc"], found["msg"]) for found in error.errors()]
    return _answer(request, Problem("malformed", errors[0].detail if len(errors) == 1 else "", errors))


def _field_error(location: Sequence[int | str], message: str) -> FieldError:
    """FastAPI's location as a JSON pointer or a parameter's name."""
    if location and location[0] == "body":
        steps = location[1:] if not (len(location) == 2 and isinstance(location[1], int)) else ()
        pointer = "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
        return FieldError(message, pointer=pointer)
    return FieldError(message, parameter=str(location[-1]) if location else None)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "malformed")
    detail = error.detail if error.status_code == 400 else ""
    return _answer(request, Problem(code, detail), dict(error.headers or {}))


async def _on_store_unavailable(request: Request, error: Exception) -> Response:
    _log.warning("store unavailable", path=request.url.path, error=str(error))
    return _answer(request, Problem("unavailable", "A store does not answer."))
