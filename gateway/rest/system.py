"""Health, metrics and the readable documentation."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from gateway.parts import EdgeParts
from gateway.problems import Problem
from gateway.rest.common import edge_parts
from gateway.rest.docs import DOCS_POLICY, docs_page
from gateway.rest.permissions import permissions_page
from gateway.rest.rules_page import rules_page
from gateway.rest.sockets_page import frames_schema, sockets_page

router = APIRouter(tags=["system"])
Parts = Annotated[EdgeParts, Depends(edge_parts)]


@router.get("/healthz", summary="Whether this process lives")
async def healthz() -> dict[str, str]:
    """Always `ok` when it can answer at all."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether a check-in would succeed now")
async def readyz(parts: Parts) -> dict[str, str]:
    """503 otherwise."""
    if not await parts.is_ready():
        raise Problem("unavailable", "Not every partition has a host, or a store is away.")
    return {"status": "ready"}


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(parts: Parts) -> Response:
    """The exposition format, text."""
    return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The OpenAPI document for people. Loads nothing from elsewhere."""
    page: bytes | None = getattr(request.app.state, "docs_page", None)
    if page is None:
        page = request.app.state.docs_page = docs_page(request.app.openapi())
    return Response(page, media_type="text/html; charset=utf-8", headers={"content-security-policy": DOCS_POLICY})


@router.get("/docs/permissions", include_in_schema=False)
async def permissions(request: Request) -> Response:
    """Who may do what, from the table that is enforced."""
    page: bytes | None = getattr(request.app.state, "permissions_page", None)
    if page is None:
        page = request.app.state.permissions_page = permissions_page(request.app)
    return Response(page, media_type="text/html; charset=utf-8", headers={"content-security-policy": DOCS_POLICY})


@router.get("/docs/rules", include_in_schema=False)
async def rules(request: Request) -> Response:
    """The language of rules, from the tables that they are checked by."""
    page: bytes | None = getattr(request.app.state, "rules_page", None)
    if page is None:
        page = request.app.state.rules_page = rules_page()
    return Response(page, media_type="text/html; charset=utf-8", headers={"content-security-policy": DOCS_POLICY})


@router.get("/docs/sockets", include_in_schema=False)
async def sockets(request: Request) -> Response:
    """The frames of the sockets, from the types that they are decoded into."""
    page: bytes | None = getattr(request.app.state, "sockets_page", None)
    if page is None:
        page = request.app.state.sockets_page = sockets_page()
    return Response(page, media_type="text/html; charset=utf-8", headers={"content-security-policy": DOCS_POLICY})


@router.get("/docs/sockets/schema.json", include_in_schema=False)
async def frames() -> Response:
    """The same as JSON Schema."""
    return Response(msgspec.json.encode(frames_schema()), media_type="application/schema+json")
