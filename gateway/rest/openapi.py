"""The OpenAPI document: FastAPI's for its own routes, and the hot paths from the very structs that they decode and
encode."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway import requests
from gateway.points import VERBS
from gateway.problems import TABLE
from gateway.render import PointsAnswer, Verdict
from gateway.rest.common import REQUEST_ID_PARAMETER
from gateway.rest.docs import CODES
from gateway.rest.preconditions import IF_MATCH, IF_NONE_MATCH
from gateway.scan_reasons import SCAN_REASONS
from gateway.sockets import codes

DESCRIPTION = (
    "Realtime check-ins for VIP cards. Errors are problem+json (RFC 9457) with a stable code. Every POST takes an "
    "Idempotency-Key. Times are RFC 3339, amounts integers in the smallest unit."
)
_REF = "#/components/schemas/{name}"
_SECURITY: list[dict[str, list[str]]] = [{"HTTPBearer": []}, {"APIKeyHeader": []}]
_PROBLEM_STATUS = {
    400: "Malformed",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Unknown",
    409: "Refused",
    413: "Body too large",
    422: "Request id reused",
    429: "Try later",
    503: "Try later",
}


class BatchVerdicts(msgspec.Struct):
    """In the order of the items: a verdict each, or the scan id and the problem with it."""

    items: list[Verdict]


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document; kept by the app."""
    if app.openapi_schema:
        return app.openapi_schema
    spec = get_openapi(
        title=app.title, version=app.version, openapi_version="3.1.0", description=DESCRIPTION, routes=app.routes
    )
    _add_hot_paths(spec)
    for path in spec["paths"].values():
        for verb, operation in path.items():
            _complete(verb, operation)
    app.state.deprecations.mark(spec["paths"])
    _add_codes(spec["components"]["schemas"])
    for unused in ("HTTPValidationError", "ValidationError"):
        spec["components"]["schemas"].pop(unused, None)
    app.openapi_schema = spec
    return spec


def _add_hot_paths(spec: dict[str, Any]) -> None:
    bodies = (requests.CheckInRequest, *(verb.body for verb in VERBS.values()))
    answers = (Verdict, PointsAnswer, BatchVerdicts)
    _, components = msgspec.json.schema_components([*bodies, *answers], ref_template=_REF)
    spec["components"]["schemas"].update(components)
    batch = {
        "type": "object",
        "required": ["items"],
        "additionalProperties": False,
        "properties": {"items": {"type": "array", "maxItems": 1000, "items": _ref("CheckInRequest")}},
    }
    item = {"anyOf": [_ref("Verdict"), {"type": "object", "required": ["scan_id", "problem"]}]}
    components["BatchVerdicts"]["properties"]["items"]["items"] = item
    paths = spec["paths"]
    paths["/v1/checkins"] = _post("check-ins", "Check in", "CheckInRequest", "Verdict", "200 for every verdict.")
    paths["/v1/checkins:batch"] = _post(
        "check-ins", "Check in up to 1,000, each by itself", batch, "BatchVerdicts", "For uploads after a time offline."
    )
    for name, verb in VERBS.items():
        path = f"/v1/cards/{{card_id}}/{name}"
        paths[path] = _post(
            "points", verb.summary, verb.body.__name__, "PointsAnswer", "A refusal is 409 with its code."
        )
        card = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.-]+$"}
        paths[path]["post"]["parameters"] = [{"name": "card_id", "in": "path", "required": True, "schema": card}]


def _post(tag: str, summary: str, body: str | dict[str, Any], answer: str, description: str) -> dict[str, Any]:
    schema = body if isinstance(body, dict) else _ref(body)
    return {
        "post": {
            "tags": [tag],
            "summary": summary,
            "description": description,
            "security": _SECURITY,
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {"200": {"description": "Done", "content": {"application/json": {"schema": _ref(answer)}}}},
        }
    }


def _complete(verb: str, operation: dict[str, Any]) -> None:
    """Problem answers and the Idempotency-Key, which every operation has."""
    responses = operation["responses"]
    responses.pop("422", None)
    for status, meaning in _PROBLEM_STATUS.items():
        content = {"application/problem+json": {"schema": _ref("Problem")}}
        responses.setdefault(str(status), {"description": meaning, "content": content})
    _tell_tags(operation)
    if verb in ("post", "patch"):
        operation.setdefault("parameters", []).append(REQUEST_ID_PARAMETER)


def _tell_tags(operation: dict[str, Any]) -> None:
    """What conditions lead to, where the operation takes any (`gateway.rest.preconditions`)."""
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    responses = operation["responses"]
    if names & {IF_MATCH, IF_NONE_MATCH} and "200" in responses:
        responses["200"]["headers"] = {"ETag": {"description": "Its entity tag", "schema": {"type": "string"}}}
    if IF_MATCH in names:
        content = {"application/problem+json": {"schema": _ref("Problem")}}
        responses["412"] = {"description": "It has none of the tags of If-Match any more", "content": content}
    if IF_NONE_MATCH in names:
        responses["304"] = {"description": "It still has one of the tags of If-None-Match"}


def _add_codes(schemas: dict[str, Any]) -> None:
    """All codes with what they mean and what the client does, from the tables that the answers are made of."""
    schemas["Problem"] = _problem_schema()
    schemas["ProblemCode"] = _codes(
        "The code of a problem",
        {code: (f"{row.status}: {row.title}", row.remedy) for code, row in sorted(TABLE.items())},
    )
    schemas["ScanReason"] = _codes(
        "Why a scan is refused, the first that applies in this order. Final for its scan id",
        {reason: (meaning.title, meaning.remedy) for reason, meaning in SCAN_REASONS.items()},
    )
    closes = {close.name: f"{close.code}: {close.message.removesuffix('.')}" for close in codes.CLOSES}
    schemas["SocketCode"] = _codes(
        "The code of an error frame, and of a close where a number is told: from 4500 on, connect again",
        {code: (closes.get(code, "The socket stays open"), remedy) for code, remedy in codes.REMEDIES.items()},
    )
    for name in ("Verdict", "ScanView"):
        schemas[name]["properties"]["reason"] = {"anyOf": [_ref("ScanReason"), {"type": "null"}]}


def _codes(title: str, lines_of: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """A closed list; `x-codes` has for programs what the description has for people."""
    lines = [f"- `{code}`: {meaning}. {remedy}" for code, (meaning, remedy) in lines_of.items()]
    return {
        "type": "string",
        "enum": list(lines_of),
        "title": title,
        "description": "\n".join(lines),
        CODES: [{"code": code, "meaning": meaning, "remedy": remedy} for code, (meaning, remedy) in lines_of.items()],
    }


def _problem_schema() -> dict[str, Any]:
    error = {
        "type": "object",
        "required": ["detail"],
        "properties": {
            "detail": {"type": "string"},
            "pointer": {"type": "string", "description": "JSON pointer into the body"},
            "parameter": {"type": "string", "description": "Name of a path, query or header parameter"},
        },
    }
    return {
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": _ref("ProblemCode"),
            "detail": {"type": "string"},
            "remedy": {"type": "string"},
            "retry_after_ms": {"type": "integer"},
            "errors": {"type": "array", "items": error},
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
