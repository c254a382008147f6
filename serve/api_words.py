"""The API in words, for the command line: what the system's OpenAPI document calls `POST
/v1/cards/{card_id}/points/award` is `cards points award CARD_ID` here.

Rules:
1. The words are the address without its parameters, and a verb where the address alone does not tell: `list`, `show`,
   `add`, `change`, `set`, `remove`. So whatever the API has, the command line has.
2. What follows the words are the address's parameters in their order, then fields: `name=text`, or `name:=JSON` for
   anything else. `a.b=text` is field b of object a. `name=text` becomes what the document says the field is: a number,
   true or false, null; where it may be text it stays text.
3. A field that is a parameter of the query goes there, every other into the body. What a field may be is for the system
   to judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Json = dict[str, Any]

_FIELD = re.compile(r"([A-Za-z_][\w.-]*)(:?=)(.*)", re.DOTALL)
_PARAMETER = re.compile(r"\{(\w+)\}")
_SHOWS = {"get": "show", "patch": "change", "put": "set", "delete": "remove"}
_METHODS = ("get", "post", "put", "patch", "delete")


class WordsFault(Exception):
    """What was written cannot be a request; the message says why."""


class Operation(msgspec.Struct, frozen=True):
    """Something that the API does. `body` is the schema of its body, None where it takes none."""

    words: tuple[str, ...]
    method: str
    path: str
    summary: str
    parameters: tuple[str, ...]
    query: tuple[str, ...]
    body: Json | None

    def usage(self) -> str:
        """How it is written."""
        return " ".join([*self.words, *(name.upper() for name in self.parameters)])


class ApiRequest(msgspec.Struct, frozen=True):
    """A request to be made; `body` is None where no field was given."""

    method: str
    path: str
    query: dict[str, str]
    body: Json | None


class Api:
    """The operations of an OpenAPI document."""

    def __init__(self, document: Json) -> None:
        self._schemas: Json = document["components"]["schemas"]
        paths: dict[str, Json] = document["paths"]
        self.operations = [
            self._operation(paths, path, method)
            for path, item in sorted(paths.items())
            for method in _METHODS
            if method in item
        ]

    def beginning(self, words: Sequence[str]) -> list[Operation]:
        """The operations whose words begin like that."""
        return [one for one in self.operations if one.words[: len(words)] == tuple(words)]

    def find(self, words: Sequence[str]) -> Operation | None:
        """The operation that is written like that, with whatever follows its words."""
        found = [one for one in self.operations if one.words == tuple(words[: len(one.words)])]
        return max(found, key=lambda one: len(one.words), default=None)

    def request(self, operation: Operation, values: Sequence[str]) -> ApiRequest:
        """The request that these values make. Raises `WordsFault`."""
        count = len(operation.parameters)
        given, fields = values[:count], values[count:]
        if len(given) < count:
            raise WordsFault(f"{operation.parameters[len(given)].upper()} is missing: {operation.usage()}")
        path = operation.path
        for name, value in zip(operation.parameters, given, strict=True):
            if not re.fullmatch(r"[\w.:-]+", value):
                raise WordsFault(f"{value!r} cannot be {name.upper()}")
            path = path.replace(f"{{{name}}}", value)
        query: dict[str, str] = {}
        body: Json = {}
        for field in fields:
            name, sign, text = _split(field)
            if name in operation.query:
                query[name] = text
            elif operation.body is None:
                known = ", ".join(operation.query) or "none"
                raise WordsFault(f"{operation.usage()} takes no field {name!r}; its fields: {known}")
            else:
                value = _decoded(name, text) if sign == ":=" else self._typed(operation.body, name, text)
                _put(body, name.split("."), value)
        return ApiRequest(operation.method.upper(), path, query, body or None)

    def fields(self, operation: Operation) -> list[str]:
        """The names of what it takes, those that it needs first."""
        kinds = [] if operation.body is None else self._kinds(operation.body)
        needed = {name for kind in kinds for name in kind.get("required", ())}
        known = {name: None for kind in kinds for name in kind.get("properties", ())}
        names = sorted(known, key=lambda name: name not in needed)
        return [
            *(name if name in needed else f"[{name}]" for name in names),
            *(f"[{name}]" for name in operation.query),
        ]

    def _operation(self, paths: Mapping[str, Json], path: str, method: str) -> Operation:
        told: Json = paths[path][method]
        query = tuple(one["name"] for one in told.get("parameters", ()) if one["in"] == "query")
        contents: Json = told.get("requestBody", {}).get("content", {})
        schema = contents.get("application/json", {}).get("schema", {}) if contents else None
        return Operation(
            _words(paths, path, method),
            method,
            path,
            told.get("summary", ""),
            tuple(_PARAMETER.findall(path)),
            query,
            schema,
        )

    def _resolved(self, schema: Json) -> Json:
        name = schema.get("$ref", "").rpartition("/")[2]
        found: Json = self._schemas[name] if name else schema
        return found

    def _kinds(self, schema: Json) -> list[Json]:
        """What a value may be, each by its schema."""
        schema = self._resolved(schema)
        choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
        return [kind for choice in choices for kind in self._kinds(choice)] if choices else [schema]

    def _typed(self, schema: Json, name: str, text: str) -> Any:
        """Rule 2."""
        kinds = self._kinds(schema)
        for part in name.split("."):
            inner = [kind["properties"][part] for kind in kinds if part in kind.get("properties", {})]
            kinds = [kind for each in inner for kind in self._kinds(each)]
        types = {kind.get("type") for kind in kinds}
        if text == "null" and "null" in types:
            return None
        return text if "string" in types or types <= {None} else _decoded(name, text)


def _words(paths: Mapping[str, Json], path: str, method: str) -> tuple[str, ...]:
    """Rule 1."""
    literals = [part for part in re.split("[/:]", path.removeprefix("/v1")) if part and not part.startswith("{")]
    own = paths[path]
    items = [other for other in paths if other.startswith(f"{path}/") and _PARAMETER.fullmatch(other[len(path) + 1 :])]
    is_collection = bool(items) or ("get" in own and "post" in own)
    if method == "post":
        verb = "add" if "get" in own else ""
    elif method == "get" and not path.endswith("}"):
        verb = "list" if is_collection else ""
    else:
        verb = _SHOWS[method]
    return (*literals, verb) if verb else tuple(literals)


def _split(field: str) -> tuple[str, str, str]:
    found = _FIELD.fullmatch(field)
    if found is None:
        raise WordsFault(f"{field!r} is no field: write name=text or name:=JSON")
    return found[1], found[2], found[3]


def _decoded(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except msgspec.DecodeError as error:
        raise WordsFault(f"{name} is no text here, and {text!r} is no JSON: {error}") from error


def _put(body: Json, names: Sequence[str], value: Any) -> None:
    for name in names[:-1]:
        inner = body.setdefault(name, {})
        if not isinstance(inner, dict):
            raise WordsFault(f"{name} is no object")
        body = inner
    body[names[-1]] = value
