"""Requests made from the document: valid ones, with holes where they name objects.

Rules:
1. A body holds what is required, and everything optional that names an object.
2. Each optional query parameter that names an object gives a question of its own, besides the one without any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.rest.permissions import BESIDES
from tests.security.fields import IDS, LEFT_OUT, PLAIN, TEXT, WITH_BODY, entry
from tests.security.surface import Operation, Parameter, Schema, Surface


class UnknownField(AssertionError):
    """A field of which nobody has said what it names."""

    def __init__(self, operation: str, field: str) -> None:
        super().__init__(
            f"{operation}: does the field {field!r} name an object? Say so in tests/security/fields.py: "
            "in IDS with its kind, or in PLAIN with a value that names none."
        )


class Hole(msgspec.Struct, frozen=True):
    """A place in a request that names an object of a kind. `at` is a parameter's name or a JSON pointer."""

    where: str
    at: str
    kind: str
    text: str = "{}"


Values = Mapping[Hole, str]


class Question(msgspec.Struct, frozen=True):
    """A request but for the ids in it."""

    operation: Operation
    path: tuple[Hole | str, ...]
    query: tuple[tuple[str, Hole | Any], ...]
    body: Any
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def actions(self) -> tuple[str, ...]:
        """What it needs of the policy table; for another representation perhaps one more."""
        operation = self.operation
        more = BESIDES.get((operation.method, operation.path)) if self.headers else None
        return (operation.action,) if more is None else (operation.action, more[1])

    @property
    def holes(self) -> list[Hole]:
        """All places that name an object."""
        found = [part for part in self.path if isinstance(part, Hole)]
        found += [value for _, value in self.query if isinstance(value, Hole)]
        return [*found, *holes_of(self.body)]

    def address(self, values: Values) -> str:
        """Path and query. A parameter for which there is nothing to say ("") is left out."""
        path = "".join(values[part] if isinstance(part, Hole) else part for part in self.path)
        said = [(name, str(filled(value, values))) for name, value in self.query]
        pairs = [f"{name}={quote(value, safe='')}" for name, value in said if value]
        return f"{path}?{'&'.join(pairs)}" if pairs else path

    def content(self, values: Values) -> Any:
        """The body, None where there is none."""
        if self.operation.file is not None:
            return self.operation.file[1].encode()
        return filled(self.body, values)


class Asker:
    """Makes questions of operations."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface

    def questions(self, operation: Operation) -> list[Question]:
        """The one with nothing optional in its query first, one for each optional parameter that names an object, and
        one for another representation. Raises `UnknownField`."""
        path = tuple(self._path(operation))
        has_body = operation.is_body_required or operation.name in WITH_BODY
        body = self._value(operation, "", "#", operation.body) if has_body else None
        query = [each for each in operation.parameters if each.where == "query"]
        always = [(each.name, self._parameter(operation, each)) for each in query if each.is_required]
        first = Question(operation, path, tuple(always), body)
        found = [(each.name, self._parameter(operation, each)) for each in query if not each.is_required]
        more = [(name, value) for name, value in found if isinstance(value, Hole)]
        questions = [first, *(msgspec.structs.replace(first, query=(*always, each)) for each in more)]
        if "text/csv" in operation.responses.get("200", {}).get("content", {}):
            questions.append(msgspec.structs.replace(first, headers=(("Accept", "text/csv"),)))
        return questions

    def _path(self, operation: Operation) -> Iterator[Hole | str]:
        rest = operation.path
        parameters = {each.name: each for each in operation.parameters if each.where == "path"}
        while "{" in rest:
            before, _, after = rest.partition("{")
            name, _, rest = after.partition("}")
            yield before
            yield self._parameter(operation, parameters[name])
        yield rest

    def _parameter(self, operation: Operation, parameter: Parameter) -> Any:
        return self._value(operation, parameter.name, parameter.name, parameter.schema, parameter.where)

    def _value(self, operation: Operation, name: str, at: str, schema: Schema | None, where: str = "body") -> Any:
        if schema is None:
            return None
        schema = self._surface.plain(schema)
        kind = entry(IDS, operation.name, name)
        if kind is not None and schema.get("type") == "string":
            return Hole(where, at, kind, entry(TEXT, operation.name, name) or "{}")
        plain = entry(PLAIN, operation.name, name)
        if plain is not None:
            return plain
        return self._unnamed(operation, name, at, schema)

    def _unnamed(self, operation: Operation, name: str, at: str, schema: Schema) -> Any:
        """The simplest value that the schema allows."""
        match schema.get("type"):
            case _ if "enum" in schema or "const" in schema:
                return schema["const"] if "const" in schema else schema["enum"][0]
            case "integer" | "number":
                return max(1, schema.get("minimum", 1))
            case "boolean":
                return True
            case "array":
                item = self._value(operation, name.removesuffix("s"), f"{at}/0", schema["items"])
                return [item] if list(holes_of(item)) or schema.get("minItems", 0) else []
            case "string" if schema.get("format") == "date-time":
                return "2030-01-01T00:00:00.000Z"
            case "object" | None:
                return self._object(operation, at, schema)
            case _:
                raise UnknownField(operation.name, name)

    def _object(self, operation: Operation, at: str, schema: Schema) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        values = {
            name: self._value(operation, name, f"{at}/{name}", inner)
            for name, inner in schema.get("properties", {}).items()
            if entry(LEFT_OUT, operation.name, name) is None
        }
        chosen = {name: value for name, value in values.items() if name in required or any(holes_of(value))}
        return chosen or dict(list(values.items())[:1])


def holes_of(value: Any) -> Iterator[Hole]:
    """All places in a template that name an object."""
    if isinstance(value, Hole):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from holes_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from holes_of(inner)


def filled(value: Any, values: Values) -> Any:
    """The template with its holes filled."""
    if isinstance(value, Hole):
        return value.text.format(values[value])
    if isinstance(value, dict):
        return {name: filled(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, values) for inner in value]
    return value
