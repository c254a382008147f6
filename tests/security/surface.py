"""Everything that can be asked over HTTP, read from the application itself: each operation with the action it needs,
its parameters, and the schemas of its body and answers.

Tests are made from this list, so a route that is added tomorrow is in them tomorrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import FastAPI

from gateway.app import EdgeApp
from gateway.rest.permissions import SOCKET, entrances

Schema = dict[str, Any]


class Parameter(msgspec.Struct, frozen=True):
    """A path or query parameter."""

    name: str
    where: str
    schema: Schema
    is_required: bool


class Operation(msgspec.Struct, frozen=True):
    """One method of one path. `action` is "" where it is public, `body` the schema of its JSON body, None without;
    `file` is an example of a body that is no JSON, with its media type."""

    method: str
    path: str
    action: str
    parameters: tuple[Parameter, ...]
    body: Schema | None
    is_body_required: bool
    file: tuple[str, str] | None
    responses: Schema

    @property
    def name(self) -> str:
        """ "GET /v1/cards/{card_id}"."""
        return f"{self.method} {self.path}"


class Surface:
    """The operations of an application, and its schemas."""

    def __init__(self, app: EdgeApp) -> None:
        api = app._api
        assert isinstance(api, FastAPI)
        self.entrances = entrances(api)
        self.document: Schema = api.openapi()
        self._schemas: Schema = self.document["components"]["schemas"]
        actions = {(each.method, each.path): each.action for each in self.entrances if each.method != SOCKET}
        self.operations = [
            self._operation(method.upper(), path, found, actions)
            for path, methods in self.document["paths"].items()
            for method, found in methods.items()
        ]

    def _operation(self, method: str, path: str, found: Schema, actions: dict[tuple[str, str], str]) -> Operation:
        body = found.get("requestBody")
        contents = body["content"] if body else {}
        json = contents.get("application/json")
        others = [(kind, content["example"]) for kind, content in contents.items() if kind != "application/json"]
        parameters = (
            Parameter(each["name"], each["in"], self.plain(each["schema"]), each["required"])
            for each in found.get("parameters", ())
            if each["in"] in ("path", "query")
        )
        return Operation(
            method,
            path,
            actions[method, path],
            tuple(parameters),
            None if json is None else self.plain(json["schema"]),
            json is not None and body.get("required", False),
            others[0] if others else None,
            found["responses"],
        )

    def plain(self, schema: Schema) -> Schema:
        """The schema itself, without the detours: references, "or null", a wrapper around one."""
        while True:
            if "$ref" in schema:
                schema = self._schemas[schema["$ref"].rpartition("/")[2]]
            elif "anyOf" in schema or "oneOf" in schema:
                options = schema.get("anyOf") or schema["oneOf"]
                schema = next(option for option in options if option.get("type") != "null")
            elif "allOf" in schema and len(schema["allOf"]) == 1:
                schema = schema["allOf"][0]
            else:
                return schema

    def name_of(self, schema: Schema) -> str:
        """What the document calls a schema; "" for one without a name."""
        named = next((each for each in (schema, *schema.get("anyOf", ())) if "$ref" in each), {"$ref": ""})
        return str(named["$ref"].rpartition("/")[2])

    def objects(self, schema: Schema, pointer: str = "#") -> Iterator[tuple[str, Schema]]:
        """Each object within a body, by its JSON pointer; of a list, its first item."""
        schema = self.plain(schema)
        if "properties" in schema:
            yield pointer, schema
            for name, inner in schema["properties"].items():
                yield from self.objects(inner, f"{pointer}/{name}")
        elif schema.get("type") == "array" and "items" in schema:
            yield from self.objects(schema["items"], f"{pointer}/0")
